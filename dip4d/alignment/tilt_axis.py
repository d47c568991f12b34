"""Where the tilt axis lies: its place by the misfit of SIRT, its direction by the centres of mass of the rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from dip4d.alignment.residual import sirt_residual
from dip4d.alignment.shifts import Shifts
from dip4d.measures.consistency import centre_of_mass
from dip4d.tilt_geometry import tilt_basis
from dip4d.tilt_series import TiltSeries

AXIS_ITERATIONS, AXIS_SLICES = 15, 8  # of the SIRT that scores a place of the axis: it ranks them, no more
CORRELATED_ROWS = 5.0  # rows whose errors go together: the standard error counts every fifth


def find_axis(series: TiltSeries, shifts: Shifts, *, reach: float | None = None) -> Shifts:
    """Moves the tilt axis to where SIRT fits the images best, to 0.1 pixel.

    reach: how far from where it is to look, in pixels; an eighth of the width if None.
    """
    score = lambda axis: sirt_residual(
        series, replace(shifts, axis=axis), iterations=AXIS_ITERATIONS, slices=AXIS_SLICES
    )
    reach = series.shape[2] / 8 if reach is None else reach
    return replace(shifts, axis=_search(score, shifts.axis, reach=reach, least=0.1))


def _search(score: Callable[[float], float], start: float, *, reach: float, least: float) -> float:
    """Where `score` is lowest, within `reach` of `start`, in steps that halve down to `least`."""
    step = reach / 4
    scores = {start + k * step: score(start + k * step) for k in range(-4, 5)}
    while step > least:
        best, step = min(scores, key=scores.__getitem__), step / 2
        scores |= {p: score(p) for p in (best - step, best + step)}
    return float(min(scores, key=scores.__getitem__))


@dataclass(frozen=True)
class AxisLine:
    """rotation_deg: of the tilt axis from z, degrees, with its standard error. axis: where it crosses z = 0, pixels."""

    rotation_deg: float
    error_deg: float
    axis: float


def axis_rotation(series: TiltSeries, rows: np.ndarray) -> AxisLine:
    """How far the tilt axis of a roughly aligned series is turned, from the centres of mass of its rows (z,) True.

    That of row z lies at ``c(z) + X(z) cos + Y(z) sin``; c(z) is fitted for each row, then a line through all c(z),
    rows weighted by their mass. The slope is that of the axis for a needle along z, nothing for a round specimen, which
    looks the same when turned: it is divided by ``1 - (extent along s / extent along z)^2``. The error is infinite
    where that is small or where there are too few rows.
    """
    profiles = series.images[:, rows].astype(np.float64)  # (t, n, s)
    z = np.flatnonzero(rows) - (series.shape[1] - 1) / 2
    centres = centre_of_mass(profiles)
    good = np.isfinite(centres).all(0)
    weight = profiles.sum(2).mean(0)[good].clip(min=0)
    if good.sum() < 3 or not weight.any():
        return AxisLine(0.0, np.inf, 0.0)
    place = _robust_constant(centres[:, good], series.angles_deg)
    root = np.sqrt(weight / weight.mean())[:, None]
    design = np.stack([np.ones(good.sum()), z[good]], axis=1) * root
    (axis, slope), *_ = np.linalg.lstsq(design, place * root[:, 0], rcond=None)
    left = place * root[:, 0] - design @ (axis, slope)
    error = np.sqrt(np.linalg.inv(design.T @ design)[1, 1] * left.var() * CORRELATED_ROWS)
    length = _slimness(profiles.mean(0).clip(min=0))
    if abs(length) < 0.2:
        return AxisLine(0.0, np.inf, float(axis))
    rotation_deg, error_deg = (float(np.rad2deg(np.arctan(v))) for v in (slope / length, error / abs(length)))
    return AxisLine(rotation_deg, error_deg, float(axis))


def _slimness(image: np.ndarray) -> float:
    """1 - (extent along s / extent along z)^2 of an image (z, s): 1 for a line along z, 0 for a disc, < 0 across."""
    variance = [np.average((np.arange(p.size) - np.average(np.arange(p.size), weights=p)) ** 2, weights=p)
                for p in (image.sum(1), image.sum(0))]  # fmt: skip
    return float(1 - variance[1] / max(variance[0], 1e-30))


def _robust_constant(centres: np.ndarray, angles_deg: np.ndarray) -> np.ndarray:
    """(n,): the constants of ``c + X cos + Y sin`` in centres (t, n), outliers beyond 3 sigma left out."""
    constants = np.empty(centres.shape[1])
    basis = tilt_basis(angles_deg, constant=True)
    for k, values in enumerate(centres.T):
        keep = np.ones(len(values), bool)
        for _ in range(3):
            fitted = np.linalg.lstsq(basis[keep], values[keep], rcond=1e-6)[0]
            left = np.abs(values - basis @ fitted)
            keep = left < max(4.5 * np.median(left), 1e-6)
        constants[k] = fitted[0]
    return constants
