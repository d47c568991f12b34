"""Does the specimen change, and move? Short fits of binned images tell, which differ in that alone."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Sequence
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
from dip4d.reconstruction.fit import ONE_DEVICE, STEPS_BETWEEN_VALIDATIONS, fit
from dip4d.reconstruction.networks import NETWORKS
from dip4d.reconstruction.networks.free_form import MOTIONS, FreeFormMotion, motion_with
from dip4d.reconstruction.networks.moving import Moving
from dip4d.reconstruction.networks.rigid_motion import RigidMotion, agreement
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
AT_REST = 0.7  # of the time of a short fit with a motion is that of one at rest
EARLY = STEPS_BETWEEN_VALIDATIONS / STEPS  # of a short fit, after which it is looked at first
CLEAR_GAIN = 0.2  # of the validation error less its noise: a motion that is so much better than rest is one for sure
LEAST_GAIN, AGREEMENT = 0.07, 0.5  # and also if so much, where both fits find the same motion. Specimens that move:
# gains from 0.08, agreements from 0.58; at rest, gains of 0.05 to 0.16 come with agreements of 0.1 to 0.4
LEAST_BEND = 0.15  # as much better must a bending motion be than a rigid one: 0.2 to 0.5 of what bends, else up to 0.12
EARLY_GAIN, EARLY_AGREEMENT = 0.05, 0.3  # after the first validation, when no change that is learned hides a motion yet
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

    With network.motion=auto, a rigid and a bending motion are fitted, from other random numbers. Motion is accepted if
    it exceeds `LEAST_MOVE_PX` pixels and lowers the validation error, less its noise, by 20 %, or by 7 % where both
    fits find the same motion; a bending one, if it lowers that of a rigid one by 15 %, too. With network.change=auto,
    the specimen is static if the fit at rest is as good without its change, to `AS_GOOD`. Rows and images that `split`
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
    noise = _noise_of(known, k).floor(coarse.images[judged.validation_rows.T.numpy()])
    compared = partial(_Compared.of, rest, tried=tried, noise=noise, shape=(coarse.shape[1], *coarse.slice_shape))
    may_end_early = budget is None and math.isfinite(rest.early)
    if may_end_early and not compared(early=True).promising:
        return Behaviour()
    motion = compared().best
    if motion is None or k * motion.largest_move() < LEAST_MOVE_PX:
        return Behaviour()
    return Behaviour(motion=_at_full_size(motion, series))


def _at_full_size(motion: RigidMotion, series: TiltSeries) -> RigidMotion:
    """That of binned images: turns, and displacements in parts of the width, are those of any binning."""
    return motion_with(motion.state_dict(), series.shape[2] / 2)


@dataclass(frozen=True)
class _Tried:
    """A short fit: the motion that it found, its validation error, that of the first validation, and, of one at rest,
    that of its movie standing still.
    """

    motion: RigidMotion
    error: float
    early: float = math.nan
    still: float = math.inf


@dataclass(frozen=True)
class _Compared:
    """A rigid and a bending motion against rest.

    rigid, bending: the motions.
    rigid_error, bending_error: their validation errors over that at rest, all less their noise.
    agreement: of the two motions, as by `rigid_motion.agreement`.
    """

    rigid: RigidMotion
    bending: RigidMotion
    rigid_error: float
    bending_error: float
    agreement: float

    @classmethod
    def of(
        cls,
        rest: _Tried,
        *,
        tried: Callable[..., _Tried],
        noise: float,
        shape: tuple[int, int, int],
        early: bool = False,
    ) -> _Compared:
        """By short fits of both, or of their beginning (`early`).

        noise: the relative error that it makes alone. It is in all errors alike, and would hide what they differ by.
        shape: of the volume.
        """
        rigid = tried(kind=RigidMotion, early=early)
        bending = tried(kind=FreeFormMotion, early=early, other_numbers=True)
        errors = (rest.early if early else rest.error), rigid.error, bending.error
        noise = min(MOST_NOISE * min(errors), noise)
        at_rest, as_rigid, as_bending = (less_noise(error, noise) for error in errors)
        same = agreement(rigid.motion, bending.motion, shape=shape)
        return cls(rigid.motion, bending.motion, as_rigid / at_rest, as_bending / at_rest, same)

    @property
    def gain(self) -> float:
        """By how much of the error at rest the better motion lowers it."""
        return 1 - min(self.rigid_error, self.bending_error)

    @property
    def promising(self) -> bool:
        """Whether the beginnings of the fits leave it open that the specimen moves."""
        if self.rigid_error < 1 - EARLY_GAIN or self.bending_error < 1 - CLEAR_GAIN:
            return True
        return self.agreement > (EARLY_AGREEMENT if self.gain > 0 else AGREEMENT)

    @property
    def best(self) -> RigidMotion | None:
        """The motion that the images speak for, None if for rest; each of both may miss what the other finds."""
        if not (self.gain > CLEAR_GAIN or (self.gain > LEAST_GAIN and self.agreement > AGREEMENT)):
            return None
        return self.bending if self.bending_error < (1 - LEAST_BEND) * self.rigid_error else self.rigid


def _noise_of(series: TiltSeries, k: int) -> NoiseModel:
    """That of a series when it is binned by k. Told before: binned edges are as sharp as noise."""
    noise = noise_of_images(series)
    return NoiseModel(noise.gain / k**2, noise.offset / k**2)


def expected_seconds(series: TiltSeries, *, settings: Config, limited: bool = False) -> float:
    """How long `find_behaviour` will take if nothing moves: a few steps of its longest short fit are timed.

    limited: the short fits have a budget, and do not end early.
    """
    if not _may_move(series, settings):
        return 0.0
    coarse, asked = series.binned(_binning(series)), settings.network
    motion = MOTIONS.get(asked.motion, FreeFormMotion)(coarse.shape[2] / 2)
    pace = pace_of(coarse, _short_split(coarse, settings), settings=_short_settings(settings), motion=motion)
    return pace.fit(STEPS) * (1.0 if asked.motion in MOTIONS else AT_REST + 2 * (1.0 if limited else EARLY))


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
    early: bool = False,
    other_numbers: bool = False,
    settings: Config,
    budget: FitTime | None,
    callbacks: Sequence[L.Callback] = (),
) -> _Tried:
    """A short fit with a motion of a kind, or held at rest.

    early: it ends with its first validation.
    other_numbers: it has random numbers that are not those of the other fits.
    """
    motion = kind(series.shape[2] / 2, held=held)
    short, first = _short_settings(settings), _FirstLook(ends=early)
    if other_numbers:
        short = dataclasses.replace(short, run=dataclasses.replace(short.run, seed=short.run.seed + 1))
    with torch.random.fork_rng():  # also around the judging, whose batches draw: the fit to come begins as without it
        torch.manual_seed(short.run.seed)
        done = fit(series, split, settings=short, motion=motion, budget=budget, callbacks=[*callbacks, first])
        module = done.module
        found = _Tried(motion, module.validation_error(done.data), first.error)
        if not held:
            return found
        with cast(Moving, module.network).specimen.standing_still():
            return dataclasses.replace(found, still=module.validation_error(done.data))


class _FirstLook(L.Callback):
    """The error of the first validation of a fit, which may end with it."""

    def __init__(self, *, ends: bool) -> None:
        self.ends, self.error = ends, math.nan

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if math.isnan(self.error):
            self.error = float(trainer.callback_metrics["validation/dip"])
            trainer.should_stop |= self.ends


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
