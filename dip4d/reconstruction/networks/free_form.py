"""The motion of a specimen that bends or twists: a free-form deformation beside the rigid motion."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dip4d.reconstruction.networks.rigid_motion import DEGREE, INSIDE, PACE, POINTS, RigidMotion

CELLS = 4  # of the control grid, along each axis of the volume
WAVES = 8  # functions of time


class FreeFormMotion(RigidMotion):
    """A turn, a travel, and a displacement that varies over the volume: cubic B-splines on a coarse grid of control
    points (free-form deformation; Rueckert et al., IEEE Trans. Med. Imaging 18:712, 1999), each a mixture of cosines of
    time without the constant, slow ones first.

    half_width, degree, held: as of `RigidMotion`.
    """

    def __init__(self, half_width: float, degree: int = DEGREE, *, held: bool = False) -> None:
        super().__init__(half_width, degree, held=held)
        points = CELLS + 3
        self.bend = nn.Parameter(torch.zeros(WAVES, 3, points, points, points), requires_grad=not held)

    def displacement(self, tau: Tensor, *, z: Tensor, y: Tensor, x: Tensor) -> Tensor:
        """By how much further inside its own frame the specimen has what is seen at a place, pixels (x, y, z):
        (n, P, Y, X, 3).

        tau: (n,), 0..1.
        z: (n, P), from 0 at the first plane of the volume to 1 at the last.
        y, x: (Y,), (X,), likewise.
        """
        order = torch.arange(1, WAVES + 1, device=tau.device)
        waves = torch.cos(math.pi * order * tau[:, None]) / order  # (n, J)
        points = torch.einsum("nj,jcabd->ncabd", PACE * (self.half_width / 3) * waves, self.bend)
        of_planes = torch.einsum("ncabd,npa->npbdc", points, splines(z))
        of_lines = torch.einsum("npbdc,yb->npydc", of_planes, splines(y))
        return torch.einsum("npydc,xd->npyxc", of_lines, splines(x))

    @torch.no_grad()
    def paths(self, tau: Tensor, *, shape: tuple[int, int, int]) -> Tensor:
        return super().paths(tau, shape=shape) - self._inside(tau, POINTS)

    @torch.no_grad()
    def bent(self, tau: Tensor) -> Tensor:
        """By how many pixels a point inside is displaced at most at tau (n,), against the mean of the points: (n,)."""
        displaced = self._inside(tau, 5)
        return (displaced - displaced.mean(1, keepdim=True)).norm(dim=-1).amax(1)

    def _inside(self, tau: Tensor, points: int) -> Tensor:
        """The displacement at so many points inside along each axis, x by x: (n, points^3, 3)."""
        place = torch.linspace(*INSIDE, points).to(self.turn)
        displaced = self.displacement(tau, z=place.expand(len(tau), -1), y=place, x=place)  # (n, z, y, x, 3)
        return displaced.transpose(1, 3).flatten(1, 3)

    @torch.no_grad()
    def largest_move(self) -> float:
        """By how many pixels a point half-way to the border is moved at most, by turn, travel or bending."""
        return max(super().largest_move(), self._most_bent())

    def describe(self) -> str:
        """In words: from the first image to the last, and at most."""
        return f"{super().describe()}, and bends by up to {self._most_bent():.1f} pixels"

    def _most_bent(self) -> float:
        return float(self.bent(torch.linspace(0, 1, 33).to(self.turn)).max())


MOTIONS: dict[str, type[RigidMotion]] = {"rigid": RigidMotion, "free_form": FreeFormMotion}  # by `network.motion`


def motion_with(weights: Mapping[str, Tensor], half_width: float) -> RigidMotion:
    """The motion, of the kind that has such weights, with them.

    weights: by their names.
    half_width: of the volume, pixels.
    """
    motion = (FreeFormMotion if "bend" in weights else RigidMotion)(half_width)
    motion.load_state_dict(weights)
    return motion


def splines(place: Tensor) -> Tensor:
    """The values (..., points) of the cubic B-splines of all control points of an axis at places 0..1 along it."""
    cell = place[..., None] * CELLS - torch.arange(-1, CELLS + 2, device=place.device)
    far = cell.abs()
    outer = (2 - far).clamp(min=0)
    return (outer**3 - 4 * (1 - far).clamp(min=0) ** 3) / 6
