"""How sure the reconstruction is of every voxel: how far others lie from it, each fitted to half of the rows.

Bagging (Breiman 1996): a member goes on from the network that was fitted to all rows, through a short cycle of its own
in which it sees a random half of the rows of each position. What members leave open is what noise and missing views
leave open; edges may also lie a little elsewhere in all of them. How large all of it is, the validation rows of the run
tell, which neither the fit nor its members have seen: their errors, less their noise, over those that the members would
make of them. What all members get wrong together, such as the missing wedge, it cannot hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from scipy.ndimage import gaussian_gradient_magnitude
from torch import Tensor

from dip4d.reconstruction.data import TiltRows
from dip4d.reconstruction.module import DIP4D

# Along the beam the errors of voxels partly cancel, so that those of rows look smaller: measured on simulated ones,
# docs/experiments-log.md.
VOXELS_OVER_ROWS = 1.75
USUAL_SQUARE, ITS_SPREAD = 0.7, 0.7  # squared error of rows over that of members: where few rows tell little of it
LEAST_SQUARE = 0.05
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


@torch.no_grad()
def scale_of(fitted: DIP4D, members: Sequence[DIP4D], *, data: TiltRows, noise_floor: float | None) -> float:
    """What the spread of members has to be multiplied by; told by the validation rows of the run.

    fitted: that the members went on from.
    members: two or more.
    data: of the fit.
    noise_floor: error of the validation rows that their noise alone makes; None if there are no such rows.

    What the noise of few rows leaves uncertain is taken from what it was for others (`USUAL_SQUARE`).
    """
    if noise_floor is None:
        return VOXELS_OVER_ROWS * USUAL_SQUARE**0.5
    error = apart = norm = rows = 0.0
    for batch in data.all_batches():
        predicted, measured = fitted.validation_rows(batch.to(fitted.device))
        others = torch.stack([m.validation_rows(batch.to(m.device))[0].to(predicted.device) for m in members])
        error += float((predicted - measured).double().square().sum())
        apart += float((others - predicted).double().square().mean(0).sum())
        norm, rows = norm + float(measured.double().square().sum()), rows + measured.numel()
    noise, apart = noise_floor**2 * norm, max(apart, 1e-30)
    found, chance = (error - noise) / apart, max(noise, 1e-6 * norm) * (2 / max(rows, 1)) ** 0.5 / apart
    weights = np.array([1 / chance**2, 1 / ITS_SPREAD**2])
    square = float(np.average([found, USUAL_SQUARE], weights=weights))
    return VOXELS_OVER_ROWS * max(square, LEAST_SQUARE) ** 0.5


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
