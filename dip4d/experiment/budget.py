"""The time of a run, and who gets how much of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dip4d.config.schema import Config
from dip4d.reconstruction.refits import HALF_SHARE, MEMBER_SHARE
from dip4d.reconstruction.schedule import FitTime

FIT_SHARE, TAIL_SECONDS = 0.78, 10  # of the time, less seconds to finish all: by then the fit ends; half of it at least
SEARCH_SHARE = 0.1  # may go into the choice of the settings of one conventional method,
SCORING_SHARE = 0.12  # and into scoring one


@dataclass(frozen=True)
class Budget:
    """The time of a run.

    began: when it began, a time.monotonic().
    minutes: how long it may take; None for no limit.
    fits: how many times as long as the fit itself all fits take together, further ones included.
    """

    began: float
    minutes: float | None = None
    fits: float = 1.0

    @classmethod
    def of(cls, config: Config, began: float) -> Budget:
        """That of a configuration."""
        members = MEMBER_SHARE * config.uncertainty.members
        halves = 2 * HALF_SHARE * config.compare.resolution
        return cls(began, config.train.max_minutes, 1 + members + halves)

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return math.inf if self.minutes is None else 60 * self.minutes

    @property
    def fit(self) -> FitTime | None:
        """Of the fit; None for no limit."""
        if self.minutes is None:
            return None
        return FitTime(max(FIT_SHARE * self.seconds - TAIL_SECONDS, self.seconds / 2) / self.fits, self.began)

    @property
    def search_seconds(self) -> float:
        """For the choice of the settings of one conventional method."""
        return SEARCH_SHARE * self.seconds

    @property
    def scoring_seconds(self) -> float:
        """For scoring one conventional method."""
        return SCORING_SHARE * self.seconds
