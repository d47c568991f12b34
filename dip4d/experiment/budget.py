"""The time of a run, and who gets how much of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dip4d.config.schema import Config
from dip4d.reconstruction.refits import MEMBER_SHARE
from dip4d.reconstruction.schedule import FitTime

FIT_SHARE = 0.6  # of the time is the fit's, however long what comes before it took
ALIGN_SHARE = 0.1  # may go into the alignment of the images,
MOTION_SHARE = 0.033  # into each of the three short fits that look for a motion,
SEARCH_SHARE = 0.06  # into the choice of the settings of all conventional methods, and again into their errors,
SCORING_SHARE = 0.05  # and into scoring them; what is left is for writing,
FIRST_LOOK_SHARE = 0.01  # and for the SIRT that is looked at before the fit


@dataclass(frozen=True)
class Budget:
    """The time of a run.

    minutes: how long it may take; None for no limit.
    fits: how many times as long as the fit itself all fits take together, further ones included.
    methods: how many conventional methods share their part of it.
    """

    minutes: float | None = None
    fits: float = 1.0
    methods: int = 1

    @classmethod
    def of(cls, config: Config, methods: int = 1) -> Budget:
        """That of a configuration, with so many conventional methods."""
        members = MEMBER_SHARE * config.uncertainty.members
        return cls(config.train.max_minutes, 1 + members, max(methods, 1))

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return math.inf if self.minutes is None else 60 * self.minutes

    @property
    def fit(self) -> FitTime | None:
        """Of the fit; None for no limit."""
        return None if self.minutes is None else FitTime(FIT_SHARE * self.seconds / self.fits)

    @property
    def align_seconds(self) -> float:
        """For the alignment of the images."""
        return ALIGN_SHARE * self.seconds

    def minutes_for(self, fit_seconds: float) -> float:
        """How long a run must be allowed to take, for the fit to have so many seconds."""
        return fit_seconds * self.fits / FIT_SHARE / 60

    @property
    def motion_test(self) -> FitTime | None:
        """Of each short fit that looks for a motion; None for no limit."""
        return None if self.minutes is None else FitTime(MOTION_SHARE * self.seconds)

    @property
    def search_seconds(self) -> float:
        """For the choice of the settings of one conventional method."""
        return SEARCH_SHARE * self.seconds / self.methods

    @property
    def scoring_seconds(self) -> float:
        """For scoring one conventional method."""
        return SCORING_SHARE * self.seconds / self.methods

    @property
    def first_look_seconds(self) -> float:
        """For the SIRT that is looked at before the fit."""
        return FIRST_LOOK_SHARE * self.seconds
