"""Tilt rows, indexed by (z, t), in named batches.

A batch holds a few positions z and, for each, all its rows: one pass of the network over z then serves all its times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from dip4d.reconstruction.split import Split
from dip4d.tilt_series import TiltSeries


@dataclass
class Rows:
    """Rows of a tilt series at B positions z, n times each.

    values: (B, n, S), intensity.
    t: (B, n), frame number.
    tau: (B, n), time scaled to 0..1 over the series.
    angles: (B, n), tilt in radians.
    row_mask: (B, n), False for rows that are kept aside, or that the image does not show; None if there are none.
    back_projected: (B, ...) each, what a network is shown of all these rows, where that is worked out already.
    """

    values: Tensor
    t: Tensor
    tau: Tensor
    angles: Tensor
    row_mask: Tensor | None = None
    back_projected: tuple[Tensor, ...] | None = None

    def part(self, positions: slice) -> Rows:
        """Those of some of the positions."""
        cut = lambda v: tuple(part[positions] for part in v) if isinstance(v, tuple) else v[positions]
        return replace(self, **{name: cut(v) for name, v in vars(self).items() if v is not None})

    def take(self, index: Tensor) -> Rows:
        """The rows at `index` (B, k) along n."""
        values = self.values.gather(1, index[..., None].expand(-1, -1, self.values.shape[-1]))
        mask = None if self.row_mask is None else self.row_mask.gather(1, index)
        return Rows(values, self.t.gather(1, index), self.tau.gather(1, index), self.angles.gather(1, index), mask)

    def masked(self, rows: Tensor) -> Tensor:
        """Such rows (B, n, S), with 0 where the mask is False."""
        return rows if self.row_mask is None else rows * self.row_mask[..., None]

    def to(self, device: torch.device) -> Rows:
        move = lambda v: tuple(part.to(device) for part in v) if isinstance(v, tuple) else v.to(device)
        return replace(self, **{name: move(v) for name, v in vars(self).items() if v is not None})


@dataclass
class Batch:
    """z: (B,), position along the tilt axis, pixels. rows: those to fit. validation: those that tell when to stop."""

    z: Tensor
    rows: Rows
    validation: Rows

    def to(self, device: torch.device, **_) -> Batch:
        return Batch(self.z.to(device), self.rows.to(device), self.validation.to(device))


def drawn(rows: Rows, count: int, *, step: int) -> Rows:
    """`count` of the rows of each position, or all if there are fewer, in order; which, depends on the step alone."""
    positions, n = rows.t.shape
    order = torch.rand(positions, n, generator=torch.Generator().manual_seed(step)).argsort(1)[:, :count].sort(1).values
    return rows.take(_without_waiting(order, rows.t.device))


def _without_waiting(numbers: Tensor, device: torch.device) -> Tensor:
    """Numbers of the CPU on a device, which works on; a plain copy to a GPU waits until it is idle."""
    if device.type == "cuda" and numbers.device.type == "cpu":
        numbers = numbers.pin_memory()
    return numbers.to(device, non_blocking=True)


class StepSampler(Sampler[list[int]]):
    """Batches of positions z (or images), one a step; each sweep visits all of them once.

    count: how many there are.
    batch: how many in a step.
    steps: how many steps.
    seed: what a step sees depends on (seed, step) alone, so that a run can resume.
    first_step: asked when the sampling begins.
    part: (k, n), where n processes share each batch out among them: this one takes the k-th part of it.
    """

    def __init__(
        self,
        count: int,
        batch: int,
        *,
        steps: int,
        seed: int,
        first_step: Callable[[], int],
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self.count, self.batch, self.steps, self.seed = count, min(batch, count), steps, seed
        self.first_step, self.part = first_step, part

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first_step(), self.steps):
            sweep, place = divmod(step * self.batch, self.count)
            order = np.concatenate([self._order(sweep), self._order(sweep + 1)])
            batch, (k, n) = order[place : place + self.batch], self.part
            yield batch.tolist() if n == 1 else np.array_split(np.sort(batch), n)[k].tolist()

    def _order(self, sweep: int) -> np.ndarray:
        return np.random.default_rng((self.seed, sweep)).permutation(self.count)


class TiltRows(L.LightningDataModule):
    """Batches of the rows of one tilt series. Everything lies in memory, that of the device which fits them (`move`),
    and is sliced, never copied row by row.

    series: images (t, z, s).
    split: which rows are fitted, and which are kept aside.
    slices: positions z in a batch.
    steps: how many training batches.
    seed: of their order.
    images: None, or how many whole images a training batch holds: it then has all positions and only these times, for a
        network that draws the specimen as a whole.
    """

    def __init__(
        self,
        series: TiltSeries,
        split: Split,
        *,
        slices: int,
        steps: int,
        seed: int,
        images: int | None = None,
    ) -> None:
        super().__init__()
        frames, positions, _ = series.shape
        assert split.validation_rows.shape == split.hidden_rows.shape == (positions, frames)
        self.series, self.split, self.steps, self.seed, self.images = series, split, steps, seed, images
        self.slices = slices if images is None else positions
        self.rows = torch.from_numpy(series.images).permute(1, 0, 2).contiguous()  # (Z, T, S)
        self.tau = torch.from_numpy(series.tau).float()
        self.angles = torch.from_numpy(np.deg2rad(series.angles_deg)).float()
        self.shown = None if series.shown is None else torch.from_numpy(series.shown.T.copy())  # (Z, T)
        self.back_projected: tuple[Tensor, ...] | None = None  # (Z, ...) each, for the network that is fitted to them
        self.fitted = split.fitted_rows.nonzero()[:, 1].view(positions, -1)  # (Z, n), frames
        self.fitted_rows = split.fitted_rows  # (Z, T)
        self.validation = split.validation_rows.nonzero()[:, 1].view(positions, -1)  # (Z, h), frames

    def move(self, device: torch.device) -> None:
        """Lays all rows on a device, where batches are then put together."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
        if self.back_projected is not None:
            self.back_projected = tuple(part.to(device) for part in self.back_projected)

    def _numbers(self, numbers: Sequence[int] | Tensor) -> Tensor:
        """Positions or frames, on the device of the rows."""
        return _without_waiting(torch.as_tensor(numbers), self.rows.device)

    def batch(self, z: Sequence[int] | Tensor) -> Batch:
        """The batch of the given positions."""
        z = self._numbers(z)
        rows = self._rows(z, self.fitted[z])
        if self.back_projected is not None:
            rows.back_projected = tuple(part[z] for part in self.back_projected)
        return Batch(z.float(), rows, self._rows(z, self.validation[z]))

    def rows_at(self, z: Tensor, frames: Sequence[int] | Tensor) -> Rows:
        """All rows of some images at positions z (B,), those of test images too."""
        z, t = self._numbers(z), self._numbers(frames)
        rows = self._rows(z, t.expand(len(z), -1))
        rows.tau = self.tau[t].expand(len(z), -1)  # all positions at the same times, and shown to be
        return rows

    def _rows(self, z: Tensor, t: Tensor) -> Rows:
        mask = None if self.shown is None else self.shown[z[:, None], t]
        return Rows(self.rows[z[:, None], t], t, self.tau[t], self.angles[t], mask)

    def batch_of_images(self, frames: Sequence[int]) -> Batch:
        """The batch of some whole images, in the order of time; which of their rows are kept aside, is marked."""
        z, t = torch.arange(len(self.rows), device=self.rows.device), self._numbers(sorted(frames))
        rows = self.rows_at(z, t)
        fitted = self.fitted_rows[:, t]
        rows.row_mask = fitted if rows.row_mask is None else fitted & rows.row_mask
        return Batch(z.float(), rows, self._rows(z, self.validation))

    def train_dataloader(self) -> DataLoader:
        if self.images is None:
            items, batch, collate = list(range(len(self.rows))), self.slices, self.batch
        else:
            seen = ~self.split.hidden_rows.all(0)
            items, batch, collate = seen.nonzero()[:, 0].tolist(), self.images, self.batch_of_images
        first_step = lambda: 0 if self.trainer is None else self.trainer.global_step
        part = (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        sampler = StepSampler(len(items), batch, steps=self.steps, seed=self.seed, first_step=first_step, part=part)
        return DataLoader(_positions(items), batch_sampler=sampler, collate_fn=collate)

    def all_batches(self) -> DataLoader:
        """Every position once, in order."""
        return DataLoader(_positions(list(range(len(self.rows)))), batch_size=self.slices, collate_fn=self.batch)

    val_dataloader = all_batches


def _positions(numbers: list[int]) -> Dataset[int]:
    """A list is all that a DataLoader needs of a data set."""
    return cast(Dataset[int], numbers)


def as_the_first_does(trainer: L.Trainer, decision: Any) -> Any:
    """What the first of several processes has decided: clocks and signals of the others do not count."""
    return decision if trainer.world_size == 1 else trainer.strategy.broadcast(decision)


def rows_of_fit(trainer: L.Trainer) -> TiltRows:
    """The rows that a Trainer fits."""
    return cast(TiltRows, trainer.datamodule)  # pyright: ignore[reportAttributeAccessIssue]  # Lightning sets it late
