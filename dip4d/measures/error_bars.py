"""Error bars of quantities from a twin experiment: how far what comes back lies from what was put in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d, maximum_filter, minimum_filter
from scipy.optimize import isotonic_regression

SHARPER_PX = 1.0  # width of the blur whose loss is given back
LEAST_SHARPER, MOST_SHARPER = 0.6, 1.5  # times that loss: unseen rows cannot tell less, for their noise hides it
FRAMES_TOGETHER = 0.05  # of all: the errors of neighbours are alike
OF_ALL = 0.5  # of the squared error of a frame, as much as that of all frames, for what few refits tell of it is little
# A twin is optimistic: what is put into it is a reconstruction, as smooth in space and time as such are. Measured on
# simulated series, docs/experiments-log.md.
# Of a quantity by its kind: a factor, and the least. Mass: of the only element; amount: of one of two.
WIDER = {"volume": 0.8, "surface": 0.8, "mass": 0.8, "amount": 1.1, "mixing_index": 3.5}
LEAST = {"volume": 0.005, "surface": 0.008, "mass": 0.001, "amount": 0.015, "mixing_index": 0.01}


def sharper(volume: np.ndarray) -> np.ndarray:
    """A volume (z, y, x) with steeper edges: less its own blur, between the neighbours of each voxel.

    Source: unsharp masking, kept from overshooting as a shock filter is (Osher and Rudin, SIAM J. Numer. Anal. 27:919).
    """
    steeper = volume + (volume - gaussian_filter(volume, SHARPER_PX))
    return np.clip(steeper, minimum_filter(volume, 3), maximum_filter(volume, 3))


def how_much_sharper(missing: float | None, *, of_one: float) -> float:
    """How much of what `sharper` adds is to be added, so that it makes as large a difference as is missing.

    missing: relative error of rows that the fit has not seen, less their noise; None if there are none.
    of_one: relative difference of the images that all of it makes.
    """
    if missing is None or of_one <= 0:
        return LEAST_SHARPER
    return float(np.clip(missing / of_one, LEAST_SHARPER, MOST_SHARPER))


def error_bars(deviations: np.ndarray, kind: str) -> np.ndarray:
    """The standard deviation (t,) of a quantity.

    deviations: (n, t), of what n refits gave back from what was put in, relative to it but for dimensionless ones.
    kind: of the quantity, of `WIDER`; others are taken for surfaces.
    """
    n, frames = deviations.shape
    bias = deviations.mean(0)
    spread = deviations.var(0, ddof=1) * (1 + 1 / n) if n > 1 else 0.0
    square = bias**2 + spread
    alike = gaussian_filter1d(square, max(FRAMES_TOGETHER * frames, 0.5), mode="nearest")
    kind = kind if kind in WIDER else "surface"
    mixed = (1 - OF_ALL) * alike + OF_ALL * square.mean()
    return np.hypot(WIDER[kind] * np.sqrt(mixed), LEAST[kind])


def rise(response: np.ndarray) -> float | None:
    """How many images a sudden change takes from 10 to 90 % of what it comes to; None if it does not come to half.

    response: (t,), 0 before and 1 after a change that was seen at once; rising but for its noise.
    """
    rising = np.asarray(isotonic_regression(response).x)
    end = float(rising[-1])
    if not end >= 0.5:
        return None
    images = np.arange(len(rising), dtype=float)
    up = rising + 1e-9 * images  # strictly rising
    low, high = np.interp([0.1 * end, 0.9 * end], up, images)
    return float(high - low)


def smallest_seen(sizes: Sequence[float], recovered: Sequence[float]) -> tuple[float | None, bool]:
    """The size at which half of a feature comes back, and whether smaller ones do, too; None if none does.

    sizes: rising. recovered: of each, the share of its intensity.
    """
    rising = np.asarray(isotonic_regression(recovered).x)
    if rising[-1] < 0.5:
        return None, False
    if rising[0] >= 0.5:
        return float(sizes[0]), True
    return float(np.interp(0.5, rising + 1e-9 * np.arange(len(rising)), sizes)), False
