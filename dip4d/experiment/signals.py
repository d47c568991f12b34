"""Signal handlers for as long as something lasts, and what SLURM is told."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from typing import Any

_log = logging.getLogger(__name__)


class Handlers:
    """Handlers of signals, from `set` to `restore`; none outside the main thread, where no signal comes."""

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}

    def set(self, number: int, handle: Callable[[], None]) -> None:
        """handle(): called when the signal comes."""
        if threading.current_thread() is threading.main_thread():
            before = signal.signal(number, lambda *_: handle())
            self._before.setdefault(number, before)

    def restore(self) -> None:
        """Puts back what was there before."""
        while self._before:
            signal.signal(*self._before.popitem())


def requeue(named: bool) -> None:
    """Puts the job of SLURM back into the queue; the same command then goes on with the run.

    named: whether it names the folder of the run.
    """
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    if not named:
        _log.warning("the job is not requeued, for it could not find the run again: name its folder with run.dir")
        return
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True, timeout=60)
        _log.info(f"Job {job} is in the queue again")
    except (OSError, subprocess.SubprocessError) as error:
        _log.warning(f"job {job} could not be requeued ({error})")
