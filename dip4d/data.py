"""Tilt rows, indexed by (z, t), in named batches.

A batch holds a few positions z and, for each, all its rows: one pass of the network over z then serves all its times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from dip4d.tilt_series import TiltSeries

FEWEST = 10  # views of a series of which one can be spared


@dataclass
class Rows:
    """Rows of a tilt series at B positions z, n times each.

    values: (B, n, S), intensity. t: (B, n), frame number. progress: (B, n), time scaled to 0..1 over the series.
    angles: (B, n), tilt in radians. known: (B, n), False for rows that are kept aside, or that the image does not show;
    None if there are none.
    """

    values: Tensor
    t: Tensor
    progress: Tensor
    angles: Tensor
    known: Tensor | None = None

    def take(self, index: Tensor) -> Rows:
        """The rows at `index` (B, k) along n."""
        return Rows(
            self.values.gather(1, index[..., None].expand(-1, -1, self.values.shape[-1])),
            *(v if v is None else v.gather(1, index) for v in (self.t, self.progress, self.angles, self.known)),
        )

    def only_known(self, rows: Tensor) -> Tensor:
        """Such rows (B, n, S), with 0 instead of what is not known."""
        return rows if self.known is None else rows * self.known[..., None]

    def to(self, device: torch.device) -> Rows:
        return Rows(*(v if v is None else v.to(device) for v in vars(self).values()))


@dataclass
class Batch:
    """z: (B,), position along the tilt axis, in pixels. rows: those to train on. held_out: those kept aside."""

    z: Tensor
    rows: Rows
    held_out: Rows

    def to(self, device: torch.device, **_) -> Batch:
        return Batch(self.z.to(device), self.rows.to(device), self.held_out.to(device))


def choose_held_out_images(views: np.ndarray, share: float, seed: int, in_a_row: int = 1) -> list[int]:
    """Whole images kept aside, as many as show a share of the views: a run of so many views in a row in each of as many
    equal parts of the series, its middle drawn from the middle half of the part, with all their images.

    views: (t,), as `TiltSeries.views`; images of one view go together. Neither the first two views nor the last two,
    and no two runs next to each other while `share` is at most 0.2. At least one run unless `share` is 0; none of a
    series of fewer than 10 views, or fewer than 5 times a run, which can spare none.
    """
    count = int(views[-1]) + 1
    if share == 0 or count < max(FEWEST, 5 * in_a_row):
        return []
    parts = max(1, round(share * count / in_a_row))
    places = np.arange(parts) + np.random.default_rng((seed, count)).uniform(0.25, 0.75, parts)
    first = np.clip((places * count / parts).astype(int) - in_a_row // 2, 2, count - 2 - in_a_row)
    chosen = first[:, None] + np.arange(in_a_row)
    return np.flatnonzero(np.isin(views, chosen)).tolist()


def rows_of(images: Sequence[int], frames: int, slices: int) -> Tensor:
    """(Z, T), True for all rows of some images."""
    return torch.isin(torch.arange(frames), torch.tensor(images, dtype=torch.long)).expand(slices, -1)


def choose_held_out(frames: int, slices: int, share: float, seed: int, images: Sequence[int] = ()) -> Tensor:
    """(Z, T), True for the rows kept aside: the same number at every z, drawn from the seed, spread over time.

    The first and the last image lose no rows; nor do `images`, those kept aside as a whole. At least one row is kept
    aside unless `share` is 0, and at least two are left to train on.
    """
    held = torch.zeros(slices, frames, dtype=torch.bool)
    others = torch.tensor([t for t in range(1, frames - 1) if t not in set(images)], dtype=torch.long)
    count = min(max(1, round(share * frames)), len(others)) if share > 0 else 0
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(slices, len(others), generator=generator).argsort(1)[:, :count]
    return held.scatter(1, others[order], True)


def drawn(rows: Rows, count: int, step: int) -> Rows:
    """`count` of the rows of each position, or all if there are fewer, in order; which, depends on the step alone."""
    positions, n = rows.t.shape
    order = torch.rand(positions, n, generator=torch.Generator().manual_seed(step)).argsort(1)[:, :count].sort(1).values
    return rows.take(order.to(rows.t.device))


class StepSampler(Sampler[list[int]]):
    """Batches of `count` positions z (or images), one a step; each sweep visits all of them once.

    What a step sees depends on (seed, step) alone, so that a run can resume.
    """

    def __init__(self, count: int, batch: int, steps: int, seed: int, first_step: Callable[[], int]) -> None:
        self.count, self.batch, self.steps, self.seed = count, min(batch, count), steps, seed
        self.first_step = first_step

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first_step(), self.steps):
            sweep, place = divmod(step * self.batch, self.count)
            order = np.concatenate([self._order(sweep), self._order(sweep + 1)])
            yield order[place : place + self.batch].tolist()

    def _order(self, sweep: int) -> np.ndarray:
        return np.random.default_rng((self.seed, sweep)).permutation(self.count)


class TiltRows(L.LightningDataModule):
    """Batches of the rows of one tilt series.

    series: images (t, z, s). held_out: (Z, T), as by `choose_held_out`. slices: positions z in a batch. steps: how
    many training batches. unseen: (Z, T), True for rows that are neither fitted nor held out, as many at every z: the
    images kept aside as a whole, for instance. images: None, or how many whole images a training batch holds: it then
    has all positions and only these times, for a network that draws the specimen as a whole. Everything lies in memory
    and is sliced, never copied row by row.
    """

    def __init__(
        self,
        series: TiltSeries,
        held_out: Tensor,
        slices: int,
        steps: int,
        seed: int,
        unseen: Tensor | None = None,
        images: int | None = None,
    ) -> None:
        super().__init__()
        frames, positions, _ = series.shape
        assert held_out.shape == (positions, frames)
        self.series, self.held, self.steps, self.seed, self.images = series, held_out, steps, seed, images
        self.slices = slices if images is None else positions
        self.rows = torch.from_numpy(series.images).permute(1, 0, 2).contiguous()  # (Z, T, S)
        self.progress = torch.from_numpy(series.progress).float()
        self.angles = torch.from_numpy(np.deg2rad(series.angles_deg)).float()
        self.shown = None if series.shown is None else torch.from_numpy(series.shown.T.copy())  # (Z, T)
        self.unseen = torch.zeros_like(held_out) if unseen is None else unseen
        self.known = (~(held_out | self.unseen)).nonzero()[:, 1].view(positions, -1)  # (Z, n)
        self.held_out = held_out.nonzero()[:, 1].view(positions, -1)  # (Z, h)

    def batch(self, z: list[int] | Tensor) -> Batch:
        """The batch of the given positions."""
        z = torch.as_tensor(z)
        return Batch(z.float(), self._rows(z, self.known[z]), self._rows(z, self.held_out[z]))

    @property
    def unseen_images(self) -> list[int]:
        """The images kept aside as a whole."""
        return self.unseen.all(0).nonzero()[:, 0].tolist()

    def rows_at(self, z: Tensor, frames: Sequence[int]) -> Rows:
        """All rows of some images at positions z (B,), the unseen ones too."""
        return self._rows(z, torch.tensor(frames, dtype=torch.long).expand(len(z), -1))

    def _rows(self, z: Tensor, t: Tensor) -> Rows:
        known = None if self.shown is None else self.shown[z[:, None], t]
        return Rows(self.rows[z[:, None], t], t, self.progress[t], self.angles[t], known)

    def batch_of_images(self, frames: Sequence[int]) -> Batch:
        """The batch of some whole images, in the order of time; which of their rows are kept aside, is marked."""
        z, frames = torch.arange(len(self.rows)), sorted(frames)
        rows = self.rows_at(z, frames)
        fitted = ~(self.held | self.unseen)[:, frames]
        rows.known = fitted if rows.known is None else fitted & rows.known
        return Batch(z.float(), rows, self._rows(z, self.held_out))

    def train_dataloader(self) -> DataLoader:
        if self.images is None:
            items, batch, collate = range(len(self.rows)), self.slices, self.batch
        else:
            items, batch, collate = (~self.unseen.all(0)).nonzero()[:, 0].tolist(), self.images, self.batch_of_images
        sampler = StepSampler(len(items), batch, self.steps, self.seed, lambda: self.trainer.global_step)
        return DataLoader(items, batch_sampler=sampler, collate_fn=collate)

    def all_batches(self) -> DataLoader:
        """Every position once, in order."""
        return DataLoader(range(self.rows.shape[0]), batch_size=self.slices, collate_fn=self.batch)

    val_dataloader = all_batches
