"""The fast CPU path: the kernels of the projector in numba, spread over torch's number of threads.

Two layouts, because the work is limited by memory and not by arithmetic:

- *own angles* (training): every slice has its own few angles. A view marches along the axis that the beam is closer
  to, so that the inner loop reads one row of the slice, contiguous in memory, with two taps. Where the taps of a row
  fall is computed first, in a loop of vectors; a loop that only loads and adds follows. In one loop the compiler
  makes all of it scalar, and it takes twice as long.
- *shared angles* (SIRT): many slices at the same angles. `WIDTH` slices lie innermost, so the two taps of a pixel
  are computed once and serve all of them, and every load and store is one vector.

Plain threads, not numba's own: the kernels release the GIL, and autograd may call from any thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dip4d.threads import blocks, fast_jit, spread

WIDTH = 32  # slices that lie side by side in the shared-angle kernels: two AVX-512 or four AVX vectors
TILE = 8  # rows of a slice that stay in the cache while the angles pass over them


@fast_jit
def _transpose(x, out):
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[j, i] = x[i, j]


@fast_jit
def _march(x, along, across, offset, row, taps, weights, out):
    """Adds to `out` (S,) the view of `x` (rows, cols) with the bin at ``col * along + row * across + offset``.

    row (cols + 3,), taps (S,) and weights (2, S) are room to work in.
    """
    n_rows, n_cols = x.shape
    inverse, last = 1 / along, n_cols + 1.0
    weight = np.float32(abs(inverse))
    for i in range(n_rows):
        row[1 : n_cols + 1] = x[i]
        start = (-offset - (i - 0.5 * (n_rows - 1)) * across) / along + 0.5 * (n_cols - 1) + 1
        for k in range(out.shape[0]):
            position = min(max(start + np.int32(k) * inverse, 0.0), last)  # in float64: float32 loses 1e-5 at 512 bins
            tap = np.int32(position)
            fraction = np.float32(position - tap)
            taps[k] = tap
            weights[0, k] = weight * (1 - fraction)
            weights[1, k] = weight * fraction
        for k in range(out.shape[0]):
            left = np.uint32(taps[k])
            out[k] += weights[0, k] * row[left] + weights[1, k] * row[left + np.uint32(1)]


@fast_jit
def _project_items(x, cos, sin, shift, out, first, last):
    """x (B, Y, X), cos, sin, shift (B, n) -> out (B, n, S), for the items first..last."""
    _, ny, nx = x.shape
    bins = out.shape[2]
    row = np.zeros(max(ny, nx) + 3, np.float32)
    taps, weights = np.empty(bins, np.int32), np.empty((2, bins), np.float32)
    turned = np.empty((nx, ny), np.float32)
    for b in range(first, last):
        has_turned = False
        for a in range(cos.shape[1]):
            offset = shift[b, a] + 0.5 * (bins - 1)
            out[b, a] = 0
            row[:] = 0
            if abs(cos[b, a]) >= abs(sin[b, a]):
                _march(x[b], cos[b, a], sin[b, a], offset, row, taps, weights, out[b, a])
            else:
                if not has_turned:
                    _transpose(x[b], turned)
                    has_turned = True
                _march(turned, sin[b, a], cos[b, a], offset, row, taps, weights, out[b, a])


@fast_jit
def _backproject_items(y, cos, sin, shift, out, first, last):
    """y (B, n, S) -> out (B, Y, X), for the items first..last."""
    _, ny, nx = out.shape
    bins = y.shape[2]
    row = np.zeros(bins + 3, np.float32)
    taps, weights = np.empty(nx, np.int32), np.empty((2, nx), np.float32)
    end = bins + 1.0
    for b in range(first, last):
        out[b] = 0
        for a in range(cos.shape[1]):
            row[1 : bins + 1] = y[b, a]
            c = cos[b, a]
            inverse = np.float32(1 / max(abs(cos[b, a]), abs(sin[b, a])))
            for i in range(ny):
                start = (i - 0.5 * (ny - 1)) * sin[b, a] - 0.5 * (nx - 1) * c + shift[b, a] + 0.5 * (bins + 1)
                for j in range(nx):
                    s0 = min(max(start + np.int32(j) * c, 0.0), end)
                    tap = np.int32(s0)
                    fraction = np.float32(s0 - tap)
                    taps[j] = tap
                    weights[0, j] = max(np.float32(0), 1 - fraction * inverse) * inverse
                    weights[1, j] = max(np.float32(0), 1 - (1 - fraction) * inverse) * inverse
                for j in range(nx):
                    left = np.uint32(taps[j])
                    out[b, i, j] += weights[0, j] * row[left] + weights[1, j] * row[left + np.uint32(1)]


@fast_jit
def _differentiate_items(x, y, cos, sin, shift, by_angle, by_shift, first, last):
    """Derivatives of <A x, y> by angle and shift, (B, n), for the items first..last: x (B, Y, X), y (B, n, S).

    A weight ``(1 - d / m) / m``, d the distance of bin and pixel, changes with d and with m = max(|cos|, |sin|).
    """
    _, ny, nx = x.shape
    bins = y.shape[2]
    row = np.zeros(bins + 3, np.float32)
    for b in range(first, last):
        for a in range(cos.shape[1]):
            row[1 : bins + 1] = y[b, a]
            c, s = cos[b, a], sin[b, a]
            m = max(abs(c), abs(s))
            m_by_angle = -np.sign(c) * s if abs(c) >= abs(s) else np.sign(s) * c
            total_angle = total_shift = 0.0
            for i in range(ny):
                v = i - 0.5 * (ny - 1)
                for j in range(nx):
                    u = j - 0.5 * (nx - 1)
                    s0 = u * c + v * s + shift[b, a] + 0.5 * (bins + 1)
                    if s0 <= 0 or s0 >= bins + 1:
                        continue
                    left = int(s0)
                    d = s0 - left
                    by_s0 = by_m = 0.0
                    if d < m:
                        by_s0 -= row[left] / m**2
                        by_m += row[left] * (2 * d / m - 1) / m**2
                    if 1 - d < m:
                        by_s0 += row[left + 1] / m**2
                        by_m += row[left + 1] * (2 * (1 - d) / m - 1) / m**2
                    total_shift += x[b, i, j] * by_s0
                    total_angle += x[b, i, j] * (by_s0 * (v * c - u * s) + by_m * m_by_angle)
            by_angle[b, a] = total_angle
            by_shift[b, a] = total_shift


@fast_jit
def _march_stack(tile, lines, first_line, n_lines, along, across, offset, view):
    """Adds to `view` (S, WIDTH) some lines of a stack, `tile` (lines, length + 2, WIDTH), empty at both ends.

    As in `_march`: the pixel p of line i lies at the bin ``p * along + i * across + offset``.
    """
    length = tile.shape[1] - 2
    bins = view.shape[0]
    weight = abs(1 / along)
    for i in range(lines):
        zero = offset + (first_line + i - 0.5 * (n_lines - 1)) * across - 0.5 * (length - 1) * along  # bin of pixel 0
        ends = (zero - along, zero + length * along)  # the bins of the empty pixels
        low = max(0, int(math.ceil(min(ends[0], ends[1]))))
        high = min(bins - 1, int(math.floor(max(ends[0], ends[1]))))
        for k in range(low, high + 1):
            position = min(max((k - zero) / along + 1, 0.0), length + 1.0)
            left = min(int(position), length)
            fraction = position - left
            w_left, w_right = np.float32(weight * (1 - fraction)), np.float32(weight * fraction)
            here, a_pixel, b_pixel = view[k], tile[i, left], tile[i, left + 1]
            for w in range(WIDTH):
                here[w] += w_left * a_pixel[w] + w_right * b_pixel[w]


@fast_jit
def _project_stack(x, cos, sin, shift, out, first, last, a_first, a_last):
    """x (N, Y, X), cos, sin, shift (n,) -> out (N, n, S), for at most WIDTH slices and some of the angles."""
    _, ny, nx = x.shape
    bins = out.shape[2]
    views = np.zeros((a_last - a_first, bins, WIDTH), np.float32)
    for turned in range(2):
        n_lines, length = (nx, ny) if turned else (ny, nx)
        tile = np.zeros((TILE, length + 2, WIDTH), np.float32)
        for top in range(0, n_lines, TILE):
            lines = min(TILE, n_lines - top)
            for n in range(first, last):
                for i in range(lines):
                    for j in range(length):
                        tile[i, j + 1, n - first] = x[n, j, top + i] if turned else x[n, top + i, j]
            for a in range(a_first, a_last):
                along, across = (sin[a], cos[a]) if turned else (cos[a], sin[a])
                if abs(cos[a]) < abs(sin[a]) if turned else abs(cos[a]) >= abs(sin[a]):
                    offset = shift[a] + 0.5 * (bins - 1)
                    _march_stack(tile, lines, top, n_lines, along, across, offset, views[a - a_first])
    for n in range(first, last):
        for a in range(a_first, a_last):
            for k in range(bins):
                out[n, a, k] = views[a - a_first, k, n - first]


@fast_jit
def _backproject_stack(y, cos, sin, shift, out, first, last, top, bottom):
    """y (N, n, S) -> out (N, Y, X), for at most WIDTH slices and the rows top..bottom of each."""
    _, ny, nx = out.shape
    n_angles, bins = y.shape[1], y.shape[2]
    view = np.zeros((bins + 3, WIDTH), np.float32)
    tile = np.zeros((bottom - top, nx, WIDTH), np.float32)
    for a in range(n_angles):
        for n in range(first, last):
            for k in range(bins):
                view[k + 1, n - first] = y[n, a, k]
        inverse = 1 / max(abs(cos[a]), abs(sin[a]))
        offset = shift[a] + 0.5 * (bins + 1)
        for i in range(bottom - top):
            for j in range(nx):
                s0 = (j - 0.5 * (nx - 1)) * cos[a] + (top + i - 0.5 * (ny - 1)) * sin[a] + offset
                s0 = min(max(s0, 0.0), bins + 1.0)
                left = int(s0)
                w_left = np.float32(max(0.0, 1 - (s0 - left) * inverse) * inverse)
                w_right = np.float32(max(0.0, 1 - (left + 1 - s0) * inverse) * inverse)
                here, a_bin, b_bin = tile[i, j], view[left], view[left + 1]
                for w in range(WIDTH):
                    here[w] += w_left * a_bin[w] + w_right * b_bin[w]
    for n in range(first, last):
        for i in range(bottom - top):
            for j in range(nx):
                out[n, top + i, j] = tile[i, j, n - first]


def _spread(kernel: Callable[..., None], arrays: tuple, tasks: list[tuple[int, ...]]) -> None:
    """Runs the kernel once for each task, on the threads of torch."""
    spread(kernel, arrays, tasks=tasks, threads=torch.get_num_threads())


def _trigonometry(angles: Tensor, shift: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    angles = angles.detach().double()
    return angles.cos().numpy(), angles.sin().numpy(), np.ascontiguousarray(shift.detach().double().numpy())


def _array(x: Tensor) -> np.ndarray:
    return np.ascontiguousarray(x.detach().float().numpy())


def forward(x: Tensor, angles: Tensor, shift: Tensor, bins: int) -> Tensor:
    """As `reference.forward`, in float32."""
    out = np.empty((len(x), angles.shape[-1], bins), np.float32)
    arrays, threads = (_array(x), *_trigonometry(angles, shift), out), torch.get_num_threads()
    if angles.ndim == 1:
        slices = blocks(len(x), WIDTH)
        parts = max(1, -(-threads // len(slices)))  # split the angles too, when there are fewer slabs than threads
        views = blocks(angles.shape[0], -(-angles.shape[0] // parts))
        _spread(_project_stack, arrays, [s + v for s in slices for v in views])
    else:
        _spread(_project_items, arrays, blocks(len(x), max(1, -(-len(x) // (4 * threads)))))
    return torch.from_numpy(out)


def adjoint(y: Tensor, angles: Tensor, shift: Tensor, slice_shape: tuple[int, int]) -> Tensor:
    """As `reference.adjoint`, in float32."""
    out = np.empty((len(y), *slice_shape), np.float32)
    arrays, threads = (_array(y), *_trigonometry(angles, shift), out), torch.get_num_threads()
    if angles.ndim == 1:
        rows = blocks(slice_shape[0], TILE)
        _spread(_backproject_stack, arrays, [s + r for s in blocks(len(y), WIDTH) for r in rows])
    else:
        _spread(_backproject_items, arrays, blocks(len(y), max(1, -(-len(y) // (4 * threads)))))
    return torch.from_numpy(out)


def geometry_gradient(x: Tensor, y: Tensor, angles: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """As `reference.geometry_gradient`, in float64: sums over many pixels."""
    by_angle, by_shift = np.empty(y.shape[:2]), np.empty(y.shape[:2])
    arrays = (_array(x), _array(y), *_trigonometry(angles, shift), by_angle, by_shift)
    _spread(_differentiate_items, arrays, blocks(len(x), max(1, -(-len(x) // (4 * torch.get_num_threads())))))
    return torch.from_numpy(by_angle), torch.from_numpy(by_shift)
