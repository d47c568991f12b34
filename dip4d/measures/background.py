"""What lies beside the specimen in the images of a tilt series: a background, or more of the specimen."""

from __future__ import annotations

import math

import numpy as np

from dip4d.measures.moments import least_squares
from dip4d.measures.noise import noise_level
from dip4d.measures.tilt_axis import FEWEST_VIEWS, LEAST_TILT_DEG
from dip4d.tilt_series import TiltSeries, border_levels, empty_pixels

_BACKGROUND = 0.03  # share of the brightest pixel above which a level beside the specimen is a background
_REACHES, _SURE = 0.05, 4.0  # the border over the whole image, standard errors
_OFTEN, _SEEN = 0.05, 0.9  # share of the images that are cut; share of these, up to whose tilt they are
LEAST_MARGIN, MOST_MARGIN = 1 / 8, 1 / 2  # of the width of the images
_FALLS = 0.05  # share of the brightest intensity by which the level of the border may fall with the tilt
THINNEST = 8  # slices from which the border and the suspects of a series are judged


def above_background(images: np.ndarray, shown: np.ndarray | None = None) -> np.ndarray:
    """Images (t, z, s), each less the level of its border; what they do not show is 0. shown: (t, z), or None."""
    empty = empty_pixels(images, shown)
    above = images - border_levels(images, empty).astype(images.dtype)[:, None, None]
    return above if empty is None else np.where(empty, 0, above)


def background_advice(series: TiltSeries) -> str | None:
    """One line for a series whose images still have a background, which a reconstruction would take for specimen; None
    if what lies at both sides of the tilt axis holds less than `_BACKGROUND` of the brightest pixel.
    """
    width = max(1, series.shape[2] // 10)
    sides = np.concatenate([series.images[..., :width], series.images[..., -width:]], axis=-1)
    level, peak = float(np.median(sides)), float(series.images.max())
    if not level > _BACKGROUND * peak:
        return None
    return (
        f"the images have a background of about {level:.4g}, {level / peak:.0%} of the brightest pixel, beside the "
        'specimen: subtract it, with series.without_background("auto")'
    )


def margin_of(series: TiltSeries) -> int:
    """About how many pixels a specimen reaches beyond its images, less their background, at each side of the tilt axis;
    0 if they show all of it but for what they cut off along the axis.

    They cut it off if at one side, of some of them or in the mean of all, the two outermost columns hold a twentieth of
    what a column holds, or more. The farther it reaches the higher the tilt at which they do: a thin one that ends at x
    is seen up to x cos.
    """
    images, columns, width = series.images, 2, series.shape[2]
    if width < THINNEST:
        return 0
    sides = [side.mean((1, 2), dtype=np.float64) for side in (images[..., :columns], images[..., -columns:])]
    least = _REACHES * float(images.mean(dtype=np.float64))
    noise = noise_level(series) / math.sqrt(columns * images.shape[1])
    cut = np.maximum(*sides) > max(least, _SURE * noise)
    if cut.sum() < max(2, _OFTEN * len(images)):  # noise may hide in each what all of them show
        cut[:] = max(side.mean() for side in sides) > max(least, _SURE * noise / math.sqrt(len(images)))
    if not cut.any():
        return 0
    tilt = np.quantile(np.abs(series.angles_deg[cut]), _SEEN)
    beyond = 0.5 / max(math.cos(math.radians(tilt)), 0.1) - 0.5
    return round(width * min(max(beyond, LEAST_MARGIN), MOST_MARGIN))


def border_advice(series: TiltSeries, *, key: str = "background") -> str | None:
    """One line where the level beside the specimen changes with the tilt: the specimen reaches it; None if it does not.

    The more a slab is tilted the narrower it looks. A film that fills the images only grows brighter, as 1 / cos, and
    the beam changes slowly.
    """
    if len(series.images) < FEWEST_VIEWS or series.shape[2] < THINNEST or np.ptp(series.angles_deg) < LEAST_TILT_DEG:
        return None
    levels = border_levels(series.images, empty_pixels(series.images, series.shown))
    some = series.images[:: max(1, len(levels) // 20)]
    peak = float(np.percentile(some, 99.8)) - float(levels.min())
    if not np.ptp(levels) > _FALLS / 2 * peak > 0:
        return None
    cos, time = np.cos(np.deg2rad(series.angles_deg)), np.linspace(-1, 1, len(levels))
    film = 1 / np.maximum(cos, 0.1)
    basis = np.stack([np.ones_like(cos), film, time, time**2, time * film], axis=1)
    rest = (levels - basis @ least_squares(basis, levels))[np.argsort(series.angles_deg, kind="stable")]
    falls = bool(np.corrcoef(cos, levels)[0, 1] > 0.5) and np.ptp(levels) > 2 * _FALLS * peak
    if not falls and not (rest.std() > _FALLS / 2 * peak and np.corrcoef(rest[1:], rest[:-1])[0, 1] > 0.5):
        return None
    return (
        f"the level at the border changes with the tilt, from {levels.max():.4g} to {levels.min():.4g}: the specimen "
        f"seems to reach the border across the tilt axis, where {key}=auto takes it for background; give {key}=none or "
        "the number of an empty image"
    )
