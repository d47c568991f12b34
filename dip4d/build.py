"""What a configuration stands for: its tilt series, its network and fit, its Trainer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor, nn

from dip4d import checks, io, resolution, uncertainty
from dip4d.alignment import jumps, steadied
from dip4d.config import Config, Network, Train
from dip4d.conventional import brightest_voxel, noise, whole_series
from dip4d.data import TiltRows
from dip4d.loss import GemanMcClure, SquaredError
from dip4d.module import DIP4D, Schedule
from dip4d.networks import (
    TDDIP,
    BoundedLowRank,
    Clock,
    Decoder,
    Dipster,
    Moving,
    RigidMotion,
    VoxelMaps,
    octaves_of_z,
)
from dip4d.physics import Microscope
from dip4d.refinement import PoseRefinement
from dip4d.shifts import Shifts, apply
from dip4d.simulate import simulate
from dip4d.tilt_series import TiltSeries

FEWEST_STEPS, SHOWN = 2000, 500  # steps of a fit by default: so often is every row shown, if that is more
LEAST_JUMPS = 0.2  # pixels; an alignment of series of fewer jumps has about as much error itself
BUDGET_SHARE, BUDGET_TAIL = 0.78, 10  # the fit ends at this share of train.max_minutes, less seconds to finish all


def load_data(config: Config) -> tuple[TiltSeries, np.ndarray | None]:
    """The tilt series of the configuration, measured or simulated, and the truth where there is one."""
    series, truth = _measure(config) if config.data.path else _simulate(config)
    if config.data.exclude:
        series = series.without_images(config.data.exclude)
        truth = None if truth is None else np.delete(truth, config.data.exclude, axis=0)
    return series, truth


def _simulate(config: Config) -> tuple[TiltSeries, np.ndarray | None]:
    s = config.simulate
    series, truth = simulate(
        s.specimen, s.size, s.frames, s.scheme, s.dose, config.run.seed, s.max_angle, s.sweeps, s.depth, s.jitter
    )
    return _shifted(config, series), truth


def _shifted(config: Config, series: TiltSeries) -> TiltSeries:
    """The series as `align.shifts` says that its images lie."""
    return series if config.align.shifts is None else apply(series, Shifts.load(config.align.shifts))


def _measure(config: Config) -> tuple[TiltSeries, np.ndarray | None]:
    data = config.data
    series = io.read_tilt_series(data.path, data.angles, data.tilt_axis, data.pixel_nm)
    advice = checks.advice(series, data.exclude)
    if advice:
        print(f"warning: {advice}", flush=True)
    background = data.background
    if config.align.shifts is not None:  # what an image did not see is then filled with the background
        series, background = _shifted(config, series.without_background(background)), "none"
    if data.crop is not None:
        series = series.cropped(tuple(data.crop))
    series = series.binned(data.bin).without_background(background)
    t, z, s = series.shape
    truth = None if data.truth is None else io.read_truth(data.truth, (t, z, s, s))
    return series, truth


def without_jumps(config: Config, series: TiltSeries) -> tuple[TiltSeries, Shifts | None]:
    """The series, aligned if its images jump from one to the next, and the shifts; None if it stays as it is."""
    if not config.align.automatic or config.align.refine or config.align.shifts is not None:
        return series, None
    size = jumps(series)
    if size < LEAST_JUMPS:
        return series, None
    print(f"The images jump by {size:.2f} px along the tilt axis from one to the next: aligning them", flush=True)
    found = steadied(series, lambda line: print(f"  {line}", flush=True))
    if found is None:
        print("warning: SIRT does not fit them better then, they stay as they are; python -m dip4d align shows them")
        return series, None
    return found


def steps_of_fit(train: Train, depth: int) -> int:
    """Optimiser steps for a series with so many positions z."""
    return train.steps or max(FEWEST_STEPS, math.ceil(SHOWN * depth / train.slices))


def images_in_a_batch(slices: int, frames: int, depth: int) -> int:
    """How many whole images have about as many rows as `slices` positions z with all their times."""
    return min(frames, max(8, round(slices * frames / depth)))


def build_rows(
    config: Config,
    series: TiltSeries,
    held_out: Tensor,
    unseen: Tensor | None = None,
    motion: RigidMotion | None = None,
) -> TiltRows:
    """The rows of a fit, in the batches that its network takes: of whole images where the specimen moves.

    held_out, unseen: (Z, T), as `TiltRows` has them.
    """
    t, (frames, depth, _) = config.train, series.shape
    images = None if motion is None else images_in_a_batch(t.slices, frames, depth)
    return TiltRows(series, held_out, t.slices, steps_of_fit(t, depth), config.run.seed, unseen, images)


def planes_beyond(series: TiltSeries) -> int:
    """Planes of a moving specimen to draw at each end of the volume: none if it ends inside, along the tilt axis."""
    rows = series.images.mean((0, 2))
    ends_inside = max(rows[0], rows[-1]) < 0.02 * rows.max()
    return 0 if ends_inside else math.ceil(series.shape[2] / 8)


def windows_shown(n: Network, motion: RigidMotion | None) -> int:
    """Windows of time in which rows are shown to the network: none where they do not lie in its frame."""
    return n.windows if n.use_row and n.name == "dip" and motion is None else 0


def build_network(
    config: Config, series: TiltSeries, seen: TiltSeries, brightest: float, motion: RigidMotion | None = None
) -> nn.Module:
    """The network of the configuration, for a series of which it may see some images.

    brightest: intensity per voxel of the brightest material. motion: of the specimen as a whole, to start from; None if
    it is at rest.
    """
    n = config.network
    _, depth, bins = series.shape
    shape = (bins, bins)
    margin = 0 if motion is None else planes_beyond(seen)
    depth += 2 * margin
    octaves = octaves_of_z(depth, n.wavelength)
    match n.name:
        case "dipster":
            progress, angles = (torch.from_numpy(v) for v in (series.progress, np.deg2rad(series.angles_deg)))
            return Dipster(shape, depth, progress, angles, brightest)
        case "tddip":
            return TDDIP(shape, depth, brightest, octaves)
        case "voxels":
            maps: nn.Module = VoxelMaps(whole_series(seen, n.start_iterations), n.rank, brightest)
        case "dip":
            maps = Decoder(shape, n.rank, depth, windows_shown(n, motion), n.channels, octaves)
    progress = torch.from_numpy(series.progress)
    network = BoundedLowRank(maps, n.rank, n.damping, brightest, Clock(progress) if n.clock else None)
    return network if motion is None else Moving(network, motion, progress, series.shape[1], margin)


def build_module(
    config: Config,
    series: TiltSeries,
    began: float,
    unseen: Sequence[int] = (),
    motion: RigidMotion | None = None,
) -> DIP4D:
    """Network, microscope and loss for a series, put together. unseen: images that must not influence them. motion: of
    the specimen as a whole, to start from; None if it is at rest.
    """
    t, n = config.train, config.network
    bins = series.shape[2]
    seen = series.without_images(unseen)
    brightest, brightest_pixel = n.brightest or brightest_voxel(seen), float(seen.images.max())
    variance = 100 * (noise(seen) / brightest_pixel) ** 2  # in the units of the loss
    seconds = None
    if t.max_minutes is not None:
        budget = 60 * t.max_minutes
        seconds = max(BUDGET_SHARE * budget - BUDGET_TAIL, budget / 2)
        seconds /= 1 + uncertainty.SHARE * config.uncertainty.members + 2 * resolution.SHARE * config.compare.resolution
    network = build_network(config, series, seen, brightest, motion)
    return DIP4D(
        network,
        Microscope((bins, bins), bins),
        {"squared": SquaredError, "geman_mcclure": GemanMcClure}[t.loss](brightest_pixel),
        Schedule(steps_of_fit(t, series.shape[1]), seconds, began, constant=t.schedule == "constant"),
        t.learning_rate,
        windows_shown(n, motion),
        brightest,
        smoothness=t.smoothness * variance,
        steadiness=t.steadiness * variance,
        rows=t.rows,
        poses=PoseRefinement(series, config.align.along_z, config.align.tilt) if config.align.refine else None,
        average=t.average,
        kernels=network.specimen.decoder.kernels() if motion is not None else (),  # few steps: each draws all planes
    )


def make_trainer(config: Config, callbacks: list[L.Callback], logger: Logger | bool, steps: int) -> L.Trainer:
    """The Trainer of the configuration, for a number of steps; `trainer.*` keys win over these."""
    return L.Trainer(
        **{
            "max_steps": steps,
            "max_epochs": -1,
            "val_check_interval": min(100, steps),
            "check_val_every_n_epoch": None,
            "limit_val_batches": None if config.data.hold_out > 0 else 0,
            "num_sanity_val_steps": 0,
            "gradient_clip_val": 0.3,  # a few steps in a hundred are many times longer; without them 1 dB is gained
            "log_every_n_steps": min(10, steps),
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            "logger": logger,
            "callbacks": callbacks,
            **config.trainer,
        }
    )
