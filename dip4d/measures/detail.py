"""How fine a specimen is along the tilt axis, as far as its images tell."""

from __future__ import annotations

import numpy as np

from dip4d.measures.noise import MOST_NUMBERS
from dip4d.tilt_series import TiltSeries

FINE_PX = 6.0  # the wave that is looked for
BAND = (0.8, 1.25)  # times its frequency
NOISE_FROM = 0.35  # periods a pixel: finer waves count as noise
FEWEST_Z = 12  # positions z, in which such a wave can be told
TIMES_NOISE = 6.5  # the power of that wave over that of the noise: cages and ensembles 7 and up, porous 4, stars 1


def is_fine_along_z(series: TiltSeries) -> bool:
    """Whether the images of a series, less its background, hold waves of `FINE_PX` pixels along the tilt axis far above
    their noise.
    """
    images = series.images if series.shown is None else series.images[:, series.shown.all(0)]
    if images.shape[1] < FEWEST_Z:
        return False
    images = images[..., :: 1 + images.size // MOST_NUMBERS].astype(np.float64)
    window = np.hanning(images.shape[1] + 2)[1:-1, None]
    waves = np.fft.rfft((images - images.mean(1, keepdims=True)) * window, axis=1)
    power, frequency = np.square(np.abs(waves)).mean((0, 2)), np.fft.rfftfreq(images.shape[1])
    there = (frequency >= BAND[0] / FINE_PX) & (frequency <= BAND[1] / FINE_PX)
    return bool(power[there].mean() > (1 + TIMES_NOISE) * np.median(power[frequency > NOISE_FROM]))
