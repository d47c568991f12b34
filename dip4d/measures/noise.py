"""The noise of a tilt series, told from its own images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import convolve1d

from dip4d.indices import evenly
from dip4d.tilt_series import TiltSeries

BLOCK_PX = 8  # pixels, over which noise that was smoothed averages like white noise
FEWEST_PAIRS = 5  # of images of one view, from which their differences tell the noise
FAINT = 0.05  # share of the brightest pixel below which a pixel counts as empty
DIM = 0.25  # share of the pixels that stand for the dim ones where none is empty
NORMAL_MEDIAN = 0.6745  # of the absolute deviations of a normal distribution, in standard deviations
MOST_NUMBERS = 2**22  # of a large series, from which the model is told
BEND = np.array([1, -2, 1]) / 6**0.5  # of three neighbours; of white noise it keeps the variance, and
MEAN = np.ones(3) / 3  # of these it is independent


@dataclass(frozen=True)
class NoiseModel:
    """The variance of a pixel is ``gain * intensity + offset``: counting and readout (Foi et al., IEEE TIP 17:1737)."""

    gain: float
    offset: float

    def floor(self, measured: np.ndarray) -> float:
        """The relative error of a perfect prediction of measured pixels, of any shape: their noise alone. NaN without
        any intensity.
        """
        mean_square = float(np.square(measured, dtype=np.float64).mean()) if measured.size else 0.0
        return float(np.sqrt(self.mean_variance(measured) / mean_square)) if mean_square > 0 else np.nan

    def added_to(self, images: np.ndarray, *, seed: int) -> np.ndarray:
        """Images (t, z, s), intensity, with such noise, drawn from (seed, frame) for each image."""
        noisy = images.copy()
        for frame, image in enumerate(images):
            random = np.random.default_rng((seed, frame))
            if self.gain:
                noisy[frame] = random.poisson(np.maximum(image, 0) / self.gain) * self.gain
            if self.offset:
                noisy[frame] += random.normal(0, self.offset**0.5, image.shape)
        return noisy.astype(np.float32)

    def relative_to(self, peak: float) -> tuple[float, float]:
        """Of the variance of the brightest pixel, in units of its square, what counting adds and what readout does."""
        return (self.gain / peak, self.offset / peak**2) if peak > 0 else (0.0, 0.0)

    def mean_variance(self, measured: np.ndarray) -> float:
        """Of measured pixels, of any shape."""
        return self.gain * max(float(measured.mean(dtype=np.float64)), 0.0) + self.offset


def noise_model(measured: np.ndarray, predicted: np.ndarray, *, views: np.ndarray) -> NoiseModel:
    """How the noise of images, less their background, grows with their intensity.

    measured: (t, z, s), intensity.
    predicted: the same images by a reconstruction: what it explains is no noise, sharp edges above all.
    views: (t,), as `TiltSeries.views`. Where views are repeated, the noise is what images of one view do not share;
        else what the pixels of small squares of the misfit do not share with any bend along z or s, which takes it for
        white: noise that was smoothed looks smaller.
    """
    differs, shows = _differences(measured, predicted, views=views)
    some = slice(None, None, 1 + differs.size // MOST_NUMBERS)
    squares, shows = np.square(differs[some], dtype=np.float64), shows[some].astype(np.float64)
    faint = shows < FAINT * shows.max()
    offset = float(squares[faint].mean()) if faint.any() else 0.0
    bright = float(shows[~faint].sum())
    gain = max(float((squares[~faint] - offset).sum()) / bright, 0.0) if bright > 0 else 0.0
    return NoiseModel(gain, offset)


def _differences(
    measured: np.ndarray,
    predicted: np.ndarray,
    *,
    views: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers that are noise of the standard deviation of a pixel, and the intensity where each was measured."""
    again = np.flatnonzero(np.diff(views) == 0)
    if len(again) >= FEWEST_PAIRS:
        before, after = measured[again], measured[again + 1]
        return ((after - before) / 2**0.5).ravel(), ((before + after) / 2).ravel()
    differs, shows, shape = measured - predicted, measured, measured.shape[1:]
    for axis, n in enumerate(shape, start=1):
        if n >= 3:
            differs, shows = convolve1d(differs, BEND, axis=axis), convolve1d(shows, MEAN, axis=axis)
    inside = (slice(None), *(slice(1, -1) if n >= 3 else slice(None) for n in shape))
    return differs[inside].ravel(), shows[inside].ravel()


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
    return float(np.median(inside)) / NORMAL_MEDIAN * float(np.prod(block)) ** 0.5 if inside.size else 0.0


def _blocks(images: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    """Means over blocks of (z, s) pixels of images (t, Z, S), what is left over cut off."""
    z, s = block
    t, n_z, bins = len(images), images.shape[1] // z, images.shape[2] // s
    return images[:, : n_z * z, : bins * s].reshape(t, n_z, z, bins, s).mean((2, 4))


def noise_of_images(series: TiltSeries) -> NoiseModel:
    """How the noise of a series, less its background, grows with its intensity, told from its images alone.

    Half of the differences that are noise are smaller than those of sharp edges, whatever these are. Noise that was
    smoothed looks smaller.
    """
    some = _pairs(len(series.images), 1 + MOST_NUMBERS // series.images[0].size)
    images = series.images[some]
    differs, shows = _differences(images, np.zeros_like(images), views=series.views[some])
    dim, low = shows <= FAINT * shows.max(), 0.0
    if not dim.any():  # the specimen fills the images, or a background does
        dim = shows <= np.quantile(shows, DIM)
        low = float(shows[dim].mean())
    variance = lambda of: (_middle(np.abs(differs[of])) / NORMAL_MEDIAN) ** 2
    of_dim = variance(dim)
    if dim.all():
        return NoiseModel(0.0, of_dim)
    gain = max(variance(~dim) - of_dim, 0.0) / (float(shows[~dim].mean()) - low)
    return NoiseModel(gain, max(of_dim - gain * low, 0.0))


def _pairs(frames: int, most: int) -> np.ndarray:
    """Indices of some of the frames of a large series, each beside the next one; about as many as `most`, or all."""
    if frames <= most:
        return np.arange(frames)
    first = np.array(evenly(frames - 1, max(most // 2, FEWEST_PAIRS)))
    return np.union1d(first, first + 1)


def _from_second_differences(images: np.ndarray) -> float:
    difference = images[..., 2:] - 2 * images[..., 1:-1] + images[..., :-2]
    inside = np.abs(difference[images[..., 1:-1] > FAINT * images.max()])
    return _middle(inside) / NORMAL_MEDIAN / 6**0.5 if inside.size else 0.0


def _middle(values: np.ndarray) -> float:
    """The median; the lower of the two middle ones, where there are two."""
    middle = (values.size - 1) // 2
    return float(np.partition(values, middle)[middle])
