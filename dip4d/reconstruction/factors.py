"""Orthoslices that are not drawn: their factors, from which kernels make what a step needs of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from dip4d.projector.operator import triton_serves
from dip4d.reconstruction.precision import full_precision, no_autocast


@dataclass(frozen=True, eq=False)
class Factors:
    """Of the orthoslices ``bound * sigmoid(weights @ maps + offset)``, (B, n, Y, X), intensity per voxel.

    weights: (B, n, K).
    maps: (B, K, Y, X).
    bound: (), intensity per voxel.
    offset: of the logit.
    """

    weights: Tensor
    maps: Tensor
    bound: Tensor
    offset: float

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, n, Y, X)."""
        (batch, times, _), (height, width) = self.weights.shape, self.maps.shape[2:]
        return batch, times, height, width

    def logit(self) -> Tensor:
        """(B, n, Y X), in float32 at least, also under autocast."""
        maps, weights = full_precision(self.maps), full_precision(self.weights)
        with no_autocast(maps.device):
            return torch.baddbmm(maps.new_full((), self.offset), weights, maps.flatten(2))

    @property
    def need_not_be_drawn(self) -> bool:
        """Whether `factors_cuda` can work on them: memory then holds no orthoslices, n / K times as large."""
        return triton_serves(self.maps)


def added(layers: Sequence[Tensor]) -> Tensor:
    """The sum of one or more tensors."""
    total = layers[0]
    for layer in layers[1:]:
        total = total + layer
    return total


@dataclass(frozen=True, eq=False)
class DrawnTogether:
    """Layers that were drawn in one pass.

    slices: (B, n, Y, X), their sum, intensity per voxel.
    differences: (layers, 3), what the total variation of each is made of: the sums of the absolute differences of
        neighbours along x and y, of every `frames_apart`-th frame, and along time.
    frames_apart: see above.
    """

    slices: Tensor
    differences: Tensor
    frames_apart: int


Layers: TypeAlias = Sequence[Tensor] | Sequence[Factors] | DrawnTogether
"""What is added up to orthoslices (B, n, Y, X): each drawn, the factors of each, or all drawn together."""
