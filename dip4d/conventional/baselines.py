"""Conventional reconstruction of the same tilt series, at its best: what a dynamic one has to beat.

Every algorithm of `dip4d.conventional.methods` (SIRT, FBP, EM and TV), each in three scopes:

- `_whole`: one static volume from all images, what one has today.
- `_window`: for each frame, the images around it.
- `_frozen`: for each frame, a full series of as many images of the specimen frozen in that state, with the same
  noise: "conventional tomography", which the experiment cannot have. Needs the truth.

The number of iterations, the width of the window and the weight are those that score best: against the truth where
there is one, else on validation rows. Scores use all rows; the validation error uses what the network sees. Test images
are used for nothing but the error of predicting them.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from dip4d.conventional.algorithms import in_slabs
from dip4d.conventional.methods import METHODS, Algorithm
from dip4d.conventional.series import SeriesStatistics, statistics_of
from dip4d.indices import evenly, window
from dip4d.measures.consistency import error_without_noise
from dip4d.measures.image_quality import psnr_from_mse
from dip4d.projector import Geometry, Projector
from dip4d.simulation.schemes import incremental
from dip4d.simulation.simulate import add_noise
from dip4d.tilt_series import TiltSeries

SCORED_ITERATIONS = 5  # iterations between two looks at the score
LOOKS = 10  # frames that choose the settings
SLICES = 32  # slices across the tilt axis that choose them; each slice is a reconstruction of its own
SLAB = 64  # slices reconstructed at a time
TV_WEIGHT_RANGE = 32.0  # the largest weight of a regularisation that is tried, and one over the smallest
WEIGHTS_TRIED = 5  # about so many, where there is a weight: the time for each is shared out before

Problem = tuple[Projector, Tensor, Tensor | None]  # A, rows y (B, n, S), row_mask (B, n)


@dataclass
class Choice:
    """An algorithm at the settings that scored best; called with a problem it reconstructs it, (B, Y, X).

    weight: of its regularisation, times the noise times the root of the number of images.
    """

    score: float
    weight: float
    settings: dict[str, float]
    steps: Callable[..., Iterator[Tensor]]
    iterations: int

    def __call__(self, A: Projector, y: Tensor, row_mask: Tensor | None = None) -> Tensor:
        def run(y: Tensor, row_mask: Tensor | None) -> Tensor:
            return next(islice(self.steps(A, y, row_mask=row_mask), self.iterations - 1, None))

        return in_slabs(run, y, slab=SLAB, row_mask=row_mask)


@dataclass
class Baseline:
    """A conventional reconstruction.

    name: one of `METHODS`.
    volume: ``volume(t)`` makes its volume (z, y, x) at frame t, on the CPU.
    settings: what was found best, for the record.
    seconds: what one frame takes.
    validation_error: relative error on the validation rows; None if there are none.
    test_error: relative error on the test images; None if there are none.
    test_error_without_noise: on these, `dip4d.measures.consistency.error_without_noise`; None if it is not defined.
    """

    name: str
    volume: Callable[[int], np.ndarray]
    settings: dict[str, float]
    seconds: float
    validation_error: float | None = None
    test_error: float | None = None
    test_error_without_noise: float | None = None


class Conventional:
    """Conventional reconstructions of one tilt series.

    series: images (t, z, s).
    validation_rows: (Z, T), True for rows kept aside.
    test_rows: (Z, T), True for all rows of the test images; none if None.
    truth: (t, z, y, x), or None.
    iterations: the most to try.
    windows: the widths to try, images.
    peak_counts: counts at the brightest pixel of the series that a frozen frame is reconstructed from, 0 for no noise.
    seed: of that noise.
    device: where it is reconstructed.
    seconds: about how long the choice of the settings of one method may take, and its validation error again; what is
        best by then is taken.
    statistics: of the series less its test images; worked out here if None.
    """

    def __init__(
        self,
        series: TiltSeries,
        validation_rows: Tensor,
        *,
        test_rows: Tensor | None = None,
        truth: np.ndarray | None = None,
        iterations: int,
        windows: Sequence[int],
        peak_counts: float = 0.0,
        seed: int = 0,
        device: torch.device | str = "cpu",
        seconds: float = math.inf,
        statistics: SeriesStatistics | None = None,
    ) -> None:
        self.seconds = seconds
        self.frames, self.n_z, self.bins = series.shape
        self.rows = torch.from_numpy(series.images).permute(1, 0, 2).contiguous().to(device)  # (Z, T, S)
        self.angles, self.views = torch.from_numpy(np.deg2rad(series.angles_deg)).to(device), series.views
        shown = torch.ones_like(validation_rows) if series.shown is None else torch.from_numpy(series.shown.T.copy())
        shown = shown.to(device)
        self.validation_rows = validation_rows.to(device) & shown
        self.test_rows = torch.zeros_like(self.validation_rows) if test_rows is None else test_rows.to(device)
        self.test_images = self.test_rows.all(0).nonzero()[:, 0].tolist()
        self.all_masks = (~self.test_rows & shown).float()  # (Z, T), 1 for rows that a score may use, and
        self.fit_masks = self.all_masks * ~self.validation_rows  # those that the network sees
        self.statistics = statistics or statistics_of(series.without_images(self.test_images))
        self.truth = truth
        self.data_range = math.nan if truth is None else float(truth.max())
        self.max_angle = float(np.abs(series.angles_deg).max())
        self.iterations, self.peak_counts, self.seed, self.device = iterations, peak_counts, seed, device
        self.windows = sorted({min(w, self.frames) for w in windows})
        self.sample = np.array(evenly(self.n_z, SLICES))
        looks = LOOKS if truth is not None else LOOKS // 2  # validation rows call for many more iterations
        self.looks = evenly(self.frames, looks)

    def baseline(self, name: str) -> Baseline:
        """One of METHODS, at its best settings."""
        algorithm, scope = METHODS[name]
        return {"whole": self._whole, "window": self._window, "frozen": self._frozen}[scope.name](name, algorithm)

    def _whole(self, name: str, algorithm: Algorithm) -> Baseline:
        A = self._operator(self.angles)
        mask = (self.fit_masks if self.truth is None else self.all_masks)[self.sample]
        frames = range(self.frames) if self.truth is None else self.looks
        choice = self._choose(algorithm, [(A, self.rows[self.sample], mask)], frames=[frames])
        fitted = choice(A, self.rows, self.fit_masks)
        errors = self._errors(lambda t: fitted)
        began = time.monotonic()
        volume = choice(A, self.rows, self.all_masks).cpu().numpy()
        seconds = (time.monotonic() - began) / self.frames
        return Baseline(name, lambda t: volume, choice.settings, seconds, *errors)

    def _window(self, name: str, algorithm: Algorithm) -> Baseline:
        frames, seconds = [[t] for t in self.looks], self.seconds / (len(self.windows) + _runs(algorithm) - 1)

        def problems(width: int) -> list[Problem]:
            around = [window(t, self.frames, width=width) for t in self.looks]
            masks = self.fit_masks if self.truth is None else self.all_masks
            part = lambda v, a: v[self.sample][:, a].contiguous()
            return [(self._operator(self.angles[a]), part(self.rows, a), part(masks, a)) for a in around]

        widths = self._track(self.windows, f"{name}, choosing the window")
        tried = lambda width: partial(self._tried, algorithm, problems(width), frames=frames, seconds=seconds)
        choices = [(width, tried(width)(weight=1.0)) for width in widths]
        width, choice = max(choices, key=lambda c: c[1].score)
        if algorithm.tuned_weight:
            choice = _climbed(choice, tried(width))

        def volume(t: int, masks: Tensor) -> Tensor:
            around = window(t, self.frames, width=width)
            y = self.rows[:, around].contiguous()
            return choice(self._operator(self.angles[around]), y, masks[:, around])

        errors = self._errors(lambda t: volume(t, self.fit_masks))
        began = time.monotonic()
        volume(0, self.all_masks)
        seconds, settings = time.monotonic() - began, {"window": width} | choice.settings
        return Baseline(name, lambda t: volume(t, self.all_masks).cpu().numpy(), settings, seconds, *errors)

    def _frozen(self, name: str, algorithm: Algorithm) -> Baseline:
        truth = self.truth
        if truth is None:
            raise ValueError(f"{name} needs the truth")
        angles = torch.from_numpy(np.deg2rad(incremental(self.frames, self.max_angle))).to(self.device)
        A = self._operator(angles)

        def series(t: int) -> Tensor:
            rows = A(torch.from_numpy(truth[t]).to(self.device))
            images = rows.transpose(0, 1).cpu().numpy()
            peak = self.statistics.peak_intensity
            noisy = add_noise(images, self.peak_counts, seed=self.seed + 1 + t, peak_intensity=peak)
            return torch.from_numpy(noisy).transpose(0, 1).contiguous().to(self.device)

        problems = [(A, series(t)[self.sample], None) for t in self.looks]
        choice = self._choose(algorithm, problems, frames=[[t] for t in self.looks])
        volume = lambda t: choice(A, series(t)).cpu().numpy()
        began = time.monotonic()
        volume(0)
        return Baseline(name, volume, choice.settings, time.monotonic() - began)

    def _operator(self, angles: Tensor) -> Projector:
        return Projector(Geometry((self.bins, self.bins), self.bins, angles))

    def _choose(self, algorithm: Algorithm, problems: Sequence[Problem], *, frames: Sequence[Sequence[int]]) -> Choice:
        """The best settings of an algorithm: those whose reconstructions score best at the frames of each problem."""
        tried = partial(self._tried, algorithm, problems, frames=frames, seconds=self.seconds / _runs(algorithm))
        return _climbed(tried(weight=1.0), tried) if algorithm.tuned_weight else tried(weight=1.0)

    def _tried(
        self,
        algorithm: Algorithm,
        problems: Sequence[Problem],
        *,
        frames: Sequence[Sequence[int]],
        seconds: float,
        weight: float,
    ) -> Choice:
        """An algorithm at its best number of iterations, counted for all problems together, until the peak lies well
        behind or the time is up.
        """
        settings, steps = self._variant(algorithm, weight, y=problems[0][1])
        end = time.monotonic() + seconds
        runs = [steps(A, y, row_mask=mask) for A, y, mask in problems]
        best = (-np.inf, 0)
        for iteration in range(1, self.iterations + 1):
            volumes = [next(run) for run in runs]
            if iteration % SCORED_ITERATIONS == 0 or iteration in (1, self.iterations):
                best = max(best, (self._score(volumes, frames), iteration))
                if iteration > best[1] + max(4 * SCORED_ITERATIONS, best[1] / 2) or time.monotonic() > end:
                    break
        return Choice(best[0], weight, {**settings, "iterations": best[1]}, steps, best[1])

    def _variant(
        self, algorithm: Algorithm, weight: float, *, y: Tensor
    ) -> tuple[dict[str, float], Callable[..., Iterator[Tensor]]]:
        """Settings besides the number of iterations, and the steps with them, for rows like y."""
        if not algorithm.tuned_weight:
            return {}, algorithm.steps
        weight *= self.statistics.noise * y.shape[1] ** 0.5
        return {"weight": weight}, partial(algorithm.steps, weight=weight)

    def _score(self, volumes: Sequence[Tensor], frames: Sequence[Sequence[int]]) -> float:
        """How good volumes (at the positions `sample`) are at their frames: mean PSNR, or minus the misfit."""
        pairs, truth = list(zip(volumes, frames, strict=True)), self.truth
        if truth is None:
            return -sum(self._squares(x, list(ts), positions=self.sample) for x, ts in pairs)
        true = lambda t: torch.from_numpy(truth[t][self.sample]).to(self.device)
        mse = [float((x - true(t)).square().mean()) for x, ts in pairs for t in ts]
        return float(np.mean([psnr_from_mse(m, self.data_range) for m in mse]))

    def _errors(self, volume: Callable[[int], Tensor]) -> tuple[float | None, float | None, float | None]:
        """Relative errors of the validation rows, of the test images, and of these without their noise, given the
        volume at each frame, which must be made without them; None if there are none.

        Of all images, and of all rows, or, where the time does not suffice, of those of every second frame, every
        third ...
        """
        frames = [t for t in range(self.frames) if self.validation_rows[:, t].any()]
        if frames:
            began = time.monotonic()
            volume(frames[0])
            stride = max(1, math.ceil((time.monotonic() - began) * len(frames) / self.seconds))
            frames = frames[::stride]
        return self._error_of_rows(volume, frames), *self._errors_of_images(volume)

    def _error_of_rows(self, volume: Callable[[int], Tensor], frames: list[int]) -> float | None:
        """Relative error of the validation rows of some frames; None if there are none."""
        norm = float(self.rows[:, frames][self.validation_rows[:, frames]].double().square().sum())
        squares = sum(self._squares(volume(t), [t]) for t in self._track(frames, "validation error"))
        return (squares / norm) ** 0.5 if norm > 0 else None

    def _errors_of_images(self, volume: Callable[[int], Tensor]) -> tuple[float | None, float | None]:
        """Relative error of the test images, with their noise and without it; None if there are none."""
        frames = self.test_images
        if not frames:
            return None, None
        predicted = [self._operator(self.angles[[t]])(volume(t))[:, 0] for t in self._track(frames, "test images")]
        predicted, measured = torch.stack(predicted).cpu(), self.rows[:, frames].transpose(0, 1).cpu()
        free = error_without_noise(predicted.numpy(), measured.numpy(), views=self.views[frames])
        norm = float(measured.double().norm())
        error = float((predicted - measured).double().norm()) / norm if norm > 0 else None
        return error, None if math.isnan(free) else free

    def _squares(self, x: Tensor, frames: list[int], *, positions: np.ndarray | slice = slice(None)) -> float:
        """The sum of squared errors on the validation rows of some frames at some positions z."""
        projected = self._operator(self.angles[frames])(x)
        error = (projected - self.rows[positions][:, frames])[self.validation_rows[positions][:, frames]]
        return float(error.double().square().sum())

    def _track(self, items: Sequence[int], description: str) -> Iterable[int]:
        return track(items, description, transient=True, disable=not sys.stdout.isatty())


def _climbed(choice: Choice, tried: Callable[..., Choice]) -> Choice:
    """From a choice on, the weight of its regularisation doubled, or else halved, as long as that scores better."""
    start = choice
    for factor in (2.0, 0.5):
        while 1 / TV_WEIGHT_RANGE <= choice.weight * factor <= TV_WEIGHT_RANGE:
            other = tried(weight=choice.weight * factor)
            if other.score <= choice.score:
                break
            choice = other
        if choice is not start:
            break
    return choice


def _runs(algorithm: Algorithm) -> int:
    """About how many weights of the regularisation are tried."""
    return WEIGHTS_TRIED if algorithm.tuned_weight else 1
