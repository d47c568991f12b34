"""On CUDA: from the factors of orthoslices to tilt rows and to total variation, and back, without the orthoslices.

A slice is n / K times as large as its maps, and a step in plain torch writes and reads it some forty times. Here every
kernel makes the pixels that it needs from the maps, in registers, forwards and again backwards:

- *rows*: as the projector of `dip4d.projector.cuda` marches, but a tap is a mixture of K maps. The maps of a position
  stay in the L2 cache while its n views pass over them.
- *variation*, and *both gradients*: a program owns some pixels of all times of a position. Their maps are read once,
  the times pass one after the other; what comes back to the maps gathers in registers. Gradients of weights and bound
  are sums over pixels: each program leaves its part, and torch adds them up. No atomics: the same bits in every run.
"""

# What a checker cannot see of Triton: the types inside of a kernel, constants given as numbers, and num_warps.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from dip4d.projector.cuda import FIELDS, LINES, WARPS, WIDTH, at_bins, back_projected, over_lines, sized_jit, views_of
from dip4d.reconstruction.factors import Factors
from dip4d.reconstruction.few_cuda import few, leave_few

# numbers of the maps that a program holds: as many as leave the registers enough room, by the assembler's count
OF_PROJECTION, OF_VARIATION = 4096, 2048
_jit = triton.jit


@_jit
def _intensity(maps, weights, bound, offset, here, inside, plane, K: tl.constexpr):
    """Intensities of the pixels `here` of a slice, 0 where not `inside`; a map after the other."""
    logit = tl.zeros_like(here).to(tl.float32) + offset
    for k in tl.static_range(K):
        value = tl.load(maps + k * plane + here, mask=inside, other=0.0)
        logit += tl.load(weights + k) * value.to(tl.float32)
    return tl.where(inside, bound * tl.sigmoid(logit), 0.0)


@_jit
def _march(
    maps, weights, bound, offset, view, k, n_lines, length, line_stride, stride, plane,
    K: tl.constexpr, TURNED: tl.constexpr, LINES: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """The sums (WIDTH,) over all lines of a slice at the bins k, k + 1, ..., as in the projector."""
    i, coarse, fine, coarse_step, fine_step = at_bins(view, k, TURNED, LINES, WIDTH)
    total = tl.zeros_like(coarse)
    length = length.to(tl.uint32)  # unsigned: below zero is beyond the end
    for first in range(0, n_lines, LINES):
        left = tl.floor(coarse + fine).to(tl.int32)
        fraction = (coarse - left) + fine
        here = (first + i) * line_stride + left * stride
        line = i < n_lines - first
        a = _intensity(maps, weights, bound, offset, here, line & (left.to(tl.uint32) < length), plane, K)
        line &= (left + 1).to(tl.uint32) < length
        b = _intensity(maps, weights, bound, offset, here + stride, line, plane, K)
        total += a + fraction * (b - a)
        coarse += coarse_step
        fine += fine_step
    return over_lines(total, TURNED, LINES, WIDTH)


@sized_jit
def _project_kernel(
    maps, weights, bound, offset, views, out, ny, nx, bins, n,
    K: tl.constexpr, LINES: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """maps (B, K, Y, X), weights (B, n, K), bound (), views (B n, FIELDS) -> out (B, n, S)."""
    blocks = tl.cdiv(bins, WIDTH)
    row = tl.program_id(0) // blocks
    k = tl.program_id(0) % blocks * WIDTH
    plane, m, view = ny * nx, tl.load(bound), views + row * FIELDS
    maps += (row // n).to(tl.int64) * K * plane
    weights += row * K
    if tl.load(view + 7) > 0:
        sums = _march(maps, weights, m, offset, view, k, nx, ny, 1, nx, plane, K, True, LINES, WIDTH)
    else:
        sums = _march(maps, weights, m, offset, view, k, ny, nx, nx, 1, plane, K, False, LINES, WIDTH)
    k += tl.arange(0, WIDTH)
    tl.store(out + row.to(tl.int64) * bins + k, sums * tl.load(view + 6), mask=k < bins)


@_jit
def _read(maps, p, inside, plane, K: tl.constexpr, ROOM: tl.constexpr):
    """The maps (ROOM, pixels) at the pixels p, 0 where not `inside` and beyond the K of them."""
    k = tl.arange(0, ROOM)
    mask = (k < K)[:, None] & inside[None, :]
    return tl.load(maps + k[:, None] * plane + p[None, :], mask=mask, other=0.0).to(tl.float32)


@_jit
def _share(maps, weights, offset):
    """What share of the bound the pixels have, of maps (ROOM, pixels) and weights (ROOM,)."""
    return tl.sigmoid(tl.sum(weights[:, None] * maps, 0) + offset)


@_jit
def _sign(difference):
    return tl.where(difference > 0, 1.0, 0.0) - tl.where(difference < 0, 1.0, 0.0)


@sized_jit
def _variation_kernel(
    maps, weights, bound, offset, sums, ny, nx, n, apart,
    K: tl.constexpr, ROOM: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """-> sums (B, tiles, 3): of the absolute differences of neighbours along x, y and time; see `total_variation`."""
    b, plane = tl.program_id(0), ny * nx
    p = tl.program_id(1) * PIXELS + tl.arange(0, PIXELS)
    inside = p < plane
    has_right, has_below = inside & (p % nx < nx - 1), p < plane - nx
    maps += b.to(tl.int64) * K * plane
    own = _read(maps, p, inside, plane, K, ROOM)
    along_x = tl.zeros([PIXELS], tl.float32)
    along_y = tl.zeros([PIXELS], tl.float32)
    in_time = tl.zeros([PIXELS], tl.float32)
    before = tl.zeros([PIXELS], tl.float32)
    for t in range(n):
        w = few(weights + (b * n + t) * K, K, ROOM)
        now = _share(own, w, offset)
        if t > 0:
            in_time += tl.where(inside, tl.abs(now - before), 0.0)
        if t % apart == 0:
            right = _share(_read(maps, p + 1, has_right, plane, K, ROOM), w, offset)
            along_x += tl.where(has_right, tl.abs(right - now), 0.0)
            below = _share(_read(maps, p + nx, has_below, plane, K, ROOM), w, offset)
            along_y += tl.where(has_below, tl.abs(below - now), 0.0)
        before = now
    m, to = tl.load(bound), sums + (b * tl.num_programs(1) + tl.program_id(1)) * 3
    tl.store(to, m * tl.sum(along_x, 0))
    tl.store(to + 1, m * tl.sum(along_y, 0))
    tl.store(to + 2, m * tl.sum(in_time, 0))


@_jit
def _to_neighbour(maps, p, there, plane, w, offset, now, K: tl.constexpr, ROOM: tl.constexpr):
    """The derivative of the absolute difference to the neighbours p, by the pixels whose share is `now`."""
    other = _share(_read(maps, p, there, plane, K, ROOM), w, offset)
    return tl.where(there, _sign(now - other), 0.0)


@sized_jit
def _variation_gradient_kernel(
    maps, weights, bound, offset, grads, to_maps, to_weights, to_bound, ny, nx, n, apart,
    K: tl.constexpr, ROOM: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """grads (3,) of the sums of `_variation_kernel` -> as `_project_gradient_kernel`."""
    b, plane = tl.program_id(0), ny * nx
    tile = b * tl.num_programs(1) + tl.program_id(1)
    p = tl.program_id(1) * PIXELS + tl.arange(0, PIXELS)
    inside, x = p < plane, p % nx
    maps += b.to(tl.int64) * K * plane
    own = _read(maps, p, inside, plane, K, ROOM)
    gathered = tl.zeros([ROOM, PIXELS], tl.float32)
    total = tl.zeros([PIXELS], tl.float32)
    grad_x, grad_y, grad_t, m = tl.load(grads), tl.load(grads + 1), tl.load(grads + 2), tl.load(bound)
    before = tl.zeros([PIXELS], tl.float32)
    w = few(weights + b * n * K, K, ROOM)
    now = _share(own, w, offset)
    for t in range(n):
        next_w = few(weights + (b * n + tl.minimum(t + 1, n - 1)) * K, K, ROOM)
        after = _share(own, next_w, offset)
        grad = grad_t * (tl.where(t > 0, _sign(now - before), 0.0) + tl.where(t < n - 1, _sign(now - after), 0.0))
        if t % apart == 0:
            grad += grad_x * _to_neighbour(maps, p - 1, inside & (x > 0), plane, w, offset, now, K, ROOM)
            grad += grad_x * _to_neighbour(maps, p + 1, inside & (x < nx - 1), plane, w, offset, now, K, ROOM)
            grad += grad_y * _to_neighbour(maps, p - nx, inside & (p >= nx), plane, w, offset, now, K, ROOM)
            grad += grad_y * _to_neighbour(maps, p + nx, p < plane - nx, plane, w, offset, now, K, ROOM)
        grad = tl.where(inside, grad * now, 0.0)
        total += grad
        grad *= m * (1 - now)  # of the logit
        gathered += w[:, None] * grad[None, :]
        leave_few(to_weights + (tile * n + t) * K, tl.sum(own * grad[None, :], 1), K, ROOM)
        before, now, w = now, after, next_w
    _leave_maps(to_maps + b.to(tl.int64) * K * plane, gathered, p, inside, plane, K, ROOM)
    tl.store(to_bound + tile, tl.sum(total, 0))


@_jit
def _leave_maps(to, values, p, inside, plane, K: tl.constexpr, ROOM: tl.constexpr):
    k = tl.arange(0, ROOM)
    tl.store(to + k[:, None] * plane + p[None, :], values, mask=(k < K)[:, None] & inside[None, :])


@sized_jit
def _project_gradient_kernel(
    maps, weights, bound, offset, views, rows, to_maps, to_weights, to_bound, ny, nx, bins, n,
    K: tl.constexpr, ROOM: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """rows (B, n, S), by which something changes -> by which it does with the maps, (B, K, Y, X), and with weights and
    bound, the part of each tile of pixels: (B, tiles, n, K) and (B, tiles).
    """
    b, plane = tl.program_id(0), ny * nx
    tile = b * tl.num_programs(1) + tl.program_id(1)
    p = tl.program_id(1) * PIXELS + tl.arange(0, PIXELS)
    inside = p < plane
    own = _read(maps + b.to(tl.int64) * K * plane, p, inside, plane, K, ROOM)
    gathered = tl.zeros([ROOM, PIXELS], tl.float32)
    total = tl.zeros([PIXELS], tl.float32)
    m = tl.load(bound)
    for t in range(n):
        row = b * n + t
        w = few(weights + row * K, K, ROOM)
        share = _share(own, w, offset)
        grad = back_projected(rows + row.to(tl.int64) * bins, views + row * FIELDS, p // nx, p % nx, bins)
        grad = tl.where(inside, grad * share, 0.0)
        total += grad
        grad *= m * (1 - share)  # of the logit
        gathered += w[:, None] * grad[None, :]
        leave_few(to_weights + (tile * n + t) * K, tl.sum(own * grad[None, :], 1), K, ROOM)
    _leave_maps(to_maps + b.to(tl.int64) * K * plane, gathered, p, inside, plane, K, ROOM)
    tl.store(to_bound + tile, tl.sum(total, 0))


class _Tiles:
    """How pixels are shared out to programs, and where their gradients gather."""

    def __init__(self, maps: Tensor, times: int, *, numbers: int) -> None:
        batch, self.K, self.ny, self.nx = maps.shape
        self.room = max(2, triton.next_power_of_2(self.K))
        self.pixels = max(32, numbers // self.room)
        self.grid = batch, triton.cdiv(self.ny * self.nx, self.pixels)
        self.sizes = {"K": self.K, "ROOM": self.room, "PIXELS": self.pixels, "num_warps": WARPS}
        self.times = times

    def gradients(self, maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        new = lambda *size: torch.empty(size, dtype=torch.float32, device=maps.device)
        return new(*maps.shape), new(*self.grid, self.times, self.K), new(*self.grid)


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weights: Tensor, maps: Tensor, bound: Tensor, offset: float, views: tuple, bins: int
    ) -> Tensor:
        weights, maps = weights.float().contiguous(), maps.contiguous()
        (batch, n, K), (ny, nx) = weights.shape, maps.shape[2:]
        out = torch.empty(batch, n, bins, dtype=torch.float32, device=maps.device)
        with torch.cuda.device_of(maps):
            view = views_of(*views, (ny, nx), bins, forward=True)
            _project_kernel[(batch * n * triton.cdiv(bins, WIDTH),)](
                maps, weights, bound, offset, view, out, ny, nx, bins, n, K, LINES, WIDTH, num_warps=WARPS
            )
        ctx.save_for_backward(weights, maps, bound, *views)
        ctx.offset, ctx.bins = offset, bins
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor):
        weights, maps, bound, *views = ctx.saved_tensors
        rows, tiles = grads[0].float().contiguous(), _Tiles(maps, weights.shape[1], numbers=OF_PROJECTION)
        to = tiles.gradients(maps)
        with torch.cuda.device_of(maps):
            view = views_of(*views, (tiles.ny, tiles.nx), ctx.bins, forward=False)
            _project_gradient_kernel[tiles.grid](
                maps, weights, bound, ctx.offset, view, rows, *to,
                tiles.ny, tiles.nx, ctx.bins, tiles.times, **tiles.sizes,
            )  # fmt: skip
        return to[1].sum(1), to[0].to(maps), to[2].sum().to(bound), None, None, None


class _Variation(torch.autograd.Function):
    """(3,): sums of the absolute differences along x, y and time."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, maps: Tensor, bound: Tensor, offset: float, apart: int) -> Tensor:
        weights, maps = weights.float().contiguous(), maps.contiguous()
        tiles = _Tiles(maps, weights.shape[1], numbers=OF_VARIATION)
        sums = torch.empty(*tiles.grid, 3, dtype=torch.float32, device=maps.device)
        with torch.cuda.device_of(maps):
            _variation_kernel[tiles.grid](
                maps, weights, bound, offset, sums, tiles.ny, tiles.nx, tiles.times, apart, **tiles.sizes
            )
        ctx.save_for_backward(weights, maps, bound)
        ctx.offset, ctx.apart = offset, apart
        return sums.sum((0, 1), dtype=torch.float64).float()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor):
        weights, maps, bound = ctx.saved_tensors
        tiles = _Tiles(maps, weights.shape[1], numbers=OF_VARIATION)
        to = tiles.gradients(maps)
        with torch.cuda.device_of(maps):
            _variation_gradient_kernel[tiles.grid](
                maps, weights, bound, ctx.offset, grads[0].contiguous(), *to,
                tiles.ny, tiles.nx, tiles.times, ctx.apart, **tiles.sizes,
            )  # fmt: skip
        return to[1].sum(1), to[0].to(maps), to[2].sum().to(bound), None, None


def project(factors: Factors, angles: Tensor, *, shift: Tensor, bins: int) -> Tensor:
    """Tilt rows (B, n, S), float32, of the orthoslices at angles (B, n), radians, and shifts (B, n), bins.

    Differentiable once, in weights, maps and bound.
    """
    return _Project.apply(factors.weights, factors.maps, factors.bound, factors.offset, (angles, shift), bins)


def variation_sums(factors: Factors, frames_apart: int) -> Tensor:
    """(3,): the sums of the absolute differences of neighbours along x and y, of every `frames_apart`-th frame, and
    along time. Differentiable once, in weights, maps and bound.
    """
    return _Variation.apply(factors.weights, factors.maps, factors.bound, factors.offset, frames_apart)
