"""A picture of the fit while it runs: what it has found so far beside a SIRT, and how its error falls."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from dip4d.conventional.methods import label_of
from dip4d.conventional.quick_sirt import QuickSirt, quick_sirt
from dip4d.experiment.outputs import key_frames, key_slices
from dip4d.reconstruction.data import rows_of_fit
from dip4d.reconstruction.module import DIP4D
from dip4d.reconstruction.split import Split
from dip4d.report.orthoslices import densest_z
from dip4d.run_folder import FIGURES, LIVE, ORTHOSLICES, read_metrics
from dip4d.tilt_series import TiltSeries

SECONDS_BETWEEN, TIME_SHARE = 10.0, 0.04  # of two pictures, at least; and of the fit that goes into them, at most
SIRT_SECONDS = 5.0  # at most, before the fit

_log = logging.getLogger(__name__)


class LivePicture(L.Callback):
    """Draws `figures/live.png` of a run before its fit, as often as the validation error is measured, though not more
    often than every 10 s, and when the fit is done. It changes no weight, and if it fails the fit goes on without.

    run: the folder.
    series: images (t, z, s).
    split: what of them the fit sees.
    truth: (t, z, y, x), or None.
    label: of the network.
    seconds: about how long the SIRT beside it may take.
    wanted: False, and it draws nothing.
    """

    def __init__(
        self,
        run: Path,
        series: TiltSeries,
        *,
        split: Split,
        truth: np.ndarray | None = None,
        label: str = "DIP-4D",
        seconds: float = SIRT_SECONDS,
        wanted: bool = True,
    ) -> None:
        self.run, self.path, self.series, self.split = run, run / FIGURES / LIVE, series, split
        self.label, self.seconds = label, min(seconds, SIRT_SECONDS)
        self.z, self.frames = densest_z(series.images), key_frames(len(series.images))
        self.truth = None if truth is None else truth[self.frames, self.z]
        self.errors: dict[int, float] = {}  # by step
        self._sirt: QuickSirt | None = None
        self._next = 0.0  # a time.monotonic(): no picture before
        self._off = not wanted

    def begin(self) -> None:
        """Draws all but the network, which has nothing to show yet; of an interrupted run the last picture stays."""
        self._try(self._begin)
        if not self._off:
            _log.info(f"Look at {self.path} while it fits")

    def of_motion_test(self) -> L.Callback:
        """What draws the first fit of a motion test, the earliest look at the specimen: a callback of it."""
        return _FirstLook(self)

    def draw_coarse(self, trainer: L.Trainer, module: DIP4D) -> None:
        """Draws what a fit of binned images shows of the same orthoslices."""
        if time.monotonic() >= self._next:
            self._try(lambda: self._draw_coarse(trainer, module))

    def on_validation_end(self, trainer: L.Trainer, module: DIP4D) -> None:
        step = trainer.global_step
        self.errors[step] = float(trainer.callback_metrics["validation/dip"])
        if trainer.is_global_zero and time.monotonic() >= self._next:
            done = f"step {step}, {module.schedule.fraction_done(step):.0%} of the fit"
            self._try(lambda: self._draw_of(done, module, slices=key_slices(module, rows_of_fit(trainer), z=self.z)))

    def on_fit_end(self, trainer: L.Trainer, module: DIP4D) -> None:
        if trainer.is_global_zero:
            self._try(lambda: self._draw_kept(trainer, module))

    def state_dict(self) -> dict[str, Any]:
        return {"errors": self.errors}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.errors = state_dict["errors"]

    def _begin(self) -> None:
        rows = {"fitted_rows": self.split.fitted_rows, "validation_rows": self.split.validation_rows}
        self._sirt = quick_sirt(self.series, self.z, **rows, seconds=self.seconds)
        if not self.path.exists():
            self._draw(None, f"{self.label}, before the fit")

    @torch.no_grad()
    def _draw_coarse(self, trainer: L.Trainer, module: DIP4D) -> None:
        data, width = rows_of_fit(trainer), self.series.shape[2]
        k = width // data.series.shape[2]
        batch = data.batch([min(self.z // k, data.series.shape[1] - 1)]).to(module.device)
        tau = torch.as_tensor(self.series.tau[self.frames], dtype=torch.float32, device=module.device)[None]
        small = data.series.field(module(batch.z, batch.rows, tau=tau)[0]).float().cpu().numpy() / k
        slices = small.repeat(k, axis=1).repeat(k, axis=2)
        left = width - slices.shape[1]  # was cut off when the images were binned
        slices = np.pad(slices, ((0, 0), (0, left), (0, left)))
        coarse = "" if k == 1 else f" in images binned {k} x {k}"
        self._draw(slices, f"{self.label}: looking for a motion{coarse}, step {trainer.global_step}")
        self._next = time.monotonic() + SECONDS_BETWEEN

    def _draw_kept(self, trainer: L.Trainer, module: DIP4D) -> None:
        """What the run keeps, as its files have it."""
        with np.load(self.run / ORTHOSLICES) as arrays:
            slices = arrays["dip_yx"]
        error = read_metrics(self.run)["held_out"]["dip"]
        if error is not None:
            self.errors[trainer.global_step] = error
        self._draw_of(f"done, {trainer.global_step} steps", module, slices=slices)

    def _draw_of(self, done: str, module: DIP4D, *, slices: np.ndarray) -> None:
        began = time.thread_time()
        title = f"{self.label}: {done}, {module.schedule.elapsed() / 60:.1f} minutes"
        if self.errors:
            title += f", validation error {list(self.errors.values())[-1]:.4f}"
        self._draw(slices, title)
        took = time.thread_time() - began  # not what others take of a busy machine
        self._next = time.monotonic() + max(SECONDS_BETWEEN, took / TIME_SHARE)

    def _draw(self, slices: np.ndarray | None, title: str) -> None:
        from dip4d.report.live_figure import draw_live

        shown: dict[str, np.ndarray | None] = {} if self.truth is None else {"truth": self.truth}
        shown[self.label], to_beat = slices, None
        if (sirt := self._sirt) is not None:
            name = f"{label_of('sirt_whole')}, {sirt.iterations} iterations"
            shown[name] = np.broadcast_to(sirt.slice, (len(self.frames), *sirt.slice.shape))
            to_beat = None if sirt.error is None else (name, sirt.error)
        self.path.parent.mkdir(exist_ok=True)
        draw_live(
            self.path,
            shown,
            title=title,
            times_s=self.series.times_s[self.frames].tolist(),
            z=self.z,
            errors=self.errors,
            to_beat=to_beat,
        )

    def _try(self, draw: Callable[[], None]) -> None:
        if self._off:
            return
        try:
            draw()
        except Exception as error:  # whatever it is: the fit is what counts
            self._off = True
            _log.warning(f"{self.path} could not be drawn ({error}); the fit goes on without")


class _FirstLook(L.Callback):
    """Draws the live picture of a run from the short fit that looks for a motion."""

    def __init__(self, live: LivePicture) -> None:
        self.live = live

    def on_validation_end(self, trainer: L.Trainer, module: DIP4D) -> None:
        self.live.draw_coarse(trainer, module)
