"""SIRT of the same tilt series, at its best: what a dynamic reconstruction has to beat.

- `sirt_whole`: one static volume from all images, what one has today.
- `sirt_window`: for each frame, the images around it.
- `sirt_frozen`: for each frame, a full series of as many images of the specimen frozen in that state, with the same
  noise: "conventional tomography", which the experiment cannot have. Needs the truth.

The number of iterations, and the width of the window, are those that score best: against the truth where there is
one, else on held-out rows. Scores use all rows; the held-out error uses what the network sees.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from rich.progress import track
from torch import Tensor

from dip4d.algorithms import sirt, sirt_steps, window
from dip4d.metrics import psnr_from_mse
from dip4d.projector import Geometry, Projector
from dip4d.simulate import add_noise, incremental
from dip4d.tilt_series import TiltSeries

EVERY = 5  # iterations between two looks at the score
LOOKS = 10  # frames that choose the settings
SLICES = 32  # slices across the tilt axis that choose them; each slice is a reconstruction of its own


@dataclass
class Baseline:
    """A conventional reconstruction. volume(t) makes its volume (z, y, x) at frame t, on the CPU.

    settings: what was found best, for the record. held_out: relative error on the held-out rows; None if not defined.
    seconds: what one frame takes.
    """

    name: str
    volume: Callable[[int], np.ndarray]
    settings: dict[str, float] = field(default_factory=dict)
    held_out: float | None = None
    seconds: float = 0.0


class Conventional:
    """SIRT of one tilt series.

    series: images (t, z, s). held_out: (Z, T), True for rows kept aside. truth: (t, z, y, x) or None. dose: counts at
    the brightest pixel of the series that `sirt_frozen` simulates, 0 for no noise.
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
    ) -> None:
        self.frames, self.depth, self.bins = series.shape
        self.rows = torch.from_numpy(series.images).permute(1, 0, 2).contiguous().to(device)  # (Z, T, S)
        self.angles = torch.from_numpy(np.deg2rad(series.angles_deg)).to(device)
        self.known = (~held_out).float().to(device)
        self.held_out = held_out.to(device)
        self.truth = truth
        self.data_range = None if truth is None else float(truth.max())
        self.max_angle = float(np.abs(series.angles_deg).max())
        self.iterations, self.dose, self.seed, self.device = iterations, dose, seed, device
        self.brightest = float(series.images.max())
        self.windows = sorted({min(w, self.frames) for w in windows})
        self.sample = np.unique(np.linspace(0, self.depth - 1, SLICES).round().astype(int))
        self.looks = np.unique(np.linspace(0, self.frames - 1, LOOKS).round().astype(int)).tolist()

    def baseline(self, name: str) -> Baseline:
        """One of `sirt_whole`, `sirt_window`, `sirt_frozen`, at its best settings."""
        return {"sirt_whole": self._whole, "sirt_window": self._window, "sirt_frozen": self._frozen}[name]()

    def _operator(self, angles: Tensor) -> Projector:
        return Projector(Geometry((self.bins, self.bins), self.bins, angles))

    def _whole(self) -> Baseline:
        A, everything = self._operator(self.angles), range(self.frames)
        held_out, best = None, self.iterations
        if self.held_out.any():
            score = lambda x: -self._held_out_squares(x[0], everything)
            best, squares = self._search([(A, self.rows, self.known)], score)
            held_out = (-squares / self._held_out_norm()) ** 0.5
        if self.truth is not None:
            score = lambda x: np.mean([self._psnr(x[0], t) for t in self.looks])
            best, _ = self._search([(A, self.rows, None)], score)
        began = time.monotonic()
        volume = sirt(A, self.rows, best).cpu().numpy()
        return Baseline("sirt_whole", lambda t: volume, {"iterations": best}, held_out, time.monotonic() - began)

    def _window(self) -> Baseline:
        found = []
        for width in self._track(self.windows, "SIRT, choosing the window"):
            problems = []
            for t in self.looks:
                around = window(t, self.frames, width)
                y, known = (v[self.sample][:, around].contiguous() for v in (self.rows, self.known))
                problems.append((self._operator(self.angles[around]), y, known if self.truth is None else None))
            iterations, score = self._search(problems, self._score_looks)
            found.append((score, width, iterations))
        _, width, best = max(found)

        def volume(t: int, known: Tensor | None = None) -> Tensor:
            around = window(t, self.frames, width)
            A, y = self._operator(self.angles[around]), self.rows[:, around].contiguous()
            return sirt(A, y, best, known=None if known is None else known[:, around])

        began, squares = time.monotonic(), 0.0
        for t in self._track(range(self.frames), "SIRT, held-out error of the window"):
            if self.held_out[:, t].any():
                squares += self._held_out_squares(volume(t, self.known), [t])
        held_out = (squares / self._held_out_norm()) ** 0.5 if self.held_out.any() else None
        seconds = (time.monotonic() - began) / self.frames
        settings = {"window": width, "iterations": best}
        return Baseline("sirt_window", lambda t: volume(t).cpu().numpy(), settings, held_out, seconds)

    def _frozen(self) -> Baseline:
        angles = torch.from_numpy(np.deg2rad(incremental(self.frames, self.max_angle, 1))).to(self.device)
        A = self._operator(angles)

        def series(t: int) -> Tensor:
            rows = A(torch.from_numpy(self.truth[t]).to(self.device))
            noisy = add_noise(rows.transpose(0, 1).cpu().numpy(), self.dose, self.seed + 1 + t, self.brightest)
            return torch.from_numpy(noisy).transpose(0, 1).contiguous().to(self.device)

        best, _ = self._search([(A, series(t)[self.sample], None) for t in self.looks], self._score_looks)
        volume = lambda t: sirt(A, series(t), best).cpu().numpy()
        began = time.monotonic()
        volume(0)
        return Baseline("sirt_frozen", volume, {"iterations": best}, None, time.monotonic() - began)

    def _search(
        self,
        problems: Sequence[tuple[Projector, Tensor, Tensor | None]],
        score: Callable[[Sequence[Tensor]], float],
    ) -> tuple[int, float]:
        """The number of iterations, common to all problems (A, y, known), at which the score of their iterates peaks.

        Returns it with that score. Ends when the peak lies well behind, or at `self.iterations`.
        """
        runs = [sirt_steps(A, y, known=known) for A, y, known in problems]
        best = (-np.inf, 0)
        for iteration in range(1, self.iterations + 1):
            volumes = [next(run) for run in runs]
            if iteration % EVERY == 0 or iteration == self.iterations:
                best = max(best, (float(score(volumes)), iteration))
                if iteration > best[1] + max(4 * EVERY, best[1] / 2):
                    break
        return best[1], best[0]

    def _score_looks(self, volumes: Sequence[Tensor]) -> float:
        """How good volumes of the frames `looks` at the positions `sample` are: by truth, else by held-out rows."""
        if self.truth is not None:
            return float(np.mean([self._psnr(x, t, self.sample) for x, t in zip(volumes, self.looks, strict=True)]))
        return -sum(self._held_out_squares(x, [t], self.sample) for x, t in zip(volumes, self.looks, strict=True))

    def _psnr(self, x: Tensor, t: int, positions: Sequence[int] | slice = slice(None)) -> float:
        """PSNR against the truth of frame t, at some positions z."""
        truth = torch.from_numpy(self.truth[t][positions]).to(self.device)
        return psnr_from_mse(float((x - truth).square().mean()), self.data_range)

    def _held_out_squares(
        self, x: Tensor, frames: Sequence[int], positions: Sequence[int] | slice = slice(None)
    ) -> float:
        """The sum of squared errors on the held-out rows of some frames, at some positions z."""
        frames = list(frames)
        projected = self._operator(self.angles[frames])(x)
        error = (projected - self.rows[positions][:, frames])[self.held_out[positions][:, frames]]
        return float(error.double().square().sum())

    def _held_out_norm(self) -> float:
        return float(self.rows[self.held_out].double().square().sum())

    def _track(self, items: Sequence, description: str) -> Iterator:
        return track(items, description, transient=True, disable=not sys.stdout.isatty())


def brightest_voxel(series: TiltSeries) -> float:
    """The intensity per voxel that the brightest material of a series may have: a guess, from an early SIRT."""
    rows = torch.from_numpy(series.images).permute(1, 0, 2).contiguous()
    angles = torch.from_numpy(np.deg2rad(series.angles_deg))
    bins = series.shape[2]
    early = sirt(Projector(Geometry((bins, bins), bins, angles)), rows, 10)
    return 1.6 * float(np.quantile(early.numpy(), 0.999))
