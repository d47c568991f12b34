"""Does the specimen change, and move? Short fits of binned images tell, which differ in that alone."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import lightning as L
import numpy as np
import torch
from torch import Tensor

from dip4d.config.schema import Config
from dip4d.errors import InputError
from dip4d.measures.consistency import less_noise
from dip4d.measures.detail import FINE_PX, is_fine_along_z
from dip4d.measures.noise import NoiseModel, noise_of_images
from dip4d.reconstruction.fit import ONE_DEVICE, fit
from dip4d.reconstruction.networks import NETWORKS
from dip4d.reconstruction.networks.free_form import MOTIONS, FreeFormMotion, motion_with
from dip4d.reconstruction.networks.moving import Moving
from dip4d.reconstruction.networks.rigid_motion import RigidMotion
from dip4d.reconstruction.schedule import FitTime
from dip4d.reconstruction.split import Split, choose_validation_rows, rows_of
from dip4d.reconstruction.warm_up import pace_of
from dip4d.tilt_series import TiltSeries

WIDTH_PX = 32  # about as wide are the binned images
FEWEST_Z = 6  # positions z left after binning, with which a turn can be told from a change
STEPS, CHANNELS, LEARNING_RATE = 300, 16, 6e-3  # of a short fit
SLICES = 4  # its batches of images hold about as many rows as so many positions z
VALIDATION_ROWS = 0.1  # share of the rows that judge the short fits
LEAST_MOVE_PX = 1.5  # less motion is left to the network
AS_GOOD = 1.02  # times the validation error: static series 0.984 to 1.010; changing ones, also at 50 counts, 1.12 up
AT_REST = 0.5  # of the time of a short fit with a motion is that of one at rest
LEAST_GAIN = 0.15  # of the validation error less its noise: as much better must a motion be than rest. Specimens that
# move: 0.28 to 0.56 at 500 counts, 0.23 to 0.29 at 50, 0.14 to 0.17 at 10; that change at rest: up to 0.12
LEAST_BEND = 0.05  # of it: as much better must a bending motion be than a rigid one
MOST_NOISE = 0.95  # of the lowest error is taken for noise: more could be a wrong guess of it

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Behaviour:
    """What a specimen does, as far as the images tell.

    changes: whether it does, or is the same at all times.
    motion: to start from; None if it is at rest.
    z_detail_px: how fine it is along the tilt axis, pixels; None as usual.
    """

    changes: bool = True
    motion: RigidMotion | None = None
    z_detail_px: float | None = None

    def settings(self, config: Config) -> Config:
        """Those of the fit: as fine as the specimen is, and a movie that stands still where it does not change. With
        them, what was found is not looked for again.
        """
        network = config.network
        if self.z_detail_px is not None:
            network = dataclasses.replace(network, z_detail_px=self.z_detail_px)
        if not self.changes:
            network = dataclasses.replace(network, change="never", motion="never")
        return dataclasses.replace(config, network=network)


def find_behaviour(
    series: TiltSeries,
    split: Split,
    *,
    settings: Config,
    budget: FitTime | None = None,
    callbacks: Sequence[L.Callback] = (),
) -> Behaviour:
    """How fine the specimen is along the tilt axis, told by the power of its images, with network.z_detail_px=null; and
    whether it changes and moves, told by the validation errors of short fits of binned images.

    With network.motion=auto, motion is accepted if it exceeds `LEAST_MOVE_PX` pixels and lowers the validation error,
    less its noise, by at least 15 %; a bending one, if that of a rigid one by 5 %, too. With network.change=auto, the
    specimen is static if the fit at rest is as good without its change, to `AS_GOOD`. Rows and images that `split`
    keeps aside have no influence. A specimen of fewer than `FEWEST_Z` positions z after binning counts as at rest.

    series: less its background, and aligned.
    split: what of it is kept aside.
    settings: those of the fit that is to come.
    budget: the time of each short fit; None for no limit.
    callbacks: of the first short fit.
    """
    found = Behaviour()
    if _may_move(series, settings):
        found = _changes_and_motion(series, split, settings=settings, budget=budget, callbacks=callbacks)
    if settings.network.z_detail_px is None and is_fine_along_z(split.seen(series)):
        _log.info(f"The images are fine along the tilt axis: so is the fit, {FINE_PX:g} px (network.z_detail_px)")
        return dataclasses.replace(found, z_detail_px=FINE_PX)
    return found


def _changes_and_motion(
    series: TiltSeries,
    split: Split,
    *,
    settings: Config,
    budget: FitTime | None,
    callbacks: Sequence[L.Callback],
) -> Behaviour:
    """As `find_behaviour`, by the short fits."""
    k = _binning(series)
    _log.info("Looking for a motion of the specimen (network.motion=never does without)")
    known = split.seen(without_rows(series, split.validation_rows))
    coarse = known.binned(k)
    judged = _short_split(coarse, settings, unknown=_binned_rows(split, k))
    tried = partial(_tried, coarse, judged, settings=settings, budget=budget)
    if settings.network.motion in MOTIONS:
        motion = tried(kind=MOTIONS[settings.network.motion], callbacks=callbacks).motion
        return Behaviour(motion=_at_full_size(motion, series))
    rest = tried(kind=RigidMotion, held=True, callbacks=callbacks)
    if settings.network.change == "auto" and rest.still < AS_GOOD * rest.error:
        return Behaviour(changes=False)
    rigid, bending = (tried(kind=kind) for kind in (RigidMotion, FreeFormMotion))
    measured = coarse.images[judged.validation_rows.T.numpy()]
    motion = _best(rest, rigid=rigid, bending=bending, noise=_noise_of(known, k).floor(measured))
    if motion is None or k * motion.largest_move() < LEAST_MOVE_PX:
        return Behaviour()
    return Behaviour(motion=_at_full_size(motion, series))


def _at_full_size(motion: RigidMotion, series: TiltSeries) -> RigidMotion:
    """That of binned images: turns, and displacements in parts of the width, are those of any binning."""
    return motion_with(motion.state_dict(), series.shape[2] / 2)


@dataclass(frozen=True)
class _Tried:
    """A short fit: the motion that it found, its validation error, and, of one at rest, that of its movie standing
    still.
    """

    motion: RigidMotion
    error: float
    still: float = math.inf


def _noise_of(series: TiltSeries, k: int) -> NoiseModel:
    """That of a series when it is binned by k. Told before: binned edges are as sharp as noise."""
    noise = noise_of_images(series)
    return NoiseModel(noise.gain / k**2, noise.offset / k**2)


def _best(rest: _Tried, *, rigid: _Tried, bending: _Tried, noise: float) -> RigidMotion | None:
    """The motion that the images speak for, None if for rest; each of both may miss what the other finds.

    noise: the relative error that it makes alone. It is in all errors alike, and would hide what they differ by.
    """
    noise = min(MOST_NOISE * min(rest.error, rigid.error, bending.error), noise)
    at_rest, as_rigid, as_bending = (less_noise(tried.error, noise) for tried in (rest, rigid, bending))
    motion, error = rigid.motion, as_rigid
    if as_bending < (1 - LEAST_BEND) * as_rigid:
        motion, error = bending.motion, as_bending
    return motion if error < (1 - LEAST_GAIN) * at_rest else None


def expected_seconds(series: TiltSeries, *, settings: Config) -> float:
    """How long `find_behaviour` will take: a few steps of its longest short fit are timed."""
    if not _may_move(series, settings):
        return 0.0
    coarse, asked = series.binned(_binning(series)), settings.network
    motion = MOTIONS.get(asked.motion, FreeFormMotion)(coarse.shape[2] / 2)
    pace = pace_of(coarse, _short_split(coarse, settings), settings=_short_settings(settings), motion=motion)
    return pace.fit(STEPS) * (1.0 if asked.motion in MOTIONS else 2.0 + AT_REST)


def _binning(series: TiltSeries) -> int:
    return max(1, round(series.shape[2] / WIDTH_PX))


def _may_move(series: TiltSeries, settings: Config) -> bool:
    """Whether it is looked what the specimen does: in a single sweep a turn is a tilt."""
    wanted = settings.network.motion
    if wanted == "never" or not NETWORKS[settings.network.name].follows_motion:
        return False
    allowed = wanted in MOTIONS or not (settings.align.refine or series.one_sweep)
    return allowed and series.shape[1] // _binning(series) >= FEWEST_Z


def motion_of(saved: dict, series: TiltSeries) -> RigidMotion | None:
    """The motion of the specimen in a checkpoint, as by `read_checkpoint`; None if it is at rest. Raises InputError for
    that of another version.
    """
    named = "network.motion."
    weights = {k.removeprefix(named): v for k, v in saved["state_dict"].items() if k.startswith(named)}
    try:
        return motion_with(weights, series.shape[2] / 2) if weights else None
    except RuntimeError:
        raise InputError(
            "the checkpoint of the run: its motion has other weights than this version knows; begin again with "
            "run.overwrite=true"
        ) from None


def _tried(
    series: TiltSeries,
    split: Split,
    *,
    kind: type[RigidMotion],
    held: bool = False,
    settings: Config,
    budget: FitTime | None,
    callbacks: Sequence[L.Callback] = (),
) -> _Tried:
    """A short fit with a motion of a kind, or held at rest."""
    motion = kind(series.shape[2] / 2, held=held)
    with torch.random.fork_rng():  # also around the judging, whose batches draw: the fit to come begins as without it
        torch.manual_seed(settings.run.seed)
        done = fit(series, split, settings=_short_settings(settings), motion=motion, budget=budget, callbacks=callbacks)
        module = done.module
        error = module.validation_error(done.data)
        if not held:
            return _Tried(motion, error)
        with cast(Moving, module.network).specimen.standing_still():
            return _Tried(motion, error, module.validation_error(done.data))


def _short_split(series: TiltSeries, settings: Config, *, unknown: Tensor | None = None) -> Split:
    frames, n_z, _ = series.shape
    rows = choose_validation_rows((n_z, frames), VALIDATION_ROWS, seed=settings.run.seed, unknown=unknown)
    return Split(rows)


def _binned_rows(split: Split, k: int) -> Tensor:
    """The rows of binned images (Z, T), less the test images, True where one of theirs is a validation row."""
    seen = split.validation_rows[:, ~rows_of(split.test_images, (1, split.validation_rows.shape[1]))[0]]
    return seen[: len(seen) // k * k].unflatten(0, (-1, k)).any(1)


def _short_settings(settings: Config) -> Config:
    """Those of a short fit."""
    replace = dataclasses.replace
    return replace(
        settings,
        network=replace(settings.network, channels=CHANNELS, ensemble=1, materials=1, use_row=False, z_detail_px=None),
        train=replace(settings.train, steps=STEPS, learning_rate=LEARNING_RATE, slices=SLICES),
        align=replace(settings.align, refine=False),
        trainer=settings.trainer | ONE_DEVICE,
    )


def without_rows(series: TiltSeries, rows: Tensor) -> TiltSeries:
    """The series with some rows, (Z, T) True, interpolated between their neighbours of the same image."""
    images = series.images.copy()
    for image, aside in zip(images, rows.T.numpy(), strict=True):
        known = np.flatnonzero(~aside)
        for z in np.flatnonzero(aside):
            above = known[min(np.searchsorted(known, z), len(known) - 1)]
            below = known[max(np.searchsorted(known, z) - 1, 0)]
            share = (z - below) / (above - below) if above > below else 0.0
            image[z] = (1 - share) * image[below] + share * image[above]
    return dataclasses.replace(series, images=images)
