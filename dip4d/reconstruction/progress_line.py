"""What is shown while a fit runs: a bar, or where nobody watches, a line now and then."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable

import lightning as L
from rich.progress import BarColumn, Progress, TextColumn

from dip4d.reconstruction.module import DIP4D

SECONDS_BETWEEN_LOOKS = 0.25  # of the bar
_log = logging.getLogger(__name__)


class ProgressLine(L.Callback):
    """A bar with loss, validation error and time left; where nobody watches, a line every so many seconds.

    report: takes a line; the log if None.
    """

    def __init__(self, report: Callable[[str], None] | None = None, seconds_between_lines: float = 30.0) -> None:
        self.report, self.pause, self._last = report or _log.info, seconds_between_lines, 0.0
        self._bar: Progress | None = None

    def on_train_start(self, trainer: L.Trainer, module: DIP4D) -> None:
        self._last = time.monotonic()
        self._begun, self._done = self._last, module.schedule.fraction_done(trainer.global_step)
        if sys.stdout.isatty():
            self._bar = Progress(TextColumn("fitting"), BarColumn(None), TextColumn("{task.fields[state]}"))
            self._bar.add_task("fit", total=1.0, state="")
            self._bar.start()

    def on_train_batch_end(self, trainer: L.Trainer, module: DIP4D, *_) -> None:
        now, done = time.monotonic(), module.schedule.fraction_done(trainer.global_step)
        if now - self._last < (self.pause if self._bar is None else SECONDS_BETWEEN_LOOKS):
            return  # reading the loss makes a GPU wait
        self._last = now
        left = (now - self._begun) / max(done - self._done, 1e-9) * (1 - done)
        shown = trainer.callback_metrics
        state = f"step {trainer.global_step}  loss {float(shown.get('train/loss', math.nan)):.4f}"
        if "validation/dip" in shown:
            state += f"  validation error {float(shown['validation/dip']):.4f}"
        state += f"  {int(left // 60)}:{int(left % 60):02d} left"
        if self._bar is None:
            self.report(f"{done:4.0%}  {state}")
        else:
            self._bar.update(self._bar.task_ids[0], completed=done, state=state)

    def on_train_end(self, *_) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def on_exception(self, *_) -> None:
        self.on_train_end()
