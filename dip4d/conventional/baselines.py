"""Conventional reconstruction of the same tilt series, at its best: what a dynamic one has to beat.

Every algorithm of `dip4d.conventional.methods` (SIRT, FBP, EM and TV), each in three scopes, and space-time TV, `sttv`,
of all frames at once:

- `_whole`: one static volume from all images, what one has today.
- `_window`: for each frame, the images around it.
- `_frozen`: for each frame, a full series of as many images of the specimen frozen in that state, with the same
  noise: "conventional tomography", which the experiment cannot have. Needs the truth.

The number of iterations, the width of the window and the weight are those that score best: against the truth where
there is one, else on validation rows. TV weighs each pixel by its noise, as the fit does. Scores use all rows; the
validation error uses what the network sees. Test images are used for nothing but the error of predicting them.
"""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TypeVar, cast

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from dip4d.conventional.methods import METHODS, Algorithm
from dip4d.conventional.search import Choice, Problem, Trial, climbed, climbed_together, on_device, race, runs_of
from dip4d.conventional.series import SeriesStatistics, statistics_of
from dip4d.conventional.spacetime import frame_rows
from dip4d.indices import evenly, window
from dip4d.measures.consistency import error_without_noise, none_if_nan, relative_error
from dip4d.measures.image_quality import psnr_from_mse
from dip4d.measures.noise import NoiseModel, noise_model
from dip4d.measures.weights import slope_of_variance, weights_of_measured
from dip4d.projector import Geometry, Projector
from dip4d.simulation.schemes import incremental
from dip4d.simulation.simulate import FrozenImages
from dip4d.tilt_series import TiltSeries

Result = TypeVar("Result")

FRAMES = 11  # frames that choose the settings; these are among the frames that are scored, see `Comparison`
SLICES = 32  # slices across the tilt axis that choose them; each slice is a reconstruction of its own
COARSE_FRAMES, COARSE_SLICES = 4, 8  # of these, on which all windows are tried,
FINALISTS = 2  # of which so many are tried on all
JOINT_SLICES = 8  # neighbours, that choose the settings of what reconstructs all frames at once
JOINT_WEIGHT, JOINT_TIME_WEIGHT = 0.5, 2.0  # of total variation in space and time, times the noise: the first tried
JOINT_TRIALS = 12  # of the weights, about


@dataclass
class Baseline:
    """A conventional reconstruction.

    name: one of `METHODS`.
    volume: ``volume(t)`` makes its volume (z, y, x) at frame t, on the CPU.
    settings: what was found best, for the record.
    seconds: what one frame takes, about.
    search_cut_short: whether the time for the search was up before it had seen the best: better settings may exist.
    validation_error: relative error on the validation rows; None if there are none.
    test_error: relative error on the test images; None if there are none.
    test_error_without_noise: on these, `dip4d.measures.consistency.error_without_noise`; None if it is not defined.
    """

    name: str
    volume: Callable[[int], np.ndarray]
    settings: dict[str, float]
    seconds: float
    search_cut_short: bool = False
    validation_error: float | None = None
    test_error: float | None = None
    test_error_without_noise: float | None = None


class Conventional:
    """Conventional reconstructions of one tilt series.

    series: images (t, z, s).
    validation_rows: (Z, T), True for rows kept aside.
    test_rows: (Z, T), True for all rows of the test images; none if None.
    truth: (t, z, y, x), or None.
    frozen: perfect images of the specimen, of which the voxels of the truth are averages; projections of these voxels
        if None, which the same operator then reconstructs.
    iterations: the most to try.
    windows: the widths to try, images.
    peak_counts: at the brightest pixel of the images without noise, of the series that a frozen frame is reconstructed
        from, 0 for no noise; None for the noise of this series, as what its images leave of the truth tells it.
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
        frozen: FrozenImages | None = None,
        iterations: int,
        windows: Sequence[int],
        peak_counts: float | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        seconds: float = math.inf,
        statistics: SeriesStatistics | None = None,
    ) -> None:
        self.seconds = seconds
        self.frames, self.n_z, self.bins = series.shape
        self.slice_shape, self._field = series.slice_shape, series.field
        self.rows = torch.from_numpy(series.images).permute(1, 0, 2).contiguous().to(device)  # (Z, T, S)
        self.device, self.angles_deg, self.views = device, series.angles_deg, series.views
        self.angles = self._radians(series.angles_deg)
        shown = torch.ones_like(validation_rows) if series.shown is None else torch.from_numpy(series.shown.T.copy())
        shown = shown.to(device)
        self.validation_rows = validation_rows.to(device) & shown
        self.test_rows = torch.zeros_like(self.validation_rows) if test_rows is None else test_rows.to(device)
        self.test_images = self.test_rows.all(0).nonzero()[:, 0].tolist()
        self.all_masks = (~self.test_rows & shown).float()  # (Z, T), 1 for rows that a score may use, and
        self.fit_masks = self.all_masks * ~self.validation_rows  # those that the network sees
        self.statistics = statistics or statistics_of(series.without_images(self.test_images))
        self.truth, self.frozen = truth, frozen or self._projected_truth
        self.data_range = math.nan if truth is None else float(truth.max())
        self.iterations, self.peak_counts, self.seed = iterations, peak_counts, seed
        self.windows = sorted({min(w, self.frames) for w in windows})
        self.sample = np.array(evenly(self.n_z, SLICES))
        # validation rows call for many more iterations
        self.looks = evenly(self.frames, FRAMES if truth is not None else FRAMES // 2)
        self._kept_truth: dict[tuple[int, bytes], Tensor] = {}  # by frame and positions

    def baseline(self, name: str) -> Baseline:
        """One of METHODS, at its best settings."""
        algorithm, scope = METHODS[name]
        of_scope = {"whole": self._whole, "window": self._window, "frozen": self._frozen, "joint": self._joint}
        return of_scope[scope.name](name, algorithm)

    def _whole(self, name: str, algorithm: Algorithm) -> Baseline:
        A, sample = self._operator(self.angles), self.sample
        choosing, fitting, scoring = self._masks(algorithm)
        frames = range(self.frames) if self.truth is None else self.looks
        choice = self._choose(algorithm, [Problem(A, self.rows[sample], choosing[sample], sample, frames)])
        fitted = choice(A, self.rows, fitting)
        errors = self._errors(lambda t, z: fitted[z], 0.0)
        volume = self._shown(choice(A, self.rows, scoring))
        seconds = choice.seconds * self.n_z / self.frames
        return Baseline(name, lambda t: volume, choice.settings, seconds, choice.cut_short, *errors)

    def _window(self, name: str, algorithm: Algorithm) -> Baseline:
        choosing, fitting, scoring = self._masks(algorithm)
        width, choice = self._best_window(algorithm, choosing)

        def slices(t: int, masks: Tensor, *, z: slice | Tensor = slice(None)) -> Tensor:
            around = window(t, self.frames, width=width)
            y = self.rows[z][:, around].contiguous()
            return choice(self._operator(self.angles[around]), y, masks[z][:, around])

        errors = self._errors(lambda t, z: slices(t, fitting, z=z), choice.seconds)
        volume, settings = lambda t: self._shown(slices(t, scoring)), {"window": width} | choice.settings
        return Baseline(name, volume, settings, choice.seconds * self.n_z, choice.cut_short, *errors)

    def _best_window(self, algorithm: Algorithm, masks: Tensor) -> tuple[int, Choice]:
        """All windows side by side on a few slices of a few frames, the best of them on all that choose settings.

        Without truth all on all: of a few slices there are not enough validation rows.
        """
        seconds = self.seconds / (2 + algorithm.tuned_weight)

        def problems(width: int, frames: Sequence[int], *, z: np.ndarray) -> list[Problem]:
            around = [window(t, self.frames, width=width) for t in frames]
            part = lambda v, a: v[z][:, a].contiguous()
            return [
                Problem(self._operator(self.angles[a]), part(self.rows, a), part(masks, a), z, [t])
                for a, t in zip(around, frames, strict=True)
            ]

        def raced(widths: Iterable[int], frames: Sequence[int], *, z: np.ndarray) -> dict[int, Trial]:
            trials = {width: self._trial(algorithm, problems(width, frames, z=z)) for width in widths}
            race(list(trials.values()), seconds)
            return trials

        few = [self.looks[i] for i in evenly(len(self.looks), COARSE_FRAMES)]
        some = self.sample[evenly(len(self.sample), COARSE_SLICES)]
        coarse = {} if self.truth is None else raced(self.windows, few, z=some)
        finalists = sorted(coarse, key=lambda width: coarse[width].best)[-FINALISTS:]
        fine = raced(finalists or self.windows, self.looks, z=self.sample)
        width = max(fine, key=lambda width: fine[width].best)
        cut_short = not all(trial.over for trial in (*coarse.values(), *fine.values()))
        choice = replace(fine[width].choice(), cut_short=cut_short)
        if algorithm.tuned_weight:
            tried = partial(self._tried, algorithm, problems(width, self.looks, z=self.sample))
            choice = climbed(choice, partial(tried, seconds=seconds / runs_of(algorithm)))
        return width, choice

    def frozen_series(self, t: int) -> tuple[Projector, Tensor]:
        """Operator and rows (Z, n, S) of a full series of the specimen frozen at frame t. Raises ValueError without
        truth.
        """
        if self.truth is None:
            raise ValueError("a frozen specimen needs the truth")
        angles_deg = incremental(self.frames, float(np.abs(self.angles_deg).max()))
        noisy = self.frozen_noise.added_to(self.frozen(t, angles_deg), seed=self.seed + 1 + t)
        rows = torch.from_numpy(noisy).transpose(0, 1).contiguous().to(self.device)
        return self._operator(self._radians(angles_deg)), rows

    def _projected_truth(self, t: int, angles_deg: np.ndarray) -> np.ndarray:
        """`frozen`, of the voxels of the truth."""
        A = Projector(Geometry((self.bins, self.bins), self.bins, self._radians(angles_deg)))
        images = A(torch.from_numpy(cast(np.ndarray, self.truth)[t]).to(self.device))
        return images.transpose(0, 1).cpu().numpy()

    @cached_property
    def frozen_noise(self) -> NoiseModel:
        """Of the images of a frozen frame. Needs the truth."""
        image = lambda t: self.frozen(t, self.angles_deg[[t]])[0]
        clean = np.stack(list(self.each(image, range(self.frames))))
        if self.peak_counts is None:
            return noise_model(self.rows.transpose(0, 1).cpu().numpy(), clean, views=self.views)
        return NoiseModel(float(clean.max()) / self.peak_counts if self.peak_counts else 0.0, 0.0)

    def _frozen(self, name: str, algorithm: Algorithm) -> Baseline:

        def weighted(t: int) -> tuple[Projector, Tensor, Tensor | None]:
            A, y = self.frozen_series(t)
            return A, y, self._weights_of_frozen(y) if algorithm.weighs_pixels else None

        taken, z = dict(zip(self.looks, self.each(weighted, self.looks), strict=True)), self.sample
        problems = [Problem(A, y[z], None if w is None else w[z], z, [t]) for t, (A, y, w) in taken.items()]
        choice = self._choose(algorithm, problems)
        volume = lambda t: self._shown(choice(*(taken[t] if t in taken else weighted(t))))
        return Baseline(name, volume, choice.settings, choice.seconds * self.n_z, choice.cut_short)

    def _joint(self, name: str, algorithm: Algorithm) -> Baseline:
        """All frames at once, on neighbouring slices: settings are chosen on some in the middle."""
        A, (choosing, fitting, scoring) = self._operator(self.angles), self._masks(algorithm)
        first = max(0, (self.n_z - JOINT_SLICES) // 2)
        some = np.arange(self.n_z)[first : first + JOINT_SLICES]
        frames = range(self.frames) if self.truth is None else self.looks
        problem = Problem(A, self.rows[some], choosing[some], some, frames, together=True)

        def tried(weight: float, time_weight: float) -> Choice:
            steps = {"weight": JOINT_WEIGHT * weight, "time_weight": JOINT_TIME_WEIGHT * time_weight}
            settings = {name: factor * self.statistics.noise for name, factor in steps.items()}
            trial = Trial(
                partial(algorithm.steps, **settings), [problem], score=self._score, weight=1.0, settings=settings,
                iterations=self.iterations,
            )  # fmt: skip
            race([trial], self.seconds / JOINT_TRIALS)
            return trial.choice()

        choice = climbed_together(tried, ("weight", "time_weight"))
        fitted = choice.together(A, self.rows, row_mask=fitting)
        errors = self._errors(lambda t, z: fitted[z, t], 0.0)
        movie = self._field(choice.together(A, self.rows, row_mask=scoring)).cpu()
        seconds = choice.seconds * self.n_z / self.frames
        return Baseline(name, lambda t: movie[:, t].numpy(), choice.settings, seconds, choice.cut_short, *errors)

    def _masks(self, algorithm: Algorithm) -> tuple[Tensor, Tensor, Tensor]:
        """Row masks (Z, T), or the weights of pixels (Z, T, S), as an algorithm takes them: of the rows that choose its
        settings, those that the network sees, and those that a score may use.
        """
        fitting, scoring = self.fit_masks, self.all_masks
        if algorithm.weighs_pixels:
            s = self.statistics
            slope, y = slope_of_variance(s.counting, s.readout), self.rows / s.peak_intensity
            fitting, scoring = (weights_of_measured(y, masks, slope=slope) for masks in (fitting, scoring))
        return (fitting if self.truth is None else scoring), fitting, scoring

    def _weights_of_frozen(self, y: Tensor) -> Tensor:
        """The weights of pixels of a frozen frame, of its rows y (Z, n, S)."""
        peak, all_rows = float(y.max()), torch.ones_like(y[..., 0])
        return weights_of_measured(y / peak, all_rows, slope=slope_of_variance(*self.frozen_noise.relative_to(peak)))

    def _radians(self, angles_deg: np.ndarray) -> Tensor:
        return torch.from_numpy(np.deg2rad(angles_deg)).to(self.device)

    def _operator(self, angles: Tensor) -> Projector:
        return Projector(Geometry(self.slice_shape, self.bins, angles))

    def _shown(self, slices: Tensor) -> np.ndarray:
        """What the images show of reconstructed slices (Z, Y, X), on the CPU."""
        return self._field(slices).cpu().numpy()

    def _choose(self, algorithm: Algorithm, problems: Sequence[Problem]) -> Choice:
        """The best settings of an algorithm: those whose reconstructions score best at the frames of each problem."""
        tried = partial(self._tried, algorithm, problems, seconds=self.seconds / runs_of(algorithm))
        return climbed(tried(weight=1.0), tried) if algorithm.tuned_weight else tried(weight=1.0)

    def _tried(self, algorithm: Algorithm, problems: Sequence[Problem], *, seconds: float, weight: float) -> Choice:
        """An algorithm at its best number of iterations, the same for all problems."""
        trial = self._trial(algorithm, problems, weight=weight)
        race([trial], seconds)
        return trial.choice()

    def _trial(self, algorithm: Algorithm, problems: Sequence[Problem], *, weight: float = 1.0) -> Trial:
        settings, steps = {}, algorithm.steps
        if algorithm.tuned_weight:
            settings["weight"] = weight * self.statistics.noise * problems[0].y.shape[1] ** 0.5
            steps = partial(algorithm.steps, weight=settings["weight"])
        return Trial(steps, problems, score=self._score, weight=weight, settings=settings, iterations=self.iterations)

    def _score(self, volumes: Sequence[Tensor], problems: Sequence[Problem]) -> float:
        """How good the slices of problems are at their frames: mean PSNR of these, or minus the misfit."""
        if self.truth is None:
            pairs = zip(volumes, problems, strict=True)
            return -sum(self._squares(x, p.frames, positions=p.positions) for x, p in pairs)
        squares, voxels = defaultdict(float), defaultdict(int)
        for x, problem in zip(volumes, problems, strict=True):
            for t in problem.frames:
                frame = self._field(x if x.ndim == 3 else x[:, t])
                squares[t] += float((frame - self._true(t, problem.positions)).square().sum())
                voxels[t] += frame.numel()
        return float(np.mean([psnr_from_mse(squares[t] / voxels[t], self.data_range) for t in squares]))

    def _true(self, t: int, positions: np.ndarray) -> Tensor:
        """The truth (z, y, x) at a frame and some positions, kept on the device: every look at a score needs it."""
        key = t, positions.tobytes()
        if key not in self._kept_truth:
            self._kept_truth[key] = torch.from_numpy(cast(np.ndarray, self.truth)[t][positions]).to(self.device)
        return self._kept_truth[key]

    def _errors(
        self, slices: Callable[[int, Tensor], Tensor], seconds: float
    ) -> tuple[float | None, float | None, float | None]:
        """Relative errors of the validation rows, of the test images, and of these without their noise, given the
        slices at a frame and some positions z, which must be made without them; None if there are none.

        seconds: that a slice takes. Of all images, and of all rows, or, where the time does not suffice, of those of
        every second frame, every third ...
        """
        frames = [t for t in range(self.frames) if self.validation_rows[:, t].any()]
        stride = max(1, math.ceil(seconds * int(self.validation_rows.sum()) / self.seconds))
        return self._error_of_rows(slices, frames[::stride]), *self._errors_of_images(slices)

    def _error_of_rows(self, slices: Callable[[int, Tensor], Tensor], frames: list[int]) -> float | None:
        """Relative error of the validation rows of some frames; None if there are none."""

        def squares(t: int) -> float:
            z = self.validation_rows[:, t].nonzero()[:, 0]
            return self._squares(slices(t, z), [t], positions=z)

        norm = float(self.rows[:, frames][self.validation_rows[:, frames]].double().square().sum())
        total = sum(self.each(squares, self._track(frames, "validation error")))
        return (total / norm) ** 0.5 if norm > 0 else None

    def _errors_of_images(self, slices: Callable[[int, Tensor], Tensor]) -> tuple[float | None, float | None]:
        """Relative error of the test images, with their noise and without it; None if there are none."""
        frames = self.test_images
        if not frames:
            return None, None
        z = torch.arange(self.n_z, device=self.rows.device)
        image = lambda t: self._operator(self.angles[[t]])(slices(t, z))[:, 0]
        predicted = torch.stack(list(self.each(image, self._track(frames, "test images")))).cpu().numpy()
        measured = self.rows[:, frames].transpose(0, 1).cpu().numpy()
        free = error_without_noise(predicted, measured, views=self.views[frames])
        return none_if_nan(relative_error(predicted, measured)), none_if_nan(free)

    def _squares(self, x: Tensor, frames: Sequence[int], *, positions: np.ndarray | Tensor) -> float:
        """The sum of squared errors on the validation rows of some frames at some positions z."""
        frames = list(frames)
        A = self._operator(self.angles[frames])
        projected = A(x) if x.ndim == 3 else frame_rows(A, x[:, frames])
        error = (projected - self.rows[positions][:, frames])[self.validation_rows[positions][:, frames]]
        return float(error.double().square().sum())

    def each(self, function: Callable[[int], Result], items: Iterable[int]) -> Iterator[Result]:
        """A function of frames, say, in parallel where threads do the work."""
        return on_device(function, items, device=self.rows.device)

    def _track(self, items: Sequence[int], description: str) -> Iterable[int]:
        return track(items, description, transient=True, disable=not sys.stdout.isatty())
