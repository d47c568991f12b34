"""Alignment of a tilt series of a specimen that may change while it is taken.

Pure functions on a `TiltSeries` whose background is subtracted; `align` runs them all. `dip4d.shifts` has the
conventions. What each assumes of the specimen:

- `by_mass`: that it lies in the field of view and keeps its mass and, nearly, its centre of mass. It may change shape
  at will. The centre of mass of an image is the projection of that of the specimen, at any angle.
- `along_axis`: that the mass in each row z changes slowly with time. It does not depend on the tilt angle.
- `across_axis`, for specimens larger than the field of view: that images at neighbouring angles resemble each other.
  Then `find_axis` finds the tilt axis.
- `axis_rotation`: the centre of mass of each row lies at ``X(z) cos + Y(z) sin``; what is left is the axis. It needs a
  specimen that is longer, or shorter, along the axis than across. Of a round one the rotation cannot be seen like that,
  and SIRT fits the images nearly as well at any: give it, from the calibration of the microscope.
- `dip4d.matching`: that in a window of time, which the data choose, it can be reconstructed.

`jumps` tells, without any of this, whether a series needs alignment; `steadied` does only what that shows to be needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from skimage.registration import phase_cross_correlation

from dip4d.algorithms import evenly, sirt
from dip4d.matching import choose_width, match_projections, prediction_residual
from dip4d.projector import Geometry, Projector
from dip4d.quality import outliers
from dip4d.shifts import Shifts, _basis, apply, inside, shown, without_gauge
from dip4d.tilt_series import TiltSeries

BORDER = 0.03  # of the field of view, at each side
EMPTY = 0.1  # a border is empty if its pixels hold less than this share of the mean intensity, in nearly all images
RESIDUAL_ITERATIONS = 50
RESIDUAL_SLICES = 32
FEWEST_ROWS = 8  # along the tilt axis, from which a jump along it can be told
LARGEST = 96  # pixels: matching runs on images binned to at most about this size, then once more on finer ones


def mean_intensities(series: TiltSeries, rows: np.ndarray | None = None) -> np.ndarray:
    """(t,): the mean intensity of each image, of the given rows (z,) True, or of all."""
    return series.images[:, slice(None) if rows is None else rows].mean((1, 2), dtype=np.float64)


def normalised(series: TiltSeries, rows: np.ndarray | None = None) -> tuple[TiltSeries, np.ndarray]:
    """The series with all images at the same mean intensity (of some rows, (z,) True), and the factors used, (t,).

    An image without intensity (mean below a tenth of the median) keeps its values: factor 1.
    """
    means = mean_intensities(series, rows)
    usual = float(np.median(means))
    factors = np.where(means > 0.1 * usual, usual / np.where(means > 0, means, 1), 1.0) if usual > 0 else means * 0 + 1
    return replace(series, images=series.images * factors[:, None, None].astype(np.float32)), factors


def lies_inside(series: TiltSeries, axis: int) -> bool:
    """Whether the specimen lies inside the field of view along `axis` (1: z, 2: s): its borders there are empty."""
    n = series.shape[axis]
    width = max(1, round(BORDER * n))
    profile = series.images.mean(3 - axis, dtype=np.float64)  # (t, n)
    usual = np.maximum(profile.mean(1), 1e-30)
    border = np.maximum(profile[:, :width].mean(1), profile[:, -width:].mean(1))
    return bool(np.quantile(border / usual, 0.9) < EMPTY)


def centre_of_mass(profiles: np.ndarray) -> np.ndarray:
    """The centre of mass of profiles (..., n), in pixels from the middle; NaN where there is no mass."""
    place = np.arange(profiles.shape[-1]) - (profiles.shape[-1] - 1) / 2
    mass = profiles.sum(-1, dtype=np.float64)
    return (profiles @ place) / np.where(mass > 0, mass, np.nan)


def by_mass(series: TiltSeries, axis: int, rows: np.ndarray | None = None) -> np.ndarray:
    """(t,): displacement along `axis` (1: z, 2: s), in pixels, that brings each centre of mass to the middle.

    rows: (z,) True for those that count. An image without mass gets the median of the others.
    """
    images = series.images if rows is None else series.images[:, rows]
    centres = centre_of_mass(images.sum(3 - axis, dtype=np.float64))
    usual = np.nanmedian(centres) if np.isfinite(centres).any() else 0.0
    return np.nan_to_num(np.where(np.isfinite(centres), centres, usual))


def along_axis(
    series: TiltSeries, known: np.ndarray | None = None, width: int | None = None, rounds: int = 20
) -> np.ndarray:
    """(t,): displacement along z, in pixels, from the sums over s of each row.

    First each image against the one before it, by the correlation of the profiles where they overlap; then, round by
    round and to a fraction of a pixel, against the mean of the `width` images around it in time (a quarter of the
    series if None). known: (t, z), False for rows that an image does not show; all if None.
    """
    profiles = series.images.sum(2, dtype=np.float64)
    profiles = profiles if known is None else np.where(known, profiles, np.nan)
    steps = [_lag(before, after) for before, after in pairwise(profiles)]
    shifts = np.concatenate([[0.0], np.cumsum(steps)])
    shifts -= np.median(shifts)
    frames = len(shifts)
    width = max(3, frames // 4 if width is None else width)
    place = np.arange(profiles.shape[1], dtype=np.float64)
    for _ in range(rounds):
        moved = [np.interp(place + d, place, p, np.nan, np.nan) for p, d in zip(profiles, shifts, strict=True)]
        step = np.array([_profile_step(np.stack(moved), t, width) for t in range(frames)])
        shifts += step - step.mean()
        if np.abs(step).max() < 1e-3:
            break
    return shifts


def jumps(series: TiltSeries) -> float:
    """How far the images jump along the tilt axis from one to the next: rms, pixels; 0 for fewer than 8 rows z.

    From the row sums, which no tilt changes, and a specimen only slowly: neither its drift counts, nor one bad image.
    Well-aligned series of 500 counts at the brightest pixel have 0.02 to 0.06.
    """
    if series.shape[1] < FEWEST_ROWS:
        return 0.0
    steps = np.diff(along_axis(series))
    return float(1.4826 * np.median(np.abs(steps - np.median(steps))) / 2**0.5)


def _lag(before: np.ndarray, after: np.ndarray) -> float:
    """By how many pixels `after` (n,) lies further than `before`: the best correlation of what overlaps; 0 if none."""
    n = len(before)
    lags = np.arange(-(n // 3), n // 3 + 1)
    score = np.array([_correlation(before[max(0, -k) : n - max(0, k)], after[max(0, k) : n + min(0, k)]) for k in lags])
    best = int(score.argmax())
    return float(lags[best] + _vertex(score, best)) if score[best] > 0.3 else 0.0


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    good = np.isfinite(a) & np.isfinite(b)
    if good.sum() < len(a) / 2:
        return 0.0
    a, b = a[good] - a[good].mean(), b[good] - b[good].mean()
    return float(a @ b / max(np.sqrt((a @ a) * (b @ b)), 1e-30))


def _vertex(score: np.ndarray, k: int) -> float:
    """Where between its neighbours the parabola through score[k] peaks, -0.5..0.5; 0 at the ends."""
    if not 0 < k < len(score) - 1:
        return 0.0
    left, middle, right = score[k - 1 : k + 2]
    bend = left - 2 * middle + right
    return float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5)) if bend else 0.0


def _profile_step(moved: np.ndarray, t: int, width: int) -> float:
    """The displacement of the profile t against the mean of its neighbours in time; moved: (t, z), NaN outside."""
    start = int(np.clip(t - width // 2, 0, max(len(moved) - width, 0)))
    others = np.delete(np.arange(start, min(start + width, len(moved))), t - start)
    reference = moved[others].mean(0)  # NaN where one of them is
    slope = np.gradient(reference)
    good = np.isfinite(slope) & np.isfinite(moved[t])
    design = np.stack([reference[good], -slope[good]], axis=1)
    normal = design.T @ design
    if not good.any() or np.linalg.cond(normal) > 1e12:
        return 0.0
    gain, step = np.linalg.solve(normal, design.T @ moved[t][good])
    return float(np.clip(step / gain, -1, 1)) if gain > 0.1 else 0.0


def across_axis(series: TiltSeries, upsample: int = 20) -> np.ndarray:
    """(t,): displacement along s, in pixels, by the correlation of images at neighbouring angles.

    Neighbours in angle, whatever their times: neighbours in time may be seen from very different sides. Small errors
    add up from angle to angle, so this is a start for `dip4d.matching`, for specimens larger than the field of view.
    """
    order = np.argsort(series.angles_deg, kind="stable")
    taper = np.hanning(series.shape[2] + 2)[1:-1]
    images = series.images[order] * taper
    steps = [_displacement(a, b, upsample) for a, b in pairwise(images)]
    shifts = np.empty(len(order))
    shifts[order] = np.concatenate([[0.0], np.cumsum(steps)])
    return without_gauge(shifts, shifts, series.angles_deg)[1]


def _displacement(before: np.ndarray, after: np.ndarray, upsample: int) -> float:
    if not before.any() or not after.any():
        return 0.0
    shift, *_ = phase_cross_correlation(after, before, upsample_factor=upsample, normalization=None)
    return float(shift[1])


def find_axis(series: TiltSeries, shifts: Shifts, reach: float | None = None) -> Shifts:
    """Moves the tilt axis to where SIRT fits the images best, to 0.1 pixel.

    reach: how far from where it is to look, in pixels; an eighth of the width if None.
    """
    score = lambda axis: sirt_residual(series, replace(shifts, axis=axis), iterations=15, slices=8)
    return replace(shifts, axis=_search(score, shifts.axis, series.shape[2] / 8 if reach is None else reach, 0.1))


def _search(score: Callable[[float], float], start: float, reach: float, least: float) -> float:
    """Where `score` is lowest, within `reach` of `start`, in steps that halve down to `least`."""
    step = reach / 4
    scores = {start + k * step: score(start + k * step) for k in range(-4, 5)}
    while step > least:
        best, step = min(scores, key=scores.__getitem__), step / 2
        scores |= {p: score(p) for p in (best - step, best + step)}
    return float(min(scores, key=scores.__getitem__))


def sirt_residual(
    series: TiltSeries,
    shifts: Shifts | None = None,
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
    y = torch.from_numpy(np.ascontiguousarray(apply(series, shifts).images[:, chosen].transpose(1, 0, 2)))
    bins = series.shape[2]
    A = Projector(Geometry((bins, bins), bins, torch.from_numpy(np.deg2rad(series.angles_deg))))
    misfit = A(sirt(A, y, iterations)) - y
    return float(misfit.square().sum().sqrt() / y.square().sum().sqrt().clamp(min=1e-30))


def common_rows(series: TiltSeries, shifts: Shifts) -> np.ndarray:
    """(z,): True for rows that all aligned images show and that hold more than 2 % of the brightest one's mass.

    All rows of enough mass where there is none that all images show.
    """
    depth, width = series.shape[1:]
    slack = abs(np.sin(np.deg2rad(shifts.rotation_deg))) * width / 4  # by which the rotation moves the ends of a row
    z = np.arange(depth)
    whole = (z + shifts.z.min() - slack > -0.5) & (z + shifts.z.max() + slack < depth - 0.5)
    mass = np.median(apply(series, shifts).images.sum(2), axis=0)
    heavy = mass > 0.02 * mass.max()
    return whole & heavy if (whole & heavy).any() else heavy


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
    error = np.sqrt(np.linalg.inv(design.T @ design)[1, 1] * left.var() * _CORRELATED)
    length = _slimness(profiles.mean(0).clip(min=0))
    if abs(length) < 0.2:
        return AxisLine(0.0, np.inf, float(axis))
    return AxisLine(*(float(np.rad2deg(np.arctan(v))) for v in (slope / length, error / abs(length))), float(axis))


_CORRELATED = 5.0  # rows whose errors go together: the standard error counts every fifth


def _slimness(image: np.ndarray) -> float:
    """1 - (extent along s / extent along z)^2 of an image (z, s): 1 for a line along z, 0 for a disc, < 0 across."""
    variance = [np.average((np.arange(p.size) - np.average(np.arange(p.size), weights=p)) ** 2, weights=p)
                for p in (image.sum(1), image.sum(0))]  # fmt: skip
    return float(1 - variance[1] / max(variance[0], 1e-30))


def _robust_constant(centres: np.ndarray, angles_deg: np.ndarray) -> np.ndarray:
    """(n,): the constants of ``c + X cos + Y sin`` in centres (t, n), outliers beyond 3 sigma left out."""
    constants = np.empty(centres.shape[1])
    basis = _basis(angles_deg, constant=True)
    for k, values in enumerate(centres.T):
        keep = np.ones(len(values), bool)
        for _ in range(3):
            fitted = np.linalg.lstsq(basis[keep], values[keep], rcond=1e-6)[0]
            left = np.abs(values - basis @ fitted)
            keep = left < max(4.5 * np.median(left), 1e-6)
        constants[k] = fitted[0]
    return constants


def coarse(series: TiltSeries, rotation_deg: float | None = None, rounds: int = 3) -> tuple[Shifts, dict]:
    """A first alignment, good to about a pixel, and what was found on the way.

    Along an axis along which the specimen lies inside the field of view, by its centre of mass, else by correlation.
    rotation_deg: of the tilt axis, where it is known; None looks for it by centres of mass, and takes what it finds
    only if larger than twice its standard error.
    """
    closed_z, closed_s = lies_inside(series, 1), lies_inside(series, 2)
    shifts = replace(Shifts.none(len(series.images)), rotation_deg=rotation_deg or 0.0)
    line = AxisLine(0.0, np.inf, 0.0)
    for _ in range(rounds):
        shifts = _coarse_along(series, shifts, closed_z)
        shifts = _coarse_across(series, shifts, closed_s)
        if rotation_deg is not None or not closed_s:
            break
        line = axis_rotation(apply(series, shifts), common_rows(series, shifts))
        if abs(line.rotation_deg) <= 2 * line.error_deg:
            break
        shifts = replace(shifts, rotation_deg=shifts.rotation_deg + line.rotation_deg)
    found = "given" if rotation_deg is not None else "centres of mass" if np.isfinite(line.error_deg) else "not found"
    return shifts.centred(), {
        "along_z": "centre of mass" if closed_z else "correlation of row sums",
        "along_s": "centre of mass" if closed_s else "correlation of neighbouring angles",
        "rotation": found,
        "rotation_error_deg": line.error_deg if np.isfinite(line.error_deg) else None,
    }


def _coarse_along(series: TiltSeries, shifts: Shifts, closed: bool) -> Shifts:
    """The shifts with those along z found anew."""
    aligned = apply(series, shifts)
    if closed:
        return shifts.plus(z=by_mass(aligned, 1))
    return shifts.plus(z=along_axis(aligned, shown(inside(series, shifts))))


def _coarse_across(series: TiltSeries, shifts: Shifts, closed: bool) -> Shifts:
    """The shifts with those along s found anew."""
    aligned = apply(series, shifts)
    if closed:
        return shifts.plus(s=by_mass(aligned, 2, common_rows(series, shifts)))
    shifts = shifts.plus(s=across_axis(aligned))
    return _on_small_images(find_axis, series, shifts)


def _on_small_images(find: Callable[[TiltSeries, Shifts], Shifts], series: TiltSeries, shifts: Shifts) -> Shifts:
    """What `find` makes of the shifts on images binned to a size at which it is quick."""
    k = _scales(series.shape)[0]
    return on_full_images(find(series.binned(k), on_binned_images(shifts, series, k)), series, k)


def align(
    series: TiltSeries,
    normalise: bool = True,
    rotation_deg: float | None = None,
    width: int | None = None,
    rounds: int = 10,
    progress: Callable[[str], None] | None = None,
) -> tuple[TiltSeries, Shifts, dict]:
    """The aligned series, its shifts, and a report of plain numbers, of a series less its background.

    normalise: bring all images to the same mean intensity. rotation_deg: of the tilt axis, as in `coarse`. width:
    of the window of projection matching, in images; None lets the prediction of left-out images choose among the
    series, a half, a quarter and an eighth of it. rounds: of projection matching at each scale; 0 for the coarse
    alignment alone. progress: told what is done.
    """
    tell = progress or (lambda _: None)
    scales = _scales(series.shape)
    residual = lambda shifts: sirt_residual(series.binned(scales[0]), on_binned_images(shifts, series, scales[0]))
    began = Shifts.none(len(series.images))
    shifts, report = coarse(series, rotation_deg)
    tell(f"coarse: {report['along_z']} along z, {report['along_s']} across")
    if normalise:
        _, factors = normalised(apply(series, shifts), common_rows(series, shifts))
        series = replace(series, images=series.images * factors[:, None, None].astype(np.float32))
        report["normalisation"] = factors.tolist()
    report["sirt_residual_before"], report["sirt_residual_coarse"] = residual(began), residual(shifts)
    if report["sirt_residual_coarse"] > report["sirt_residual_before"]:
        tell("the images fit each other better without the coarse alignment: it is left out")
        shifts = began
    if rounds:
        shifts, matched = _match(series, shifts, scales, width, rounds, tell)
        report |= matched
    shifts = shifts.centred()
    report["sirt_residual_after"] = residual(shifts)
    report |= {
        "axis_px": shifts.axis,
        "rotation_deg": shifts.rotation_deg,
        "rms_z_px": float(shifts.z.std()),
        "rms_s_px": float(shifts.s.std()),
        "largest_px": float(np.hypot(shifts.z - shifts.z.mean(), shifts.s).max()),
    }
    return apply(series, shifts), shifts, report


def steadied(series: TiltSeries, progress: Callable[[str], None] | None = None) -> tuple[TiltSeries, Shifts] | None:
    """The series, less its background, with every image put where the others say that it belongs; and the shifts.

    As `align`, but the brightness stays as it is, and so do the direction of the tilt axis and the place of the
    specimen, which no method can know. None if SIRT fits the images less well afterwards.
    """
    _, found, report = align(series, normalise=False, rotation_deg=0.0, progress=progress)
    if report["sirt_residual_after"] > report["sirt_residual_before"]:
        return None
    shifts = Shifts(*without_gauge(found.z, found.across, series.angles_deg))
    return apply(series, shifts), shifts


def _match(
    series: TiltSeries, shifts: Shifts, scales: Sequence[int], width: int | None, rounds: int, tell: Callable
) -> tuple[Shifts, dict]:
    """Projection matching at each scale, coarse to fine; the residuals it reports are those at the coarsest."""
    frames, smallest = len(series.images), series.binned(scales[0])
    began = on_binned_images(shifts, series, scales[0])
    if width is None:
        widths = [w for w in (frames // 2, frames // 4, frames // 8) if w >= 8]
        width = choose_width(smallest, began, widths)
    for k in scales:
        tell(f"projection matching in windows of {width} of {frames} images, {k} x {k} pixels binned")
        matched = match_projections(series.binned(k), on_binned_images(shifts, series, k), width, rounds, progress=tell)
        shifts = on_full_images(matched, series, k)
    residuals = [prediction_residual(smallest, s, width) for s in (began, on_binned_images(shifts, series, scales[0]))]
    return shifts, {
        "window": width,
        "left_out_residual_coarse": residuals[0].tolist(),
        "left_out_residual_after": residuals[1].tolist(),
        "suspect_images": np.flatnonzero(outliers(residuals[1])).tolist(),
    }


def _scales(shape: tuple[int, int, int]) -> list[int]:
    """Binning at which projections are matched, coarse to fine."""
    return sorted({-(-max(shape[1:]) // size) for size in (LARGEST, 2 * LARGEST)}, reverse=True)


def on_binned_images(shifts: Shifts, series: TiltSeries, k: int) -> Shifts:
    """The shifts for the series binned by k, whose middle is not quite that of the series if pixels were cut off."""
    return replace(s := shifts.scaled(1 / k), axis=s.axis - _middle(series.shape[2], k) / k)


def on_full_images(shifts: Shifts, series: TiltSeries, k: int) -> Shifts:
    """The inverse of `on_binned_images`."""
    return replace(s := shifts.scaled(k), axis=s.axis + _middle(series.shape[2], k))


def _middle(n: int, k: int) -> float:
    """Where the middle of n pixels binned by k lies, in pixels from the middle of all."""
    return (n // k * k - n) / 2
