"""The Python face: a tilt series, or bare arrays, to a reconstruction that can be asked for volumes at any time.

Nothing is written unless `Reconstruction.save` is called.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from dip4d import run_folder
from dip4d.alignment.shifts import Shifts
from dip4d.config.load import changed_keys, config_of, save_config
from dip4d.config.schema import LEAST_MEMBERS, Config
from dip4d.conventional.series import SeriesStatistics, statistics_of
from dip4d.errors import InputError
from dip4d.experiment import outputs, scores
from dip4d.experiment.budget import Budget
from dip4d.experiment.inputs import Inputs, align_if_jittery, split_of, with_margin
from dip4d.experiment.plan import device_of
from dip4d.experiment.provenance import made_of
from dip4d.experiment.quiet import quiet_lightning
from dip4d.experiment.run import facts_of, shifts_of
from dip4d.experiment.several import wanted
from dip4d.io.series import write_tilt_series
from dip4d.measures.background import background_advice
from dip4d.measures.image_quality import ERRORS
from dip4d.measures.verdict import Verdict, judge
from dip4d.reconstruction.fit import Fit, check_series, fit
from dip4d.reconstruction.motion_test import find_behaviour
from dip4d.reconstruction.progress_line import ProgressLine
from dip4d.reconstruction.refits import fit_members
from dip4d.reconstruction.schedule import FitTime
from dip4d.tilt_series import TiltSeries
from dip4d.whole_file import written_beside

_log = logging.getLogger(__name__)

SERIES = "series.npz"  # in the folder of a saved reconstruction, so that its config.yaml repeats it
SECONDS_BETWEEN_LINES = 10.0  # of progress
_USED = ("network.", "train.", "trainer.", "run.seed", "data.validation_rows", "data.test_images", "data.margin_px",
         "align.automatic", "align.refine", "align.along_z", "align.tilt")  # fmt: skip


def reconstruct(
    series: TiltSeries | np.ndarray,
    angles_deg: Sequence[float] | np.ndarray | None = None,
    *,
    times_s: Sequence[float] | np.ndarray | None = None,
    pixel_nm: float | None = None,
    truth: np.ndarray | None = None,
    max_minutes: float | None = None,
    steps: int | None = None,
    progress: bool = True,
    callbacks: Sequence[L.Callback] = (),
    **keys: Any,
) -> Reconstruction:
    """Reconstructs a tilt series: one volume for every image, or for any time between.

    series: a `TiltSeries`, less its background; or its images (t, z, s), z along the tilt axis.
    angles_deg: (t,), tilt angles in degrees; with images.
    times_s: (t,), seconds, with images; 0, 1, 2, ... if None.
    pixel_nm: the size of a pixel in nm, with images; None if unknown.
    truth: (t, z, y, x), or None; for scores only, the fit does not see it.
    max_minutes: by then the fit ends, its schedule fits itself to it; None for as long as it takes.
    steps: optimizer steps; None for as many as the series needs.
    progress: show how far the fit is.
    callbacks: of Lightning's Trainer, to follow the fit; they change no weight.
    keys: of the configuration, as ``train={"tv_space": 2}``, ``network="dipster"``, ``**{"run.seed": 3}``.
    Raises InputError, naming the argument or the key, for what does not fit, before the work begins.
    """
    began = time.monotonic()
    series = _series_of(series, angles_deg, times_s=times_s, pixel_nm=pixel_nm)
    config = _config_of(keys, max_minutes=max_minutes, steps=steps)
    series = with_margin(_checked(series, truth), config)
    with quiet_lightning(), torch.random.fork_rng():
        torch.manual_seed(config.run.seed)
        budget, split = Budget.of(config), split_of(config, series)
        seconds = budget.align_seconds
        aligned, shifts = align_if_jittery(series, config.align, test_images=split.test_images, seconds=seconds)
        statistics = statistics_of(split.seen(aligned), config.network.intensity_bound, device=device_of(config))
        found = find_behaviour(aligned, split, settings=config, budget=budget.motion_test)
        config = found.settings(config)
        done = fit(
            aligned,
            split,
            settings=config,
            statistics=statistics,
            motion=found.motion,
            budget=None if max_minutes is None else FitTime(60 * max_minutes, began),
            callbacks=[*_shown(progress), *callbacks],
        )
    inputs = Inputs(aligned, truth, shifts)
    return Reconstruction(done, inputs, config=config, statistics=statistics, seconds=time.monotonic() - began)


class Reconstruction:
    """A fitted series; see `reconstruct`. Volumes are (z, y, x), y along the beam at 0 degrees, intensity per voxel.

    series: what was reconstructed, aligned if its images jumped.
    config: the settings that it was fitted with.
    """

    def __init__(
        self,
        done: Fit,
        inputs: Inputs,
        *,
        config: Config,
        statistics: SeriesStatistics,
        seconds: float,
    ) -> None:
        self.series, self.config = inputs.series, config
        self._done, self._inputs, self._statistics, self._seconds = done, inputs, statistics, seconds

    def __repr__(self) -> str:
        frames, n_z, bins = self.series.shape
        return f"<Reconstruction of {self.series.source}: {frames} volumes of {n_z} x {bins} x {bins} voxels>"

    def volume(self, t: int) -> np.ndarray:
        """The volume (z, y, x) at the time of image t, counted from 0. Raises IndexError."""
        frames = len(self.series.images)
        if not -frames <= t < frames:
            raise IndexError(f"image {t}: there are {frames}, from 0 to {frames - 1}")
        return self.at([self.series.times_s[t]])[0]

    def volumes(self) -> np.ndarray:
        """The volumes (t, z, y, x) of all images, in memory; `frames` yields them one at a time."""
        return np.stack(list(self.frames()))

    def at(self, times_s: Sequence[float] | np.ndarray) -> np.ndarray:
        """The volumes (n, z, y, x) at any n times in seconds within the series. Raises InputError."""
        return np.stack(list(self.frames(np.atleast_1d(times_s))))

    def frames(self, times_s: Sequence[float] | np.ndarray | None = None) -> Iterator[np.ndarray]:
        """Yields the volumes (z, y, x) one at a time, at times in seconds; those of the images if None."""
        return outputs.movie(self._done.module, self._done.data, times_s=times_s)

    @property
    def shifts(self) -> Shifts | None:
        """Where the images were found to lie: by the alignment before the fit or by `align.refine`; None if neither."""
        return shifts_of(self._done, self._inputs)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Numbers by name: steps, seconds, parameters; relative errors: validation_error, test_error,
        test_error_without_noise (None where nothing was kept aside); with a truth, of every score the mean over the
        frames and the worst frame, such as psnr_mean and psnr_worst.
        """
        errors = {k: v["dip"] for k, v in self._diagnostics.items() if k in ERRORS}
        found: dict[str, Any] = {
            "steps": self._done.steps,
            "seconds": self._seconds,
            "parameters": self._done.parameters,
            "validation_error": errors["held_out"],
            "test_error": errors["held_out_images"],
            "test_error_without_noise": errors["held_out_without_noise"],
        }
        for name, values in {} if self._inputs.truth is None else self._watched.scores.items():
            there = [v for v in values if v is not None]
            found[f"{name}_mean"] = float(np.mean(there)) if there else None
            found[f"{name}_worst"] = min(there) if there else None
        return found

    @cached_property
    def verdict(self) -> Verdict:
        """How far to trust it, from what needs no truth; without conventional methods, with which a run compares it."""
        watched = self._watched
        facts = facts_of(self._done, self._inputs, config=self.config, seconds=self._seconds)
        return judge(facts | watched.facts | self._diagnostics)

    @cached_property
    def _diagnostics(self) -> dict[str, Any]:
        return scores.diagnostics_of(self._watched.images, self._done.data)

    @cached_property
    def _watched(self) -> outputs.Watched:
        """What is learned of the whole movie, drawn for that if it has not been."""
        watched = self._unwatched()
        outputs.exhaust(watched.frames())
        return watched

    def _unwatched(self) -> outputs.Watched:
        return outputs.Watched(self._done.module, self._done.data, truth=self._inputs.truth)

    def uncertainty(self, members: int = 4, *, progress: bool = False) -> np.ndarray:
        """The standard deviation (t, z, y, x) of every voxel at the time of every image.

        members: networks whose spread it is, 3 or more; each takes a fifth of the time of the fit. progress: show it.
        """
        if members < LEAST_MEMBERS:
            raise InputError(f"members={members} must be at least {LEAST_MEMBERS}, to have a spread")
        data = self._done.data
        with quiet_lightning(), torch.random.fork_rng():
            fits = fit_members(
                self._done,
                self.config,
                members=members,
                statistics=self._statistics,
                callbacks=_shown(progress),
            )
        floor = self._diagnostics["noise_floor"]["held_out"]
        return np.stack(list(outputs.sigmas_of(self._done, fits, noise_floor=floor)(data.tau)))

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Writes a run folder, as `dip4d reconstruct` does: volumes, metrics.json, checkpoint and the series itself.

        `dip4d view`, `dip4d export` and `dip4d report` open it, and its config.yaml repeats the reconstruction. Raises
        InputError if it holds a run already and `overwrite` is not set.
        """
        run = dataclasses.replace(self.config.run, dir=str(folder), resume=False, overwrite=overwrite)
        path = run_folder.prepare(run, what="")
        with run_folder.in_use(path, run):
            self._write(path)
        return path

    def _write(self, path: Path) -> None:
        done, series = self._done, self.series
        align = dataclasses.replace(self.config.align, automatic=False)
        written = {"path": str(path / SERIES), "background": "none", "margin_px": series.margin}
        data = dataclasses.replace(self.config.data, **written)
        write_tilt_series(path / SERIES, series)
        save_config(dataclasses.replace(self.config, data=data, align=align), path / run_folder.CONFIG)
        with quiet_lightning(), written_beside(path / run_folder.CHECKPOINT) as place:
            done.trainer.save_checkpoint(place)
        watched = self._unwatched()
        outputs.write_movie(path / run_folder.VOLUMES, watched.frames(), series=series, times_s=series.times_s)
        outputs.save_motion(path, done)
        if self.shifts is not None:
            outputs.save_shifts(path, self.shifts, config=self.config)
        watched.write(path)
        facts = facts_of(done, self._inputs, config=self.config, seconds=self._seconds)
        made = made_of(self.config, series)
        run_folder.add_metrics(path, facts | {"made": made, run_folder.COMPLETE: True})


def _series_of(
    series: TiltSeries | np.ndarray,
    angles_deg: Sequence[float] | np.ndarray | None,
    *,
    times_s: Sequence[float] | np.ndarray | None,
    pixel_nm: float | None,
) -> TiltSeries:
    """The series that `reconstruct` is given, or whose parts it is given. Raises InputError."""
    if isinstance(series, TiltSeries):
        if not (angles_deg is None and times_s is None and pixel_nm is None):
            raise InputError("a TiltSeries has its own angles, times and pixel size: give images, or the series alone")
        return series
    if angles_deg is None:
        raise InputError("images need angles_deg, a tilt angle in degrees for each", argument="angles_deg")
    times = np.arange(len(series)) if times_s is None else np.asarray(times_s)
    return TiltSeries(np.asarray(series), np.asarray(angles_deg), times, pixel_nm, source="images in memory")


def _config_of(keys: dict[str, Any], **arguments: Any) -> Config:
    """The configuration of the keys and of those that are arguments of their own, of the section train."""
    section = keys.get("train", {})
    for name, value in arguments.items():
        if f"train.{name}" in keys or (isinstance(section, dict) and name in section):
            raise InputError(f"give {name} as an argument, not as a key", argument=name)
        if value is not None:
            keys = keys | {f"train.{name}": value}
    config = config_of(**keys)
    for name in changed_keys(config):
        if not name.startswith(_USED):  # what a run reads, compares and writes
            raise InputError(f"{name} does nothing here: it belongs to `dip4d reconstruct`", argument=name)
    if wanted(config):
        raise InputError("several devices are for `dip4d reconstruct`", argument="trainer.devices")
    limit = dataclasses.replace(config.train, max_minutes=arguments["max_minutes"])
    return dataclasses.replace(config, train=limit)


def _shown(progress: bool) -> list[L.Callback]:
    return [ProgressLine(print, SECONDS_BETWEEN_LINES)] if progress else []


def _checked(series: TiltSeries, truth: np.ndarray | None) -> TiltSeries:
    """The same series; raises InputError for what cannot be reconstructed, and for a truth of another shape; warns of a
    background.
    """
    if (np.diff(series.times_s) < 0).any():
        raise InputError("times_s must not decrease: sort images, angles and times by time", argument="times_s")
    check_series(series)
    if np.ptp(series.times_s) == 0:
        raise InputError(f"all times_s are {series.times_s[0]:g}: give the second of each image", argument="times_s")
    t, z, s = series.shape
    if truth is not None and np.shape(truth) != (t, z, s, s):
        raise InputError(
            f"truth has shape {np.shape(truth)}, the volumes will be (t, z, y, x) = {(t, z, s, s)}", argument="truth"
        )
    if advice := background_advice(series):
        _log.warning(advice)
    return series
