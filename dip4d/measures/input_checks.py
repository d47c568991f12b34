"""What the images of a tilt series tell before anything is reconstructed: the tilt axis, and images that are bad.

Both rest on the moment conditions of parallel projections (Helgason 1965; Ludwig 1966): whatever the tilt, an image
holds all the mass of the specimen, each row across the tilt axis holds all the mass of its slice, and the centre of
mass moves as a sine of the tilt. A specimen that changes does so slowly or in steps; a film grows thicker as 1 / cos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter

from dip4d.tilt_series import TiltSeries

_LEAST_TILT = 5.0  # degrees that the angles must span to tell the tilt axis
_ONE_SWEEP = 0.99  # correlation of angle and time from which they count as one and the same
_FEWEST = 12  # images from which outliers can be told
_WINDOW = 7  # images in time that say what the one in their middle should be
_SPREADS = 7.0  # robust standard deviations that make an outlier, but at least
_BRIGHTNESS = 0.12  # this relative change of mass, or
_SHIFT = 0.03  # this shift, as a share of the image
_BLANK = 0.25  # share of the usual mass below which an image counts as blank
_BRIGHT = 0.25  # share of the brightest intensity of an image above which pixels tell where the specimen is
_THINNEST = 8  # slices that a series must have, and
_LARGEST_SHARE = 0.2  # of images may differ, for the others to be called healthy
_SHUFFLES = 50  # of the tilt angles, to see whether the images follow them
_NAMED = 12  # suspects that a warning describes one by one
_BACKGROUND = 0.03  # share of the brightest pixel above which a level beside the specimen is a background
_SPREAD_PER_MAD = 1.4826  # of a normal distribution


@dataclass(frozen=True)
class Suspect:
    """An image that does not fit the others. frame: its number from 0 in the order of time. reason: in words."""

    frame: int
    reason: str


def tilt_axis(images: np.ndarray, angles_deg: np.ndarray) -> tuple[str, float]:
    """The image axis, 'x' (columns) or 'y' (rows), along which the tilt axis seems to lie, and how sure that is: 0..1.

    images: (t, rows, columns), in the order of time. angles_deg: (t,). Were the tilt axis along y, the profile of mass
    along y would stay the same, and the moments of order 2 and 3 of the profile along x would follow sines of two and
    three times the tilt. The confidence is 1 - V_right / V_wrong, with V the variance of these moments, about the
    centre of mass and relative to the size, that remains: 0 for a specimen that cannot tell (a sphere, a single tilt,
    noise only). What would be a plate on its edge, thin along the tilt axis and wide along the beam at every tilt, is
    taken for what it much rather is, a needle along the other axis: V grows with the fourth power of its flatness. In
    a single sweep a change of the specimen cannot be told from the tilt. Shifts do not matter.
    """
    if 1 in images.shape[1:]:
        return "y", 0.0
    lifted = np.stack([_above_background(image) for image in np.asarray(images, np.float32)])
    mass = lifted.sum((1, 2), dtype=np.float64)
    held = mass > _BLANK * np.median(mass)
    if held.sum() < 2 or np.ptp(np.asarray(angles_deg)[held]) < _LEAST_TILT:
        return "y", 0.0
    along_x, along_y = (_central_moments(lifted[held].sum(axis, dtype=np.float64)) for axis in (1, 2))
    theta, time = np.deg2rad(np.asarray(angles_deg))[held], np.linspace(-1, 1, len(mass))[held]
    in_one_sweep = abs(np.corrcoef(time, theta)[0, 1]) > _ONE_SWEEP
    slow = [] if in_one_sweep else [time, time**2]
    left = {
        "x": _unexplained(along_x, along_y, theta=theta, slow=slow),
        "y": _unexplained(along_y, along_x, theta=theta, slow=slow),
    }
    right, wrong = sorted(left, key=left.__getitem__)
    return right, float(1 - left[right] / left[wrong]) if left[wrong] > 0 else 0.0


def disorder(series: TiltSeries) -> float:
    """What the given tilt angles leave of the moments unexplained, over what the same angles in a random order leave:
    far below 1 if the images follow their angles, about 1 if not, or if the specimen looks alike from all sides.
    """
    lifted = np.stack([_above_background(image) for image in series.images])
    held = lifted.sum((1, 2), dtype=np.float64) > 0
    if held.sum() < _FEWEST:
        return 0.0
    along, across = (_central_moments(lifted[held].sum(axis, dtype=np.float64)) for axis in (2, 1))
    theta, time = np.deg2rad(series.angles_deg[held]), np.linspace(-1, 1, len(held))[held]
    left = lambda angles: _unexplained(along, across, theta=angles, slow=[time, time**2])
    random = np.random.default_rng(0)
    usual = float(np.median([left(random.permutation(theta)) for _ in range(_SHUFFLES)]))
    return left(theta) / usual if usual > 0 else 0.0


def _unexplained(along: np.ndarray, across: np.ndarray, *, theta: np.ndarray, slow: list[np.ndarray]) -> float:
    """What of the moments (2, t) along and across a tilt axis its geometry leaves unexplained, weighed by flatness.

    Moments: variance in pixels^2, and skewness about it.
    """
    flat = np.stack([np.ones_like(theta), *slow], axis=1)
    twice = np.column_stack([flat, np.cos(2 * theta), np.sin(2 * theta)])
    thrice = np.stack([*slow, np.cos(theta), np.sin(theta), np.cos(3 * theta), np.sin(3 * theta)], axis=1)
    pairs = ((along[0] / along[0].mean(), flat), (along[1], flat), (across[0] / across[0].mean(), twice),
             (across[1], thrice))  # fmt: skip
    rest = sum(float(np.mean((values - basis @ _least_squares(basis, values)) ** 2)) for values, basis in pairs)
    middle, *_, cosine, sine = _least_squares(twice, across[0])
    thinnest = middle - np.hypot(cosine, sine)  # across the tilt axis, over all directions of view
    return rest * max(1.0, thinnest / along[0].mean()) ** 2


def _least_squares(basis: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(basis, values, rcond=1e-6)[0]


def _central_moments(profiles: np.ndarray) -> np.ndarray:
    """Variance of profiles (t, n) in pixels^2, and their skewness in units of the mean variance: (2, t)."""
    weights = profiles / profiles.sum(1, keepdims=True)
    places = np.arange(profiles.shape[1])
    away = places - (weights @ places)[:, None]
    second, third = (np.sum(weights * away**k, axis=1) for k in (2, 3))
    second = np.maximum(second, 1e-6)
    return np.stack([second, third / second.mean() ** 1.5])


def _above_background(image: np.ndarray) -> np.ndarray:
    """An image less the darkest fifth of its border, where it is above that. Pixels of 0 are the filling of shifts."""
    width = max(1, min(image.shape) // 20)
    border = np.concatenate([image[:width].ravel(), image[-width:].ravel(),
                             image[:, :width].ravel(), image[:, -width:].ravel()])  # fmt: skip
    border = border[border != 0]
    return np.maximum(image - np.percentile(border, 20), 0) if border.size else image


def suspects(series: TiltSeries) -> list[Suspect]:
    """Images that are blank, of the wrong brightness or shifted, compared with their neighbours in angle and in time.

    Nothing is said of series of fewer than 12 images, of a few slices only (what drifts along the tilt axis leaves
    them), of specimens darker than their background, nor where so many images differ that none is an outlier.
    """
    if len(series.images) < _FEWEST or series.shape[1] < _THINNEST:
        return []
    images = above_background(series.images)
    mass = images.sum((1, 2), dtype=np.float64)
    usual = np.median(mass)
    if usual <= 0:
        return []
    z, s = _centres(np.stack([np.maximum(image - _faint(image), 0) for image in images]))
    brightness = _surprise(np.log(np.maximum(mass / usual, _BLANK / 2)), series, least=_BRIGHTNESS)
    blank = (brightness < 0) & (mass < _BLANK * usual)
    shift_z, shift_s = (
        _surprise(np.where(blank, np.median(c[~blank]), c), series, least=_SHIFT * n)
        for c, n in ((z, series.shape[1]), (s, series.shape[2]))
    )
    found = []
    for frame in range(len(mass)):
        if blank[frame]:
            found.append(Suspect(frame, "blank"))
        elif brightness[frame]:
            found.append(Suspect(frame, f"{np.exp(brightness[frame]):.2f} times as bright as expected"))
        elif shift_z[frame] or shift_s[frame]:
            found.append(Suspect(frame, f"shifted by about ({shift_z[frame]:.0f}, {shift_s[frame]:.0f}) pixels (z, s)"))
    return found if len(found) <= _LARGEST_SHARE * len(mass) else []


def advice(series: TiltSeries, excluded: Sequence[int] = (), *, key: str = "exclude") -> str | None:
    """One line that names the suspects of a series and how to leave them out; None if there are none.

    excluded: images that are left out already. key: what the caller's users write to leave images out.
    """
    found = [suspect for suspect in suspects(series) if suspect.frame not in excluded]
    if not found:
        return None
    named = ", ".join(f"{suspect.frame} ({suspect.reason})" for suspect in found[:_NAMED])
    named += f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    frames = ",".join(map(str, sorted({*excluded, *(suspect.frame for suspect in found)})))
    return f"images that do not fit the others: {named}; look at them, and leave them out with {key}=[{frames}]"


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


def _centres(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre of mass in z and s, in pixels from the middle, of images (t, z, s) >= 0; 0 where there is no mass."""
    profiles = images.sum(2, dtype=np.float64), images.sum(1, dtype=np.float64)
    z, s = (p @ (np.arange(p.shape[1]) - (p.shape[1] - 1) / 2) / np.maximum(p.sum(1), 1e-30) for p in profiles)
    return z, s


def above_background(images: np.ndarray) -> np.ndarray:
    """Images (t, z, s), each less the median of its border; what shifts have filled with 0 stays 0."""
    levels = np.array([np.median(_border(image)) for image in images], images.dtype)
    return np.where(images == 0, 0, images - levels[:, None, None])


def _border(image: np.ndarray) -> np.ndarray:
    """Pixels of the outer tenth at both sides of the tilt axis, less the filling: zeros, unless most of it is zero."""
    width = max(1, image.shape[1] // 10)
    border = np.concatenate([image[:, :width], image[:, -width:]], axis=1)
    filled = border[border != 0]
    return filled if 2 * filled.size >= border.size else border


def _faint(image: np.ndarray) -> float:
    """The intensity up to which pixels of an image above its background say little of where the specimen is."""
    border = _border(image)
    spread = _SPREAD_PER_MAD * float(np.median(np.abs(border - np.median(border))))
    return max(3 * spread, _BRIGHT * float(np.percentile(image, 99.8)))


def _surprise(values: np.ndarray, series: TiltSeries, *, least: float) -> np.ndarray:
    """How far each of the values (t,) is from what a smooth function of the tilt and its neighbours in time predict.

    0 where it is no farther than `least` or than the spread of all explains.
    """
    theta = np.deg2rad(series.angles_deg)
    thicker = -np.log(np.maximum(np.cos(theta), 0.1))
    basis = np.stack([np.ones_like(theta), np.sin(theta), np.cos(theta), thicker], axis=1)
    slow = np.zeros_like(values)
    for _ in range(4):
        tilted = basis @ _least_absolute(basis, values - slow)
        slow = median_filter(values - tilted, _WINDOW, mode="nearest")
    rest = values - tilted - slow
    spread = _SPREAD_PER_MAD * np.median(np.abs(rest - np.median(rest)))
    return np.where(np.abs(rest) > max(least, _SPREADS * spread), rest, 0)


def _least_absolute(basis: np.ndarray, values: np.ndarray, *, iterations: int = 12) -> np.ndarray:
    """The coefficients of least absolute deviation, by reweighted least squares: outliers do not pull them."""
    weights = np.ones_like(values)
    for _ in range(iterations):
        root = np.sqrt(weights)
        coefficients = np.linalg.lstsq(basis * root[:, None], values * root, rcond=1e-6)[0]
        rest = np.abs(values - basis @ coefficients)
        weights = 1 / np.maximum(rest, 1e-3 * rest.max() + 1e-12)
    return coefficients
