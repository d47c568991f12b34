"""How sure the reconstruction is of every voxel: how far others lie from it, each fitted to half of the rows.

Bagging (Breiman 1996): a member goes on from the network that was fitted to all rows, through a short cycle of its own
in which it sees a random half of the rows of each position. What members leave open is what noise and missing views
leave open; edges may also lie a little elsewhere in all of them. The more noise, the more is wrong with all of them
alike: by how much, simulated series have told. The errors of a run's own validation rows tell it worse. What all
members get wrong together for other reasons, such as the missing wedge, it cannot hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from scipy.ndimage import gaussian_gradient_magnitude
from torch import Tensor

# Found on 15 simulated series, of 15 to 5,000 counts: docs/experiments-log.md.
SCALE, SCALE_OF_NOISE = 1.05, 3.5  # times the spread: without noise, and more for each unit of its relative error,
MOST_NOISE = 0.25  # up to this one
USUAL_NOISE = 0.07  # of 500 counts: where it is not known
EDGE_VOXELS = 0.1  # by which an edge may lie elsewhere,
EDGE_WIDTH = 0.7  # voxels, over which its slope is measured
FAINT = 0.05  # of the largest intensity of the truth: fainter voxels are no specimen


def half_of_rows(validation_rows: Tensor, seed: int) -> Tensor:
    """(Z, T), True for the half of the rows of each position, validation rows apart, that a member does not see."""
    hidden = torch.zeros_like(validation_rows)
    generator = torch.Generator().manual_seed(seed)
    for row, aside in zip(hidden, validation_rows, strict=True):
        others = (~aside).nonzero()[:, 0]
        row[others[torch.randperm(len(others), generator=generator)[: len(others) // 2]]] = True
    return hidden


def spread(volumes: Iterable[Tensor], members: Sequence[Iterable[Tensor]], *, scale: float) -> Iterator[np.ndarray]:
    """The standard deviation (z, y, x) of every voxel of each frame.

    volumes: of the fit, (z, y, x), frame by frame.
    members: two or more movies of the same frames.
    scale: as by `scale_of`.
    """
    for volume, *others in zip(volumes, *members, strict=True):
        apart = torch.stack(others).sub(volume).square().mean(0).numpy()
        slope = gaussian_gradient_magnitude(volume.numpy(), EDGE_WIDTH)
        yield scale * np.sqrt(apart + (EDGE_VOXELS * slope) ** 2)


def scale_of(noise_floor: float | None) -> float:
    """What the spread of members has to be multiplied by.

    noise_floor: the relative error of the validation rows that their noise alone makes; None if there are no such rows.
    """
    noise = USUAL_NOISE if noise_floor is None else min(noise_floor, MOST_NOISE)
    return SCALE + SCALE_OF_NOISE * noise


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
