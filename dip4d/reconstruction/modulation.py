"""Normalised, modulated and activated in one: what stands between two convolutions of a decoder.

``silu(group_norm(x) * (1 + gain) + offset)`` passes over its images four times in plain torch, and more often
backwards; memory is what a step waits for. On the CPU in float32 by numba, on CUDA by Triton, two passes each way;
elsewhere in plain torch. All are differentiable once, and agree to rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dip4d.projector.operator import triton_serves
from dip4d.threads import fast_jit, on_threads

EPS = 1e-5  # as in torch's GroupNorm
PIXELS = 8  # side by side in the innermost loop: with the channels of each, several vectors
PART = 128  # times so many pixels are summed up together


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
    """In channels_last, which the convolutions on both sides want: the channels of a pixel lie side by side."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, gain: Tensor, offset: Tensor, groups: int) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        out, c = torch.empty_like(x), gain.shape[1]
        images, count = _images(x), x[0, 0].numel()
        sums = _room_for_sums(images, c)
        _on_threads(_add_squares, (images, sums), sums=sums)
        mean, square = (_of_groups(v, groups) / count for v in _of_channels(sums, c))
        rate = 1 / np.sqrt(np.maximum(square - mean**2, 0) + EPS)
        more, (weight_, bias_, offset_) = 1 + _values(gain), map(_values, (weight, bias, offset))
        slope = rate * weight_ * more
        line = _of_pixels(slope, bias_ * more + offset_ - slope * mean)  # what is activated is line[0] x + line[1]
        _on_threads(_activate, (images, line, _images(out)), sums=sums)
        ctx.save_for_backward(x, weight, bias, gain)
        ctx.found = groups, mean, rate, line
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor):
        x, weight, bias, gain = ctx.saved_tensors
        groups, mean, rate, line = ctx.found
        out, c = torch.empty_like(x), gain.shape[1]
        images, of_x, count = _images(x), _images(out), x[0, 0].numel()
        of_out = _images(grads[0].contiguous(memory_format=torch.channels_last))
        sums = _room_for_sums(images, c)
        _on_threads(_activate_backwards, (images, of_out, line, of_x, sums), sums=sums)
        plain, times_x = _of_channels(sums, c)  # sums of dy, and of dy x
        normal = rate * (times_x - mean * plain)  # of dy times the normalised x
        more, (weight_, bias_) = 1 + _values(gain), map(_values, (weight, bias))
        first, second = (_of_groups(weight_ * more * v, groups) / count for v in (plain, normal))
        back = _of_pixels(rate * weight_ * more, -(rate**2) * second, rate * (rate * mean * second - first))
        _on_threads(_normalise_backwards, (images, back, of_x), sums=sums)
        tensor = lambda values: torch.from_numpy(values).to(x)
        of_gain = tensor(weight_ * normal + bias_ * plain)
        return out, tensor((more * normal).sum(0)), tensor((more * plain).sum(0)), of_gain, tensor(plain), None


def _images(x: Tensor) -> np.ndarray:
    """Images (B, C, Y, X) in channels_last as (B, Y X C)."""
    return x.detach().permute(0, 2, 3, 1).flatten(1).numpy()


def _values(parameter: Tensor) -> np.ndarray:
    """In float64: the few numbers of a layer cost nothing."""
    return parameter.detach().double().numpy()


def _of_groups(values: np.ndarray, groups: int) -> np.ndarray:
    """The mean over the channels of each group of values (B, C), for every channel of it."""
    b, c = values.shape
    return np.repeat(values.reshape(b, groups, c // groups).mean(2), c // groups, axis=1)


def _room_for_sums(images: np.ndarray, channels: int) -> np.ndarray:
    """(B, parts, 2, PIXELS C): of parts of images (B, Y X C), whatever the number of threads."""
    b, size = images.shape
    return np.zeros((b, -(-size // (PART * PIXELS * channels)), 2, PIXELS * channels))


def _of_channels(sums: np.ndarray, channels: int) -> np.ndarray:
    """Sums as by `_room_for_sums` to those of channels, (2, B, C)."""
    return sums.sum(1).reshape(len(sums), 2, PIXELS, channels).sum(2).swapaxes(0, 1)


def _of_pixels(*of_channels: np.ndarray) -> np.ndarray:
    """Some numbers (B, C) of channels to (B, numbers, PIXELS C), in float32."""
    return np.tile(np.stack(of_channels, axis=1), PIXELS).astype(np.float32)


def _on_threads(kernel: Callable[..., None], arrays: tuple, *, sums: np.ndarray) -> None:
    """Runs a kernel over the parts of images that `sums` has room for."""
    b, parts = sums.shape[:2]
    on_threads(kernel, (*arrays, parts), items=b * parts)


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
def _ends(item, parts, size, width):
    """The image that an item belongs to, and where its part begins and ends."""
    image, part = divmod(item, parts)
    return image, part * PART * width, min((part + 1) * PART * width, size)


@fast_jit
def _add_squares(x, sums, parts, first, last):
    """sums: of x and of its squares, in float64: their difference may be small."""
    width = sums.shape[3]
    for item in range(first, last):
        i, start, end = _ends(item, parts, x.shape[1], width)
        plain, square = sums[i, item - i * parts, 0], sums[i, item - i * parts, 1]
        for at in range(start, end, width):
            here = x[i, at : min(at + width, end)]  # a slice: the compiler makes vectors of what begins at 0
            for j in range(len(here)):
                value = np.float64(here[j])
                plain[j] += value
                square[j] += value * value


@fast_jit
def _activate(x, line, out, parts, first, last):
    width = line.shape[2]
    for item in range(first, last):
        i, start, end = _ends(item, parts, x.shape[1], width)
        slope, level = line[i, 0], line[i, 1]
        for at in range(start, end, width):
            here, there = x[i, at : min(at + width, end)], out[i, at : min(at + width, end)]
            for j in range(len(here)):
                y = slope[j] * here[j] + level[j]
                there[j] = y * _sigmoid(y)


@fast_jit
def _activate_backwards(x, grad, line, out, sums, parts, first, last):
    """out: dy, the derivative by what is activated; sums: of dy, and of dy x."""
    width = line.shape[2]
    for item in range(first, last):
        i, start, end = _ends(item, parts, x.shape[1], width)
        slope, level = line[i, 0], line[i, 1]
        plain, times_x = sums[i, item - i * parts, 0], sums[i, item - i * parts, 1]
        for at in range(start, end, width):
            to = min(at + width, end)
            here, of_here, there = x[i, at:to], grad[i, at:to], out[i, at:to]
            for j in range(len(here)):
                y = slope[j] * here[j] + level[j]
                s = _sigmoid(y)
                there[j] = of_here[j] * s * (np.float32(1) + y * (np.float32(1) - s))
            for j in range(len(here)):
                plain[j] += np.float64(there[j])
                times_x[j] += np.float64(there[j]) * np.float64(here[j])


@fast_jit
def _normalise_backwards(x, back, out, parts, first, last):
    """out: from dy to dx."""
    width = back.shape[2]
    for item in range(first, last):
        i, start, end = _ends(item, parts, x.shape[1], width)
        of_dy, of_x, level = back[i, 0], back[i, 1], back[i, 2]
        for at in range(start, end, width):
            here, there = x[i, at : min(at + width, end)], out[i, at : min(at + width, end)]
            for j in range(len(here)):
                there[j] = of_dy[j] * there[j] + of_x[j] * here[j] + level[j]
