"""A specimen that turns and travels as a whole while it changes: its motion is learned apart from its change."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dip4d.networks.low_rank import BoundedLowRank

DEGREE = 3  # of the polynomials of time that turn and travel follow
_PACE = 5.0  # the motion learns so many times faster than a weight of the decoder
_TIMES = 16  # as many are rendered at once


class RigidMotion(nn.Module):
    """Where the specimen is: a turn about the middle of the volume and a travel, each smooth in time, at first none.

    Both are mixtures of the Legendre polynomials of time up to `degree` without the constant, which no image can tell
    from the specimen's own place. half_width: of the volume, pixels; a travel of 1 inside is a third of it.
    """

    def __init__(self, half_width: float, degree: int = DEGREE) -> None:
        super().__init__()
        self.half_width = half_width
        self.turn = nn.Parameter(torch.zeros(degree, 3))
        self.travel = nn.Parameter(torch.zeros(degree, 3))

    def forward(self, progress: Tensor) -> tuple[Tensor, Tensor]:
        """At progress (n,), 0..1: rotations (n, 3, 3) and travels (n, 3), pixels, of coordinates (x, y, z).

        What the specimen has at a point q of its own frame, from the middle of the volume, is at ``R q + d``.
        """
        basis = _legendre(2 * progress - 1, len(self.turn))
        turn = _PACE * basis @ self.turn  # (n, 3), axis times angle, radians
        x, y, z = turn.unbind(-1)
        o = torch.zeros_like(x)
        skew = torch.stack([o, -z, y, z, o, -x, -y, x, o], dim=-1).unflatten(-1, (3, 3))
        return torch.linalg.matrix_exp(skew), _PACE * basis @ self.travel * (self.half_width / 3)

    @torch.no_grad()
    def between(self, start: float = 0.0, end: float = 1.0) -> tuple[float, Tensor]:
        """How far the specimen turns from one progress to another, degrees, and travels, pixels (x, y, z)."""
        rotation, travel = self(torch.tensor([start, end]).to(self.turn))
        cosine = ((rotation[1] @ rotation[0].T).trace() - 1) / 2
        return math.degrees(math.acos(max(-1.0, min(1.0, float(cosine))))), travel[1] - travel[0]

    def describe(self) -> str:
        """In words: from the first image to the last."""
        turn, travel = self.between()
        return f"The specimen turns by {turn:.1f} degrees and travels {float(travel.norm()):.1f} pixels"

    @torch.no_grad()
    def largest_move(self) -> float:
        """By how many pixels a point half-way to the border is moved at most, by the turn or by the travel."""
        rotation, travel = self(torch.linspace(0, 1, 33).to(self.turn))
        turned = (rotation - torch.eye(3).to(rotation)).flatten(1).norm(dim=1) / 2**0.5  # 2 sin(angle / 2)
        return float(torch.maximum(turned * self.half_width / 2, travel.norm(dim=1)).max())


def _legendre(u: Tensor, degree: int) -> Tensor:
    """P_k(u) / k for k = 1..degree, (n, degree): slow motion first."""
    polynomials = [torch.ones_like(u), u]
    for k in range(1, degree):
        polynomials.append(((2 * k + 1) * u * polynomials[k] - k * polynomials[k - 1]) / (k + 1))
    return torch.stack([p / k for k, p in enumerate(polynomials[1:], start=1)], dim=-1)


class Moving(nn.Module):
    """A network that draws the specimen in a frame that moves with it, and the motion of that frame.

    An orthoslice (z, t) cuts obliquely through the specimen, so all its planes are drawn at once and the logit is
    interpolated between them. specimen: the network; its z counts the planes of the specimen, `margin` more than the
    volume has at each end, for what moves in and out. depth: Z of the volume.
    progress: (T,), of the images.
    """

    def __init__(
        self, specimen: BoundedLowRank, motion: RigidMotion, progress: Tensor, depth: int, margin: int = 0
    ) -> None:
        super().__init__()
        self.specimen, self.motion, self.depth, self.margin = specimen, motion, depth, margin
        self.register_buffer("times", progress.float(), persistent=False)

    def features(self, z: Tensor, images: Tensor | None) -> tuple[Tensor, Tensor]:
        """z: (B,), pixels. Returns it with the maps (Z + 2 margin, K, Y, X) of the whole specimen; images are not used:
        what rows show does not lie in the frame of the specimen.
        """
        planes = torch.arange(self.depth + 2 * self.margin, device=z.device, dtype=torch.float32)
        return z.float(), self.specimen.features(planes, None)

    def render(self, features: tuple[Tensor, Tensor], progress: Tensor) -> Tensor:
        """progress: (B, n), 0..1. Returns orthoslices (B, n, Y, X), intensity per voxel."""
        z, maps = features
        times, which = progress.unique(return_inverse=True)
        which, z = which.flatten(), z[:, None].expand_as(progress).flatten()
        order = which.argsort(stable=True)  # all planes asked for at one time stand together
        counts = which.bincount(minlength=len(times))
        place = torch.arange(len(order), device=z.device) - (counts.cumsum(0) - counts)[which[order]]
        asked = z.new_zeros(len(times), int(counts.max()))
        asked[which[order], place] = z[order]
        parts = zip(times.split(_TIMES), asked.split(_TIMES), strict=True)
        slices = torch.cat([self._cut(maps, some, planes) for some, planes in parts])
        slot = torch.empty_like(order)
        slot[order] = which[order] * asked.shape[1] + place
        return slices.flatten(0, 1)[slot].unflatten(0, progress.shape)

    def _cut(self, maps: Tensor, times: Tensor, z: Tensor) -> Tensor:
        """Planes z (n, P) of the volume at times (n,): (n, P, Y, X)."""
        height, width = maps.shape[2:]
        logit = self.specimen.mixture(maps, times.expand(len(maps), -1)).transpose(0, 1)  # (n, planes, Y, X)
        rotation, travel = self.motion(times)
        middle = z.new_tensor([(width - 1) / 2, (height - 1) / 2, (self.depth - 1) / 2])
        y = torch.arange(height, device=z.device, dtype=z.dtype)[:, None]
        x = torch.arange(width, device=z.device, dtype=z.dtype)
        shape = (*z.shape, height, width)
        points = torch.stack([x.expand(shape), y.expand(shape), z[..., None, None].expand(shape)], dim=-1)
        own = (points.flatten(1, 3) - middle - travel[:, None]) @ rotation + middle  # R^T (p - d), (n, P Y X, 3)
        ends = z.new_tensor([width - 1, height - 1, len(maps) - 1])
        own = (own + z.new_tensor([0, 0, self.margin])) / ends.clamp(min=1) * 2 - 1
        where = own.unflatten(1, shape[1:]).to(logit)
        cut = F.grid_sample(logit[:, None], where, padding_mode="border", align_corners=True)
        return self.specimen.intensity(cut[:, 0])

    def at_rest(self, features: tuple[Tensor, Tensor], every: int) -> Tensor:
        """Every so many planes of the specimen in its own frame, at the times of all images: (planes, T, Y, X)."""
        maps = features[1][::every]
        return self.specimen.render(maps, self.times.expand(len(maps), -1))
