"""A quick SIRT of the whole series: what to look at, and an error to beat, before the fit has anything to show."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from dip4d.conventional.algorithms import sirt_steps
from dip4d.conventional.series import operator_and_rows
from dip4d.indices import evenly
from dip4d.measures.consistency import none_if_nan, relative_error
from dip4d.tilt_series import TiltSeries

SLICES, PIXELS = 32, 50_000_000  # at most so many positions z, and so many pixels of them, counted at every image
MOST_ITERATIONS, ITERATIONS_BETWEEN_LOOKS = 100, 5


@dataclass(frozen=True, eq=False)
class QuickSirt:
    """A slice (Y, X) of a SIRT of the whole series, intensity per voxel.

    error: relative error of the validation rows at the positions that were reconstructed; None if there are none.
    iterations: how many were done.
    """

    slice: np.ndarray
    error: float | None
    iterations: int


def quick_sirt(
    series: TiltSeries,
    z: int,
    *,
    fitted_rows: Tensor,
    validation_rows: Tensor,
    seconds: float,
) -> QuickSirt:
    """SIRT at z and some other positions, for as long as the error of the validation rows falls.

    series: images (t, z, s).
    z: the position that is wanted.
    fitted_rows: (Z, T), True for rows that may be used.
    validation_rows: (Z, T), True for those of the error.
    seconds: about how long it may take; `MOST_ITERATIONS` are the limit, too.
    """
    end, (frames, n_z, bins) = time.monotonic() + seconds, series.shape
    count = min(max(PIXELS // (frames * bins**2), 1), SLICES)
    positions = sorted({z, *evenly(n_z, count)})
    some = series.at_positions(positions)
    shown = True if some.shown is None else torch.from_numpy(some.shown.T.copy())
    fitted, aside = fitted_rows[positions] & shown, validation_rows[positions] & shown
    A, rows = operator_and_rows(some)
    best = QuickSirt(np.zeros((bins, bins), np.float32), None, 0)
    for done, x in enumerate(islice(sirt_steps(A, rows, row_mask=fitted), MOST_ITERATIONS), start=1):
        late = time.monotonic() > end
        if done % ITERATIONS_BETWEEN_LOOKS == 0 or late:
            error = none_if_nan(relative_error(A(x)[aside].numpy(), rows[aside].numpy()))
            if best.error is not None and error is not None and error >= best.error:
                break
            best = QuickSirt(series.field(x[positions.index(z)]).numpy().copy(), error, done)
        if late:
            break
    return best
