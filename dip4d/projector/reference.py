"""The reference: Joseph's projector in plain torch, to be read in a minute and to be trusted.

With ``s0 = x cos + y sin + shift`` and ``m = max(|cos|, |sin|)`` the weight of the pixel (x, y) in bin s is

    w = max(0, 1 - |s - s0| / m) / m

which at unit pixels and bins is exactly the linear interpolation of Joseph (IEEE Trans. Med. Imaging 1:192, 1982)
in one branch-free formula: a pixel touches at most two bins, `floor(s0)` and the next. The adjoint reads those two
bins. Works in the precision of its input, float32 at least, and on any device; differentiable in the volume, the
angles and the shift.
"""

from __future__ import annotations

import torch
from torch import Tensor


def _taps(angles: Tensor, shift: Tensor, slice_shape: tuple[int, int], bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """Left bin (..., n, Y*X), clamped into a detector with one empty bin at each side, and the two weights."""
    ny, nx = slice_shape
    y = torch.arange(ny, device=angles.device, dtype=angles.dtype) - (ny - 1) / 2
    x = torch.arange(nx, device=angles.device, dtype=angles.dtype) - (nx - 1) / 2
    cos, sin = angles.cos()[..., None, None], angles.sin()[..., None, None]
    s0 = x * cos + y[:, None] * sin + shift[..., None, None] + (bins - 1) / 2  # (..., n, Y, X)
    m = torch.maximum(cos.abs(), sin.abs())
    left = s0.detach().floor()
    w_left = (1 - (s0 - left) / m).clamp(min=0) / m
    w_right = (1 - (left + 1 - s0) / m).clamp(min=0) / m
    outside = (left < -1) | (left > bins - 1)
    w_left, w_right = w_left.masked_fill(outside, 0), w_right.masked_fill(outside, 0)
    return left.long().clamp(-1, bins - 1).flatten(-2) + 1, w_left.flatten(-2), w_right.flatten(-2)


def _precise(x: Tensor, angles: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Angles and shift in the precision of x, at least float32: half precision cannot tell the bins apart."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return angles.to(dtype), shift.to(dtype)


def forward(x: Tensor, angles: Tensor, shift: Tensor, bins: int) -> Tensor:
    """Projects slices (B, Y, X) at angles (B, n) or (n,), radians, to (B, n, S): each sums the slice along the beam."""
    n, (ny, nx) = angles.shape[-1], x.shape[-2:]
    left, w_left, w_right = _taps(*_precise(x, angles, shift), (ny, nx), bins)
    values = x.flatten(-2)[:, None].expand(-1, n, -1)  # (B, n, Y*X)
    left = left.expand_as(values)
    y = w_left.new_zeros(len(x), n, bins + 2)
    y = y.scatter_add(-1, left, values * w_left).scatter_add(-1, left + 1, values * w_right)
    return y[..., 1:-1].to(x.dtype)


def adjoint(y: Tensor, angles: Tensor, shift: Tensor, slice_shape: tuple[int, int]) -> Tensor:
    """Back-projects rows (B, n, S) to slices (B, Y, X): the exact transpose of `forward`."""
    left, w_left, w_right = _taps(*_precise(y, angles, shift), slice_shape, y.shape[-1])
    padded = torch.nn.functional.pad(y, (1, 1))
    left = left.expand(len(y), -1, -1)
    x = padded.gather(-1, left) * w_left + padded.gather(-1, left + 1) * w_right
    return x.sum(1).unflatten(-1, slice_shape).to(y.dtype)


def geometry_gradient(x: Tensor, y: Tensor, angles: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """The derivatives of <A x, y>, x (B, Y, X) and y (B, n, S), by angles and shift, (B, n) each."""
    with torch.enable_grad():
        leaves = angles.detach().requires_grad_(), shift.detach().requires_grad_()
        by_angle, by_shift = torch.autograd.grad((forward(x, *leaves, y.shape[-1]) * y).sum(), leaves)
    return by_angle, by_shift
