"""What a conventional reconstruction tells of a whole tilt series before its fit: a volume, a bound, the statistics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dip4d.conventional.algorithms import sirt
from dip4d.measures.noise import noise_level
from dip4d.projector import Geometry, Projector
from dip4d.tilt_series import TiltSeries

EARLY_ITERATIONS = 10  # of SIRT: before it follows the noise
BOUND_PER_BRIGHT_VOXEL = 1.6  # an early SIRT is smooth: the brightest material is so much brighter than it shows


@dataclass(frozen=True)
class SeriesStatistics:
    """What a fit has to know of the images that it may see; worked out once for a series, by `statistics_of`.

    noise: standard deviation of a pixel.
    peak_intensity: of the brightest pixel.
    intensity_bound: intensity per voxel that the brightest material may have; a guess, from which its bound is learned.
    """

    noise: float
    peak_intensity: float
    intensity_bound: float


def statistics_of(series: TiltSeries, intensity_bound: float | None = None) -> SeriesStatistics:
    """The statistics of a series, which must hold no image that is kept aside. intensity_bound: where it is known."""
    bound = intensity_bound or guess_intensity_bound(series)
    return SeriesStatistics(noise_level(series), float(series.images.max()), bound)


def whole_series(series: TiltSeries, iterations: int) -> Tensor:
    """SIRT of all images of a series, as if nothing had changed: (Z, Y, X), intensity per voxel."""
    rows = torch.from_numpy(series.images).permute(1, 0, 2).contiguous()
    angles = torch.from_numpy(np.deg2rad(series.angles_deg))
    bins = series.shape[2]
    return sirt(Projector(Geometry((bins, bins), bins, angles=angles)), rows, iterations)


def guess_intensity_bound(series: TiltSeries) -> float:
    """The intensity per voxel that the brightest material of a series may have: a guess, from an early SIRT."""
    return BOUND_PER_BRIGHT_VOXEL * float(np.quantile(whole_series(series, EARLY_ITERATIONS).numpy(), 0.999))
