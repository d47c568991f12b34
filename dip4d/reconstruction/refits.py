"""Further fits of a series that has been fitted: members for its uncertainty."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence

import lightning as L
import torch

from dip4d.config.schema import Config
from dip4d.conventional.series import SeriesStatistics
from dip4d.reconstruction.fit import ONE_DEVICE, Fit, fit, with_ensemble
from dip4d.reconstruction.module import DIP4D
from dip4d.reconstruction.networks.rigid_motion import RigidMotion
from dip4d.reconstruction.split import Split
from dip4d.reconstruction.uncertainty import half_of_rows
from dip4d.tilt_series import TiltSeries

MEMBER_SHARE = 0.2  # of the steps and of the time of the fit are those of one member


def fit_members(
    done: Fit,
    settings: Config,
    *,
    members: int,
    statistics: SeriesStatistics | None = None,
    callbacks: Sequence[L.Callback] = (),
) -> list[Fit]:
    """The members of `dip4d.reconstruction.uncertainty`: the fitted network, each time gone on with half of the rows.

    done: the fit.
    settings: those of the fit.
    members: how many.
    statistics: those of the fit; worked out again if None.
    callbacks: of each further fit.
    """
    split, found = done.data.split, []
    settings = with_ensemble(settings, done.module.network.ensemble_size)
    for k in range(members):
        seed = settings.run.seed + 1 + k
        half = half_of_rows(split.validation_rows | split.hidden_rows, seed)
        found.append(
            refit(
                done.data.series,
                Split(split.validation_rows, half | split.hidden_rows, split.test_images),
                settings=settings,
                steps=_share(MEMBER_SHARE, done.steps),
                seed=seed,
                statistics=statistics,
                motion=motion_copy(done.module),
                callbacks=callbacks,
                begin=lambda member: member.start_from(done.module),
            )
        )
    return found


def refit(
    series: TiltSeries,
    split: Split,
    *,
    settings: Config,
    steps: int,
    seed: int,
    statistics: SeriesStatistics | None = None,
    motion: RigidMotion | None = None,
    callbacks: Sequence[L.Callback] = (),
    begin: Callable[[DIP4D], None] | None = None,
) -> Fit:
    """A `fit` with the settings of another, but of so many steps and from its own seed, on one device."""
    torch.manual_seed(seed)  # whatever the fit itself has drawn, in one part or in several
    return fit(
        series,
        split,
        settings=_settings(settings, steps=steps, seed=seed),
        statistics=statistics,
        motion=motion,
        callbacks=callbacks,
        begin=begin,
    )


def _share(share: float, steps: int) -> int:
    return max(1, round(share * steps))


def _settings(settings: Config, *, steps: int, seed: int) -> Config:
    """The settings for so many steps from another seed, on one device."""
    replace = dataclasses.replace
    settings = replace(settings, trainer=settings.trainer | ONE_DEVICE)
    return replace(settings, train=replace(settings.train, steps=steps), run=replace(settings.run, seed=seed))


def motion_copy(module: DIP4D) -> RigidMotion | None:
    """A copy of the motion that a fit has found, for another to start from; None if its specimen is at rest."""
    return copy.deepcopy(module.network.learned_motion())
