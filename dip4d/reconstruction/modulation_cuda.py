"""On CUDA: normalisation, modulation and activation of channels that lie innermost, two passes each way.

torch's own normalisation has channels outermost there, and copies its images before and after; convolutions then copy
them back. A program takes `PIXELS` pixels of an image at a time, all channels; a pass over sums has `PARTS` programs an
image, each of which leaves its sums, and whoever needs them adds them up: no atomics, the same bits in every run.
"""

# What a checker cannot see of Triton: the types inside of a kernel, constants given as numbers, and num_warps.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from dip4d.reconstruction.few_cuda import few, leave_few

PARTS = 32  # programs of an image that add up, at most
NUMBERS = 4096  # of an image, that a program has at a time
_jit = triton.jit


@_jit
def _tile(x, pixel, pixels, C: tl.constexpr, ROOM: tl.constexpr):
    """Some pixels of an image (pixels, C) as (PIXELS, ROOM), 0 beyond; and which of them there are."""
    c = tl.arange(0, ROOM)
    there = (pixel < pixels)[:, None] & (c < C)[None, :]
    return tl.load(x + pixel[:, None] * C + c[None, :], mask=there, other=0.0).to(tl.float32), there


@_jit
def _leave_sums(sums, first, second, C: tl.constexpr, ROOM: tl.constexpr):
    """The part of this program, sums over the pixels of (PIXELS, ROOM), in sums (B, parts, 2, C); see `_added`."""
    to = sums + (tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)) * 2 * C
    leave_few(to, tl.sum(first, 0), C, ROOM)
    leave_few(to + C, tl.sum(second, 0), C, ROOM)


@_jit
def _added(sums, parts, C: tl.constexpr, ROOM: tl.constexpr):
    """Two sums of each channel, (ROOM,) in float64, of their parts (parts, 2, C)."""
    first = tl.zeros([ROOM], tl.float64)
    second = tl.zeros([ROOM], tl.float64)
    for part in range(parts):
        first += few(sums + part * 2 * C, C, ROOM).to(tl.float64)
        second += few(sums + (part * 2 + 1) * C, C, ROOM).to(tl.float64)
    return first, second


@_jit
def _of_groups(values, C: tl.constexpr, ROOM: tl.constexpr, GROUP: tl.constexpr):
    """The mean over the channels of each group, for every channel of it."""
    c = tl.arange(0, ROOM)
    together = (c[:, None] // GROUP == c[None, :] // GROUP) & (c < C)[None, :]
    return tl.sum(tl.where(together, values[None, :], 0.0), 1) / GROUP


@_jit
def _line(
    sums, parts, pixels, eps, weight, bias, gain, offset, C: tl.constexpr, ROOM: tl.constexpr, GROUP: tl.constexpr
):
    """What is activated is slope * x + level; these, with mean and rate of the normalisation, (ROOM,) each."""
    plain, square = _added(sums, parts, C, ROOM)
    mean = _of_groups(plain, C, ROOM, GROUP) / pixels
    variance = tl.maximum(_of_groups(square, C, ROOM, GROUP) / pixels - mean * mean, 0.0)
    mean, rate = mean.to(tl.float32), (1 / tl.sqrt(variance + eps)).to(tl.float32)
    more = 1 + few(gain, C, ROOM)
    slope = rate * few(weight, C, ROOM) * more
    level = few(bias, C, ROOM) * more + few(offset, C, ROOM) - slope * mean
    return slope, level, mean, rate


@_jit
def _add_squares_kernel(x, sums, pixels, C: tl.constexpr, ROOM: tl.constexpr, PIXELS: tl.constexpr):
    """x (B, pixels, C) -> sums (B, parts, 2, C): of x and of its squares."""
    b, part, parts = tl.program_id(0), tl.program_id(1), tl.num_programs(1)
    x += b.to(tl.int64) * pixels * C
    plain = tl.zeros([PIXELS, ROOM], tl.float32)
    square = tl.zeros([PIXELS, ROOM], tl.float32)
    for first in range(part * PIXELS, pixels, parts * PIXELS):
        value = _tile(x, first + tl.arange(0, PIXELS), pixels, C, ROOM)[0]
        plain += value
        square += value * value
    _leave_sums(sums, plain, square, C, ROOM)


@_jit
def _activate_kernel(
    x, sums, weight, bias, gain, offset, out, pixels, parts, eps,
    C: tl.constexpr, ROOM: tl.constexpr, GROUP: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    b = tl.program_id(0)
    slope, level, _, _ = _line(
        sums + b * parts * 2 * C, parts, pixels, eps, weight, bias, gain + b * C, offset + b * C, C, ROOM, GROUP
    )
    start = b.to(tl.int64) * pixels * C
    pixel = tl.program_id(1) * PIXELS + tl.arange(0, PIXELS)
    value, there = _tile(x + start, pixel, pixels, C, ROOM)
    y = slope[None, :] * value + level[None, :]
    c = tl.arange(0, ROOM)
    tl.store(out + start + pixel[:, None] * C + c[None, :], y * tl.sigmoid(y), mask=there)


@_jit
def _of_activated(value, grad, slope, level):
    """The derivative by what is activated."""
    y = slope[None, :] * value + level[None, :]
    s = tl.sigmoid(y)
    return grad * s * (1 + y * (1 - s))


@_jit
def _add_backwards_kernel(
    x, grad, sums, weight, bias, gain, offset, found, pixels, parts, eps,
    C: tl.constexpr, ROOM: tl.constexpr, GROUP: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """-> found (B, parts, 2, C): the sums of dy, by which what is activated changes the loss, and of dy x."""
    b, part = tl.program_id(0), tl.program_id(1)
    slope, level, _, _ = _line(
        sums + b * parts * 2 * C, parts, pixels, eps, weight, bias, gain + b * C, offset + b * C, C, ROOM, GROUP
    )
    start = b.to(tl.int64) * pixels * C
    plain = tl.zeros([PIXELS, ROOM], tl.float32)
    times_x = tl.zeros([PIXELS, ROOM], tl.float32)
    for first in range(part * PIXELS, pixels, parts * PIXELS):
        pixel = first + tl.arange(0, PIXELS)
        value = _tile(x + start, pixel, pixels, C, ROOM)[0]
        of_out = _tile(grad + start, pixel, pixels, C, ROOM)[0]
        dy = _of_activated(value, of_out, slope, level)
        plain += dy
        times_x += dy * value
    _leave_sums(found, plain, times_x, C, ROOM)


@_jit
def _backwards_kernel(
    x, grad, sums, found, weight, bias, gain, offset, out, of_weight, of_bias, of_gain, of_offset, pixels, parts, eps,
    C: tl.constexpr, ROOM: tl.constexpr, GROUP: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    """-> out, of x; and of_weight, of_bias, of_gain, of_offset, (B, C) each."""
    b = tl.program_id(0)
    at = b * parts * 2 * C
    slope, level, mean, rate = _line(
        sums + at, parts, pixels, eps, weight, bias, gain + b * C, offset + b * C, C, ROOM, GROUP
    )
    plain, times_x = _added(found + at, parts, C, ROOM)
    normal = (rate * (times_x - mean * plain)).to(tl.float32)  # the sum of dy times the normalised x
    plain = plain.to(tl.float32)
    w, shift, more = few(weight, C, ROOM), few(bias, C, ROOM), 1 + few(gain + b * C, C, ROOM)
    first = _of_groups(w * more * plain, C, ROOM, GROUP) / pixels
    second = _of_groups(w * more * normal, C, ROOM, GROUP) / pixels
    if tl.program_id(1) == 0:
        leave_few(of_weight + b * C, more * normal, C, ROOM)
        leave_few(of_bias + b * C, more * plain, C, ROOM)
        leave_few(of_gain + b * C, w * normal + shift * plain, C, ROOM)
        leave_few(of_offset + b * C, plain, C, ROOM)
    start = b.to(tl.int64) * pixels * C
    pixel = tl.program_id(1) * PIXELS + tl.arange(0, PIXELS)
    value, there = _tile(x + start, pixel, pixels, C, ROOM)
    of_out = _tile(grad + start, pixel, pixels, C, ROOM)[0]
    dy = _of_activated(value, of_out, slope, level)
    normalised = (value - mean[None, :]) * rate[None, :]
    dx = rate[None, :] * ((w * more)[None, :] * dy - first[None, :] - second[None, :] * normalised)
    c = tl.arange(0, ROOM)
    tl.store(out + start + pixel[:, None] * C + c[None, :], dx, mask=there)


class Normalised(torch.autograd.Function):
    """As `dip4d.reconstruction.modulation.normalised_modulated_silu`; float32 or less, channels innermost."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, gain: Tensor, offset: Tensor, *numbers: Any):
        x = x.contiguous(memory_format=torch.channels_last)
        few = weight, bias, gain.contiguous(), offset.contiguous()
        (batch, channels, height, width), (groups, eps) = x.shape, numbers
        room = triton.next_power_of_2(max(channels, 2))
        pixels, some = height * width, max(1, NUMBERS // room)
        tiles = triton.cdiv(pixels, some)
        parts = min(PARTS, tiles)
        sizes = {"C": channels, "ROOM": room, "PIXELS": some, "num_warps": 4}
        sums, out = torch.empty(batch, parts, 2, channels, device=x.device), torch.empty_like(x)
        ctx.found = pixels, parts, eps, tiles, sizes | {"GROUP": channels // groups}
        with torch.cuda.device_of(x):
            _add_squares_kernel[batch, parts](x, sums, pixels, **sizes)
            _activate_kernel[batch, tiles](x, sums, *few, out, *ctx.found[:3], **ctx.found[4])
        ctx.save_for_backward(x, sums, *few)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor):
        x, sums, *few = ctx.saved_tensors
        *counts, tiles, sizes = ctx.found
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        found, out = torch.empty_like(sums), torch.empty_like(x)
        to = torch.empty(4, len(x), x.shape[1], device=x.device)
        with torch.cuda.device_of(x):
            _add_backwards_kernel[len(x), sums.shape[1]](x, grad, sums, *few, found, *counts, **sizes)
            _backwards_kernel[len(x), tiles](x, grad, sums, found, *few, out, *to, *counts, **sizes)
        of_weight, of_bias = to[:2].sum(1)
        of = of_weight, of_bias, *to[2:]
        return out, *(v.to(like) for v, like in zip(of, few, strict=True)), None, None
