"""Conventional reconstruction, as short functions of an operator and its rows: what ours is compared with.

In all of them y: (B, n, S), rows, intensity; x: (B, Y, X), slices, intensity per pixel; known: (B, n), 0 for rows to
leave out, 1 for the others, all of them if None. Slices do not influence each other: `in_slabs`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from dip4d.projector import Projector

HALF_TURN = 1_000_000  # angles are the same view if they agree to this part of 180 degrees


def _inverse(x: Tensor) -> Tensor:
    return torch.where(x > 1e-6, 1 / x, torch.zeros_like(x))


def _weight(y: Tensor, known: Tensor | None) -> Tensor:
    """`known` as a factor of the rows, (B, n, 1)."""
    return (y.new_ones(y.shape[:2]) if known is None else known.to(y))[..., None]


def _advance(steps: Iterator[Tensor], iterations: int, x: Tensor | None) -> Tensor:
    for _ in range(iterations):
        x = next(steps)
    return x


def fbp(A: Projector, y: Tensor, known: Tensor | None = None) -> Tensor:
    """Filtered back-projection, (B, Y, X), each view weighted by the share of the half-turn that it represents.

    Nothing stands in for a missing wedge: the middle of a disc of intensity 1 comes back as 1 if seen over the whole
    half-turn, as 140 / 180 if seen over 140 degrees of it. Values may be negative, and are wrong outside of the circle
    that all views see. Raises ValueError if each slice has its own angles.
    """
    if not A.geometry.shared:
        raise ValueError("fbp needs angles (n,) that all slices share")
    return A.T(filter_ramp(y) * _shares(A.geometry.angles.to(y.device), _weight(y, known)[..., 0])[..., None])


def filter_ramp(y: Tensor) -> Tensor:
    """Rows (..., S) filtered by |frequency|, in cycles per bin.

    The filter is band-limited and defined in real space (Kak and Slaney, Principles of Computerized Tomographic
    Imaging, 1988, eq. 61), the rows are padded with zeros: there is no bias at low frequencies.
    """
    length = 2 * y.shape[-1]
    lag = torch.arange(length, device=y.device).to(y)
    lag = torch.minimum(lag, length - lag)  # 0, 1, 2, ..., 2, 1
    ramp = torch.where(lag % 2 == 1, -1 / (math.pi * lag).square(), 0)
    ramp[0] = 1 / 4
    return torch.fft.irfft(torch.fft.rfft(y, length) * torch.fft.rfft(ramp).real, length)[..., : y.shape[-1]]


def _shares(angles: Tensor, known: Tensor) -> Tensor:
    """Half of the gaps to the next angles at both sides, radians, for angles (n,) and `known` (B, n): (B, n).

    Angles count modulo a half-turn, images at the same angle share its part. A gap more than twice as wide as any
    other is a missing wedge: for the views at its edges it is as wide as their gap at the other side.
    """
    places, group = (angles / math.pi * HALF_TURN).round().long().remainder(HALF_TURN).unique(return_inverse=True)
    m = len(places)
    images = known.new_zeros(len(known), m).index_add_(1, group, known)  # (B, m), at each place
    seen = (images > 0).repeat(1, 3)
    turns = torch.cat((places - HALF_TURN, places, places + HALF_TURN)).expand_as(seen)  # (B, 3 m), so as to wrap
    before = turns.where(seen, -2 * HALF_TURN).cummax(1).values[:, m - 1 : 2 * m - 1]
    after = turns.where(seen, 3 * HALF_TURN).flip(1).cummin(1).values.flip(1)[:, m + 1 : 2 * m + 1]
    left, right = places - before, after - places
    widest, second = pad(right * seen[:, :m], (0, 1)).topk(2).values.unbind(1)
    wedge = torch.where(widest > 2 * second, widest, -1)[:, None]
    width = torch.where(left == wedge, right, left) + torch.where(right == wedge, left, right)
    return known * (width / images.clamp(min=1e-6))[:, group] * (math.pi / (2 * HALF_TURN))


def sirt_steps(A: Projector, y: Tensor, x: Tensor | None = None, known: Tensor | None = None) -> Iterator[Tensor]:
    """SIRT, one iterate at a time, for ever: ``x <- max(0, x + C A^T R (y - A x))``.

    y: (B, n, S), rows. x: (B, Y, X), where to start; zeros if None. known: (B, n), 0 for rows to leave out.
    R and C are the inverse row and column sums of A, as in ASTRA (van Aarle et al., Ultramicroscopy 157:35, 2015);
    non-negative after each iteration, relaxation 1. The same tensor is updated and yielded: clone it to keep it.
    """
    ones = y.new_ones(len(y), *A.domain_shape)
    weight = _weight(y, known)
    rows = _inverse(A(ones)) * weight
    columns = _inverse(A.T(weight.expand(y.shape)))
    x = torch.zeros_like(ones) if x is None else x.clone()
    while True:
        x.addcmul_(columns, A.T(rows * (y - A(x)))).clamp_(min=0)
        yield x


def sirt(A: Projector, y: Tensor, iterations: int, x: Tensor | None = None, known: Tensor | None = None) -> Tensor:
    """The iterate of `sirt_steps` after `iterations` iterations, (B, Y, X)."""
    return _advance(sirt_steps(A, y, x, known), iterations, x)


def em_steps(A: Projector, y: Tensor, x: Tensor | None = None, known: Tensor | None = None) -> Iterator[Tensor]:
    """Expectation maximisation for counts, one iterate at a time, for ever: ``x <- x / A^T 1 * A^T (y / A x)``.

    x: where to start, > 0 since a zero stays; uniform if None, with the mass of the rows. Negative y count as 0. The
    Poisson likelihood never falls, and after each iteration A x sums to what y does, slice by slice (Shepp and
    Vardi, IEEE Trans. Med. Imaging 1:113, 1982). The same tensor is updated and yielded: clone it to keep it.
    """
    weight = _weight(y, known)
    y = y.clamp(min=0) * weight
    columns = A.T(weight.expand(y.shape))
    inverse = _inverse(columns)
    least = torch.finfo(y.dtype).eps * y.amax((1, 2), keepdim=True) + torch.finfo(y.dtype).tiny  # against 0 / 0
    if x is None:
        x = y.sum((1, 2), keepdim=True) / columns.sum((1, 2), keepdim=True).clamp(min=1e-6)
    x = x.expand(columns.shape).clone()
    while True:
        x.mul_(inverse * A.T(y / A(x).clamp(min=least)))
        yield x


def em(A: Projector, y: Tensor, iterations: int, x: Tensor | None = None, known: Tensor | None = None) -> Tensor:
    """The iterate of `em_steps` after `iterations` iterations, (B, Y, X)."""
    return _advance(em_steps(A, y, x, known), iterations, x)


def tv_steps(
    A: Projector, y: Tensor, weight: float, x: Tensor | None = None, known: Tensor | None = None
) -> Iterator[Tensor]:
    """Least squares with total variation, one iterate at a time, for ever: towards the minimiser over x >= 0 of
    ``1/2 |A x - y|^2 + weight TV(x)``, with the isotropic TV of each slice.

    weight: >= 0, intensity; good ones are near the standard deviation of the noise in y times sqrt(n), or half of it.
    x: where to start; zeros if None. The primal-dual method of Chambolle and Pock (J. Math. Imaging Vis. 40:120,
    2011), its steps from the row and column sums (Pock and Chambolle, ICCV 2011, with alpha = 1): it converges for
    every geometry. Non-negative after each iteration. Raises ValueError for a negative weight.
    """
    if not weight >= 0:
        raise ValueError(f"the weight of the total variation must be >= 0, got {weight}")
    use = _weight(y, known)
    ones = y.new_ones(len(y), *A.domain_shape)
    balance = max(A.domain_shape) ** 0.5  # of dual to primal steps: any is safe, this one was found fast
    row_step = balance * _inverse(A(ones))
    edge_step = 8 * balance / 2  # a row of the gradient sums to 2, a column to at most 4
    step = 1 / (balance * A.T((use > 0).to(y).expand(y.shape)) + 8 * balance * 4)
    shrink = use * _inverse(use + row_step)
    x = torch.zeros_like(ones) if x is None else x.clone()
    ahead, residual, edges = x, torch.zeros_like(y), y.new_zeros(len(y), 2, *A.domain_shape)
    while True:
        residual = shrink * (residual + row_step * (A(ahead) - y))
        edges = edges + edge_step * _gradient(ahead)
        edges *= weight / edges.norm(dim=1, keepdim=True).clamp(min=max(weight, torch.finfo(y.dtype).tiny))
        before, x = x, (x - step * (A.T(residual) + _gradient_transposed(edges))).clamp_(min=0)
        ahead = 2 * x - before
        yield x


def tv(
    A: Projector, y: Tensor, weight: float, iterations: int, x: Tensor | None = None, known: Tensor | None = None
) -> Tensor:
    """The iterate of `tv_steps` after `iterations` iterations, (B, Y, X)."""
    return _advance(tv_steps(A, y, weight, x, known), iterations, x)


def _gradient(x: Tensor) -> Tensor:
    """Forward differences along y and x, 0 at the far edges: (B, Y, X) to (B, 2, Y, X)."""
    return torch.stack((x.diff(dim=1, append=x[:, -1:]), x.diff(dim=2, append=x[..., -1:])), 1)


def _gradient_transposed(p: Tensor) -> Tensor:
    """The transpose of `_gradient`, for p that is 0 at the far edges as gradients are."""
    return -pad(p[:, 0], (0, 0, 1, 0)).diff(dim=1) - pad(p[:, 1], (1, 0)).diff(dim=2)


def in_slabs(
    reconstruct: Callable[[Tensor, Tensor | None], Tensor],
    y: Tensor,
    slab: int,
    known: Tensor | None = None,
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """``reconstruct(y, known)``, (B, Y, X), for at most `slab` slices at a time, so that memory is bounded.

    The result is that of one call, on the device of y: ``in_slabs(lambda y, known: sirt(A, y, 50, known=known), y,
    64)``. `reconstruct` may move what it gets to another device. progress(done) is called after each slab with the
    number of slices done. Raises ValueError if y or a slab has no slices.
    """
    if slab < 1 or len(y) < 1:
        raise ValueError(f"expected slabs and rows of at least 1 slice, got slab={slab} and {len(y)} slices")
    out = None
    for start in range(0, len(y), slab):
        part = slice(start, start + slab)
        x = reconstruct(y[part], None if known is None else known[part])
        if out is None:
            out = torch.empty(len(y), *x.shape[1:], dtype=x.dtype, device=y.device)
        out[part] = x
        if progress is not None:
            progress(min(start + slab, len(y)))
    return out


def window(t: int, frames: int, width: int) -> slice:
    """The `width` frames around t; at the ends of the series, the first or last `width`."""
    width = min(width, frames)
    start = min(max(t - width // 2, 0), frames - width)
    return slice(start, start + width)


def evenly(length: int, count: int) -> list[int]:
    """At most `count` different indices below `length`, evenly spread, the first and the last among them."""
    return sorted({round(i * (length - 1) / max(count - 1, 1)) for i in range(count)})
