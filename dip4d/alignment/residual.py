"""How well one static reconstruction explains all aligned images: what an alignment is judged by."""

from __future__ import annotations

import numpy as np

from dip4d.alignment.shifts import Shifts, apply
from dip4d.conventional.algorithms import sirt
from dip4d.conventional.series import device_for, operator_and_rows
from dip4d.indices import evenly
from dip4d.tilt_series import TiltSeries

RESIDUAL_ITERATIONS = 50
RESIDUAL_SLICES = 32


def sirt_residual(
    series: TiltSeries,
    shifts: Shifts | None = None,
    *,
    iterations: int = RESIDUAL_ITERATIONS,
    slices: int = RESIDUAL_SLICES,
    rows: np.ndarray | None = None,
) -> float:
    """Relative misfit ``|A x - y| / |y|`` of one static SIRT reconstruction of the whole aligned series.

    Of a number of slices spread over z where there is intensity and all images show something; `rows` (z,), True for
    those to choose from, overrides that. Small when the alignment is right; a specimen that changes leaves its part.
    """
    shifts = Shifts.none(len(series.images)) if shifts is None else shifts
    rows = common_rows(series, shifts) if rows is None else rows
    chosen = np.flatnonzero(rows)
    chosen = chosen[evenly(len(chosen), slices)] if len(chosen) else np.arange(series.shape[1])
    A, y = operator_and_rows(apply(series, shifts).at_positions(chosen), device_for())
    misfit = A(sirt(A, y, iterations)) - y
    return float(misfit.square().sum().sqrt() / y.square().sum().sqrt().clamp(min=1e-30))


def common_rows(series: TiltSeries, shifts: Shifts) -> np.ndarray:
    """(z,): True for rows that all aligned images show and that hold more than 2 % of the brightest one's mass.

    All rows of enough mass where there is none that all images show.
    """
    n_z, width = series.shape[1:]
    slack = abs(np.sin(np.deg2rad(shifts.rotation_deg))) * width / 4  # by which the rotation moves the ends of a row
    z = np.arange(n_z)
    whole = (z + shifts.z.min() - slack > -0.5) & (z + shifts.z.max() + slack < n_z - 0.5)
    mass = np.median(apply(series, shifts).images.sum(2), axis=0)
    heavy = mass > 0.02 * mass.max()
    return whole & heavy if (whole & heavy).any() else heavy
