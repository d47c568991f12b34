"""What happens around the fit: checkpoints, pictures, comparison, volumes, diagnostics, log.

Each can be taken out alone, and none changes a weight. What they write are plain functions of `outputs` and `scores`.
The truth is known here and nowhere below.
"""

from __future__ import annotations

import logging
import math
import os
import shlex
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from dip4d.conventional.baselines import Baseline, Conventional
from dip4d.conventional.methods import METHODS, SCOPES
from dip4d.experiment import scores
from dip4d.experiment.outputs import Watched, add_orthoslices, exhaust, kept, key_frames, key_slices, movie, write_movie
from dip4d.experiment.tracking import log_comparison, log_frames, log_picture
from dip4d.indices import evenly
from dip4d.measures.image_quality import ERRORS, SSIM_WINDOW, scored
from dip4d.reconstruction.data import rows_of_fit
from dip4d.reconstruction.module import DIP4D
from dip4d.report.orthoslices import densest_z, orthoslices
from dip4d.run_folder import CHECKPOINT, VOLUMES, add_metrics, read_metrics, reconstruct_command

EVENLY_SCORED, SCORED_IN_BEGINNING = 21, 5  # frames, of methods that reconstruct every frame anew
BEGINNING = 0.05  # of the frames

_log = logging.getLogger(__name__)


class Checkpoints(L.Callback):
    """Writes the checkpoint every so many seconds and at the end; the last one is whole at any moment.

    folder: where it lies. run: the folder of the run, where that is another.
    """

    def __init__(self, folder: Path, seconds: float, *, run: Path | None = None) -> None:
        self.path, self.seconds, self._last = folder / CHECKPOINT, seconds, 0.0
        self.run = run or folder

    def on_train_start(self, *_) -> None:
        self._last = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, *_) -> None:
        if time.monotonic() - self._last > self.seconds:
            self._save(trainer)

    def on_fit_end(self, trainer: L.Trainer, *_) -> None:  # by now the module has chosen its weights
        self._save(trainer)

    def on_exception(self, trainer: L.Trainer, *_) -> None:
        run = shlex.quote(f"run.dir={self.run}")
        _log.info(
            f"Interrupted at step {trainer.global_step}; go on with: {reconstruct_command()} {run} run.resume=true"
        )

    def _save(self, trainer: L.Trainer) -> None:
        partial = self.path.with_name(self.path.name + ".part")
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            os.replace(partial, self.path)
        self._last = time.monotonic()


class StopByHand(L.Callback):
    """Ctrl-C once ends the fit and keeps its best weights, and the run writes everything; twice interrupts the run."""

    def __init__(self) -> None:
        self._before: Any = None

    def on_train_start(self, trainer: L.Trainer, module: DIP4D) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # no signal comes there

        def stop(number: int, frame: Any) -> None:
            signal.signal(signal.SIGINT, self._before)
            module.end("hand")
            _log.info("Stopping after this step; the result is kept. Ctrl-C again leaves it, for run.resume=true")

        self._before = signal.signal(signal.SIGINT, stop)

    def on_train_end(self, *_) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def on_exception(self, *_) -> None:
        self.on_train_end()


class Pictures(L.Callback):
    """Logs the orthoslices of a few times through the densest z whenever the validation error is measured; with a truth
    (t, z, y, x), their PSNR and SSIM, too.
    """

    def __init__(self, truth: np.ndarray | None = None) -> None:
        self.truth = truth

    def on_validation_end(self, trainer: L.Trainer, module: DIP4D) -> None:
        if trainer.logger is None or not trainer.is_global_zero:
            return
        data = rows_of_fit(trainer)
        z, frames = densest_z(data.series.images), key_frames(len(data.tau))
        slices = key_slices(module, data, z=z)
        picture = np.concatenate(slices, axis=1)
        log_picture(trainer.logger, "orthoslices", picture=picture, step=trainer.global_step)
        if self.truth is not None:
            truth, data_range = torch.from_numpy(self.truth[frames, z]), float(self.truth.max())
            found = quality(torch.from_numpy(slices), truth, data_range=data_range)
            trainer.logger.log_metrics(found, step=trainer.global_step)


def quality(slices: torch.Tensor, truth: torch.Tensor, *, data_range: float) -> dict[str, float]:
    """PSNR and SSIM of orthoslices (n, Y, X), by torchmetrics; SSIM has the windows of the final scores."""
    pair = slices[:, None], truth[:, None]
    values = {"orthoslices/psnr": float(peak_signal_noise_ratio(*pair, data_range=data_range))}
    if min(truth.shape[1:]) >= SSIM_WINDOW:
        options = {"gaussian_kernel": False, "kernel_size": SSIM_WINDOW, "data_range": data_range}
        values["orthoslices/ssim"] = float(cast(torch.Tensor, structural_similarity_index_measure(*pair, **options)))
    return values


class Comparison(L.Callback):
    """Stands ours beside conventional reconstruction when the fit is done: its settings, scores, errors, orthoslices.

    Ctrl-C, or memory that does not suffice, ends the comparison, and the run goes on without the rest of it.

    run: the folder, to whose metrics.json and orthoslices.npz they are added.
    conventional: of the same series.
    methods: names of `METHODS`, in the order of the table.
    truth: (t, z, y, x), or None.
    seconds: about how long scoring one method may take; where one is slower, frames between are left out (null).
    """

    def __init__(
        self,
        run: Path,
        conventional: Conventional,
        *,
        methods: Sequence[str],
        truth: np.ndarray | None = None,
        seconds: float = math.inf,
    ) -> None:
        self.run, self.conventional, self.methods = run, conventional, methods
        self.truth, self.seconds = truth, seconds

    def on_fit_end(self, trainer: L.Trainer, module: DIP4D) -> None:
        if not trainer.is_global_zero or not self.methods:
            return
        _log.info("The fit is done and its volumes are written; comparing them (Ctrl-C leaves that out)")
        left = list(self.methods)
        try:
            while left:
                baseline = self.conventional.baseline(left[0])
                self._say(baseline, trainer)
                self._score(baseline, rows_of_fit(trainer).series.images)
                del left[0]
        except (KeyboardInterrupt, MemoryError, RuntimeError) as error:  # hours of a fit are not lost for that
            why = "stopped by hand" if isinstance(error, KeyboardInterrupt) else error
            _log.warning(f"the comparison with {', '.join(left)} was left out ({why})")

    def _say(self, baseline: Baseline, trainer: L.Trainer) -> None:
        """Prints and logs its settings and errors."""
        found = ", ".join(f"{k} {v:g}" for k, v in baseline.settings.items())
        errors = ((kind.words, getattr(baseline, kind.attribute)) for kind in ERRORS.values())
        errors = "".join(f", error of {w} {e:.4f}" for w, e in errors if e is not None)
        cut = ", search cut short" if baseline.search_cut_short else ""
        _log.info(f"{baseline.name}: {found}{cut}{errors}")
        if trainer.logger is not None and baseline.validation_error is not None:
            values = {f"validation/{baseline.name}": baseline.validation_error}
            trainer.logger.log_metrics(values, step=trainer.global_step)

    def _score(self, baseline: Baseline, images: np.ndarray) -> None:
        """Adds its scores, errors and orthoslices to the files of the run."""
        shown: list[np.ndarray] = []
        keys = key_frames(len(images))
        frames, found = kept(self._volumes(baseline), keys, into=shown), dict[str, Any]()
        exhaust(frames if self.truth is None else scored(frames, self.truth, into=found, seconds=self.seconds))
        if len(shown) == len(keys):
            add_orthoslices(self.run, orthoslices(baseline.name, shown, images=images), frames=keys)
        found |= {"settings": baseline.settings, "search_cut_short": baseline.search_cut_short}
        metrics = {"methods": {baseline.name: found}}
        for key, kind in ERRORS.items():
            if (error := getattr(baseline, kind.attribute)) is not None:
                metrics[key] = {baseline.name: error}
        add_metrics(self.run, metrics)

    def _volumes(self, baseline: Baseline) -> Iterator[np.ndarray | None]:
        """Those of the key frames and, where there is a truth, of the frames that are scored; None for the others.

        Where the time does not suffice for the key frames, none of them: then no orthoslices are shown.
        """
        frames = self.conventional.frames
        wanted = set(key_frames(frames))
        if baseline.seconds * len(wanted) > self.seconds:
            wanted = set()
            _log.info(f"{baseline.name}: no time for its orthoslices, a volume takes {baseline.seconds:.1f} s")
        if self.truth is not None:
            wanted |= self._scored_frames(baseline)
        return self.conventional.each(lambda t: baseline.volume(t) if t in wanted else None, range(frames))

    def _scored_frames(self, baseline: Baseline) -> set[int]:
        """All frames, if all have one volume; else those of `frames_to_score`, or as many as the time suffices for."""
        frames = self.conventional.frames
        chosen = list(range(frames)) if METHODS[baseline.name][1] is SCOPES["whole"] else frames_to_score(frames)
        within = self.seconds / max(baseline.seconds, 1e-9)
        return set(chosen if within >= len(chosen) else [chosen[i] for i in evenly(len(chosen), max(1, int(within)))])


def frames_to_score(frames: int) -> list[int]:
    """At most 25 of so many frames: evenly spread ones, those of figures among them, and more of the beginning, where
    a specimen often changes fastest.
    """
    return sorted({*evenly(frames, EVENLY_SCORED), *evenly(math.ceil(BEGINNING * frames), SCORED_IN_BEGINNING)})


class Movie(L.Callback):
    """When the fit is done, draws the volume of every image once; on its way it is scored, weighed, projected, shown
    and written. Adds to metrics.json what is learned of it, and warns of images that do not fit.

    run: the folder.
    truth: (t, z, y, x), or None.
    times_s: seconds, of the volumes that are written; those of the images if None.
    seconds: about how long scoring may take; frames between are not scored then (null).
    excluded: images left out before; images are named as `data.exclude` counts them.
    """

    def __init__(
        self,
        run: Path,
        *,
        truth: np.ndarray | None = None,
        times_s: Sequence[float] | None = None,
        excluded: Sequence[int] = (),
        seconds: float = math.inf,
    ) -> None:
        self.run, self.truth, self.times_s, self.seconds = run, truth, times_s, seconds
        self.excluded = sorted(set(excluded))

    def on_fit_end(self, trainer: L.Trainer, module: DIP4D) -> None:
        if not trainer.is_global_zero:
            return
        data = rows_of_fit(trainer)
        series, watched = data.series, Watched(module, data, truth=self.truth, seconds=self.seconds)
        frames = watched.frames()
        if self.times_s is None:
            write_movie(self.run / VOLUMES, frames, series=series, times_s=series.times_s)
        else:
            exhaust(frames)
            asked = movie(module, data, times_s=self.times_s)
            write_movie(self.run / VOLUMES, asked, series=series, times_s=np.asarray(self.times_s))
        found = watched.write(self.run, excluded=self.excluded)
        if warning := scores.warning_of(found, self.excluded):
            _log.warning(warning)


class Results(L.Callback):
    """Sends what the metrics.json of a run holds when its fit is done to the logger: scores of every frame, a table."""

    def __init__(self, run: Path) -> None:
        self.run = run

    def on_fit_end(self, trainer: L.Trainer, module: DIP4D) -> None:
        if trainer.is_global_zero and trainer.logger is not None:
            metrics = read_metrics(self.run)
            log_frames(trainer.logger, metrics["methods"])
            log_comparison(trainer.logger, metrics)
