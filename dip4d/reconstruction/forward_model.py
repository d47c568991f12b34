"""The forward model between network and data: orthoslices to tilt rows, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from dip4d.projector import Geometry, Projector
from dip4d.projector.ramp import filter_ramp
from dip4d.reconstruction.factors import DrawnTogether, Factors, Layers, added
from dip4d.reconstruction.precision import full_precision


class Microscope:
    """Projects orthoslices, each at the tilt of its own time, and back-projects rows into windows of time.

    slice_shape: (Y, X) of an orthoslice. bins: S, the length of a row. No weights, nothing learned.
    """

    def __init__(self, slice_shape: tuple[int, int], bins: int) -> None:
        self.slice_shape, self.bins = slice_shape, bins

    def _operator(self, angles: Tensor, shift: Tensor | None = None) -> Projector:
        own = angles.reshape(-1, 1)
        moved = torch.zeros_like(own) if shift is None else shift.reshape(-1, 1)
        return Projector(Geometry(self.slice_shape, self.bins, own, moved, known_finite=True))

    def project_sum(self, layers: Layers, angles: Tensor, *, shift: Tensor | None = None) -> Tensor:
        """As `project`, of the sum of layers."""
        if isinstance(layers, DrawnTogether):
            return self.project(layers.slices, angles, shift=shift)
        if isinstance(layers[0], Factors):
            return torch.stack([self.project(layer, angles, shift=shift) for layer in layers]).sum(0)
        return self.project(added(cast(Sequence[Tensor], layers)), angles, shift=shift)

    def project(self, slices: Tensor | Factors, angles: Tensor, *, shift: Tensor | None = None) -> Tensor:
        """slices: (B, n, Y, X), intensity per voxel, or their factors, with angles and shift that nothing learns.
        angles: (B, n), radians. shift: (B, n), where the tilt axis falls on the detector, in bins from its middle;
        there if None. Returns rows (B, n, S), intensity, in float32 at least.
        """
        if isinstance(slices, Factors):
            from dip4d.reconstruction.factors_cuda import project

            shift = torch.zeros_like(angles) if shift is None else shift
            return project(slices, angles, shift=shift, bins=self.bins)
        slices = full_precision(slices)
        return self._operator(angles, shift)(slices.flatten(0, 1)).view(*angles.shape, self.bins)

    def back_project(
        self,
        rows: Tensor,
        angles: Tensor,
        *,
        tau: Tensor,
        windows: int,
        shift: Tensor | None = None,
    ) -> Tensor:
        """Filtered back-projections of the rows in Gaussian windows of time, (B, windows, Y, X), intensity per voxel.

        rows: (B, n, S), intensity.
        angles, shift: as in `project`.
        tau: (B, n), time in 0..1.
        windows: how many; their centres are spread evenly over the series, their standard deviation is 1 / windows.
        Few views make streaks: this is what the network is shown, not a reconstruction.
        """
        views = self._operator(angles, shift).T(filter_ramp(rows).flatten(0, 1)[:, None])  # (B n, Y, X)
        centres = torch.linspace(0, 1, windows, device=rows.device)
        weights = torch.exp(-0.5 * ((tau[:, None] - centres[:, None]) * windows).square())  # (B, windows, n)
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-6)
        return (math.pi * weights @ views.view(*angles.shape, -1)).unflatten(-1, self.slice_shape)
