"""Which rows a fit sees, which tell it when to stop, and which images nothing sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dip4d.tilt_series import TiltSeries

FEWEST_VIEWS = 10  # of a series of which one can be spared as a test image


@dataclass(frozen=True, eq=False)
class Split:
    """What of a series is fitted, and what is kept aside.

    validation_rows: (Z, T), True for rows that the fit does not see; their error stops it and chooses its weights. As
        many at every z.
    hidden_rows: (Z, T), True for rows that are neither fitted nor for validation: those of the test images, and others
        that a further fit leaves out. As many at every z; none if None.
    test_images: images that nothing sees, so that their error is unbiased; those whose rows are all hidden if None.
    """

    validation_rows: Tensor
    hidden_rows: Tensor = None  # type: ignore[assignment]  # filled in below
    test_images: tuple[int, ...] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.hidden_rows is None:
            object.__setattr__(self, "hidden_rows", torch.zeros_like(self.validation_rows))
        if self.test_images is None:
            object.__setattr__(self, "test_images", tuple(self.hidden_rows.all(0).nonzero()[:, 0].tolist()))

    @property
    def fitted_rows(self) -> Tensor:
        """(Z, T), True for the rows that are fitted."""
        return ~(self.validation_rows | self.hidden_rows)

    def seen(self, series: TiltSeries) -> TiltSeries:
        """The series less its test images: what may influence a fit."""
        return series.without_images(self.test_images)


def choose_split(
    series: TiltSeries,
    validation_rows: float,
    *,
    test_images: float = 0.0,
    in_a_row: int = 1,
    seed: int = 0,
) -> Split:
    """Draws the rows and images that are kept aside, from a seed.

    validation_rows: share of the rows, 0 to 0.5.
    test_images: share of the views, 0 to 0.2.
    in_a_row: consecutive views that are test images together.
    """
    frames, n_z, _ = series.shape
    images = choose_test_images(series.views, test_images, seed=seed, in_a_row=in_a_row)
    rows = choose_validation_rows((n_z, frames), validation_rows, seed=seed, test_images=images)
    return Split(rows, rows_of(images, (n_z, frames)), tuple(images))


def choose_test_images(views: np.ndarray, share: float, *, seed: int, in_a_row: int = 1) -> list[int]:
    """Test images. The series is cut into equal parts; from each a run of `in_a_row` consecutive views is drawn at
    random near its middle. All images of a view go together.

    views: (t,), as `TiltSeries.views`.
    share: of the views that become test images; at least one run unless it is 0.
    Neither the first two views nor the last two, and no two runs next to each other while `share` is at most 0.2. None
    of a series of fewer than `FEWEST_VIEWS` views, or fewer than 5 times a run, which can spare none.
    """
    count = int(views[-1]) + 1
    if share == 0 or count < max(FEWEST_VIEWS, 5 * in_a_row):
        return []
    parts = max(1, round(share * count / in_a_row))
    places = np.arange(parts) + np.random.default_rng((seed, count)).uniform(0.25, 0.75, parts)
    first = np.clip((places * count / parts).astype(int) - in_a_row // 2, 2, count - 2 - in_a_row)
    chosen = first[:, None] + np.arange(in_a_row)
    return np.flatnonzero(np.isin(views, chosen)).tolist()


def rows_of(images: Sequence[int], shape: tuple[int, int]) -> Tensor:
    """A mask of the given shape (Z, T), True for all rows of some images."""
    n_z, frames = shape
    return torch.isin(torch.arange(frames), torch.tensor(images, dtype=torch.long)).expand(n_z, -1)


def choose_validation_rows(
    shape: tuple[int, int],
    share: float,
    *,
    seed: int,
    test_images: Sequence[int] = (),
    unknown: Tensor | None = None,
) -> Tensor:
    """A mask of the given shape (Z, T), True for validation rows: as many at every z, drawn at random over time.

    The first and the last image lose no rows; nor do the test images, which are kept aside as a whole. At least one row
    is kept aside unless `share` is 0, and at least two are left to fit. Those that are `unknown`, (Z, T) True, were not
    measured but filled in, and are drawn only where there are no others.
    """
    n_z, frames = shape
    mask = torch.zeros(n_z, frames, dtype=torch.bool)
    others = torch.tensor([t for t in range(1, frames - 1) if t not in set(test_images)], dtype=torch.long)
    count = min(max(1, round(share * frames)), len(others)) if share > 0 else 0
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(n_z, len(others), generator=generator)
    order = (drawn if unknown is None else drawn + unknown[:, others]).argsort(1)[:, :count]
    return mask.scatter(1, others[order], True)
