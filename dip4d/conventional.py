"""Conventional reconstruction of the same tilt series, at its best: what a dynamic one has to beat.

SIRT, FBP, EM and TV, each in three scopes:

- `_whole`: one static volume from all images, what one has today.
- `_window`: for each frame, the images around it.
- `_frozen`: for each frame, a full series of as many images of the specimen frozen in that state, with the same
  noise: "conventional tomography", which the experiment cannot have. Needs the truth.

The number of iterations, the width of the window and the weight are those that score best: against the truth where
there is one, else on held-out rows. Scores use all rows; the held-out error uses what the network sees. Images kept
aside as a whole are used for nothing but the error of predicting them.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, repeat

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from dip4d.algorithms import em_steps, evenly, fbp, in_slabs, sirt, sirt_steps, tv_steps, window
from dip4d.metrics import psnr_from_mse
from dip4d.projector import Geometry, Projector
from dip4d.quality import error_without_noise
from dip4d.simulate import add_noise, incremental
from dip4d.tilt_series import TiltSeries

EVERY = 5  # iterations between two looks at the score
LOOKS = 10  # frames that choose the settings
SLICES = 32  # slices across the tilt axis that choose them; each slice is a reconstruction of its own
SLAB = 64  # slices reconstructed at a time
BLOCK = 8  # pixels, over which noise that was smoothed averages like white noise
FEWEST_PAIRS = 5  # of images of one view, from which their differences tell the noise
MOST = 32.0  # the largest weight of a regularisation, and one over the smallest

ALGORITHMS = ("sirt", "fbp", "em", "tv")
SCOPES = ("whole", "window", "frozen")
METHODS = tuple(f"{algorithm}_{scope}" for algorithm in ALGORITHMS for scope in SCOPES)
USUAL = {True: ("sirt_whole", "sirt_window", "sirt_frozen"), False: ("sirt_whole", "sirt_window", "tv_whole")}

Problem = tuple[Projector, Tensor, Tensor | None]  # A, rows y (B, n, S), known (B, n)


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

    def __call__(self, A: Projector, y: Tensor, known: Tensor | None = None) -> Tensor:
        def run(y: Tensor, known: Tensor | None) -> Tensor:
            return next(islice(self.steps(A, y, known=known), self.iterations - 1, None))

        return in_slabs(run, y, SLAB, known)


@dataclass
class Baseline:
    """A conventional reconstruction. volume(t) makes its volume (z, y, x) at frame t, on the CPU.

    settings: what was found best, for the record. held_out, held_out_images: relative error on the held-out rows and on
    the images kept aside as a whole; held_out_without_noise: on the latter, `quality.error_without_noise`; None if not
    defined. seconds: what one frame takes.
    """

    name: str
    volume: Callable[[int], np.ndarray]
    settings: dict[str, float]
    held_out: float | None
    seconds: float
    held_out_images: float | None = None
    held_out_without_noise: float | None = None


class Conventional:
    """Conventional reconstructions of one tilt series.

    series: images (t, z, s). held_out: (Z, T), True for rows kept aside. truth: (t, z, y, x) or None. iterations: the
    most to try. windows: the widths to try. dose: counts at the brightest pixel of the series that a frozen frame is
    reconstructed from, 0 for no noise. seconds: about how long the choice of the settings of one method may take, and
    its held-out error again; what is best by then is taken. unseen: (Z, T), True for the rows of images kept aside as a
    whole; none if None.
    """

    def __init__(
        self,
        series: TiltSeries,
        held_out: Tensor,
        truth: np.ndarray | None,
        iterations: int,
        windows: Sequence[int],
        dose: float = 0.0,
        seed: int = 0,
        device: torch.device | str = "cpu",
        seconds: float = math.inf,
        unseen: Tensor | None = None,
    ) -> None:
        self.seconds = seconds
        self.frames, self.depth, self.bins = series.shape
        self.rows = torch.from_numpy(series.images).permute(1, 0, 2).contiguous().to(device)  # (Z, T, S)
        self.angles, self.views = torch.from_numpy(np.deg2rad(series.angles_deg)).to(device), series.views
        shown = torch.ones_like(held_out) if series.shown is None else torch.from_numpy(series.shown.T.copy())
        shown = shown.to(device)
        self.held_out = held_out.to(device) & shown
        self.unseen = torch.zeros_like(self.held_out) if unseen is None else unseen.to(device)
        self.seen = (~self.unseen & shown).float()
        self.known = self.seen * ~self.held_out
        seen = series.without_images(self.unseen.all(0).nonzero()[:, 0].tolist())
        self.brightest, self.noise = float(seen.images.max()), noise(seen)
        self.truth = truth
        self.data_range = None if truth is None else float(truth.max())
        self.max_angle = float(np.abs(series.angles_deg).max())
        self.iterations, self.dose, self.seed, self.device = iterations, dose, seed, device
        self.windows = sorted({min(w, self.frames) for w in windows})
        self.sample = np.array(evenly(self.depth, SLICES))
        looks = LOOKS if truth is not None else LOOKS // 2  # held-out rows call for many more iterations
        self.looks = evenly(self.frames, looks)

    def baseline(self, name: str) -> Baseline:
        """One of METHODS, at its best settings."""
        algorithm, scope = name.split("_")
        return {"whole": self._whole, "window": self._window, "frozen": self._frozen}[scope](name, algorithm)

    def _whole(self, name: str, algorithm: str) -> Baseline:
        A = self._operator(self.angles)
        known = (self.known if self.truth is None else self.seen)[self.sample]
        frames = range(self.frames) if self.truth is None else self.looks
        choice = self._choose(algorithm, [(A, self.rows[self.sample], known)], [frames], self.seconds)
        volume_of_known = choice(A, self.rows, self.known)
        errors = self._held_out_errors(lambda t: volume_of_known)
        began = time.monotonic()
        volume = choice(A, self.rows, self.seen).cpu().numpy()
        seconds = (time.monotonic() - began) / self.frames
        return Baseline(name, lambda t: volume, choice.settings, errors[0], seconds, *errors[1:])

    def _window(self, name: str, algorithm: str) -> Baseline:
        frames, seconds = [[t] for t in self.looks], self.seconds / (len(self.windows) + _runs(algorithm) - 1)

        def problems(width: int) -> list[Problem]:
            around = [window(t, self.frames, width) for t in self.looks]
            known = self.known if self.truth is None else self.seen
            return [
                (self._operator(self.angles[a]), *(v[self.sample][:, a].contiguous() for v in (self.rows, known)))
                for a in around
            ]

        widths = self._track(self.windows, f"{name}, choosing the window")
        tried = lambda width: partial(self._tried, algorithm, problems(width), frames, seconds)
        choices = [(width, tried(width)(1.0)) for width in widths]
        width, choice = max(choices, key=lambda c: c[1].score)
        if algorithm == "tv":
            choice = _climbed(choice, tried(width))

        def volume(t: int, known: Tensor) -> Tensor:
            around = window(t, self.frames, width)
            y = self.rows[:, around].contiguous()
            return choice(self._operator(self.angles[around]), y, known[:, around])

        errors = self._held_out_errors(lambda t: volume(t, self.known))
        began = time.monotonic()
        volume(0, self.seen)
        seconds, settings = time.monotonic() - began, {"window": width} | choice.settings
        return Baseline(name, lambda t: volume(t, self.seen).cpu().numpy(), settings, errors[0], seconds, *errors[1:])

    def _frozen(self, name: str, algorithm: str) -> Baseline:
        if self.truth is None:
            raise ValueError(f"{name} needs the truth")
        angles = torch.from_numpy(np.deg2rad(incremental(self.frames, self.max_angle, 1))).to(self.device)
        A = self._operator(angles)

        def series(t: int) -> Tensor:
            rows = A(torch.from_numpy(self.truth[t]).to(self.device))
            noisy = add_noise(rows.transpose(0, 1).cpu().numpy(), self.dose, self.seed + 1 + t, self.brightest)
            return torch.from_numpy(noisy).transpose(0, 1).contiguous().to(self.device)

        problems = [(A, series(t)[self.sample], None) for t in self.looks]
        choice = self._choose(algorithm, problems, [[t] for t in self.looks], self.seconds)
        volume = lambda t: choice(A, series(t)).cpu().numpy()
        began = time.monotonic()
        volume(0)
        return Baseline(name, volume, choice.settings, None, time.monotonic() - began)

    def _operator(self, angles: Tensor) -> Projector:
        return Projector(Geometry((self.bins, self.bins), self.bins, angles))

    def _choose(
        self, algorithm: str, problems: Sequence[Problem], frames: Sequence[Sequence[int]], seconds: float
    ) -> Choice:
        """The best settings of an algorithm: those whose reconstructions score best at the frames of each problem."""
        tried = partial(self._tried, algorithm, problems, frames, seconds / _runs(algorithm))
        return _climbed(tried(1.0), tried) if algorithm == "tv" else tried(1.0)

    def _tried(
        self,
        algorithm: str,
        problems: Sequence[Problem],
        frames: Sequence[Sequence[int]],
        seconds: float,
        weight: float,
    ) -> Choice:
        """An algorithm at its best number of iterations, counted for all problems together, until the peak lies well
        behind or the time is up.
        """
        settings, steps = self._variant(algorithm, weight, problems[0][1])
        end = time.monotonic() + seconds
        runs = [steps(A, y, known=known) for A, y, known in problems]
        best = (-np.inf, 0)
        for iteration in range(1, self.iterations + 1):
            volumes = [next(run) for run in runs]
            if iteration % EVERY == 0 or iteration in (1, self.iterations):
                best = max(best, (self._score(volumes, frames), iteration))
                if iteration > best[1] + max(4 * EVERY, best[1] / 2) or time.monotonic() > end:
                    break
        return Choice(best[0], weight, {**settings, "iterations": best[1]}, steps, best[1])

    def _variant(
        self, algorithm: str, weight: float, y: Tensor
    ) -> tuple[dict[str, float], Callable[..., Iterator[Tensor]]]:
        """Settings besides the number of iterations, and the steps with them, for rows like y."""
        if algorithm == "tv":
            weight *= self.noise * y.shape[1] ** 0.5
            return {"weight": weight}, partial(tv_steps, weight=weight)
        return {}, {"sirt": sirt_steps, "em": em_steps, "fbp": _fbp_steps}[algorithm]

    def _score(self, volumes: Sequence[Tensor], frames: Sequence[Sequence[int]]) -> float:
        """How good volumes (at the positions `sample`) are at their frames: mean PSNR, or held-out misfit, negative."""
        pairs = list(zip(volumes, frames, strict=True))
        if self.truth is None:
            return -sum(self._squares(x, list(ts), self.sample) for x, ts in pairs)
        mse = [float((x - self._truth_of_sample(t)).square().mean()) for x, ts in pairs for t in ts]
        return float(np.mean([psnr_from_mse(m, self.data_range) for m in mse]))

    def _truth_of_sample(self, t: int) -> Tensor:
        return torch.from_numpy(self.truth[t][self.sample]).to(self.device)

    def _held_out_errors(self, volume: Callable[[int], Tensor]) -> tuple[float | None, float | None, float | None]:
        """Relative errors of the held-out rows, of the unseen images, and of these without their noise, given the
        volume at each frame, which must be made without them; None if there are none.

        Of all images, and of all rows, or, where the time does not suffice, of those of every second frame, every
        third ...
        """
        frames = [t for t in range(self.frames) if self.held_out[:, t].any()]
        if frames:
            began = time.monotonic()
            volume(frames[0])
            stride = max(1, math.ceil((time.monotonic() - began) * len(frames) / self.seconds))
            frames = frames[::stride]
        return self._error_of_rows(volume, frames), *self._errors_of_images(volume)

    def _error_of_rows(self, volume: Callable[[int], Tensor], frames: list[int]) -> float | None:
        """Relative error of the held-out rows of some frames; None if there are none."""
        norm = float(self.rows[:, frames][self.held_out[:, frames]].double().square().sum())
        squares = sum(self._squares(volume(t), [t]) for t in self._track(frames, "held-out error"))
        return (squares / norm) ** 0.5 if norm > 0 else None

    def _errors_of_images(self, volume: Callable[[int], Tensor]) -> tuple[float | None, float | None]:
        """Relative error of the unseen images, with their noise and without it; None if there are none."""
        frames = self.unseen.all(0).nonzero()[:, 0].tolist()
        if not frames:
            return None, None
        predicted = [self._operator(self.angles[[t]])(volume(t))[:, 0] for t in self._track(frames, "held-out images")]
        predicted, measured = torch.stack(predicted).cpu(), self.rows[:, frames].transpose(0, 1).cpu()
        free = error_without_noise(predicted.numpy(), measured.numpy(), self.views[frames])
        norm = float(measured.double().norm())
        error = float((predicted - measured).double().norm()) / norm if norm > 0 else None
        return error, None if math.isnan(free) else free

    def _squares(self, x: Tensor, frames: list[int], positions: Sequence[int] | slice = slice(None)) -> float:
        """The sum of squared errors on the held-out rows of some frames at some positions z."""
        projected = self._operator(self.angles[frames])(x)
        error = (projected - self.rows[positions][:, frames])[self.held_out[positions][:, frames]]
        return float(error.double().square().sum())

    def _track(self, items: Sequence, description: str) -> Iterator:
        return track(items, description, transient=True, disable=not sys.stdout.isatty())


def _climbed(choice: Choice, tried: Callable[[float], Choice]) -> Choice:
    """From a choice on, the weight of its regularisation doubled, or else halved, as long as that scores better."""
    start = choice
    for factor in (2.0, 0.5):
        while 1 / MOST <= choice.weight * factor <= MOST:
            other = tried(choice.weight * factor)
            if other.score <= choice.score:
                break
            choice = other
        if choice is not start:
            break
    return choice


def _runs(algorithm: str) -> int:
    """About how many weights of the regularisation are tried."""
    return 5 if algorithm == "tv" else 1


def _fbp_steps(A: Projector, y: Tensor, known: Tensor | None = None) -> Iterator[Tensor]:
    """Filtered back-projection in the form of an iteration: non-negative, and the same at every step."""
    return repeat(fbp(A, y, known).clamp_(min=0))


def noise(series: TiltSeries) -> float:
    """Standard deviation of the noise in the images of a series, where there is intensity.

    Where views are repeated, of what images of one view do not share; else from second differences along s, which takes
    the noise for white. What images do not share is averaged over blocks of `BLOCK` pixels, and scaled to what white
    noise of that power would have: noise that was smoothed looks small, but reconstructs like the larger one.
    """
    again = np.flatnonzero(np.diff(series.views) == 0)  # these show the same as the images after them
    if len(again) < FEWEST_PAIRS:
        return _from_second_differences(torch.from_numpy(series.images))
    before, after = series.images[again], series.images[again + 1]
    _, depth, bins = series.shape
    block = (min(BLOCK, depth), min(BLOCK, bins))
    differs, shows = (_blocks(v, *block) for v in ((after - before) / 2**0.5, (before + after) / 2))
    inside = np.abs(differs[shows > 0.05 * series.images.max()])
    return 1.4826 * float(np.median(inside)) * float(np.prod(block)) ** 0.5 if inside.size else 0.0


def _blocks(images: np.ndarray, z: int, s: int) -> np.ndarray:
    """Means over blocks of z x s pixels of images (t, Z, S), what is left over cut off."""
    t, depth, bins = len(images), images.shape[1] // z, images.shape[2] // s
    return images[:, : depth * z, : bins * s].reshape(t, depth, z, bins, s).mean((2, 4))


def _from_second_differences(images: Tensor) -> float:
    difference = images[..., 2:] - 2 * images[..., 1:-1] + images[..., :-2]
    inside = difference[images[..., 1:-1] > 0.05 * images.max()].abs()
    return float(inside.median()) / 0.6745 / 6**0.5 if inside.numel() else 0.0


def whole_series(series: TiltSeries, iterations: int) -> Tensor:
    """SIRT of all images of a series, as if nothing had changed: (Z, Y, X), intensity per voxel."""
    rows = torch.from_numpy(series.images).permute(1, 0, 2).contiguous()
    angles = torch.from_numpy(np.deg2rad(series.angles_deg))
    bins = series.shape[2]
    return sirt(Projector(Geometry((bins, bins), bins, angles)), rows, iterations)


def brightest_voxel(series: TiltSeries) -> float:
    """The intensity per voxel that the brightest material of a series may have: a guess, from an early SIRT."""
    return 1.6 * float(np.quantile(whole_series(series, 10).numpy(), 0.999))
