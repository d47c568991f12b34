"""How far a fit is, by steps or by time, and the learning rate for it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

WARM_UP = 0.1  # of the cycle, in which the rate rises
START_RATE, END_RATE = 1 / 25, 1e-4  # of the peak


@dataclass(frozen=True)
class FitTime:
    """The time of a fit.

    seconds: how long it may take.
    began: from when on, a time.monotonic(), whatever else was done since; from the end of the first step if None.
    """

    seconds: float
    began: float | None = None


class Schedule:
    """How far the fit is, 0..1, by steps or by time, whichever is further; and the learning rate for it.

    One cycle (Smith and Topin 2019): a cosine up during the first tenth, a cosine down to nothing at the end, so the
    whole cycle fits whatever the budget. Without a limit of time, or where it does not bind, the learning rate depends
    on the step alone and a run can be repeated exactly.

    steps: at most so many.
    limit: of time; None for none.
    constant: no cycle, one rate throughout.
    """

    def __init__(self, steps: int, limit: FitTime | None = None, *, constant: bool = False) -> None:
        self.steps, self.constant = steps, constant
        self.seconds = None if limit is None else limit.seconds
        self.began = None if limit is None else limit.began
        self.spent = 0.0  # in earlier parts of an interrupted run
        self.cycle = (0, 0.0)  # the step and the seconds spent at which it began
        self._started: float | None = None

    def begin_cycle(self, step: int) -> None:
        """A fit that was finished goes on from this step: what is left of steps and time is a cycle of its own."""
        self.cycle = step, self.spent

    def start(self) -> None:
        """Called when the fit starts, or goes on: what is left of the time is its own."""
        self._started = time.monotonic()
        if self.seconds is not None and self.began is not None:
            self.seconds -= self._started - self.began

    def discount(self) -> None:
        """Called after the first step, which compiles what the others run: it is not counted."""
        self._started = time.monotonic()

    def stop(self) -> None:
        """Called when the fit ends, or is interrupted."""
        self.spent, self._started = self.elapsed(), None

    def pause(self, seconds: float) -> None:
        """Something else took so long: the fit goes on as if it had not."""
        if self._started is not None:
            self._started += seconds

    def elapsed(self) -> float:
        """Seconds of the fit so far, those before an interruption too."""
        return self.spent + (0.0 if self._started is None else time.monotonic() - self._started)

    def fraction_done(self, step: int) -> float:
        """0 at the start, 1 at the end."""
        first, spent = self.cycle
        by_time = 0.0 if self.seconds is None else (self.elapsed() - spent) / max(self.seconds - spent, 1.0)
        return min(1.0, max((step - first) / max(self.steps - first, 1), by_time))

    def learning_rate(self, step: int, peak: float) -> float:
        if self.constant:
            return peak
        done = self.fraction_done(step)
        if done < WARM_UP:
            low = peak * START_RATE
            return low + (peak - low) * 0.5 * (1 - math.cos(math.pi * done / WARM_UP))
        return peak * 0.5 * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP))) + peak * END_RATE
