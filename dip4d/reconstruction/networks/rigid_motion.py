"""The motion of a specimen as a whole: a turn and a travel, each smooth in time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

DEGREE = 3  # of the polynomials of time that turn and travel follow
SMALL_TURN = 1e-4  # square of an angle, radians, below which two terms of a series are as good as float32
INSIDE = 0.25, 0.75  # of the volume along each axis: where it is looked how far it moves,
POINTS = 3  # at so many points along each axis
PACE = 5.0  # the motion learns so many times faster than a weight of the decoder


class RigidMotion(nn.Module):
    """Where the specimen is: a turn about the middle of the volume and a travel, each smooth in time, at first none.

    Both are mixtures of the Legendre polynomials of time up to `degree` without the constant, which no image can tell
    from the specimen's own place. half_width: of the volume, pixels; a travel of 1 inside is a third of it. held: at
    none.
    """

    def __init__(self, half_width: float, degree: int = DEGREE, *, held: bool = False) -> None:
        super().__init__()
        self.half_width, self.held = half_width, held
        self.turn = nn.Parameter(torch.zeros(degree, 3))
        self.travel = nn.Parameter(torch.zeros(degree, 3))
        self.requires_grad_(not held)

    def forward(self, tau: Tensor) -> tuple[Tensor, Tensor]:
        """At tau (n,), 0..1: rotations (n, 3, 3) and travels (n, 3), pixels, of coordinates (x, y, z).

        What the specimen has at a point q of its own frame, from the middle of the volume, is at ``R q + d``.
        """
        basis = _legendre(2 * tau - 1, len(self.turn))[..., None]
        turn, travel = (PACE * (basis * v).sum(-2) for v in (self.turn, self.travel))  # as sums, which nothing rounds
        return rotations(turn), travel * (self.half_width / 3)  # turn: (n, 3), axis times angle, radians

    def displacement(self, tau: Tensor, *, z: Tensor, y: Tensor, x: Tensor) -> Tensor | None:
        """What is displaced besides, as of `FreeFormMotion`: nothing."""

    def bent(self, tau: Tensor) -> Tensor | None:
        """How far it bends, as of `FreeFormMotion`: it does not."""

    @torch.no_grad()
    def paths(self, tau: Tensor, *, shape: tuple[int, int, int]) -> Tensor:
        """By how many pixels (x, y, z) points inside a volume (Z, Y, X) are moved at tau (n,): (n, points, 3)."""
        inside = torch.linspace(*INSIDE, POINTS) - 0.5
        z, y, x = (n * inside for n in shape)
        points = torch.stack(torch.meshgrid(x, y, z, indexing="ij"), -1).flatten(0, 2).to(self.turn)
        rotation, travel = self(tau)
        return (rotation[:, None] * points[:, None]).sum(-1) + travel[:, None] - points

    @torch.no_grad()
    def between(self, start: float = 0.0, end: float = 1.0) -> tuple[float, Tensor]:
        """How far the specimen turns from one tau to another, degrees, and travels, pixels (x, y, z)."""
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


def agreement(one: RigidMotion, other: RigidMotion, *, shape: tuple[int, int, int]) -> float:
    """How far two motions of a volume (Z, Y, X) are the same, -1..1: the correlation of the paths of points inside."""
    tau = torch.linspace(0, 1, 17).to(one.turn)
    paths = (motion.paths(tau, shape=shape) for motion in (one, other))
    a, b = (path - path.mean(0) for path in paths)
    return float((a * b).sum() / (a.square().sum() * b.square().sum()).sqrt().clamp(min=1e-12))


def rotations(turn: Tensor) -> Tensor:
    """About axes by angles, radians, given as axis times angle (n, 3): (n, 3, 3), by the formula of Rodrigues.

    As torch.linalg.matrix_exp, which makes a GPU wait. Smooth at no turn.
    """
    x, y, z = turn.unbind(-1)
    o = torch.zeros_like(x)
    skew = torch.stack([o, -z, y, z, o, -x, -y, x, o], dim=-1).unflatten(-1, (3, 3))
    square = turn.square().sum(-1)[:, None, None]
    angle = square.clamp(min=SMALL_TURN).sqrt()  # the root has no slope at 0
    sine = torch.where(square < SMALL_TURN, 1 - square / 6, angle.sin() / angle)
    half = torch.where(square < SMALL_TURN, 1 - square / 24, (angle / 2).sin() / (angle / 2))
    unit = torch.eye(3, device=turn.device, dtype=turn.dtype)
    twice = turn[:, :, None] * turn[:, None] - square * unit  # skew @ skew
    return unit + sine * skew + 0.5 * half.square() * twice


def _legendre(u: Tensor, degree: int) -> Tensor:
    """P_k(u) / k for k = 1..degree, (n, degree): slow motion first."""
    polynomials = [torch.ones_like(u), u]
    for k in range(1, degree):
        polynomials.append(((2 * k + 1) * u * polynomials[k] - k * polynomials[k - 1]) / (k + 1))
    return torch.stack([p / k for k, p in enumerate(polynomials[1:], start=1)], dim=-1)
