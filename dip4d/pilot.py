"""Does the specimen move as a whole? Two short fits of binned images tell, which differ in nothing but that."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dip4d.build import build_module, images_in_a_batch, make_trainer
from dip4d.config import Config
from dip4d.data import TiltRows, choose_held_out
from dip4d.networks import RigidMotion
from dip4d.tilt_series import TiltSeries

WIDTH = 32  # pixels: about as wide are the binned images
LEAST_DEPTH = 6  # positions z left after binning, with which a turn can be told from a change
STEPS = 300
LEAST_MOVE = 1.5  # pixels: less motion is left to the network
LEAST_GAIN = 0.05  # of the held-out error: as much better must the fit with motion be


def find_motion(config: Config, series: TiltSeries, held_out: Tensor, unseen: Sequence[int] = ()) -> RigidMotion | None:
    """The motion of the specimen as a whole, to start from; None if it is at rest as far as the images tell.

    Decided, unless `network.motion` does, by how far it moves, and by rows that neither fit saw. held_out: (Z, T), True
    for rows, unseen: images that are kept aside: they have no influence. A specimen of fewer than `LEAST_DEPTH`
    positions z after binning counts as at rest.
    """
    k = max(1, round(series.shape[2] / WIDTH))
    auto = config.network.motion == "auto"
    never = config.network.motion == "never" or config.network.name != "dip"
    never |= auto and (config.align.refine or series.one_sweep)
    if never or series.shape[1] // k < LEAST_DEPTH:
        return None
    print("Looking for a motion of the specimen as a whole (network.motion=never does without)", flush=True)
    coarse = _without_rows(series, held_out).without_images(unseen).binned(k)
    motion, still = RigidMotion(coarse.shape[2] / 2), RigidMotion(coarse.shape[2] / 2).requires_grad_(False)
    error = _fit(config, coarse, motion)
    if auto and (k * motion.largest_move() < LEAST_MOVE or error > (1 - LEAST_GAIN) * _fit(config, coarse, still)):
        return None
    found = RigidMotion(series.shape[2] / 2)
    found.load_state_dict(motion.state_dict())  # turns, and travels in parts of the width, are those of any binning
    return found


def motion_of(checkpoint: Path, series: TiltSeries) -> RigidMotion | None:
    """What `find_motion` had found for the fit that a checkpoint is of: a motion, to be loaded, or None."""
    weights = torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"]
    return RigidMotion(series.shape[2] / 2) if "network.motion.turn" in weights else None


def _fit(config: Config, series: TiltSeries, motion: RigidMotion) -> float:
    """A short fit, from a motion and of it, if that can be fitted; returns its held-out error."""
    frames, depth, _ = series.shape
    config = dataclasses.replace(
        config,
        network=dataclasses.replace(config.network, channels=16, use_row=False),
        train=dataclasses.replace(config.train, steps=STEPS, max_minutes=None, learning_rate=6e-3, slices=depth),
        align=dataclasses.replace(config.align, refine=False),
    )
    held_out = choose_held_out(frames, depth, 0.1, config.run.seed)
    images = images_in_a_batch(8, frames, depth)
    data = TiltRows(series, held_out, depth, STEPS, config.run.seed, images=images)
    with torch.random.fork_rng():
        torch.manual_seed(config.run.seed)
        module = build_module(config, series, time.monotonic(), motion=motion)
        make_trainer(config, [], logger=False, steps=STEPS).fit(module, data)
    return module.held_out_error(data)


def _without_rows(series: TiltSeries, held_out: Tensor) -> TiltSeries:
    """The series with the rows (Z, T) that are held out interpolated between their neighbours of the same image."""
    images = series.images.copy()
    for image, held in zip(images, held_out.T.numpy(), strict=True):
        known = np.flatnonzero(~held)
        for z in np.flatnonzero(held):
            above = known[min(np.searchsorted(known, z), len(known) - 1)]
            below = known[max(np.searchsorted(known, z) - 1, 0)]
            share = (z - below) / (above - below) if above > below else 0.0
            image[z] = (1 - share) * image[below] + share * image[above]
    return dataclasses.replace(series, images=images)
