"""How long the parts of a fit take: a few steps of it, timed, of a module that is then thrown away."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

import lightning as L
import numpy as np
import torch

from dip4d.config.schema import Config
from dip4d.conventional.series import SeriesStatistics
from dip4d.errors import InputError
from dip4d.reconstruction.data import TiltRows, rows_of_fit
from dip4d.reconstruction.fit import (
    ONE_DEVICE,
    STEPS_BETWEEN_VALIDATIONS,
    ensemble_of_fit,
    make_trainer,
    prepare,
    run_fit,
    with_ensemble,
)
from dip4d.reconstruction.memory import keep_buffers
from dip4d.reconstruction.module import DIP4D
from dip4d.reconstruction.networks.rigid_motion import RigidMotion
from dip4d.reconstruction.split import Split
from dip4d.tilt_series import TiltSeries

TIMED_STEPS = 3  # after the first, which compiles; fewer
ENOUGH_SECONDS = 2.0  # if they have taken so long


@dataclass(frozen=True)
class Pace:
    """How long the parts of a fit take, in seconds.

    step: an optimizer step.
    validation: the error of all validation rows.
    volume: one volume, drawn when the fit is done.
    """

    step: float
    validation: float
    volume: float

    def fit(self, steps: int) -> float:
        """So many steps, with the validation between them."""
        return steps * self.step + max(1, steps // STEPS_BETWEEN_VALIDATIONS) * self.validation

    def steps_in(self, seconds: float) -> int:
        """How many steps fit into a time, with the validation between them."""
        return int(seconds / (self.step + self.validation / STEPS_BETWEEN_VALIDATIONS))


def pace_of(series: TiltSeries, split: Split, *, settings: Config, motion: RigidMotion | None = None) -> Pace:
    """Times a few steps of the fit that is to come; its weights and random numbers are as if it had not been.

    A network that draws a position by itself is timed on the positions of one step; the time of validation and of a
    volume is scaled to all.

    series, split, settings, motion: as those of `dip4d.reconstruction.fit.fit`. Only the shape of the series, its
        angles and its times have an influence.
    """
    train = dataclasses.replace(settings.train, steps=1 + TIMED_STEPS)
    alone = settings.trainer | {"limit_val_batches": 0} | ONE_DEVICE
    short = dataclasses.replace(settings, train=train, trainer=alone)
    short = with_ensemble(short, ensemble_of_fit(settings, series.shape[1]))
    series = dataclasses.replace(series, images=np.ones_like(series.images))  # no empty rows, whose error is none
    any_statistics = SeriesStatistics(1.0, 1.0, 1.0)
    with torch.random.fork_rng():
        module, data = prepare(series, split, settings=short, statistics=any_statistics, motion=motion)
        positions = series.shape[1]
        if data.images is None:
            positions = min(positions, data.slices)
            data = _first(data, positions)
        watch = _Watch()
        with keep_buffers():
            make_trainer(settings, data)  # refuses what the fit itself would, before the work
            try:
                run_fit(make_trainer(short, data, callbacks=[watch]), module, data=data)
            except Exception as error:  # the keys of the Trainer are many, and so are its errors
                if not settings.trainer or isinstance(error, (InputError, MemoryError, OSError)):
                    raise
                given = ", ".join(f"trainer.{name}={value}" for name, value in settings.trainer.items())
                raise InputError(f"{given}: a first step failed ({' '.join(str(error).split())})") from error
    whole = series.shape[1] / positions
    return Pace(watch.step, whole * watch.validation, whole * watch.volume)


def _first(data: TiltRows, positions: int) -> TiltRows:
    """The rows of the first positions z alone."""
    cut, series, split = slice(0, positions), data.series, data.split
    own = Split(split.validation_rows[cut], split.hidden_rows[cut], split.test_images)
    return TiltRows(series.at_positions(cut), own, slices=data.slices, steps=data.steps, seed=data.seed)


class _Watch(L.Callback):
    """Times the steps but the first, and what is done when the fit has ended."""

    def __init__(self) -> None:
        self._ends: list[float] = []
        self.validation = self.volume = 0.0

    @property
    def step(self) -> float:
        return float(np.median(np.diff(self._ends)))

    def on_train_batch_end(self, trainer: L.Trainer, module: DIP4D, *_) -> None:
        self._ends.append(_now())
        if self._ends[-1] - self._ends[0] > ENOUGH_SECONDS:
            trainer.should_stop = True

    def on_fit_end(self, trainer: L.Trainer, module: DIP4D) -> None:
        data, began = rows_of_fit(trainer), _now()
        module.validation_error(data)
        self.validation = _now() - began
        volumes = module.volumes(data, data.tau[:3])
        next(volumes)  # works out the features, once
        began = _now()
        self.volume = (sum(1 for _ in volumes) and _now() - began) / 2


def _now() -> float:
    """The clock, when the GPU has done what it was told to."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
