"""Networks of other groups, in our framework: what ours is measured against (`network=dipster`, `network=tddip`).

Both draw every orthoslice (z, t) anew, in one pass of a convolutional generator. Written from their descriptions, with
three changes that make the comparison fair: any image width, our projector with its exact adjoint, our batches.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dip4d.reconstruction.networks.base import OrthosliceNetwork, Problem, register_network
from dip4d.reconstruction.networks.low_rank import fourier_features, octaves_of_z

COARSEST_PX = 8  # both start from a latent image of about this size


class _Generator(nn.Module):
    """A latent image, upsampled by nearest neighbours and convolved until it has `shape`. (B, C, ., .) to (B, Y, X)."""

    def __init__(self, shape: tuple[int, int], *, latent: int, channels: int) -> None:
        super().__init__()
        levels = max(1, round(math.log2(min(shape) / COARSEST_PX)))
        self.sizes = [tuple(-(-n // 2**k) for n in shape) for k in reversed(range(levels + 1))]
        widths = [latent] + [channels] * levels
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU()) for i, o in pairwise(widths)
        )
        self.last = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        for layer, size in zip(self.layers, self.sizes[1:], strict=True):
            x = layer(F.interpolate(x, size=size, mode="nearest"))
        return self.last(x)[:, 0]


class Dipster(OrthosliceNetwork):
    """DIP-STER (EMAT, arXiv 2603.29462, 2026): (cos angle, sin angle, z, t) to an orthoslice.

    A 3-layer perceptron, 128 wide, makes an 8 x 8 latent image of 1 channel; the generator has as many channels as the
    image is wide. Nothing bounds the intensity.

    shape: (Y, X) of an orthoslice.
    n_z: Z, positions along the tilt axis.
    tau: (T,), 0..1, times of the images.
    angles: (T,), radians, of the images; between and away from images the nearest one's angle is asked for.
    intensity_bound: the unit in which intensities are drawn.
    view: radians, the one angle at which volumes are asked for, lest artefacts of single images look like physics, as
        the authors advise; None for that of the nearest image.
    """

    tau: Tensor
    angles: Tensor

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        n_z: int,
        tau: Tensor,
        angles: Tensor,
        intensity_bound: float,
        view: float | None = 0.0,
    ) -> None:
        super().__init__()
        self.n_z, self.intensity_bound, self.view = n_z, intensity_bound, view
        self.register_buffer("tau", tau.float(), persistent=False)
        self.register_buffer("angles", angles.float(), persistent=False)
        self.generator = _Generator(shape, latent=1, channels=max(shape))
        self.latent = self.generator.sizes[0]
        width = 128
        self.mlp = nn.Sequential(
            nn.Linear(4, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, math.prod(self.latent))
        )

    def features(self, z: Tensor, images: tuple[Tensor, ...] | None) -> Tensor:
        """z: (B,), pixels. Returns it scaled to -1..1; images are not used."""
        return 2 * z / max(self.n_z - 1, 1) - 1

    def render(self, features: Tensor, tau: Tensor) -> Tensor:
        """tau: (B, n), 0..1. Returns orthoslices (B, n, Y, X), intensity per voxel, which may be negative."""
        nearest = (tau[..., None] - self.tau).abs().argmin(-1)
        angle = self.angles[nearest]
        if not self.training and self.view is not None:
            angle = torch.full_like(angle, self.view)
        z = features[:, None].expand_as(tau)
        code = self.mlp(torch.stack([angle.cos(), angle.sin(), z, 2 * tau - 1], dim=-1).flatten(0, 1))
        return self.intensity_bound * self.generator(code.unflatten(-1, (1, *self.latent))).unflatten(0, tau.shape)


class TDDIP(OrthosliceNetwork):
    """Time-dependent deep image prior (Yoo et al., IEEE TMI 40:3337, 2021): a latent helix in time to an image.

    A point (cos 2 pi turns t, sin 2 pi turns t, t) of the helix passes a perceptron to a latent image of 16 channels,
    and a generator of 128 channels. There it is one slice; here z joins the latent point as Fourier features of
    `octaves`.

    shape: (Y, X) of an orthoslice.
    n_z: Z, positions along the tilt axis.
    intensity_bound: the unit in which intensities are drawn.
    octaves: of the Fourier features of z.
    turns: of the helix; specimens are not periodic, so it is one.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        *,
        n_z: int,
        intensity_bound: float,
        octaves: int = 4,
        turns: float = 1.0,
    ) -> None:
        super().__init__()
        self.n_z, self.intensity_bound, self.octaves, self.turns = n_z, intensity_bound, octaves, turns
        self.generator = _Generator(shape, latent=16, channels=128)
        self.latent = (16, *self.generator.sizes[0])
        width = 512
        self.mlp = nn.Sequential(nn.Linear(4 + 2 * octaves, width), nn.ReLU(), nn.Linear(width, math.prod(self.latent)))

    def features(self, z: Tensor, images: tuple[Tensor, ...] | None) -> Tensor:
        """z: (B,), pixels. Returns its Fourier features (B, C); images are not used."""
        return fourier_features(2 * z / max(self.n_z - 1, 1) - 1, self.octaves)

    def render(self, features: Tensor, tau: Tensor) -> Tensor:
        """tau: (B, n), 0..1. Returns orthoslices (B, n, Y, X), intensity per voxel, which may be negative."""
        turn = 2 * math.pi * self.turns * tau
        helix = torch.stack([turn.cos(), turn.sin(), 2 * tau - 1], dim=-1)
        point = torch.cat([helix, features[:, None].expand(-1, tau.shape[1], -1)], dim=-1).flatten(0, 1)
        return self.intensity_bound * self.generator(self.mlp(point).unflatten(-1, self.latent)).unflatten(0, tau.shape)


@register_network("dipster", label="DIP-STER")
def build_dipster(problem: Problem) -> Dipster:
    tau, angles = (torch.from_numpy(v) for v in (problem.series.tau, np.deg2rad(problem.series.angles_deg)))
    return Dipster(
        problem.slice_shape, n_z=problem.n_z, tau=tau, angles=angles, intensity_bound=problem.intensity_bound
    )


@register_network("tddip", label="TD-DIP")
def build_tddip(problem: Problem) -> TDDIP:
    octaves = octaves_of_z(problem.n_z, problem.settings.z_detail_px)
    return TDDIP(problem.slice_shape, n_z=problem.n_z, intensity_bound=problem.intensity_bound, octaves=octaves)
