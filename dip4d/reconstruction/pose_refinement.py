"""Alignment refined during the fit: the pose of every image is learned together with the specimen that it shows.

Poses follow the conventions of `dip4d.alignment.shifts`. Along s the gradient is the projector's own
(`Geometry.shift`), as for the tilt angle. Along z the specimen stays where it is, and the measured rows are read from
between those of the image.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import numpy as np
import torch
from scipy.ndimage import spline_filter1d
from torch import Tensor, nn

from dip4d.alignment.shifts import Shifts
from dip4d.reconstruction.data import Rows
from dip4d.tilt_series import TiltSeries

PIXELS = 3.0  # what a parameter of 1 means: Adam's step of 0.003 is then a hundredth of a pixel
DEGREES = 1.0


class PoseRefinement(nn.Module):
    """Displacements of the images of a series, learned; they begin at 0 and cannot drift.

    series: images (t, z, s), less their background and aligned to a few pixels.
    along_z: whether the displacement along z is learned as well.
    tilt: whether an offset of each tilt angle is learned as well.
    drift: motions of the specimen that are taken out of the displacements, since no image can tell the two apart: the
        first `drift` cosines of time in each direction of space; 1, a constant position, is the least. The mean of the
        offsets of the angles is taken out, too.

    What is measured of position z is read by `rows` with a cubic spline. Its gradient is the central difference over
    two rows, in which the noise of the row itself does not occur: the derivative of the spline would be biased towards
    places between two rows, where interpolation smooths the noise.
    """

    motion_z: Tensor
    motion_s: Tensor
    coefficients: Tensor

    def __init__(
        self,
        series: TiltSeries,
        *,
        along_z: bool = True,
        tilt: bool = False,
        drift: int = 1,
    ) -> None:
        super().__init__()
        frames = len(series.images)
        self.learn_z, self.learn_tilt = along_z, tilt
        self.raw_s = nn.Parameter(torch.zeros(frames))
        self.raw_z = nn.Parameter(torch.zeros(frames), requires_grad=along_z)
        self.raw_tilt = nn.Parameter(torch.zeros(frames), requires_grad=tilt)
        time = np.cos(np.pi * np.arange(drift) * series.tau[:, None])  # (t, drift)
        theta = np.deg2rad(series.angles_deg)[:, None]
        self._keep("motion_z", time)
        self._keep("motion_s", np.concatenate([time * np.cos(theta), time * np.sin(theta)], axis=1))
        if along_z:
            coefficients = spline_filter1d(series.images.astype(np.float64), axis=1, mode="mirror")
            coefficients = torch.from_numpy(coefficients).float().transpose(0, 1).contiguous()  # (Z, T, S)
            self.register_buffer("coefficients", coefficients, persistent=False)

    def _keep(self, name: str, motions: np.ndarray) -> None:
        """An orthonormal basis (t, k) of motions (t, n); those hardly seen at the angles of the series do not count."""
        basis, size, _ = np.linalg.svd(motions, full_matrices=False)
        basis = basis[:, size > 1e-3 * size.max()]
        self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(basis)).float(), persistent=False)

    @property
    def s(self) -> Tensor:
        """(t,): displacement along s, pixels."""
        return PIXELS * (self.raw_s - self.motion_s @ (self.motion_s.T @ self.raw_s))

    @property
    def z(self) -> Tensor:
        """(t,): displacement along z, pixels."""
        return PIXELS * (self.raw_z - self.motion_z @ (self.motion_z.T @ self.raw_z))

    @property
    def tilt(self) -> Tensor:
        """(t,): what is added to the tilt angles, radians."""
        return math.radians(DEGREES) * (self.raw_tilt - self.raw_tilt.mean())

    def forward(self, z: Tensor, rows: Rows) -> tuple[Rows, Tensor]:
        """The rows of positions z (B,) with values read at the learned z and with the learned angles; and their shifts
        (B, n) along s, bins, for `Microscope.project` and, detached, for `Microscope.back_project`.
        """
        angles, shift = self.views(rows.t, rows.angles)
        values = self.rows(z, rows.t) if self.learn_z else rows.values
        return replace(rows, values=values, angles=angles), shift

    def views(self, t: Tensor, angles: Tensor) -> tuple[Tensor, Tensor]:
        """Angles, radians, and shifts for `Microscope.project` of images t with nominal angles; all (B, n)."""
        return angles + self.tilt[t] if self.learn_tilt else angles, self.s[t]

    def rows(self, z: Tensor, t: Tensor) -> Tensor:
        """What the images t (B, n) show of the positions z (B,), in whole pixels: rows (B, n, S).

        Beyond the border of an image, the rows mirrored in it. Needs `along_z`.
        """
        place = z.to(torch.float32)[:, None] + self.z[t]  # (B, n), rows of the images
        here = place.detach()
        base = here.floor()
        slope = (self._spline(base + 1, here - base, t=t) - self._spline(base - 1, here - base, t=t)) / 2
        return self._spline(base, here - base, t=t) + slope * (place - here)[..., None]

    def _spline(self, base: Tensor, fraction: Tensor, *, t: Tensor) -> Tensor:
        """The images t at rows base + fraction, (B, n) each, by cubic B-splines: (B, n, S)."""
        f, n_z = fraction[..., None], self.coefficients.shape[0]
        weights = ((1 - f) ** 3, 3 * f**3 - 6 * f**2 + 4, -3 * f**3 + 3 * f**2 + 3 * f + 1, f**3)
        row = lambda k: self.coefficients[_mirror(base.long() + k, n_z), t]
        return cast(Tensor, sum(w * row(k) for k, w in enumerate(weights, start=-1))) / 6

    def shifts(self, before: Shifts | None = None) -> Shifts:
        """What was learned, after the shifts that the series had been aligned with `before`."""
        before = Shifts.none(len(self.raw_s)) if before is None else before
        return before.plus(*(v.detach().cpu().double().numpy() for v in (self.z, self.s)))


def _mirror(row: Tensor, n_z: int) -> Tensor:
    """Row numbers folded back at the first and at the last row."""
    period = max(2 * (n_z - 1), 1)
    row = row.remainder(period)
    return torch.minimum(row, period - row).clamp(max=n_z - 1)
