"""How sure the reconstruction is of every voxel: the spread of others, each fitted to half of the rows.

Bagging (Breiman 1996): a member goes on from the network that was fitted to all rows, through a short cycle of its own
in which it sees a random half of the rows of each position. The spread holds what noise and missing views leave open.
What all members get wrong together, such as the missing wedge, it cannot hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

SPREAD_FACTOR = 2.7  # from the spread to a standard deviation: found on one simulated alloying particle, so a rough one
FAINT = 0.05  # of the largest intensity of the truth: fainter voxels are no specimen


def half_of_rows(validation_rows: Tensor, seed: int) -> Tensor:
    """(Z, T), True for the half of the rows of each position, validation rows apart, that a member does not see."""
    hidden = torch.zeros_like(validation_rows)
    generator = torch.Generator().manual_seed(seed)
    for row, aside in zip(hidden, validation_rows, strict=True):
        others = (~aside).nonzero()[:, 0]
        row[others[torch.randperm(len(others), generator=generator)[: len(others) // 2]]] = True
    return hidden


def spread(members: Sequence[Iterable[Tensor]]) -> Iterator[np.ndarray]:
    """The standard deviation (z, y, x) of every voxel of each frame; members: two or more movies of the same frames."""
    for volumes in zip(*members, strict=True):
        yield SPREAD_FACTOR * torch.stack(volumes).std(0).numpy()


def calibration(volumes: Iterable[np.ndarray], sigmas: Iterable[np.ndarray], *, truth: np.ndarray) -> dict[str, float]:
    """The share of voxels whose error is within 1 and 2 sigma; 0.68 and 0.95 if sigma is right and errors normal.

    Counted where there is a specimen, in the truth or in the volume: above 5 % of the largest intensity of the truth.
    """
    faint, count, within = FAINT * float(truth.max()), 0, np.zeros(2, np.int64)
    for volume, sigma, true in zip(volumes, sigmas, truth, strict=True):
        there = (true > faint) | (volume > faint)
        ratio = np.abs(volume - true)[there] / np.maximum(sigma[there], 1e-12)
        count += ratio.size
        within += (ratio < 1).sum(), (ratio < 2).sum()
    return {"within_1_sigma": float(within[0] / max(count, 1)), "within_2_sigma": float(within[1] / max(count, 1))}
