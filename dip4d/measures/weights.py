"""The weight of a pixel in a least-squares fit: the inverse of its variance, evened.

The variance of counting grows with the intensity, readout adds its own to all pixels, and the model its error (weighted
least squares: Fessler, IEEE Trans. Med. Imaging 13:290, 1994). Intensities here are in parts of the brightest pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

USUAL = 0.3  # of the brightest pixel: there a weighted pixel counts as much as an unweighted one
EVENED = 0.3  # of the variance of the brightest pixel, given to all: it keeps the weights between a half and two
ERROR_OF_FIT = 0.02  # of the brightest pixel, standard deviation: what no noise explains, the same in all


def slope_of_variance(counting: float, readout: float) -> float:
    """How the variance of a pixel grows with its intensity, relative to that at `USUAL`.

    counting, readout: of the variance of the brightest pixel, in units of its square.
    """
    usual = counting * USUAL + readout + EVENED * (counting + readout) + ERROR_OF_FIT**2
    return counting / usual


def weights_of(intensity: Tensor, slope: float) -> Tensor:
    """The weights of pixels of an intensity, of any shape: 1 at `USUAL`, and everywhere if the slope is 0."""
    return 1 / (1 + slope * (intensity.clamp(min=0) - USUAL))


def weights_of_measured(y: Tensor, row_mask: Tensor, *, slope: float) -> Tensor:
    """The weights (Z, n, S) of measured pixels y (Z, n, S): each of the mean intensity of its 3 x 3 neighbours along z
    and s, since that of its own goes with its noise. row_mask: (Z, n), 0 for rows that have no part.
    """
    mean = lambda v: avg_pool2d(v.transpose(0, 1), 3, stride=1, padding=1).transpose(0, 1)
    shown = row_mask[..., None].to(y).expand_as(y)
    if not slope:  # of rows without intensity as well
        return shown
    around = mean(y * shown) / mean(shown).clamp(min=torch.finfo(y.dtype).tiny)
    return weights_of(around, slope) * shown
