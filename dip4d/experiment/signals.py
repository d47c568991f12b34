"""Signal handlers for as long as something lasts."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any


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
