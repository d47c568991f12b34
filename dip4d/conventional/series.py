"""What a conventional reconstruction tells of a whole tilt series before its fit: a volume, a bound, the statistics."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dip4d.conventional.algorithms import sirt, sirt_steps
from dip4d.indices import evenly
from dip4d.measures.noise import noise_level, noise_of_images
from dip4d.projector import Geometry, Projector
from dip4d.tilt_series import TiltSeries

EARLY_ITERATIONS = 10  # of SIRT: before it follows the noise
BOUND_SLICES = 64  # at most, that it is guessed from: of a large series all would take as long as a short fit
TIMED_SLICES = 16
BOUND_PER_BRIGHT_VOXEL = 1.6  # an early SIRT is smooth: the brightest material is so much brighter than it shows


@dataclass(frozen=True)
class SeriesStatistics:
    """What a fit has to know of the images that it may see; worked out once for a series, by `statistics_of`.

    noise: standard deviation of a pixel.
    peak_intensity: of the brightest pixel.
    intensity_bound: intensity per voxel that the brightest material may have; a guess, from which its bound is learned.
    counting: variance of the brightest pixel that grows with intensity, in units of its square.
    readout: that of all pixels, in the same unit.
    """

    noise: float
    peak_intensity: float
    intensity_bound: float
    counting: float = 0.0
    readout: float = 0.0


def device_for(accelerator: str = "auto") -> str:
    """Where conventional methods run beside a Trainer with this accelerator: "cuda" where there is one, or "cpu"."""
    return "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"


def statistics_of(series: TiltSeries, intensity_bound: float | None = None, *, device: str = "cpu") -> SeriesStatistics:
    """The statistics of a series, which must hold no image that is kept aside. intensity_bound: where it is known.
    device: where its early reconstruction runs.
    """
    bound = intensity_bound or guess_intensity_bound(series, device)
    peak = float(series.images.max())
    return SeriesStatistics(noise_level(series), peak, bound, *noise_of_images(series).relative_to(peak))


def whole_series(series: TiltSeries, iterations: int, *, device: str = "cpu") -> Tensor:
    """SIRT of all images of a series, as if nothing had changed: (Z, Y, X) with the margin, intensity per voxel, on the
    CPU.
    """
    return sirt(*operator_and_rows(series, device), iterations).cpu()


def operator_and_rows(series: TiltSeries, device: str = "cpu") -> tuple[Projector, Tensor]:
    """The operator of all images of a series, and their rows (Z, T, S), intensity, on a device."""
    rows = torch.from_numpy(series.images).permute(1, 0, 2).contiguous()
    angles = torch.from_numpy(np.deg2rad(series.angles_deg)).to(device)
    return Projector(Geometry(series.slice_shape, series.shape[2], angles)), rows.to(device)


def guess_intensity_bound(series: TiltSeries, device: str = "cpu") -> float:
    """The intensity per voxel that the brightest material of a series may have: a guess, from an early SIRT."""
    some = series.at_positions(evenly(series.shape[1], BOUND_SLICES))
    early = series.field(whole_series(some, EARLY_ITERATIONS, device=device)).numpy()
    return BOUND_PER_BRIGHT_VOXEL * float(np.quantile(early, 0.999))


def seconds_of_iteration(series: TiltSeries, device: str = "cpu") -> float:
    """How long an iteration of SIRT of the whole series takes, timed on a few of its slices."""
    some = series.at_positions(evenly(series.shape[1], TIMED_SLICES))
    iterates = sirt_steps(*operator_and_rows(some, device))
    float(next(iterates).sum())  # compiles; a number, which waits for a GPU
    began = time.perf_counter()
    float(next(iterates).sum())
    return (time.perf_counter() - began) * series.shape[1] / some.shape[1]
