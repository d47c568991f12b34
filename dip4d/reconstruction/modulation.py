"""Normalised, modulated and activated in one: what stands between two convolutions of a decoder.

``silu(group_norm(x) * (1 + gain) + offset)`` passes over its images four times in plain torch, and more often
backwards; memory is what a step waits for. On the CPU in float32 by numba, on CUDA by Triton, two passes each way;
elsewhere in plain torch. All are differentiable once, and agree to rounding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dip4d.projector.operator import triton_serves
from dip4d.threads import fast_jit, on_threads

EPS = 1e-5  # as in torch's GroupNorm


def normalised_modulated_silu(
    x: Tensor,
    weight: Tensor,
    *,
    bias: Tensor,
    gain: Tensor,
    offset: Tensor,
    groups: int,
) -> Tensor:
    """``silu(group_norm(x, groups, weight, bias) * (1 + gain) + offset)``, (B, C, Y, X).

    x: (B, C, Y, X).
    weight, bias: (C,), of the normalisation.
    gain, offset: (B, C).
    groups: of channels that are normalised together.
    Source of the normalisation: Wu and He, ECCV 2018.
    """
    if triton_serves(x):
        from dip4d.reconstruction.modulation_cuda import Normalised

        return Normalised.apply(x, weight, bias, gain, offset, groups, EPS)
    if x.device.type == "cpu" and x.dtype == torch.float32:
        return _Fused.apply(x, weight, bias, gain, offset, groups)
    normal = F.group_norm(x, groups, weight, bias, EPS)
    return F.silu(normal * (1 + gain[..., None, None]) + offset[..., None, None])


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, gain: Tensor, offset: Tensor, groups: int) -> Tensor:
        x = x.contiguous()
        images, out = _images(x), torch.empty_like(x)
        count, (b, c) = images.shape[1], gain.shape
        sums = np.empty((b * c, 2))
        on_threads(_add_squares, (images, sums), items=b * c)
        mean, square = (_of_groups(v.reshape(b, c), groups) / count for v in sums.T)
        rate = 1 / np.sqrt(np.maximum(square - mean**2, 0) + EPS)
        more, (weight_, bias_, offset_) = 1 + _values(gain), map(_values, (weight, bias, offset))
        slope = rate * weight_ * more
        line = np.stack([slope, bias_ * more + offset_ - slope * mean], axis=-1).reshape(b * c, 2)
        line = line.astype(np.float32)  # what is activated is line[0] x + line[1]
        on_threads(_activate, (images, line, _images(out)), items=b * c)
        ctx.save_for_backward(x, weight, bias, gain)
        ctx.found = groups, mean, rate, line
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor):
        x, weight, bias, gain = ctx.saved_tensors
        groups, mean, rate, line = ctx.found
        images, out = _images(x), torch.empty_like(x)
        count, (b, c) = images.shape[1], gain.shape
        sums, of_x = np.empty((b * c, 2)), _images(out)
        on_threads(_activate_backwards, (images, _images(grads[0].contiguous()), line, of_x, sums), items=b * c)
        plain, times_x = (v.reshape(b, c) for v in sums.T)  # sums of dy, and of dy x
        normal = rate * (times_x - mean * plain)  # of dy times the normalised x
        more, (weight_, bias_) = 1 + _values(gain), map(_values, (weight, bias))
        first, second = (_of_groups(weight_ * more * v, groups) / count for v in (plain, normal))
        back = np.stack([rate * weight_ * more, -(rate**2) * second, rate * (rate * mean * second - first)], axis=-1)
        on_threads(_normalise_backwards, (images, back.reshape(b * c, 3).astype(np.float32), of_x), items=b * c)
        tensor = lambda values: torch.from_numpy(values).to(x)
        of_gain = tensor(weight_ * normal + bias_ * plain)
        return out, tensor((more * normal).sum(0)), tensor((more * plain).sum(0)), of_gain, tensor(plain), None


def _images(x: Tensor) -> np.ndarray:
    """Images (B, C, Y, X) as (B C, Y X)."""
    return x.detach().flatten(2).flatten(0, 1).numpy()


def _values(parameter: Tensor) -> np.ndarray:
    """In float64: the few numbers of a layer cost nothing."""
    return parameter.detach().double().numpy()


def _of_groups(values: np.ndarray, groups: int) -> np.ndarray:
    """The mean over the channels of each group of values (B, C), for every channel of it."""
    b, c = values.shape
    return np.repeat(values.reshape(b, groups, c // groups).mean(2), c // groups, axis=1)


@fast_jit
def _sigmoid(y):
    """By the rational approximation of tanh that Eigen has: good to a few parts in 1e7, and one loop of vectors."""
    h = min(max(np.float32(0.5) * y, np.float32(-7.9053111)), np.float32(7.9053111))
    q = h * h
    p = np.float32(-2.76076847742355e-16)
    p = p * q + np.float32(2.00018790482477e-13)
    p = p * q + np.float32(-8.60467152213735e-11)
    p = p * q + np.float32(5.12229709037114e-08)
    p = p * q + np.float32(1.48572235717979e-05)
    p = p * q + np.float32(6.37261928875436e-04)
    p = p * q + np.float32(4.89352455891786e-03)
    d = np.float32(1.19825839466702e-06)
    d = d * q + np.float32(1.18534705686654e-04)
    d = d * q + np.float32(2.26843463243900e-03)
    d = d * q + np.float32(4.89352518554385e-03)
    return np.float32(0.5) + np.float32(0.5) * h * p / d


@fast_jit
def _add_squares(x, sums, first, last):
    """sums: of each image of x and of its squares, in float64: their difference may be small."""
    for i in range(first, last):
        plain, square = 0.0, 0.0
        for j in range(x.shape[1]):
            value = np.float64(x[i, j])
            plain += value
            square += value * value
        sums[i, 0] = plain
        sums[i, 1] = square


@fast_jit
def _activate(x, line, out, first, last):
    for i in range(first, last):
        slope, level = line[i, 0], line[i, 1]
        for j in range(x.shape[1]):
            y = slope * x[i, j] + level
            out[i, j] = y * _sigmoid(y)


@fast_jit
def _activate_backwards(x, grad, line, out, sums, first, last):
    """out: dy, the derivative by what is activated; sums: of dy, and of dy x."""
    for i in range(first, last):
        slope, level = line[i, 0], line[i, 1]
        plain, times_x = 0.0, 0.0
        for j in range(x.shape[1]):
            y = slope * x[i, j] + level
            s = _sigmoid(y)
            dy = grad[i, j] * s * (np.float32(1) + y * (np.float32(1) - s))
            out[i, j] = dy
            plain += np.float64(dy)
            times_x += np.float64(dy) * np.float64(x[i, j])
        sums[i, 0] = plain
        sums[i, 1] = times_x


@fast_jit
def _normalise_backwards(x, back, out, first, last):
    """out: from dy to dx."""
    for i in range(first, last):
        of_dy, of_x, level = back[i, 0], back[i, 1], back[i, 2]
        for j in range(x.shape[1]):
            out[i, j] = of_dy * out[i, j] + of_x * x[i, j] + level
