"""The fast CPU path: the kernels of the projector in numba, spread over torch's number of threads.

Slices that share all their angles lie side by side, innermost, as the lanes of a vector: the two taps of a pixel are
computed once and serve all of them, and every load and store is one vector. Where the angles are shared (SIRT) these
are all slices; where each slice has its own, those whose own are equal: the positions z of an image (training). A slice
alone is one lane.

A view marches along the axis that the beam is closer to. Where the taps of a line fall is computed first, in a loop of
vectors; a loop that only loads and adds follows. In one loop the compiler makes all of it scalar, and it takes twice as
long. Positions are in float64: float32 loses 1e-5 at 512 bins.

Plain threads, not numba's own: the kernels release the GIL, and autograd may call from any thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dip4d.projector.lanes import add_two
from dip4d.threads import BLOCKS_PER_THREAD, blocks, fast_jit, spread

LANES = (1, 8, 16, 32)  # slices side by side: the fewest that hold them all, else the most: one to four AVX vectors
TILE = 16  # lines of so many slices that stay in the cache while the angles pass over them


@fast_jit
def _taps_of_bins(start, inverse, last, taps, weights):
    """Where bins fall on a line: the first at `start`, the next `inverse` further on."""
    weight = np.float32(abs(inverse))
    for k in range(len(taps)):
        position = min(max(start + np.int32(k) * inverse, 0.0), last)
        tap = np.int32(position)
        fraction = np.float32(position - tap)
        taps[k] = tap
        weights[0, k] = weight * (1 - fraction)
        weights[1, k] = weight * fraction


@fast_jit
def _taps_of_pixels(start, cos, inverse, last, taps, weights):
    """Where pixels fall on a view: the first at `start`, the next `cos` further on."""
    slope = inverse * inverse
    for j in range(len(taps)):
        position = min(max(start + np.int32(j) * cos, 0.0), last)
        tap = np.int32(position)
        fraction = np.float32(position - tap)
        taps[j] = tap
        weights[0, j] = max(np.float32(0), inverse - fraction * slope)
        weights[1, j] = max(np.float32(0), inverse - slope + fraction * slope)


@fast_jit
def _march(lanes, tile, lines, first_line, n_lines, along, across, offset, view, taps, weights):
    """Adds to `view` (S, lanes) some lines of a stack, `tile` (lines, length + 3, lanes), empty at both ends.

    The pixel p of line i lies at the bin ``p * along + i * across + offset``, both counted from the middle. taps (S,)
    and weights (2, S) are room to work in.
    """
    bins, length = view.shape[0], tile.shape[1] - 3
    for i in range(lines):
        zero = offset + (first_line + i - 0.5 * (n_lines - 1)) * across - 0.5 * (length - 1) * along  # bin of pixel 0
        ends = (zero - along, zero + length * along)  # the bins of the empty pixels
        low = max(0, int(math.ceil(min(ends[0], ends[1]))))
        high = max(low, min(bins, int(math.floor(max(ends[0], ends[1]))) + 1))
        inverse = 1 / along
        _taps_of_bins((low - zero) * inverse + 1, inverse, length + 1.0, taps[: high - low], weights)
        line = tile[i]
        for k in range(high - low):
            add_two(lanes, view, low + k, line, taps[k], weights[0, k], weights[1, k])


@fast_jit
def _project(lanes, x, cos, sin, shift, out, g_first, g_last, first, last, a_first, a_last):
    """x (N, G, Y, X), cos, sin, shift (G, n) -> out (N, G, n, S), for some g, at most `lanes` slices, some angles."""
    _, _, ny, nx = x.shape
    bins, width = out.shape[3], len(lanes)
    taps, weights = np.empty(bins, np.int32), np.empty((2, bins), np.float32)
    views = np.empty((a_last - a_first, bins, width), np.float32)
    tile = np.zeros((TILE, nx + 3, width), np.float32)
    turned_tile = np.zeros((TILE, ny + 3, width), np.float32)
    for g in range(g_first, g_last):
        views[:] = 0
        for turned in range(2):
            n_lines, length, here = (nx, ny, turned_tile) if turned else (ny, nx, tile)
            wanted = (np.abs(cos[g]) < np.abs(sin[g])) == (turned == 1)
            if not wanted[a_first:a_last].any():
                continue
            for top in range(0, n_lines, TILE):
                lines = min(TILE, n_lines - top)
                for n in range(first, last):
                    for i in range(lines):
                        for j in range(length):
                            here[i, j + 1, n - first] = x[n, g, j, top + i] if turned else x[n, g, top + i, j]
                for a in range(a_first, a_last):
                    if wanted[a]:
                        along, across = (sin[g, a], cos[g, a]) if turned else (cos[g, a], sin[g, a])
                        offset, view = shift[g, a] + 0.5 * (bins - 1), views[a - a_first]
                        _march(lanes, here, lines, top, n_lines, along, across, offset, view, taps, weights)
        for n in range(first, last):
            for a in range(a_first, a_last):
                for k in range(bins):
                    out[n, g, a, k] = views[a - a_first, k, n - first]


@fast_jit
def _backproject(lanes, y, cos, sin, shift, out, g_first, g_last, first, last, top, bottom):
    """y (N, G, n, S) -> out (N, G, Y, X), for some g, at most `lanes` slices and the rows top..bottom of each."""
    _, _, ny, nx = out.shape
    bins, width = y.shape[3], len(lanes)
    taps, weights = np.empty(nx, np.int32), np.empty((2, nx), np.float32)
    view = np.zeros((bins + 3, width), np.float32)
    tile = np.empty((bottom - top, nx, width), np.float32)
    for g in range(g_first, g_last):
        tile[:] = 0
        for a in range(cos.shape[1]):
            for n in range(first, last):
                for k in range(bins):
                    view[k + 1, n - first] = y[n, g, a, k]
            c, s = cos[g, a], sin[g, a]
            inverse = np.float32(1 / max(abs(c), abs(s)))
            for i in range(bottom - top):
                row = top + i - 0.5 * (ny - 1)
                start = row * s - 0.5 * (nx - 1) * c + shift[g, a] + 0.5 * (bins + 1)
                _taps_of_pixels(start, c, inverse, bins + 1.0, taps, weights)
                line = tile[i]
                for j in range(nx):
                    add_two(lanes, line, j, view, taps[j], weights[0, j], weights[1, j])
        for n in range(first, last):
            for i in range(bottom - top):
                for j in range(nx):
                    out[n, g, top + i, j] = tile[i, j, n - first]


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


def _trigonometry(angles: Tensor, shift: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Raises ValueError for what is not finite: the kernels would read and write beyond their arrays."""
    angles = angles.detach().double()
    found = angles.cos().numpy(), angles.sin().numpy(), np.ascontiguousarray(shift.detach().double().numpy())
    if not all(np.isfinite(v).all() for v in found):
        raise ValueError("angles and shift must be finite numbers")
    return found


def _array(x: Tensor) -> np.ndarray:
    return np.ascontiguousarray(x.detach().float().numpy())


def _turn(views: np.ndarray) -> int:
    """After how many slices their views (B, ...) come again, always in the same order; B if they do not."""
    again = np.flatnonzero((views[1:] == views[:1]).all(tuple(range(1, views.ndim)))) + 1
    fits = (turn for turn in again.tolist() if len(views) % turn == 0 and (views[turn:] == views[:-turn]).all())
    return next(fits, len(views))


def _spread(
    kernel: Callable[..., None],
    given: np.ndarray,
    angles: Tensor,
    shift: Tensor,
    *,
    out: np.ndarray,
    cut: tuple[int, int],
) -> None:
    """Runs a kernel over all slices, given (B, ...) and out (B, ...), on the threads of torch.

    cut: length of the axis that tasks may be cut along, and the largest part where many angles pass over it; smaller
        ones where slices alone do not keep all threads busy.
    """
    views = [np.atleast_2d(v) for v in _trigonometry(angles, shift)]
    turn = 1 if angles.ndim == 1 else _turn(np.stack(views, -1))
    in_turn = lambda v: v.reshape(-1, turn, *v.shape[1:])
    n, threads, (length, largest) = len(given) // turn, torch.get_num_threads(), cut
    tasks = BLOCKS_PER_THREAD * threads if threads > 1 else 1  # at least
    width = next((w for w in LANES if w >= n), LANES[-1])
    slices, groups = blocks(n, width), blocks(turn, -(-turn // tasks))
    parts = -(-tasks // (len(slices) * len(groups)))
    cuts = blocks(length, min(largest if turn == 1 else length, -(-length // parts)))
    tasks = [g + s + c for g in groups for s in slices for c in cuts]
    arrays = ((0,) * width, in_turn(given), *(v[:turn] for v in views), in_turn(out))
    spread(kernel, arrays, tasks=tasks, threads=threads)


def forward(x: Tensor, angles: Tensor, shift: Tensor, bins: int) -> Tensor:
    """As `reference.forward`, in float32."""
    n = angles.shape[-1]
    out = np.empty((len(x), n, bins), np.float32)
    _spread(_project, _array(x), angles, shift, out=out, cut=(n, n))
    return torch.from_numpy(out)


def adjoint(y: Tensor, angles: Tensor, shift: Tensor, slice_shape: tuple[int, int]) -> Tensor:
    """As `reference.adjoint`, in float32."""
    out = np.empty((len(y), *slice_shape), np.float32)
    _spread(_backproject, _array(y), angles, shift, out=out, cut=(slice_shape[0], TILE))
    return torch.from_numpy(out)


def geometry_gradient(x: Tensor, y: Tensor, angles: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """As `reference.geometry_gradient`, in float64: sums over many pixels."""
    by_angle, by_shift = np.empty(y.shape[:2]), np.empty(y.shape[:2])
    arrays, threads = (_array(x), _array(y), *_trigonometry(angles, shift), by_angle, by_shift), torch.get_num_threads()
    spread(_differentiate_items, arrays, tasks=blocks(len(x), max(1, -(-len(x) // (4 * threads)))), threads=threads)
    return torch.from_numpy(by_angle), torch.from_numpy(by_shift)
