"""The noise of a tilt series, told from its own images."""

from __future__ import annotations

import numpy as np

from dip4d.tilt_series import TiltSeries

BLOCK_PX = 8  # pixels, over which noise that was smoothed averages like white noise
FEWEST_PAIRS = 5  # of images of one view, from which their differences tell the noise
FAINT = 0.05  # share of the brightest pixel below which a pixel counts as empty
SIGMA_PER_MEDIAN = 1.4826  # of the absolute deviations of a normal distribution


def noise_level(series: TiltSeries) -> float:
    """Standard deviation of the noise in the images of a series, where there is intensity.

    Where views are repeated, of what images of one view do not share; else from second differences along s, which takes
    the noise for white. What images do not share is averaged over blocks of `BLOCK_PX` pixels, and scaled to what white
    noise of that power would have: noise that was smoothed looks small, but reconstructs like the larger one.
    """
    again = np.flatnonzero(np.diff(series.views) == 0)  # these show the same as the images after them
    if len(again) < FEWEST_PAIRS:
        return _from_second_differences(series.images)
    before, after = series.images[again], series.images[again + 1]
    _, n_z, bins = series.shape
    block = (min(BLOCK_PX, n_z), min(BLOCK_PX, bins))
    differs, shows = (_blocks(v, block) for v in ((after - before) / 2**0.5, (before + after) / 2))
    inside = np.abs(differs[shows > FAINT * series.images.max()])
    return SIGMA_PER_MEDIAN * float(np.median(inside)) * float(np.prod(block)) ** 0.5 if inside.size else 0.0


def _blocks(images: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    """Means over blocks of (z, s) pixels of images (t, Z, S), what is left over cut off."""
    z, s = block
    t, n_z, bins = len(images), images.shape[1] // z, images.shape[2] // s
    return images[:, : n_z * z, : bins * s].reshape(t, n_z, z, bins, s).mean((2, 4))


def _from_second_differences(images: np.ndarray) -> float:
    difference = images[..., 2:] - 2 * images[..., 1:-1] + images[..., :-2]
    inside = np.abs(difference[images[..., 1:-1] > FAINT * images.max()])
    middle = (inside.size - 1) // 2  # the lower of the two middle ones, where there are two
    return float(np.partition(inside, middle)[middle]) / 0.6745 / 6**0.5 if inside.size else 0.0
