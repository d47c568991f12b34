"""Alignment of a tilt series of a specimen that may change while it is taken.

Pure functions on a `TiltSeries` whose background is subtracted; `align` runs them all. `dip4d.alignment.shifts` has the
conventions. What each assumes of the specimen:

- `coarse.by_mass`: that it lies in the field of view and keeps its mass and, nearly, its centre of mass. It may change
  shape at will. The centre of mass of an image is the projection of that of the specimen, at any angle.
- `row_profiles.along_axis`: that the mass in each row z changes slowly with time. It does not depend on the tilt angle.
- `coarse.across_axis`, for specimens larger than the field of view: that images at neighbouring angles resemble each
  other. Then `tilt_axis.find_axis` finds the tilt axis.
- `tilt_axis.axis_rotation`: the centre of mass of each row lies at ``X(z) cos + Y(z) sin``; what is left is the axis.
  It needs a specimen that is longer, or shorter, along the axis than across. Of a round one the rotation cannot be seen
  like that, and SIRT fits the images nearly as well at any: give it, from the calibration of the microscope.
- `projection_matching`: that in a window of time, which the data choose, it can be reconstructed.

`row_profiles.jitter_px` tells, without any of this, whether a series needs alignment; `aligned_if_better` does only
what that shows to be needed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from dip4d.alignment.coarse import coarse, normalised
from dip4d.alignment.projection_matching import (
    FOLDS,
    MATCHING_ITERATIONS,
    PREDICTION_ITERATIONS,
    choose_width,
    match_projections,
    place,
    prediction_residual,
)
from dip4d.alignment.residual import common_rows, sirt_residual
from dip4d.alignment.shifts import Shifts, apply, matching_scales, on_binned_images, on_full_images
from dip4d.conventional.series import seconds_of_iteration
from dip4d.measures.consistency import outliers
from dip4d.tilt_geometry import remove_slow_motion
from dip4d.tilt_series import TiltSeries

ROUNDS = 10  # of projection matching at each scale, at most
SLOW_FUNCTIONS = 3  # cosines of time that a real motion of the specimen may be made of, in each direction of space
MATCHING_SHARE = 0.8  # of the time of an alignment that is limited is for the choice of the window and the rounds


def align(
    series: TiltSeries,
    *,
    normalise: bool = True,
    rotation_deg: float | None = None,
    width: int | None = None,
    rounds: int = ROUNDS,
    seconds: float = math.inf,
    report: Callable[[str], None] | None = None,
) -> tuple[TiltSeries, Shifts, dict]:
    """The aligned series, its shifts, and a report of plain numbers, of a series less its background.

    series: images (t, z, s), less their background.
    normalise: bring all images to the same mean intensity.
    rotation_deg: of the tilt axis, degrees, where it is known; None looks for it, as `coarse`.
    width: of the window of projection matching, in images; None lets the prediction of left-out images choose among
        the series, a half, a quarter and an eighth of it.
    rounds: of projection matching at each scale; 0 for the coarse alignment alone.
    seconds: about how long it may take; fewer rounds are done then, as the report is told.
    report: told what is done.
    """
    end = time.monotonic() + MATCHING_SHARE * seconds
    tell = report or (lambda _: None)
    scales = matching_scales(series.shape)
    residual = lambda shifts: sirt_residual(series.binned(scales[0]), on_binned_images(shifts, series, k=scales[0]))
    began = Shifts.none(len(series.images))
    shifts, found = coarse(series, rotation_deg)
    tell(f"coarse: {found['along_z']} along z, {found['along_s']} across")
    if normalise:
        _, factors = normalised(apply(series, shifts), common_rows(series, shifts))
        series = replace(series, images=series.images * factors[:, None, None].astype(np.float32))
        found["normalisation"] = factors.tolist()
    found["sirt_residual_before"], found["sirt_residual_coarse"] = residual(began), residual(shifts)
    if found["sirt_residual_coarse"] > found["sirt_residual_before"]:
        tell("the images fit each other better without the coarse alignment: it is left out")
        shifts = began
    if rounds:
        shifts, matched = _match(series, shifts, scales=scales, width=width, rounds=rounds, end=end, tell=tell)
        found |= matched
    shifts = shifts.centred()
    found["sirt_residual_after"] = residual(shifts)
    found |= {
        "axis_px": shifts.axis,
        "rotation_deg": shifts.rotation_deg,
        "rms_z_px": float(shifts.z.std()),
        "rms_s_px": float(shifts.s.std()),
        "largest_px": float(np.hypot(shifts.z - shifts.z.mean(), shifts.s).max()),
    }
    return apply(series, shifts), shifts, found


def aligned_if_better(
    series: TiltSeries,
    report: Callable[[str], None] | None = None,
    *,
    test_images: Sequence[int] = (),
    seconds: float = math.inf,
) -> tuple[TiltSeries, Shifts] | None:
    """The series, less its background, with every image put where the others say that it belongs; and the shifts.

    As `align`, but the brightness stays as it is, and so do the direction of the tilt axis and any slow motion of the
    specimen, which may be real: only jumps are taken out. None if SIRT fits the images less well afterwards.

    test_images: those without any part in this; afterwards each is put where the others predict it.
    """
    seen, told_by = series.without_images(test_images), np.setdiff1d(np.arange(len(series.images)), test_images)
    end = time.monotonic() + seconds
    _, shifts, found = align(seen, normalise=False, rotation_deg=0.0, seconds=seconds, report=report)
    if found["sirt_residual_after"] > found["sirt_residual_before"]:
        return None
    if len(test_images):
        width = found["window"]
        shifts = _with_test_images(series, shifts, test_images=np.array(test_images), width=width, end=end)
    functions = 1 if series.one_sweep else SLOW_FUNCTIONS  # in one sweep whatever is slow may as well be the tilt axis
    z, s = remove_slow_motion(
        shifts.z, shifts.across, angles_deg=series.angles_deg, tau=series.tau, functions=functions, told_by=told_by
    )
    shifts = Shifts(z, s)
    return apply(series, shifts), shifts


def _with_test_images(
    series: TiltSeries,
    seen: Shifts,
    *,
    test_images: np.ndarray,
    width: int,
    end: float,
) -> Shifts:
    """The shifts of all images, from those of the seen ones. end: the time.monotonic() that is aimed at."""
    told_by = np.setdiff1d(np.arange(len(series.images)), test_images)
    z, s = np.zeros((2, len(series.images)))
    z[told_by], s[told_by] = seen.z, seen.s
    shifts, scales = replace(seen, z=z, s=s), matching_scales(series.shape)
    windows = 1 if width >= len(told_by) else len(test_images)
    share = windows * PREDICTION_ITERATIONS / (FOLDS * MATCHING_ITERATIONS)  # of a round of projection matching
    short = time.monotonic() + share * _seconds_of_round(series.binned(scales[-1])) > end
    k = scales[0] if short else scales[-1]
    placed = place(series.binned(k), on_binned_images(shifts, series, k=k), images=test_images, width=width)
    return on_full_images(placed, series, k=k)


def _match(
    series: TiltSeries,
    shifts: Shifts,
    *,
    scales: Sequence[int],
    width: int | None,
    rounds: int,
    end: float,
    tell: Callable[[str], None],
) -> tuple[Shifts, dict]:
    """Projection matching at each scale, coarse to fine; the residuals it reports are those at the coarsest.

    end: the time.monotonic() at which no further round begins; nor one that would not end by then.
    """
    frames, smallest = len(series.images), series.binned(scales[0])
    began = on_binned_images(shifts, series, k=scales[0])
    if width is None:
        widths = [w for w in (frames // 2, frames // 4, frames // 8) if w >= 8]
        width = choose_width(smallest, began, widths=widths, end=end)
    for k in scales:
        if end < math.inf and time.monotonic() + _seconds_of_round(series.binned(k)) > end:
            tell(f"no time for projection matching, {k} x {k} pixels binned")
            break
        tell(f"projection matching in windows of {width} of {frames} images, {k} x {k} pixels binned")
        start = on_binned_images(shifts, series, k=k)
        matched = match_projections(series.binned(k), start, width=width, rounds=rounds, end=end, report=tell)
        shifts = on_full_images(matched, series, k=k)
    ended = on_binned_images(shifts, series, k=scales[0])
    residuals = [prediction_residual(smallest, s, width=width) for s in (began, ended)]
    return shifts, {
        "window": width,
        "left_out_residual_coarse": residuals[0].tolist(),
        "left_out_residual_after": residuals[1].tolist(),
        "suspect_images": np.flatnonzero(outliers(residuals[1])).tolist(),
    }


def expected_seconds(series: TiltSeries, rounds: int = ROUNDS) -> float:
    """About how long `align` takes at most, from an iteration of SIRT at each scale, timed."""
    scales = matching_scales(series.shape)
    of_rounds = [_seconds_of_round(series.binned(k)) for k in scales]
    predictions = 6 * PREDICTION_ITERATIONS / MATCHING_ITERATIONS  # up to four windows are tried; two residuals
    return rounds * sum(of_rounds) + predictions * of_rounds[0]


def _seconds_of_round(series: TiltSeries) -> float:
    """About how long a round of projection matching takes."""
    return FOLDS * MATCHING_ITERATIONS * seconds_of_iteration(series)
