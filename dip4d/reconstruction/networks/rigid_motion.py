"""The motion of a specimen as a whole: a turn and a travel, each smooth in time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

DEGREE = 3  # of the polynomials of time that turn and travel follow
PACE = 5.0  # the motion learns so many times faster than a weight of the decoder


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

    def forward(self, tau: Tensor) -> tuple[Tensor, Tensor]:
        """At tau (n,), 0..1: rotations (n, 3, 3) and travels (n, 3), pixels, of coordinates (x, y, z).

        What the specimen has at a point q of its own frame, from the middle of the volume, is at ``R q + d``.
        """
        basis = _legendre(2 * tau - 1, len(self.turn))
        turn = PACE * basis @ self.turn  # (n, 3), axis times angle, radians
        x, y, z = turn.unbind(-1)
        o = torch.zeros_like(x)
        skew = torch.stack([o, -z, y, z, o, -x, -y, x, o], dim=-1).unflatten(-1, (3, 3))
        return torch.linalg.matrix_exp(skew), PACE * basis @ self.travel * (self.half_width / 3)

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


def _legendre(u: Tensor, degree: int) -> Tensor:
    """P_k(u) / k for k = 1..degree, (n, degree): slow motion first."""
    polynomials = [torch.ones_like(u), u]
    for k in range(1, degree):
        polynomials.append(((2 * k + 1) * u * polynomials[k] - k * polynomials[k - 1]) / (k + 1))
    return torch.stack([p / k for k, p in enumerate(polynomials[1:], start=1)], dim=-1)
