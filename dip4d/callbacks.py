"""What happens around the fit: progress, checkpoints, volumes, comparison, pictures. Each can be taken out alone."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import lightning as L
import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn
from torch import Tensor

from dip4d.algorithms import evenly
from dip4d.conventional import METHODS, USUAL, Baseline, Conventional
from dip4d.data import TiltRows
from dip4d.io import write_volumes
from dip4d.metrics import HELD_OUT, psnr, ssim
from dip4d.module import DIP4D
from dip4d.quality import (
    error_without_noise,
    mass_trend,
    masses_of_images,
    masses_of_volumes,
    residual_per_image,
    suspects,
)
from dip4d.run_folder import CHECKPOINT, ORTHOSLICES, VOLUMES, add_metrics
from dip4d.tilt_series import TiltSeries
from dip4d.tracking import log_comparison, log_frames, log_picture

KEY_FRAMES = 6  # frames shown in figures


class ProgressLine(L.Callback):
    """A bar with loss, held-out error and time left; where nobody watches, a line now and then."""

    def __init__(self, seconds_between_lines: float = 30.0) -> None:
        self.pause, self._last = seconds_between_lines, 0.0
        self._bar: Progress | None = None

    def on_train_start(self, trainer: L.Trainer, module: DIP4D) -> None:
        self._last = time.monotonic()
        self._begun, self._done = self._last, module.schedule.progress(trainer.global_step)
        if sys.stdout.isatty():
            self._bar = Progress(TextColumn("fitting"), BarColumn(None), TextColumn("{task.fields[state]}"))
            self._bar.add_task("fit", total=1.0, state="")
            self._bar.start()

    def on_train_batch_end(self, trainer: L.Trainer, module: DIP4D, *_) -> None:
        now, done = time.monotonic(), module.schedule.progress(trainer.global_step)
        if self._bar is None and now - self._last < self.pause:
            return
        self._last = now
        left = (now - self._begun) / max(done - self._done, 1e-9) * (1 - done)
        shown = {k.split("/")[0]: float(v) for k, v in trainer.progress_bar_metrics.items()}
        state = f"step {trainer.global_step}  loss {shown.get('train', math.nan):.4f}"
        if "held_out" in shown:
            state += f"  held-out error {shown['held_out']:.4f}"
        state += f"  {int(left // 60)}:{int(left % 60):02d} left"
        if self._bar is None:
            print(f"{done:4.0%}  {state}", flush=True)
        else:
            self._bar.update(self._bar.task_ids[0], completed=done, state=state)

    def on_train_end(self, *_) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def on_exception(self, *_) -> None:
        self.on_train_end()


class Checkpoints(L.Callback):
    """Writes the checkpoint every so many seconds and at the end; the last one is whole at any moment."""

    def __init__(self, run: Path, seconds: float) -> None:
        self.path, self.seconds, self._last = run / CHECKPOINT, seconds, 0.0

    def on_train_start(self, *_) -> None:
        self._last = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, *_) -> None:
        if time.monotonic() - self._last > self.seconds:
            self._save(trainer)

    def on_fit_end(self, trainer: L.Trainer, *_) -> None:  # by now the module has chosen its weights
        self._save(trainer)

    def _save(self, trainer: L.Trainer) -> None:
        partial = self.path.with_name(self.path.name + ".part")
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            os.replace(partial, self.path)
        self._last = time.monotonic()


class Volumes(L.Callback):
    """Writes the volumes when the fit is done: at times_s, seconds, or of every image if None."""

    def __init__(self, run: Path, times_s: Sequence[float] | None = None) -> None:
        self.path, self.times_s = run / VOLUMES, times_s

    def on_fit_end(self, trainer: L.Trainer, module: DIP4D) -> None:
        if trainer.is_global_zero:
            data: TiltRows = trainer.datamodule
            times_s = data.series.times_s if self.times_s is None else np.asarray(self.times_s)
            progress = torch.from_numpy(data.series.progress_at(times_s)).float()
            write_movie(self.path, (v.numpy() for v in module.volumes(data, progress)), data.series, times_s)


def write_movie(path: Path, frames: Iterable[np.ndarray], series: TiltSeries, times_s: np.ndarray) -> None:
    """Writes the volumes (z, y, x) of a series at some times."""
    _, depth, bins = series.shape
    write_volumes(path, frames, (len(times_s), depth, bins, bins), times_s, series.pixel_nm)


class Pictures(L.Callback):
    """Logs the orthoslices of a few frames whenever the held-out error is measured."""

    def on_validation_end(self, trainer: L.Trainer, module: DIP4D) -> None:
        if trainer.logger is not None and trainer.is_global_zero:
            data: TiltRows = trainer.datamodule
            z = densest_slice(data.series.images)
            with torch.no_grad():
                batch = data.batch([z]).to(module.device)
                progress = torch.linspace(0, 1, KEY_FRAMES, device=module.device)[None]
                slices = module(batch.z, batch.rows, progress)[0].float().cpu().numpy()
            log_picture(trainer.logger, "orthoslices", np.concatenate(slices, axis=1), trainer.global_step)


class Comparison(L.Callback):
    """Stands ours beside conventional reconstruction: scores against the truth, held-out errors, orthoslices.

    The conventional ones are found before the fit, and scored with ours after it. methods: names of `METHODS`, or None
    for those that are usual with or without truth. truth: (t, z, y, x) or None.
    seconds: about how long scoring one method may take; where a method is slower, frames between are left out (null).
    Writes metrics.json and orthoslices.npz.
    """

    def __init__(
        self,
        run: Path,
        conventional: Conventional,
        methods: Iterable[str] | None,
        truth: np.ndarray | None,
        began: float,
        seconds: float,
    ) -> None:
        self.run, self.conventional, self.truth, self.began, self.seconds = run, conventional, truth, began, seconds
        methods = USUAL[truth is not None] if methods is None else methods
        self.methods = [m for m in METHODS if m in methods and (truth is not None or not m.endswith("_frozen"))]
        self.baselines: list[Baseline] = []

    def on_fit_start(self, trainer: L.Trainer, module: DIP4D) -> None:
        if not trainer.is_global_zero:
            return
        self.baselines = []
        for name in self.methods:
            baseline = self.conventional.baseline(name)
            self.baselines.append(baseline)
            found = ", ".join(f"{k} {v:g}" for k, v in baseline.settings.items())
            errors = ((what, getattr(baseline, key)) for key, what in HELD_OUT.items())
            held_out = "".join(f", error of held-out {what} {e:.4f}" for what, e in errors if e is not None)
            print(f"{name}: {found}{held_out}", flush=True)
            if trainer.logger is not None and baseline.held_out is not None:
                trainer.logger.log_metrics({f"held_out/{name}": baseline.held_out}, step=trainer.global_step)

    def on_fit_end(self, trainer: L.Trainer, module: DIP4D) -> None:
        if not trainer.is_global_zero:
            return
        data: TiltRows = trainer.datamodule
        key_frames = evenly(len(data.progress), KEY_FRAMES)
        ours = [v.numpy() for v in module.volumes(data, data.progress[key_frames])]
        metrics: dict = {
            "methods": {"dip": self._score(v.numpy() for v in module.volumes(data, data.progress))},
            "held_out": {"dip": none_if_nan(module.held_out_error(data))},
            "held_out_images": {"dip": none_if_nan(module.held_out_images_error(data))},
            "held_out_without_noise": {"dip": none_if_nan(_without_noise(module, data))},
        }
        pictures = orthoslices("dip", ours, data)
        for baseline in self.baselines:
            key_volumes = [baseline.volume(t) for t in key_frames]
            pictures |= orthoslices(baseline.name, key_volumes, data)
            stride = max(1, math.ceil(baseline.seconds * len(data.progress) / self.seconds))
            scores = self._score(baseline.volume(t) if t % stride == 0 else None for t in range(len(data.progress)))
            metrics["methods"][baseline.name] = scores | {"settings": baseline.settings}
            for key in HELD_OUT:
                if (error := getattr(baseline, key)) is not None:
                    metrics[key][baseline.name] = error
        if self.truth is not None:
            pictures |= orthoslices("truth", [self.truth[t] for t in key_frames], data)
        metrics |= {
            "steps": trainer.global_step,
            "fit_seconds": module.schedule.elapsed(),
            "seconds": time.monotonic() - self.began,
            "parameters": sum(p.numel() for p in module.parameters()),
            "data_range": None if self.truth is None else float(self.truth.max()),
            "times_s": data.series.times_s.tolist(),
            "pixel_nm": data.series.pixel_nm,
        }
        np.savez(self.run / ORTHOSLICES, frames=np.array(key_frames), **pictures)
        add_metrics(self.run, metrics)
        if trainer.logger is not None:
            log_frames(trainer.logger, metrics["methods"])
            log_comparison(trainer.logger, metrics)

    def _score(self, volumes: Iterable[np.ndarray | None]) -> dict[str, list[float | None]]:
        """PSNR and SSIM of each frame; nothing without truth."""
        if self.truth is None:
            return {}
        scores: dict[str, list[float | None]] = {"psnr": [], "ssim": []}
        data_range = float(self.truth.max())
        for volume, truth in zip(volumes, self.truth, strict=True):
            scores["psnr"].append(None if volume is None else psnr(volume, truth, data_range))
            scores["ssim"].append(None if volume is None else none_if_nan(ssim(volume, truth, data_range)))
        return scores


def _without_noise(module: DIP4D, data: TiltRows) -> float:
    """`error_without_noise` of the images kept aside as a whole; NaN if none shows what another shows."""
    images = data.unseen_images
    if not images:
        return math.nan
    predicted, measured = (v.numpy() for v in module.projected(data, images))
    return error_without_noise(predicted, measured, data.series.views[images])


class Trust(L.Callback):
    """Adds to metrics.json what tells without truth how far to trust the result, and warns of images that do not fit.

    The residual of each image, relative to the rms of all; the total mass of the images and of the volumes against
    time. excluded: images left out before; images are named as `data.exclude` counts them.
    """

    def __init__(self, run: Path, excluded: Sequence[int] = ()) -> None:
        self.run, self.excluded = run, sorted(set(excluded))

    def on_fit_end(self, trainer: L.Trainer, module: DIP4D) -> None:
        if not trainer.is_global_zero:
            return
        data: TiltRows = trainer.datamodule
        frames = len(data.progress)
        numbers = np.setdiff1d(np.arange(frames + len(self.excluded)), self.excluded)
        predicted, measured = (v.numpy() for v in module.projected(data, range(frames)))
        residuals = residual_per_image(predicted, measured)
        suspect = numbers[suspects(residuals, data.unseen_images)].tolist()
        masses = masses_of_images(data.series)
        trend = mass_trend(masses, data.series.times_s)
        volumes = masses_of_volumes(v.numpy() for v in module.volumes(data, data.progress))
        mass = {"images": masses.tolist(), "volumes": volumes.tolist()}
        mass |= {"slope": none_if_nan(trend.slope), "scatter": none_if_nan(trend.scatter)}
        found = {"images": numbers.tolist(), "unseen_images": numbers[data.unseen_images].tolist()}
        found |= {"residual_per_image": residuals.tolist(), "suspect_images": suspect, "mass": mass}
        add_metrics(self.run, found)
        if suspect:
            exclude = ",".join(map(str, sorted({*self.excluded, *suspect})))
            print(
                f"warning: the reconstruction explains {_named(suspect)} worse than the others; look at "
                f"{'it' if len(suspect) == 1 else 'them'}, and leave out what is bad with data.exclude=[{exclude}]",
                flush=True,
            )


def _named(images: Sequence[int]) -> str:
    return f"image{'s' if len(images) > 1 else ''} {', '.join(map(str, images))}"


def densest_slice(images: np.ndarray) -> int:
    """The z with the most intensity in images (t, z, s)."""
    return int(images.sum((0, 2)).argmax())


def orthoslices(name: str, volumes: Sequence[np.ndarray | Tensor], data: TiltRows) -> dict[str, np.ndarray]:
    """The (y, x) slice through the densest z and the (z, x) slice through the middle, of some volumes."""
    z, y = densest_slice(data.series.images), data.series.shape[2] // 2
    return {
        f"{name}_yx": np.stack([v[z] for v in volumes]),
        f"{name}_zx": np.stack([v[:, y] for v in volumes]),
    }


def none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value
