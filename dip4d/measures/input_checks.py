"""What the images of a tilt series tell before anything is reconstructed: the tilt axis, and images that are bad.

Both rest on the moment conditions of parallel projections (Helgason 1965; Ludwig 1966): whatever the tilt, an image
holds all the mass of the specimen, each row across the tilt axis holds all the mass of its slice, and the centre of
mass moves as a sine of the tilt. A specimen that changes does so slowly or in steps; a film grows thicker as 1 / cos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter, uniform_filter

from dip4d.tilt_series import TiltSeries, border_levels, empty_pixels, middle_of

CERTAIN = 0.5  # a confidence in the tilt axis from which it is taken without being asked for
_BEYOND_DOUBT = 0.9  # a confidence from which an axis at 45 degrees is not asked for: a needle may lie askew
_FEWEST_VIEWS = 10  # images from which the tilt axis can be told: fewer are explained by any
_DESPIKED_PX = 16  # images as large as that lose single bright pixels
_BELOW_MEAN = 0.84  # standard deviations by which the darkest fifth lies below the mean
_LARGEST_PX = 128  # images are binned to about this size to look for the tilt axis
_LEAST_TILT = 5.0  # degrees that the angles must span to tell the tilt axis
_ONE_SWEEP = 0.99  # correlation of angle and time from which they count as one and the same
_FEWEST = 12  # images from which outliers can be told
_WINDOW = 7  # images in time that say what the one in their middle should be
_SPREADS = 7.0  # robust standard deviations that make an outlier, but at least
_BRIGHTNESS = 0.15  # this relative change of mass, or
_SHIFT = 0.03  # this shift, as a share of the image
_BLANK = 0.25  # share of the usual mass below which an image counts as blank
_BRIGHT = 0.25  # share of the brightest intensity of an image above which pixels tell where the specimen is
_THINNEST = 8  # slices that a series must have, and
_LARGEST_SHARE = 0.2  # of images may differ, for the others to be called healthy
_SHUFFLES = 50  # of the tilt angles, to see whether the images follow them
_NAMED = 12  # suspects that a warning describes one by one
_BACKGROUND = 0.03  # share of the brightest pixel above which a level beside the specimen is a background
_SPREAD_PER_MAD = 1.4826  # of a normal distribution
_RADIANS_DEG, _FEWEST_ANGLES = 7.0, 10  # a span of more angles than that below which they may be radians
_DARKER, _EVEN = 5.0, 0.6  # times as much below as above the background, and the scatter of that: an inverted contrast
_FALLS = 0.05  # share of the brightest intensity by which the level of the border may fall with the tilt


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
    noise only), for fewer than 10 images, where an axis at 45 degrees explains the moments better than both, and where
    single bright pixels or faint ones turn the verdict. What would be a plate on its edge, thin along the tilt axis
    and wide along the beam at every tilt, is taken for what it much rather is, a needle along the other axis: V grows
    with the fourth power of its flatness. In a single sweep a change of the specimen cannot be told from the tilt.
    Shifts do not matter. A dark specimen is inverted first.
    """
    if 1 in images.shape[1:] or len(images) < _FEWEST_VIEWS:
        return "y", 0.0
    small = _small(images)
    small = _dark_side(small) if is_inverted(small) else small
    angles = np.asarray(angles_deg, np.float64)
    (axis, sure), (other, as_sure) = (
        _axis_by_moments(np.stack([lift(image) for image in small]), angles)
        for lift in (_above_background, _above_noise)
    )
    return axis, min(sure, as_sure) if axis == other else 0.0


def _axis_by_moments(lifted: np.ndarray, angles_deg: np.ndarray) -> tuple[str, float]:
    """As `tilt_axis`, of images less their background."""
    mass = lifted.sum((1, 2), dtype=np.float64)
    held = mass > _BLANK * np.median(mass)
    if held.sum() < _FEWEST_VIEWS or np.ptp(angles_deg[held]) < _LEAST_TILT:
        return "y", 0.0
    theta, time = np.deg2rad(angles_deg)[held], np.linspace(-1, 1, len(mass))[held]
    in_one_sweep = abs(np.corrcoef(time, theta)[0, 1]) > _ONE_SWEEP
    slow = [] if in_one_sweep else [time, time**2]
    tensors = [_central_moments(image) for image in lifted[held]]
    left = {}
    for name, turn in (("y", 0.0), ("x", 90.0), ("diagonal", 45.0), ("other diagonal", 135.0)):
        sin, cos = np.sin(np.deg2rad(turn)), np.cos(np.deg2rad(turn))
        along, across = _moments_along(tensors, (sin, cos)), _moments_along(tensors, (cos, -sin))
        left[name] = _unexplained(along, across, theta=theta, slow=slow)
    right, wrong = sorted(("x", "y"), key=left.__getitem__)
    sure = float(1 - left[right] / left[wrong]) if left[wrong] > 0 else 0.0
    if sure < _BEYOND_DOUBT and min(left["diagonal"], left["other diagonal"]) < left[right]:
        return right, 0.0
    return right, sure


def _small(images: np.ndarray) -> np.ndarray:
    """Images (t, rows, columns) binned to at most about `_LARGEST_PX`, float32."""
    k = max(1, -(-max(images.shape[1:]) // _LARGEST_PX))
    rows, columns = max(images.shape[1] // k, 1), max(images.shape[2] // k, 1)
    k_rows, k_columns = min(k, images.shape[1]), min(k, images.shape[2])
    cut = [np.asarray(image[: rows * k_rows, : columns * k_columns], np.float32) for image in images]
    return np.stack([image.reshape(rows, k_rows, columns, k_columns).mean((1, 3)) for image in cut])


def is_inverted(images: np.ndarray) -> bool:
    """Whether what differs from the background is darker than it, in images (t, rows, columns), as in a bright field.

    By the moment condition of the inverted images: what lies below the level of the frame stays about the same.
    """
    below, above = np.empty(len(images)), np.empty(len(images))
    for t, image in enumerate(images):
        image = uniform_filter(image, 3) if min(image.shape) >= _DESPIKED_PX else image  # noise
        frame = _frame(image)
        away = image - middle_of(frame)
        noise = 3 * _SPREAD_PER_MAD * float(np.median(np.abs(frame - np.median(frame))))
        below[t], above[t] = (np.maximum(d - noise, 0).sum(dtype=np.float64) for d in (-away, away))
    held = below > _BLANK * np.median(below)
    if not held.any() or not np.median(below) > _DARKER * np.median(above):
        return False
    return bool((below > above).mean() > 1 - _LARGEST_SHARE and below[held].std() < _EVEN * below[held].mean())


def _dark_side(images: np.ndarray) -> np.ndarray:
    return np.stack([middle_of(_frame(image)) - image for image in images])


def _frame(image: np.ndarray) -> np.ndarray:
    """Pixels of the border of an image, at all four sides."""
    width = max(1, min(image.shape) // 20)
    return np.concatenate([image[:width].ravel(), image[-width:].ravel(),
                           image[:, :width].ravel(), image[:, -width:].ravel()])  # fmt: skip


def disorder(series: TiltSeries) -> float:
    """What the given tilt angles leave of the moments unexplained, over what the same angles in a random order leave:
    far below 1 if the images follow their angles, about 1 if not, or if the specimen looks alike from all sides.
    """
    lifted = np.stack([_above_background(image) for image in _small(series.images)])
    held = lifted.sum((1, 2), dtype=np.float64) > 0
    if held.sum() < _FEWEST:
        return 0.0
    tensors = [_central_moments(image) for image in lifted[held]]
    along, across = _moments_along(tensors, (0.0, 1.0)), _moments_along(tensors, (1.0, 0.0))
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


def _central_moments(image: np.ndarray) -> np.ndarray:
    """The moments (4, 4) of an image about its centre of mass, of orders in y and x, relative to its mass."""
    weights = image.astype(np.float64) / image.sum(dtype=np.float64)
    y, x = (np.arange(n, dtype=np.float64) for n in image.shape)
    y, x = y - weights.sum(1) @ y, x - weights.sum(0) @ x
    return np.vander(y, 4, increasing=True).T @ weights @ np.vander(x, 4, increasing=True)


def _moments_along(tensors: list[np.ndarray], direction: tuple[float, float]) -> np.ndarray:
    """Variance in pixels^2 along a direction (x, y), and skewness in units of the mean variance: (2, t)."""
    x, y = direction
    second = [x * x * m[0, 2] + 2 * x * y * m[1, 1] + y * y * m[2, 0] for m in tensors]
    third = [x**3 * m[0, 3] + 3 * x * x * y * m[1, 2] + 3 * x * y * y * m[2, 1] + y**3 * m[3, 0] for m in tensors]
    second = np.maximum(second, 1e-6)
    return np.stack([second, np.array(third) / second.mean() ** 1.5])


def _above_background(image: np.ndarray) -> np.ndarray:
    """An image less the darkest fifth of its border, where it is above that. Pixels of 0 are the filling of shifts."""
    border = _frame(image)
    border = border[border != 0]
    return np.maximum(image - np.percentile(border, 20), 0) if border.size else image


def _above_noise(image: np.ndarray) -> np.ndarray:
    """An image without single bright pixels, less its background and three standard deviations of its noise."""
    image = median_filter(image, 3) if min(image.shape) >= _DESPIKED_PX else image
    steps = np.diff(image, axis=1)
    noise = _SPREAD_PER_MAD * float(np.median(np.abs(steps - np.median(steps)))) / 2**0.5
    return np.maximum(_above_background(image) - (3 + _BELOW_MEAN) * noise, 0)


def angle_warnings(series: TiltSeries) -> list[str]:
    """What is likely wrong with the tilt angles of a series, a sentence each."""
    angles = series.angles_deg
    span = float(np.ptp(angles))
    if span == 0:
        return [f"all tilt angles are {angles[0]:g} degrees: one direction of view tells nothing of the depth"]
    if len(angles) <= _FEWEST_ANGLES:
        return []
    if span < _RADIANS_DEG:
        return [
            f"the tilt angles span {span:.3g} degrees only: they look like radians; name a file of them in degrees "
            f"({np.rad2deg(span):.3g} then)"
        ]
    if angles[0] in (0, 1) and (np.diff(angles) == 1).all():
        return [f"the tilt angles are {angles[0]:g}, {angles[1]:g}, {angles[2]:g}, ...: they look like image numbers"]
    return []


def contrast_advice(series: TiltSeries, *, key: str = "invert=true") -> str | None:
    """One line for a series whose specimen is darker than its background; None for any other."""
    if 1 in series.shape[1:] or not is_inverted(_small(series.images)):
        return None
    return (
        "the contrast looks inverted: the specimen is darker than its background, as in a bright field; "
        f"{key} reconstructs the background less the image"
    )


def border_advice(series: TiltSeries, *, key: str = "background") -> str | None:
    """One line where the level beside the specimen changes with the tilt: the specimen reaches it; None if it does not.

    The more a slab is tilted the narrower it looks. A film that fills the images only grows brighter, as 1 / cos, and
    the beam changes slowly.
    """
    if len(series.images) < _FEWEST_VIEWS or series.shape[2] < _THINNEST or np.ptp(series.angles_deg) < _LEAST_TILT:
        return None
    levels = border_levels(series.images, empty_pixels(series.images, series.shown))
    some = series.images[:: max(1, len(levels) // 20)]
    peak = float(np.percentile(some, 99.8)) - float(levels.min())
    if not np.ptp(levels) > _FALLS / 2 * peak > 0:
        return None
    cos, time = np.cos(np.deg2rad(series.angles_deg)), np.linspace(-1, 1, len(levels))
    film = 1 / np.maximum(cos, 0.1)
    basis = np.stack([np.ones_like(cos), film, time, time**2, time * film], axis=1)
    rest = (levels - basis @ _least_squares(basis, levels))[np.argsort(series.angles_deg, kind="stable")]
    falls = bool(np.corrcoef(cos, levels)[0, 1] > 0.5) and np.ptp(levels) > 2 * _FALLS * peak
    if not falls and not (rest.std() > _FALLS / 2 * peak and np.corrcoef(rest[1:], rest[:-1])[0, 1] > 0.5):
        return None
    return (
        f"the level at the border changes with the tilt, from {levels.max():.4g} to {levels.min():.4g}: the specimen "
        f"seems to reach the border across the tilt axis, where {key}=auto takes it for background; give {key}=none or "
        "the number of an empty image"
    )


def blank_advice(series: TiltSeries) -> str | None:
    """One line for a series that shows nothing: all pixels of each image are equal; None for any other."""
    flat = [float(image.min()) == float(image.max()) for image in series.images]
    return "the series is blank: all pixels of every image are equal" if all(flat) else None


def suspects(series: TiltSeries) -> list[Suspect]:
    """Images that are blank, of the wrong brightness or shifted, compared with their neighbours in angle and in time.

    None where that cannot be told: see `suspects_or_why`.
    """
    return suspects_or_why(series)[0]


def suspects_or_why(series: TiltSeries) -> tuple[list[Suspect], str | None]:
    """The suspects of a series, and why they cannot be told, or None if they can.

    Nothing can be told of fewer than 12 images, of a few slices only (what drifts along the tilt axis leaves them), of
    specimens darker than their background, nor where so many images differ that none is an outlier.
    """
    if len(series.images) < _FEWEST:
        return [], f"from fewer than {_FEWEST} images"
    if blank_advice(series):
        return [], "the series is blank"
    if series.shape[1] < _THINNEST:
        return [], f"from fewer than {_THINNEST} rows"
    images = above_background(series.images, series.shown)
    mass = images.sum((1, 2), dtype=np.float64)
    usual = np.median(mass[mass > _BLANK * np.percentile(mass, 95)]) if mass.max() > 0 else 0.0
    if np.percentile(mass, 95) <= 0 or usual <= 0:
        return [], "the specimen is not brighter than its background"
    if (mass < _BLANK * usual).mean() > _LARGEST_SHARE:
        return [], f"too many differ, {int((mass < _BLANK * usual).sum())} of {len(mass)} are blank"
    found, spread = _outliers(series, images, masses=(mass, usual))
    if len(found) > _LARGEST_SHARE * len(mass):
        return [], f"too many differ, {len(found)} of {len(mass)}"
    if not found and spread > _BRIGHTNESS:
        return [], f"too many differ: the brightness changes by {spread:.0%} from image to image"
    return found, None


def _outliers(
    series: TiltSeries,
    images: np.ndarray,
    *,
    masses: tuple[np.ndarray, float],
) -> tuple[list[Suspect], float]:
    """The suspects among images (t, z, s) above their background, and how much the brightness scatters, relative.

    masses: (t,), of the images; and what is usual.
    """
    mass, usual = masses
    z, s = _centres(np.stack([np.maximum(image - _faint(image), 0) for image in images]))
    brightness, spread = _surprise(np.log(np.maximum(mass / usual, _BLANK / 2)), series, least=_BRIGHTNESS)
    blank = (brightness < 0) & (mass < _BLANK * usual)
    (shift_z, _), (shift_s, _) = (
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
    return found, spread


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


def above_background(images: np.ndarray, shown: np.ndarray | None = None) -> np.ndarray:
    """Images (t, z, s), each less the level of its border; what they do not show is 0. shown: (t, z), or None."""
    empty = empty_pixels(images, shown)
    above = images - border_levels(images, empty).astype(images.dtype)[:, None, None]
    return above if empty is None else np.where(empty, 0, above)


def _faint(image: np.ndarray) -> float:
    """The intensity up to which pixels of an image above its background say little of where the specimen is."""
    width = max(1, image.shape[1] // 10)
    border = np.concatenate([image[:, :width], image[:, -width:]], axis=1)
    spread = _SPREAD_PER_MAD * float(np.median(np.abs(border - np.median(border))))
    return max(3 * spread, _BRIGHT * float(np.percentile(image, 99.8)))


def _surprise(values: np.ndarray, series: TiltSeries, *, least: float) -> tuple[np.ndarray, float]:
    """How far each of the values (t,) is from what a smooth function of the tilt and its neighbours in time predict.

    0 where it is no farther than `least` or than the spread of all explains; and that spread.
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
    return np.where(np.abs(rest) > max(least, _SPREADS * spread), rest, 0), float(spread)


def _least_absolute(basis: np.ndarray, values: np.ndarray, *, iterations: int = 12) -> np.ndarray:
    """The coefficients of least absolute deviation, by reweighted least squares: outliers do not pull them."""
    weights = np.ones_like(values)
    for _ in range(iterations):
        root = np.sqrt(weights)
        coefficients = np.linalg.lstsq(basis * root[:, None], values * root, rcond=1e-6)[0]
        rest = np.abs(values - basis @ coefficients)
        weights = 1 / np.maximum(rest, 1e-3 * rest.max() + 1e-12)
    return coefficients
