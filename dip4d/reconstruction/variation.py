"""Total variation of orthoslices in space and in time, and their bound, each in one pass over memory.

On the CPU in float32 by numba, on CUDA from the factors of orthoslices by Triton, elsewhere in plain torch; all are
differentiable once, and agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dip4d.reconstruction import factors_cpu
from dip4d.reconstruction.factors import DrawnTogether, Factors, Layers
from dip4d.threads import fast_jit, on_threads

FRAMES_APART = 4  # frames between two whose total variation in space is added up, in a fit


def variation_of_layers(layers: Layers, frames_apart: int = FRAMES_APART) -> tuple[Tensor, Tensor]:
    """The sums of the `total_variation` of each of some layers, in space and in time."""
    if isinstance(layers, DrawnTogether):
        counts = torch.from_numpy(_counts(layers.slices.shape, layers.frames_apart))
        along_x, along_y, in_time = (layers.differences.sum(0) / counts.to(layers.differences)).unbind()
        return along_x + along_y, in_time
    space, time = zip(*(total_variation(layer, frames_apart) for layer in layers), strict=True)
    return torch.stack(space).sum(), torch.stack(time).sum()


def total_variation(slices: Tensor | Factors, frames_apart: int = 1) -> tuple[Tensor, Tensor]:
    """Of orthoslices (B, n, Y, X), in space and in time: the mean absolute difference of neighbours.

    In space of pixels along y, plus that along x, of every `frames_apart`-th frame; in time of frames, 0 of one alone.
    Given factors for which there are kernels, without drawing the orthoslices.
    """
    if isinstance(slices, Factors):
        from dip4d.reconstruction.factors_cuda import variation_sums

        counts = _counts(slices.shape, frames_apart).tolist()
        x, y, time = (v / n for v, n in zip(variation_sums(slices, frames_apart), counts, strict=True))
        return x + y, time
    if slices.device.type == "cpu" and slices.dtype == torch.float32:
        sums = _Sums.apply(slices, frames_apart)
        return sums[0] + sums[1], sums[2]
    some = slices[:, ::frames_apart]
    space = _mean_step(some, dim=-1) + _mean_step(some, dim=-2)
    return space, _mean_step(slices, dim=1)


def _mean_step(values: Tensor, dim: int) -> Tensor:
    """The mean absolute difference of neighbours along an axis; 0 where there are none."""
    return values.diff(dim=dim).abs().mean() if values.shape[dim] > 1 else values.new_zeros(())


def _counts(shape: tuple[int, ...], apart: int) -> np.ndarray:
    """How many neighbours there are along x and y, of every few frames, and along time; 1 where there are none."""
    b, n, y, x = shape
    shown = b * -(-n // apart)
    return np.maximum([shown * y * (x - 1), shown * (y - 1) * x, b * (n - 1) * y * x], 1.0)


class _Sums(torch.autograd.Function):
    """(3,): the mean absolute differences along x and y, of every few frames, and along time."""

    @staticmethod
    def forward(ctx: Any, slices: Tensor, apart: int) -> Tensor:
        slices = slices.contiguous()
        b, n = slices.shape[:2]
        ctx.apart, ctx.counts = apart, _counts(slices.shape, apart)
        ctx.save_for_backward(slices)
        sums = np.zeros((b * n, 3))
        on_threads(_add_up, (slices.detach().numpy(), apart, sums), items=b * n)
        return torch.from_numpy(sums.sum(0) / ctx.counts).to(slices)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor):
        (slices,) = ctx.saved_tensors
        weights = (grads[0].double().numpy() / ctx.counts).astype(np.float32)
        out = np.empty(slices.shape, np.float32)
        b, n = slices.shape[:2]
        on_threads(_differentiate, (slices.detach().numpy(), ctx.apart, weights, out), items=b * n)
        return torch.from_numpy(out), None


@fast_jit
def _add_up(x, apart, sums, first, last):
    for item in range(first, last):
        b, t = divmod(item, x.shape[1])
        for i in range(x.shape[2]):
            along_x, along_y, in_time = np.float32(0), np.float32(0), np.float32(0)
            if t % apart == 0:
                for j in range(x.shape[3] - 1):
                    along_x += abs(x[b, t, i, j + 1] - x[b, t, i, j])
                if i + 1 < x.shape[2]:
                    for j in range(x.shape[3]):
                        along_y += abs(x[b, t, i + 1, j] - x[b, t, i, j])
            if t + 1 < x.shape[1]:
                for j in range(x.shape[3]):
                    in_time += abs(x[b, t + 1, i, j] - x[b, t, i, j])
            sums[item, 0] += along_x
            sums[item, 1] += along_y
            sums[item, 2] += in_time


@fast_jit
def _sign(value):
    return np.float32(value > 0) - np.float32(value < 0)


@fast_jit
def _differentiate(x, apart, weights, out, first, last):
    """out: the derivative of the weighted sums; a row at a time, so that it stays in the cache."""
    n, rows, cols = x.shape[1:]
    for item in range(first, last):
        b, t = divmod(item, n)
        for i in range(rows):
            for j in range(cols):
                out[b, t, i, j] = 0
            if t > 0:
                for j in range(cols):
                    out[b, t, i, j] += weights[2] * _sign(x[b, t, i, j] - x[b, t - 1, i, j])
            if t + 1 < n:
                for j in range(cols):
                    out[b, t, i, j] -= weights[2] * _sign(x[b, t + 1, i, j] - x[b, t, i, j])
            if t % apart == 0:
                for j in range(1, cols):
                    out[b, t, i, j] += weights[0] * _sign(x[b, t, i, j] - x[b, t, i, j - 1])
                for j in range(cols - 1):
                    out[b, t, i, j] -= weights[0] * _sign(x[b, t, i, j + 1] - x[b, t, i, j])
                if i > 0:
                    for j in range(cols):
                        out[b, t, i, j] += weights[1] * _sign(x[b, t, i, j] - x[b, t, i - 1, j])
                if i + 1 < rows:
                    for j in range(cols):
                        out[b, t, i, j] -= weights[1] * _sign(x[b, t, i + 1, j] - x[b, t, i, j])


def drawn(factors: Factors) -> Tensor:
    """The orthoslices (B, n, Y, X), intensity per voxel, of their factors."""
    return bounded(factors.logit(), factors.bound).unflatten(-1, factors.shape[2:])


def drawn_if_needed(factors: Sequence[Factors]) -> Layers:
    """Drawn together where kernels do that, else each by itself; the factors themselves where kernels work on them."""
    if factors[0].need_not_be_drawn:
        return factors
    if factors_cpu.serve(factors):
        return factors_cpu.draw_together(factors, FRAMES_APART)
    return [drawn(of) for of in factors]


def bounded(logit: Tensor, bound: Tensor) -> Tensor:
    """``bound * sigmoid(logit)``; bound: (), > 0. On the CPU `logit` is overwritten: nothing else may need it."""
    if logit.device.type == "cpu" and logit.dtype == torch.float32 and logit.is_contiguous():
        return _Bounded.apply(logit, bound)
    return bound * logit.sigmoid()


class _Bounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logit: Tensor, bound: Tensor) -> Tensor:
        values = logit.sigmoid_().mul_(bound)
        ctx.mark_dirty(logit)
        ctx.save_for_backward(values, bound)
        return values

    @staticmethod
    def backward(ctx: Any, *grads: Tensor):
        values, bound = ctx.saved_tensors
        grad, out = grads[0].contiguous(), torch.empty_like(values)
        items = values.numel() // values.shape[-1]
        of_bound, m = np.zeros(items), float(bound.detach().numpy())
        arrays = tuple(v.detach().numpy().reshape(items, -1) for v in (values, grad, out))
        on_threads(_differentiate_bound, (*arrays, np.float32(1 / m), of_bound), items=items)
        return out, torch.tensor(of_bound.sum() / m).to(bound)


@fast_jit
def _differentiate_bound(values, grad, out, inverse, of_bound, first, last):
    """out: of the logit, ``grad * v (1 - v / bound)``; of_bound: the sums of ``grad * v`` of each row."""
    for i in range(first, last):
        total = np.float32(0)
        for j in range(values.shape[1]):
            of = grad[i, j] * values[i, j]
            total += of
            out[i, j] = of * (np.float32(1) - values[i, j] * inverse)
        of_bound[i] = total
