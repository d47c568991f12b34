"""Conventional reconstruction, as short functions of an operator and its rows: what ours is compared with."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dip4d.projector import Projector


def _inverse(x: Tensor) -> Tensor:
    return torch.where(x > 1e-6, 1 / x, torch.zeros_like(x))


def sirt_steps(A: Projector, y: Tensor, x: Tensor | None = None, known: Tensor | None = None) -> Iterator[Tensor]:
    """SIRT, one iterate at a time, for ever: ``x <- max(0, x + C A^T R (y - A x))``.

    y: (B, n, S), rows. x: (B, Y, X), where to start; zeros if None. known: (B, n), 0 for rows to leave out.
    R and C are the inverse row and column sums of A, as in ASTRA (van Aarle et al., Ultramicroscopy 157:35, 2015);
    non-negative after each iteration, relaxation 1. The same tensor is updated and yielded: clone it to keep it.
    """
    ones = y.new_ones(len(y), *A.domain_shape)
    weight = y.new_ones(y.shape[:2]) if known is None else known.to(y)
    rows = _inverse(A(ones)) * weight[..., None]
    columns = _inverse(A.T(weight[..., None].expand(y.shape)))
    x = torch.zeros_like(ones) if x is None else x.clone()
    while True:
        x.addcmul_(columns, A.T(rows * (y - A(x)))).clamp_(min=0)
        yield x


def sirt(A: Projector, y: Tensor, iterations: int, x: Tensor | None = None, known: Tensor | None = None) -> Tensor:
    """The iterate of `sirt_steps` after `iterations` iterations, (B, Y, X)."""
    steps = sirt_steps(A, y, x, known)
    for _ in range(iterations):
        x = next(steps)
    return x


def window(t: int, frames: int, width: int) -> slice:
    """The `width` frames around t; at the ends of the series, the first or last `width`."""
    width = min(width, frames)
    start = min(max(t - width // 2, 0), frames - width)
    return slice(start, start + width)
