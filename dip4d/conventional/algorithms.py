"""Conventional reconstruction, as short functions of an operator and its rows: what ours is compared with.

In all of them y: (B, n, S), rows, intensity; x: (B, Y, X), slices, intensity per pixel; row_mask: (B, n), 0 for rows to
leave out, 1 for the others, all of them if None. Slices do not influence each other: `in_slabs`. Least squares, as of
`tv_steps`, take weights of pixels (B, n, S) for a row mask as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import islice, repeat

import torch
from torch import Tensor
from torch.nn.functional import pad

from dip4d.projector import Projector
from dip4d.projector.ramp import filter_ramp

HALF_TURN = 1_000_000  # angles are the same view if they agree to this part of 180 degrees


def reciprocal(x: Tensor) -> Tensor:
    """1 / x, and 0 where x is 0."""
    return torch.where(x > 1e-6, 1 / x, torch.zeros_like(x))


def row_weights(y: Tensor, row_mask: Tensor | None) -> Tensor:
    """`row_mask` as a factor of the rows, (B, n, 1); what is (B, n, S) stays."""
    weights = y.new_ones(y.shape[:2]) if row_mask is None else row_mask.to(y)
    return weights if weights.ndim == 3 else weights[..., None]


def _last(iterates: Iterator[Tensor], iterations: int) -> Tensor:
    """The iterate after so many iterations, one or more."""
    return next(islice(iterates, iterations - 1, None))


def fbp(A: Projector, y: Tensor, *, row_mask: Tensor | None = None) -> Tensor:
    """Filtered back-projection, (B, Y, X), each view weighted by the share of the half-turn that it represents.

    Nothing stands in for a missing wedge: the middle of a disc of intensity 1 comes back as 1 if seen over the whole
    half-turn, as 140 / 180 if seen over 140 degrees of it. Values may be negative, and are wrong outside of the circle
    that all views see. Raises ValueError if each slice has its own angles.
    """
    if not A.geometry.shared:
        raise ValueError("fbp needs angles (n,) that all slices share")
    return A.T(filter_ramp(y) * _shares(A.geometry.angles.to(y.device), row_weights(y, row_mask)[..., 0])[..., None])


def _shares(angles: Tensor, row_mask: Tensor) -> Tensor:
    """Half of the gaps to the next angles at both sides, radians, for angles (n,) and `row_mask` (B, n): (B, n).

    Angles count modulo a half-turn, images at the same angle share its part. A gap more than twice as wide as any
    other is a missing wedge: for the views at its edges it is as wide as their gap at the other side.
    """
    places, group = (angles / math.pi * HALF_TURN).round().long().remainder(HALF_TURN).unique(return_inverse=True)
    m = len(places)
    images = row_mask.new_zeros(len(row_mask), m).index_add_(1, group, row_mask)  # (B, m), at each place
    seen = (images > 0).repeat(1, 3)
    turns = torch.cat((places - HALF_TURN, places, places + HALF_TURN)).expand_as(seen)  # (B, 3 m), so as to wrap
    before = turns.where(seen, -2 * HALF_TURN).cummax(1).values[:, m - 1 : 2 * m - 1]
    after = turns.where(seen, 3 * HALF_TURN).flip(1).cummin(1).values.flip(1)[:, m + 1 : 2 * m + 1]
    left, right = places - before, after - places
    widest, second = pad(right * seen[:, :m], (0, 1)).topk(2).values.unbind(1)
    wedge = torch.where(widest > 2 * second, widest, -1)[:, None]
    width = torch.where(left == wedge, right, left) + torch.where(right == wedge, left, right)
    return row_mask * (width / images.clamp(min=1e-6))[:, group] * (math.pi / (2 * HALF_TURN))


def fbp_steps(A: Projector, y: Tensor, *, row_mask: Tensor | None = None) -> Iterator[Tensor]:
    """Filtered back-projection in the form of an iteration: non-negative, and the same at every step."""
    return repeat(fbp(A, y, row_mask=row_mask).clamp_(min=0))


def sirt_steps(
    A: Projector,
    y: Tensor,
    *,
    x: Tensor | None = None,
    row_mask: Tensor | None = None,
) -> Iterator[Tensor]:
    """SIRT, one iterate at a time, for ever: ``x <- max(0, x + C A^T R (y - A x))``.

    y: (B, n, S), rows.
    x: (B, Y, X), where to start; zeros if None.
    row_mask: (B, n), 0 for rows to leave out.
    R and C are the inverse row and column sums of A, as in ASTRA (van Aarle et al., Ultramicroscopy 157:35, 2015);
    non-negative after each iteration, relaxation 1. The same tensor is updated and yielded: clone it to keep it.
    """
    ones = y.new_ones(len(y), *A.domain_shape)
    weight = row_weights(y, row_mask)
    rows = reciprocal(A(ones)) * weight
    columns = reciprocal(A.T(weight.expand(y.shape)))
    x = torch.zeros_like(ones) if x is None else x.clone()
    while True:
        x.addcmul_(columns, A.T(rows * (y - A(x)))).clamp_(min=0)
        yield x


def sirt(
    A: Projector,
    y: Tensor,
    iterations: int,
    *,
    x: Tensor | None = None,
    row_mask: Tensor | None = None,
) -> Tensor:
    """The iterate of `sirt_steps` after `iterations` iterations, (B, Y, X)."""
    return _last(sirt_steps(A, y, x=x, row_mask=row_mask), iterations)


def em_steps(
    A: Projector,
    y: Tensor,
    *,
    x: Tensor | None = None,
    row_mask: Tensor | None = None,
) -> Iterator[Tensor]:
    """Expectation maximisation for counts, one iterate at a time, for ever: ``x <- x / A^T 1 * A^T (y / A x)``.

    x: where to start, > 0 since a zero stays; uniform if None, with the mass of the rows. Negative y count as 0. The
    Poisson likelihood never falls, and after each iteration A x sums to what y does, slice by slice (Shepp and
    Vardi, IEEE Trans. Med. Imaging 1:113, 1982). The same tensor is updated and yielded: clone it to keep it.
    """
    weight = row_weights(y, row_mask)
    y = y.clamp(min=0) * weight
    columns = A.T(weight.expand(y.shape))
    inverse = reciprocal(columns)
    least = torch.finfo(y.dtype).eps * y.amax((1, 2), keepdim=True) + torch.finfo(y.dtype).tiny  # against 0 / 0
    if x is None:
        x = y.sum((1, 2), keepdim=True) / columns.sum((1, 2), keepdim=True).clamp(min=1e-6)
    x = x.expand(columns.shape).clone()
    while True:
        x.mul_(inverse * A.T(y / A(x).clamp(min=least)))
        yield x


def em(
    A: Projector,
    y: Tensor,
    iterations: int,
    *,
    x: Tensor | None = None,
    row_mask: Tensor | None = None,
) -> Tensor:
    """The iterate of `em_steps` after `iterations` iterations, (B, Y, X)."""
    return _last(em_steps(A, y, x=x, row_mask=row_mask), iterations)


def tv_steps(
    A: Projector,
    y: Tensor,
    *,
    weight: float,
    x: Tensor | None = None,
    row_mask: Tensor | None = None,
) -> Iterator[Tensor]:
    """Least squares with total variation, one iterate at a time, for ever: towards the minimiser over x >= 0 of
    ``1/2 |A x - y|^2 + weight TV(x)``, with the isotropic TV of each slice.

    weight: >= 0, intensity; good ones are near the standard deviation of the noise in y times sqrt(n), or half of it.
    x: where to start; zeros if None.
    row_mask: (B, n), 0 for rows to leave out; or (B, n, S), the weight of each squared difference.
    The primal-dual method of Chambolle and Pock (J. Math. Imaging Vis. 40:120, 2011), its steps from the row and column
    sums (Pock and Chambolle, ICCV 2011, with alpha = 1): it converges for every geometry. Non-negative after each
    iteration. Raises ValueError for a negative weight.
    """
    if not weight >= 0:
        raise ValueError(f"the weight of the total variation must be >= 0, got {weight}")
    use = row_weights(y, row_mask)
    ones = y.new_ones(len(y), *A.domain_shape)
    balance = max(A.domain_shape) ** 0.5  # of dual to primal steps: any is safe, this one was found fast
    row_step = balance * reciprocal(A(ones))
    edge_step = 8 * balance / 2  # a row of the gradient sums to 2, a column to at most 4
    step = 1 / (balance * A.T((use > 0).to(y).expand(y.shape)) + 8 * balance * 4)
    shrink = use * reciprocal(use + row_step)
    now: Tensor = torch.zeros_like(ones) if x is None else x.clone()
    ahead, residual, edges = now, torch.zeros_like(y), y.new_zeros(len(y), 2, *A.domain_shape)
    while True:
        residual = shrink * (residual + row_step * (A(ahead) - y))
        edges = edges + edge_step * _gradient(ahead)
        length = torch.hypot(edges[:, :1], edges[:, 1:])  # `norm` takes half of the time of a step
        edges *= weight / length.clamp(min=max(weight, torch.finfo(y.dtype).tiny))
        before, now = now, (now - step * (A.T(residual) + _gradient_transposed(edges))).clamp_(min=0)
        ahead = 2 * now - before
        yield now


def tv(
    A: Projector,
    y: Tensor,
    iterations: int,
    *,
    weight: float,
    x: Tensor | None = None,
    row_mask: Tensor | None = None,
) -> Tensor:
    """The iterate of `tv_steps` after `iterations` iterations, (B, Y, X)."""
    return _last(tv_steps(A, y, weight=weight, x=x, row_mask=row_mask), iterations)


def _gradient(x: Tensor) -> Tensor:
    """Forward differences along y and x, 0 at the far edges: (B, Y, X) to (B, 2, Y, X)."""
    return torch.stack((x.diff(dim=1, append=x[:, -1:]), x.diff(dim=2, append=x[..., -1:])), 1)


def _gradient_transposed(p: Tensor) -> Tensor:
    """The transpose of `_gradient`, for p that is 0 at the far edges as gradients are."""
    return -pad(p[:, 0], (0, 0, 1, 0)).diff(dim=1) - pad(p[:, 1], (1, 0)).diff(dim=2)


def in_slabs(
    reconstruct: Callable[[Tensor, Tensor | None], Tensor],
    y: Tensor,
    *,
    slab: int,
    row_mask: Tensor | None = None,
    report: Callable[[int], None] | None = None,
) -> Tensor:
    """``reconstruct(y, row_mask)``, (B, Y, X), for at most `slab` slices at a time, so that memory is bounded.

    reconstruct: say ``lambda y, row_mask: sirt(A, y, 50, row_mask=row_mask)``; it may move y to another device.
    y: (B, n, S), rows.
    slab: how many slices at a time.
    row_mask: (B, n), or None.
    report: called after each slab with the number of slices done.
    The result is that of one call, on the device of y. Raises ValueError if y or a slab has no slices.
    """
    if slab < 1 or len(y) < 1:
        raise ValueError(f"expected slabs and rows of at least 1 slice, got slab={slab} and {len(y)} slices")
    out = None
    for start in range(0, len(y), slab):
        part = slice(start, start + slab)
        x = reconstruct(y[part], None if row_mask is None else row_mask[part])
        if out is None:
            out = torch.empty(len(y), *x.shape[1:], dtype=x.dtype, device=y.device)
        out[part] = x
        if report is not None:
            report(min(start + slab, len(y)))
    assert out is not None
    return out
