"""A first alignment, good to about a pixel: by centres of mass, or by the correlation of images."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
from skimage.registration import phase_cross_correlation

from dip4d.alignment.residual import common_rows
from dip4d.alignment.row_profiles import along_axis
from dip4d.alignment.shifts import Shifts, apply, inside, on_small_images, shown
from dip4d.alignment.tilt_axis import AxisLine, axis_rotation, find_axis
from dip4d.measures.consistency import centre_of_mass
from dip4d.tilt_geometry import remove_unobservable_shift
from dip4d.tilt_series import TiltSeries

BORDER = 0.03  # of the field of view, at each side
EMPTY = 0.1  # a border is empty if its pixels hold less than this share of the mean intensity, in nearly all images


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


def by_mass(series: TiltSeries, axis: int, *, rows: np.ndarray | None = None) -> np.ndarray:
    """(t,): displacement along `axis` (1: z, 2: s), in pixels, that brings each centre of mass to the middle.

    rows: (z,) True for those that count. An image without mass gets the median of the others.
    """
    images = series.images if rows is None else series.images[:, rows]
    centres = centre_of_mass(images.sum(3 - axis, dtype=np.float64))
    usual = np.nanmedian(centres) if np.isfinite(centres).any() else 0.0
    return np.nan_to_num(np.where(np.isfinite(centres), centres, usual))


def across_axis(series: TiltSeries, upsample: int = 20) -> np.ndarray:
    """(t,): displacement along s, in pixels, by the correlation of images at neighbouring angles.

    Neighbours in angle, whatever their times: neighbours in time may be seen from very different sides. Small errors
    add up from angle to angle: this is a start for `projection_matching`, for specimens larger than the field of view.
    """
    order = np.argsort(series.angles_deg, kind="stable")
    taper = np.hanning(series.shape[2] + 2)[1:-1]
    images = series.images[order] * taper
    steps = [_displacement(a, b, upsample=upsample) for a, b in pairwise(images)]
    shifts = np.empty(len(order))
    shifts[order] = np.concatenate([[0.0], np.cumsum(steps)])
    return remove_unobservable_shift(shifts, shifts, angles_deg=series.angles_deg)[1]


def _displacement(before: np.ndarray, after: np.ndarray, *, upsample: int) -> float:
    if not before.any() or not after.any():
        return 0.0
    shift, *_ = phase_cross_correlation(
        after,
        before,
        upsample_factor=upsample,
        normalization=None,  # pyright: ignore[reportArgumentType]  # its type is guessed from the default, a str
    )
    return float(shift[1])


def coarse(series: TiltSeries, rotation_deg: float | None = None, *, rounds: int = 3) -> tuple[Shifts, dict]:
    """A first alignment, good to about a pixel, and what was found on the way.

    Along an axis along which the specimen lies inside the field of view, by its centre of mass, else by correlation.
    rotation_deg: of the tilt axis, where it is known; None looks for it by centres of mass, and takes what it finds
    only if larger than twice its standard error.
    """
    closed_z, closed_s = lies_inside(series, 1), lies_inside(series, 2)
    shifts = replace(Shifts.none(len(series.images)), rotation_deg=rotation_deg or 0.0)
    line = AxisLine(0.0, np.inf, 0.0)
    for _ in range(rounds):
        shifts = _coarse_along(series, shifts, closed=closed_z)
        shifts = _coarse_across(series, shifts, closed=closed_s)
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


def _coarse_along(series: TiltSeries, shifts: Shifts, *, closed: bool) -> Shifts:
    """The shifts with those along z found anew."""
    aligned = apply(series, shifts)
    if closed:
        return shifts.plus(z=by_mass(aligned, 1))
    return shifts.plus(z=along_axis(aligned, row_mask=shown(inside(series, shifts))))


def _coarse_across(series: TiltSeries, shifts: Shifts, *, closed: bool) -> Shifts:
    """The shifts with those along s found anew."""
    aligned = apply(series, shifts)
    if closed:
        return shifts.plus(s=by_mass(aligned, 2, rows=common_rows(series, shifts)))
    shifts = shifts.plus(s=across_axis(aligned))
    return on_small_images(find_axis, series, shifts=shifts)
