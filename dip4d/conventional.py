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
        A = self._operator(self.angles)
        error = self._trace(A, self.rows, self.known, lambda x: self._held_out_squares(x, range(self.frames)))
        held_best = 1 + int(error[:, 0].argmin()) if error.any() else self.iterations // EVERY
        best = held_best
        if self.truth is not None:
            best = self._best([self._trace(A, self.rows, None, self._squares_to(self.looks))])[0]
        began = time.monotonic()
        volume = sirt(A, self.rows, best * EVERY).cpu().numpy()
        seconds = time.monotonic() - began
        held_out = float((error[held_best - 1, 0] / self._held_out_norm()) ** 0.5) if error.any() else None
        return Baseline("sirt_whole", lambda t: volume, {"iterations": best * EVERY}, held_out, seconds)

    def _window(self) -> Baseline:
        by_truth: dict[int, list[np.ndarray]] = {w: [] for w in self.windows}
        by_rows: dict[int, list[np.ndarray]] = {w: [] for w in self.windows}
        for width in self._track(self.windows, "SIRT, choosing the window"):
            for t in self.looks:
                around = window(t, self.frames, width)
                A, y = self._operator(self.angles[around]), self.rows[self.sample][:, around].contiguous()
                if self.truth is not None:
                    by_truth[width].append(self._trace(A, y, None, self._squares_to([t], self.sample)))
                else:
                    score = lambda x: self._held_out_squares(x, [t], self.sample)
                    by_rows[width].append(self._trace(A, y, self.known[self.sample][:, around], score))
        if self.truth is not None:
            best, width = max((*self._best(by_truth[w])[::-1], w) for w in self.windows)[1:]
        else:
            totals = {w: np.sum(by_rows[w], axis=0)[:, 0] for w in self.windows}
            width = min(totals, key=lambda w: totals[w].min())
            best = 1 + int(totals[width].argmin())

        def volume(t: int, known: Tensor | None = None) -> Tensor:
            around = window(t, self.frames, width)
            return sirt(
                self._operator(self.angles[around]),
                self.rows[:, around].contiguous(),
                best * EVERY,
                known=None if known is None else known[:, around],
            )

        began, squared = time.monotonic(), 0.0
        for t in self._track(range(self.frames), "SIRT, held-out error of the window"):
            if self.held_out[:, t].any():
                squared += self._held_out_squares(volume(t, self.known), [t])[0]
        held_out = (squared / self._held_out_norm()) ** 0.5 if self.held_out.any() else None
        return Baseline(
            "sirt_window",
            lambda t: volume(t).cpu().numpy(),
            {"window": width, "iterations": best * EVERY},
            held_out,
            (time.monotonic() - began) / self.frames,
        )

    def _frozen(self) -> Baseline:
        angles = torch.from_numpy(np.deg2rad(incremental(self.frames, self.max_angle, 1))).to(self.device)
        A = self._operator(angles)

        def series(t: int) -> Tensor:
            rows = A(torch.from_numpy(self.truth[t]).to(self.device))
            noisy = add_noise(rows.transpose(0, 1).cpu().numpy(), self.dose, self.seed + 1 + t, self.brightest)
            return torch.from_numpy(noisy).transpose(0, 1).contiguous().to(self.device)

        looks = self._track(self.looks, "SIRT of frozen frames, choosing iterations")
        traces = [self._trace(A, series(t)[self.sample], None, self._squares_to([t], self.sample)) for t in looks]
        best = self._best(traces)[0]
        began = time.monotonic()
        volume = lambda t: sirt(A, series(t), best * EVERY).cpu().numpy()
        volume(0)
        return Baseline("sirt_frozen", volume, {"iterations": best * EVERY}, None, time.monotonic() - began)

    def _trace(
        self, A: Projector, y: Tensor, known: Tensor | None, score: Callable[[Tensor], np.ndarray]
    ) -> np.ndarray:
        """The score (k,) after every `EVERY` iterations: (looks, k)."""
        steps = sirt_steps(A, y, known=known)
        scores = []
        for _ in range(max(1, self.iterations // EVERY)):
            for _ in range(EVERY):
                x = next(steps)
            scores.append(score(x))
        return np.array(scores)

    def _squares_to(
        self, frames: Sequence[int], positions: Sequence[int] | slice = slice(None)
    ) -> Callable[[Tensor], np.ndarray]:
        """Mean squared error, at some positions z, against the truth of each frame."""
        truth = [torch.from_numpy(self.truth[t][positions]).to(self.device) for t in frames]
        return lambda x: np.array([float((x - v).square().mean()) for v in truth])

    def _best(self, traces: list[np.ndarray]) -> tuple[int, float]:
        """The look (from 1) with the best mean PSNR over all frames traced, and that PSNR."""
        mse = np.concatenate(traces, axis=1)
        mean = np.vectorize(lambda m: psnr_from_mse(m, self.data_range))(mse).mean(1)
        return 1 + int(mean.argmax()), float(mean.max())

    def _held_out_squares(
        self, x: Tensor, frames: Sequence[int], positions: Sequence[int] | slice = slice(None)
    ) -> np.ndarray:
        """(1,): the sum of squared errors on the held-out rows of some frames, at some positions z."""
        frames = list(frames)
        projected = self._operator(self.angles[frames])(x)
        error = (projected - self.rows[positions][:, frames])[self.held_out[positions][:, frames]]
        return np.array([float(error.double().square().sum())])

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
