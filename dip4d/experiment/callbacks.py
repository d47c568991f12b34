"""What happens around the fit: checkpoints, pictures, comparison, volumes, diagnostics, log.

Each can be taken out alone, and none changes a weight. What they write are plain functions of `outputs` and `scores`.
The truth is known here and nowhere below.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from dip4d.conventional.baselines import Baseline, Conventional
from dip4d.conventional.methods import METHODS, SCOPES
from dip4d.errors import TerminatedError
from dip4d.experiment import scores
from dip4d.experiment.outputs import (
    Watched,
    add_orthoslices,
    exhaust,
    kept,
    key_frames,
    key_slices,
    movie,
    movie_is_written,
    saved_path,
    write_movie,
)
from dip4d.experiment.signals import Handlers, requeue
from dip4d.experiment.tracking import Tracker, log_comparison, log_frames, log_picture
from dip4d.indices import evenly
from dip4d.io.volumes import open_volumes
from dip4d.measures.image_quality import ERRORS, SSIM_WINDOW, scored
from dip4d.reconstruction.data import as_the_first_does, rows_of_fit
from dip4d.reconstruction.fit import LEAST_STEPS
from dip4d.reconstruction.module import DIP4D
from dip4d.report.orthoslices import densest_z, orthoslices
from dip4d.report.preview import Shrunk, add_preview, binning
from dip4d.report.quality_figure import BEGINNING
from dip4d.run_folder import CHECKPOINT, VOLUMES, add_metrics, read_metrics
from dip4d.tilt_series import TiltSeries
from dip4d.whole_file import written_beside

EVENLY_SCORED, SCORED_IN_BEGINNING = 21, 5  # frames, of methods that reconstruct every frame anew

_log = logging.getLogger(__name__)


class Checkpoints(L.Callback):
    """Writes the checkpoint every so many seconds and at the end; the last one is whole at any moment.

    One that cannot be written, on a full disk, does not end the fit. SIGTERM ends it after a step and a checkpoint; so
    does SIGUSR1 under SLURM, and has the job put back into the queue.

    folder: where it lies.
    seconds: between two.
    run: the folder of the run, where that is another.
    named: whether the command names that folder, so that the same command can go on with it.
    """

    def __init__(self, folder: Path, seconds: float, *, run: Path | None = None, named: bool = True) -> None:
        self.path, self.seconds, self._last = folder / CHECKPOINT, seconds, 0.0
        self.run, self.named = run or folder, named
        self._ends: str | None = None  # what the system said
        self._handlers = Handlers()

    def on_train_start(self, *_) -> None:
        self._last = time.monotonic()
        self._handlers.set(signal.SIGTERM, lambda: setattr(self, "_ends", "SIGTERM"))
        if "SLURM_JOB_ID" in os.environ:
            self._handlers.set(signal.SIGUSR1, lambda: setattr(self, "_ends", "SIGUSR1"))

    def on_train_batch_end(self, trainer: L.Trainer, *_) -> None:
        due = time.monotonic() - self._last > self.seconds
        ends, due = as_the_first_does(trainer, (self._ends, due))
        if not (due or ends):
            return
        try:
            self._save(trainer)
        except (OSError, RuntimeError) as error:  # torch has errors of its own for a full disk
            _log.warning(f"{self.path} could not be written ({error}); the one before stays, the fit goes on")
            self._last = time.monotonic()
        if ends == "SIGUSR1" and trainer.is_global_zero:
            requeue(self.named)
        if ends:
            _log.info(f"{ends} at step {trainer.global_step}")
            raise TerminatedError

    def on_train_end(self, *_) -> None:
        self._handlers.restore()

    def on_fit_end(self, trainer: L.Trainer, *_) -> None:  # by now the module has chosen its weights
        self._save(trainer)

    def on_exception(self, *_) -> None:
        self._handlers.restore()

    def _save(self, trainer: L.Trainer) -> None:
        if trainer.is_global_zero:
            with written_beside(self.path) as place:
                trainer.save_checkpoint(place)
        else:
            trainer.save_checkpoint(self.path)  # the others only take part
        self._last = time.monotonic()


class StopByHand(L.Callback):
    """Ctrl-C once ends the fit and keeps its best weights, and the run writes everything; twice interrupts the run."""

    def __init__(self) -> None:
        self._handlers = Handlers()

    def on_train_start(self, trainer: L.Trainer, module: DIP4D) -> None:
        def stop() -> None:
            if not trainer.is_global_zero:
                return  # as the first process does
            self._handlers.restore()
            module.end("hand")
            _log.info("Stopping after this step; the result is kept. Ctrl-C again leaves it, for run.resume=true")

        self._handlers.set(signal.SIGINT, stop)

    def on_train_end(self, *_) -> None:
        self._handlers.restore()

    def on_exception(self, *_) -> None:
        self._handlers.restore()


class Pictures(L.Callback):
    """Logs the orthoslices of a few times through the densest z whenever the validation error is measured; with a truth
    (t, z, y, x), their PSNR and SSIM, too. vmax: the intensity per voxel that is white in all of them.
    """

    def __init__(self, truth: np.ndarray | None = None, *, vmax: float) -> None:
        self.truth, self.vmax = truth, vmax

    def on_validation_end(self, trainer: L.Trainer, module: DIP4D) -> None:
        if not isinstance(trainer.logger, Tracker) or not trainer.is_global_zero:
            return
        data = rows_of_fit(trainer)
        z, frames = densest_z(data.series.images), key_frames(len(data.tau))
        slices = key_slices(module, data, z=z)
        picture = np.concatenate(slices, axis=1)
        log_picture(trainer.logger, "orthoslices", picture=picture, vmax=self.vmax, step=trainer.global_step)
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
    saved: names of those whose volumes are saved, of every image.
    """

    def __init__(
        self,
        run: Path,
        conventional: Conventional,
        *,
        methods: Sequence[str],
        truth: np.ndarray | None = None,
        seconds: float = math.inf,
        saved: Sequence[str] = (),
    ) -> None:
        self.run, self.conventional, self.methods = run, conventional, methods
        self.truth, self.seconds, self.saved = truth, seconds, saved

    def on_fit_end(self, trainer: L.Trainer, module: DIP4D) -> None:
        there = read_metrics(self.run)["methods"] if trainer.is_global_zero else {}
        left = [name for name in self.methods if "settings" not in there.get(name, {})]  # by an interrupted run
        if not trainer.is_global_zero or not left:
            return
        _log.info("The fit is done and its volumes are written; comparing them (Ctrl-C leaves that out)")
        try:
            while left:
                baseline = self.conventional.baseline(left[0])
                self._say(baseline, trainer)
                if baseline.name in self.saved:
                    baseline = self._save(baseline, rows_of_fit(trainer).series)
                self._score(baseline, rows_of_fit(trainer).series)
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

    def _score(self, baseline: Baseline, series: TiltSeries) -> None:
        """Adds its scores, errors, orthoslices and small volumes to the files of the run."""
        shown, images = list[np.ndarray](), series.images
        keys, small = key_frames(len(images)), Shrunk(binning((images.shape[1], *images.shape[2:] * 2)))
        frames, found = kept(self._volumes(baseline), keys, into=shown), dict[str, Any]()
        frames = small.passing(frames, self._times_to_keep(baseline, series))
        exhaust(frames if self.truth is None else scored(frames, self.truth, into=found, seconds=self.seconds))
        if len(shown) == len(keys):
            add_orthoslices(self.run, orthoslices(baseline.name, shown, images=images), frames=keys)
        add_preview(self.run, {baseline.name: small.movie()})
        found |= {"settings": baseline.settings, "search_cut_short": baseline.search_cut_short}
        errors = {key: getattr(baseline, kind.attribute) for key, kind in ERRORS.items()}
        errors["held_out_without_noise"] = errors["held_out_without_noise"] or scores.without_noise(
            errors["held_out_images"], read_metrics(self.run).get("noise_floor", {})
        )
        told = {key: {baseline.name: error} for key, error in errors.items() if error is not None}
        add_metrics(self.run, {"methods": {baseline.name: found}} | told)

    def _save(self, baseline: Baseline, series: TiltSeries) -> Baseline:
        """Its volumes, of every image; a single one, if all are the same. Returns it with these, made."""
        same = METHODS[baseline.name][1] is SCOPES["whole"]
        frames = self.conventional.each(baseline.volume, range(1 if same else self.conventional.frames))
        path = saved_path(self.run, baseline.name)
        write_movie(path, frames, series=series, times_s=series.times_s[: 1 if same else None])
        volumes = open_volumes(path)
        return replace(baseline, volume=lambda t: volumes[0 if same else t], seconds=0.0)

    def _times_to_keep(self, baseline: Baseline, series: TiltSeries) -> dict[int, float]:
        """Of which images the volumes are kept small, those of figures among them: one, if all have the same."""
        chosen = frames_to_score(len(series.images))
        same = METHODS[baseline.name][1] is SCOPES["whole"]
        return {t: float(series.times_s[t]) for t in (chosen[:1] if same else chosen)}

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
        if not trainer.is_global_zero or movie_is_written(self.run):
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
        converged = trainer.global_step >= LEAST_STEPS  # before, images differ because the fit is poor
        if converged and (warning := scores.warning_of(found, self.excluded)):
            _log.warning(warning)


class Results(L.Callback):
    """Sends what the metrics.json of a run holds when its fit is done to the logger: scores of every frame, a table.

    network: its name and label, as metrics.json will have them.
    """

    def __init__(self, run: Path, *, network: dict[str, str]) -> None:
        self.run, self.network = run, network

    def on_fit_end(self, trainer: L.Trainer, module: DIP4D) -> None:
        if isinstance(trainer.logger, Tracker) and trainer.is_global_zero:
            metrics = read_metrics(self.run)
            log_frames(trainer.logger, metrics["methods"])
            log_comparison(trainer.logger, metrics | {"network": self.network})
