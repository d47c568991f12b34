"""Images of a tilt series that do not fit the others: blank, of the wrong brightness or shifted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter

from dip4d.measures.background import THINNEST, above_background
from dip4d.measures.contrast import LARGEST_SHARE, blank_advice
from dip4d.measures.moments import BLANK, SPREAD_PER_MAD
from dip4d.tilt_series import TiltSeries

_FEWEST = 12  # images from which outliers can be told
_WINDOW = 7  # images in time that say what the one in their middle should be
_SPREADS = 7.0  # robust standard deviations that make an outlier, but at least
_BRIGHTNESS = 0.15  # this relative change of mass, or
_SHIFT = 0.03  # this shift, as a share of the image
_BRIGHT = 0.25  # share of the brightest intensity of an image above which pixels tell where the specimen is
_NAMED = 12  # suspects that a warning describes one by one


@dataclass(frozen=True)
class Suspect:
    """An image that does not fit the others. frame: its number from 0 in the order of time. reason: in words."""

    frame: int
    reason: str


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
    if series.shape[1] < THINNEST:
        return [], f"from fewer than {THINNEST} rows"
    images = above_background(series.images, series.shown)
    mass = images.sum((1, 2), dtype=np.float64)
    usual = np.median(mass[mass > BLANK * np.percentile(mass, 95)]) if mass.max() > 0 else 0.0
    if np.percentile(mass, 95) <= 0 or usual <= 0:
        return [], "the specimen is not brighter than its background"
    if (mass < BLANK * usual).mean() > LARGEST_SHARE:
        return [], f"too many differ, {int((mass < BLANK * usual).sum())} of {len(mass)} are blank"
    found, spread = _outliers(series, images, masses=(mass, usual))
    if len(found) > LARGEST_SHARE * len(mass):
        return [], f"too many differ, {len(found)} of {len(mass)}"
    if not found and spread > _BRIGHTNESS:
        return [], f"too many differ: the brightness changes by {spread:.0%} from image to image"
    return found, None


def suspects_advice(series: TiltSeries, excluded: Sequence[int] = (), *, key: str = "exclude") -> str | None:
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
    brightness, spread = _surprise(np.log(np.maximum(mass / usual, BLANK / 2)), series, least=_BRIGHTNESS)
    blank = (brightness < 0) & (mass < BLANK * usual)
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


def _centres(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre of mass in z and s, in pixels from the middle, of images (t, z, s) >= 0; 0 where there is no mass."""
    profiles = images.sum(2, dtype=np.float64), images.sum(1, dtype=np.float64)
    z, s = (p @ (np.arange(p.shape[1]) - (p.shape[1] - 1) / 2) / np.maximum(p.sum(1), 1e-30) for p in profiles)
    return z, s


def _faint(image: np.ndarray) -> float:
    """The intensity up to which pixels of an image above its background say little of where the specimen is."""
    width = max(1, image.shape[1] // 10)
    border = np.concatenate([image[:, :width], image[:, -width:]], axis=1)
    spread = SPREAD_PER_MAD * float(np.median(np.abs(border - np.median(border))))
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
    spread = SPREAD_PER_MAD * np.median(np.abs(rest - np.median(rest)))
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
