"""The CUDA path: the projector in Triton, one launch for the views and one for the slices.

Both directions gather, with two taps: no atomics, and the same bits in every run. A program works on a flat tile of
elements, one after the other on neighbouring threads, so that the order of the elements is the access pattern:

- *forward*: the program owns `WIDTH` bins of one view and marches `LINES` lines of the slice at a time. Where the
  beam is closer to y the lines are rows and neighbouring threads have neighbouring bins. Else the lines are columns,
  and a warp has `LINES` columns and 32 / `LINES` bins: its loads are short pieces of rows. (A transposed copy would
  take the slice through the memory three times.) Blocks of bins read disjoint bands: a slice is read once.
- *adjoint*: the program owns `ROWS x WIDTH` pixels and loops over the angles; the rows of the detector stay in L1.

A place on the detector, or in a line, is ``index * step + line * line_step + start``. float32 would round it to 3e-5
of a pixel at 512, so each of the three numbers comes in two parts: a multiple of a power of two, so coarse that its
products and sums are exact, and the small rest. The integer is taken off the exact part before the rest is added.
The numbers are computed from the angles in float64, by a kernel of their own: in torch it would be twenty launches.
"""

# What a checker cannot see of Triton: the types inside of a kernel, constants given as numbers, and num_warps.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

WIDTH = 64  # bins, or pixels of a row, in a tile; all sizes of tiles are powers of two
LINES = 16  # lines of the slice in a tile of the forward projection
ROWS = 32  # rows of the slice in a tile of the adjoint
WARPS = 4
VIEWS = 128  # views that one program prepares
# the numbers of a view: step, line step, start, each in two parts; 1 / m; whether its lines are columns
FIELDS = tl.constexpr(8)

sized_jit = triton.jit(do_not_specialize=["ny", "nx", "bins"])  # one compilation and one access pattern for all sizes


@triton.jit
def _store_parts(to, value, quantum, mask):
    """Stores a float64 as the nearest multiple of the quantum, a power of two, and the rest."""
    coarse = tl.floor(value / quantum + 0.5) * quantum
    tl.store(to, coarse.to(tl.float32), mask=mask)
    tl.store(to + 1, (value - coarse).to(tl.float32), mask=mask)


@sized_jit
def _view_kernel(angles, shift, views, n_views, ny, nx, bins, quantum, FORWARD: tl.constexpr, BLOCK: tl.constexpr):
    """angles, shift (n_views,) -> views (n_views, FIELDS), what `place` and the two kernels read."""
    v = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = v < n_views
    angle = tl.load(angles + v, mask=mask, other=0.0).to(tl.float64)
    offset = tl.load(shift + v, mask=mask, other=0.0).to(tl.float64) + 0.5 * (bins - 1)
    cos, sin = tl.cos(angle), tl.sin(angle)
    turned = tl.abs(sin) > tl.abs(cos)
    inverse = 1 / tl.where(turned, sin, cos)
    middle_x, middle_y = 0.5 * (nx - 1), 0.5 * (ny - 1)
    if FORWARD:  # bin k meets line i at the pixel k * step + i * line_step + start
        step = inverse
        line_step = -tl.where(turned, cos, sin) * inverse
        start = tl.where(turned, middle_y, middle_x) - offset * step - tl.where(turned, middle_x, middle_y) * line_step
    else:  # pixel (x, y) falls on the bin x * step + y * line_step + start
        step = cos
        line_step = sin
        start = offset - middle_x * cos - middle_y * sin
    view = views + v * FIELDS
    _store_parts(view, step, quantum, mask)
    _store_parts(view + 2, line_step, quantum, mask)
    _store_parts(view + 4, start, quantum, mask)
    tl.store(view + 6, tl.abs(inverse).to(tl.float32), mask=mask)
    tl.store(view + 7, turned.to(tl.float32), mask=mask)


@triton.jit
def place(view, index, line):
    """``index * step + line * line_step + start`` in two parts: exact multiples of the quantum, and the rest."""
    coarse = (index * tl.load(view) + tl.load(view + 4)) + line * tl.load(view + 2)
    fine = (index * tl.load(view + 1) + tl.load(view + 5)) + line * tl.load(view + 3)
    return coarse, fine


@triton.jit
def taps(line, coarse, fine, length, stride):
    """The elements left and right of a place in a line, zero outside, and the fraction of the way between them."""
    left = tl.floor(coarse + fine).to(tl.int32)
    fraction = (coarse - left) + fine
    here = line + left * stride
    length = length.to(tl.uint32)  # unsigned: below zero is beyond the end
    a = tl.load(here, mask=left.to(tl.uint32) < length, other=0.0)
    b = tl.load(here + stride, mask=(left + 1).to(tl.uint32) < length, other=0.0)
    return a.to(tl.float32), b.to(tl.float32), fraction


@triton.jit
def at_bins(view, k, TURNED: tl.constexpr, LINES: tl.constexpr, WIDTH: tl.constexpr):
    """Of the first LINES lines at the bins k, k + 1, ...: which line each element has, where the bin falls on it in the
    two parts of `place`, and how far these move to the next LINES lines.
    """
    e = tl.arange(0, LINES * WIDTH)
    if TURNED:
        i, k = e % LINES, k + e // LINES
    else:
        i, k = e // WIDTH, k + e % WIDTH
    coarse, fine = place(view, k, i)
    return i, coarse, fine, LINES * tl.load(view + 2), LINES * tl.load(view + 3)


@triton.jit
def over_lines(elements, TURNED: tl.constexpr, LINES: tl.constexpr, WIDTH: tl.constexpr):
    """The sums (WIDTH,) of elements as they lie in `at_bins`."""
    if TURNED:
        return tl.sum(tl.reshape(elements, [WIDTH, LINES]), 1)
    else:
        return tl.sum(tl.reshape(elements, [LINES, WIDTH]), 0)


@triton.jit
def _march(
    x, view, k, n_lines, length, line_stride, stride, TURNED: tl.constexpr, LINES: tl.constexpr, WIDTH: tl.constexpr
):
    """The sums (WIDTH,) over all lines of a slice at the bins k, k + 1, ..."""
    i, coarse, fine, coarse_step, fine_step = at_bins(view, k, TURNED, LINES, WIDTH)
    total = tl.zeros_like(coarse)
    for first in range(0, n_lines, LINES):
        inside = tl.where(i < n_lines - first, length, 0)
        a, b, fraction = taps(x + i * line_stride, coarse, fine, inside, stride)
        total += a + fraction * (b - a)
        coarse += coarse_step
        fine += fine_step
        x += LINES * line_stride
    return over_lines(total, TURNED, LINES, WIDTH)


@sized_jit
def _forward_kernel(x, views, out, ny, nx, bins, n, own, LINES: tl.constexpr, WIDTH: tl.constexpr):
    """x (B, Y, X), views (n or B * n, FIELDS) -> out (B, n, S); `own` is n for own angles, 0 for shared ones."""
    blocks = tl.cdiv(bins, WIDTH)
    row = tl.program_id(0) // blocks
    item = row // n
    k = tl.program_id(0) % blocks * WIDTH
    view = views + (item * own + row % n) * FIELDS
    x += item.to(tl.int64) * ny * nx
    if tl.load(view + 7) > 0:
        sums = _march(x, view, k, nx, ny, 1, nx, True, LINES, WIDTH)
    else:
        sums = _march(x, view, k, ny, nx, nx, 1, False, LINES, WIDTH)
    k += tl.arange(0, WIDTH)
    tl.store(out + row.to(tl.int64) * bins + k, sums * tl.load(view + 6), mask=k < bins)


@triton.jit
def back_projected(row, view, i, j, bins):
    """What a row of the detector, (S,), gives to the pixels (i, j) in a view."""
    inverse = tl.load(view + 6)
    coarse, fine = place(view, j, i)
    a, b, fraction = taps(row, coarse, fine, bins, 1)
    w_left = tl.maximum(1 - fraction * inverse, 0)
    w_right = tl.maximum(1 - (1 - fraction) * inverse, 0)
    return inverse * (w_left * a + w_right * b)


@sized_jit
def _adjoint_kernel(y, views, out, ny, nx, bins, n, own, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    """y (B, n, S), views as in `_forward_kernel` -> out (B, Y, X)."""
    across = tl.cdiv(nx, WIDTH)
    item = tl.program_id(0) // across
    e = tl.arange(0, ROWS * WIDTH)
    i = tl.program_id(1) * ROWS + e // WIDTH
    j = tl.program_id(0) % across * WIDTH + e % WIDTH
    y += item.to(tl.int64) * n * bins
    total = tl.zeros_like(i).to(tl.float32)
    for angle in range(n):
        total += back_projected(y + angle * bins, views + (item * own + angle) * FIELDS, i, j, bins)
    tl.store(out + item.to(tl.int64) * ny * nx + i * nx + j, total, mask=(i < ny) & (j < nx))


@sized_jit
def _geometry_kernel(x, y, views, by_angle, by_shift, ny, nx, bins, n, PIXELS: tl.constexpr):
    """x (B, Y, X), y (B, n, S), views (B n, FIELDS) -> derivatives of <A x, y>, (B n,) each in float64.

    A weight ``(1 - d / m) / m``, d the distance of bin and pixel, changes with d and with m = max(|cos|, |sin|).
    """
    item = tl.program_id(0)
    view = views + item * FIELDS
    x += (item // n).to(tl.int64) * ny * nx
    cos, sin = tl.load(view) + tl.load(view + 1), tl.load(view + 2) + tl.load(view + 3)
    inverse = tl.load(view + 6)
    along, across = tl.where(tl.load(view + 7) > 0, sin, cos), tl.where(tl.load(view + 7) > 0, cos, -sin)
    m_by_angle = tl.where(along < 0, -across, across)
    e = tl.arange(0, PIXELS)
    total_angle = tl.zeros_like(e).to(tl.float32)
    total_shift = tl.zeros_like(e).to(tl.float32)
    for first in range(0, ny * nx, PIXELS):
        p = first + e
        i, j = p // nx, p % nx
        coarse, fine = place(view, j, i)
        left, right, d = taps(y + item.to(tl.int64) * bins, coarse, fine, bins, 1)
        left = tl.where(d * inverse < 1, left, 0.0) * inverse * inverse
        right = tl.where((1 - d) * inverse < 1, right, 0.0) * inverse * inverse
        value = tl.load(x + p, mask=p < ny * nx, other=0.0).to(tl.float32)
        turn = (i - 0.5 * (ny - 1)) * cos - (j - 0.5 * (nx - 1)) * sin  # of the pixel's bin, by the angle
        by_m = left * (2 * d * inverse - 1) + right * (2 * (1 - d) * inverse - 1)
        total_shift += value * (right - left)
        total_angle += value * ((right - left) * turn + by_m * m_by_angle)
    tl.store(by_angle + item, tl.sum(total_angle.to(tl.float64), 0))
    tl.store(by_shift + item, tl.sum(total_shift.to(tl.float64), 0))


def views_of(angles: Tensor, shift: Tensor, slice_shape: tuple[int, int], bins: int, forward: bool) -> Tensor:
    """The numbers of each view (n, FIELDS), for angles and shift of n elements; see `place`."""
    n = angles.numel()
    views = torch.empty(n, FIELDS.value, dtype=torch.float32, device=angles.device)
    quantum = 2.0 ** (max(*slice_shape, bins).bit_length() - 21)  # 24 bits hold eight times the size exactly
    _view_kernel[(triton.cdiv(n, VIEWS),)](
        angles.contiguous(), shift.contiguous(), views, n, *slice_shape, bins, quantum, FORWARD=forward, BLOCK=VIEWS
    )
    return views


def forward(x: Tensor, angles: Tensor, shift: Tensor, bins: int) -> Tensor:
    """As `reference.forward`; x in float32, bfloat16 or float16, summed in float32. All tensors on one device."""
    x = x.contiguous()
    batch, ny, nx = x.shape
    n = angles.shape[-1]
    out = x.new_empty(batch, n, bins)
    with torch.cuda.device_of(x):
        views = views_of(angles, shift, (ny, nx), bins, forward=True)
        _forward_kernel[(batch * n * triton.cdiv(bins, WIDTH),)](
            x, views, out, ny, nx, bins, n, n if angles.ndim == 2 else 0, LINES, WIDTH, num_warps=WARPS
        )
    return out


def adjoint(y: Tensor, angles: Tensor, shift: Tensor, slice_shape: tuple[int, int]) -> Tensor:
    """As `reference.adjoint`; y in float32, bfloat16 or float16, summed in float32. All tensors on one device."""
    y = y.contiguous()
    batch, n, bins = y.shape
    ny, nx = slice_shape
    out = y.new_empty(batch, ny, nx)
    with torch.cuda.device_of(y):
        views = views_of(angles, shift, slice_shape, bins, forward=False)
        _adjoint_kernel[(batch * triton.cdiv(nx, WIDTH), triton.cdiv(ny, ROWS))](
            y, views, out, ny, nx, bins, n, n if angles.ndim == 2 else 0, ROWS, WIDTH, num_warps=WARPS
        )
    return out


def geometry_gradient(x: Tensor, y: Tensor, angles: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """As `reference.geometry_gradient`, in float64; x and y in float32, bfloat16 or float16."""
    x, y = x.contiguous(), y.contiguous()
    batch, n, bins = y.shape
    ny, nx = x.shape[1:]
    by_angle, by_shift = y.new_empty(2, batch, n, dtype=torch.float64)
    with torch.cuda.device_of(x):
        views = views_of(angles, shift, (ny, nx), bins, forward=False)
        _geometry_kernel[(batch * n,)](x, y, views, by_angle, by_shift, ny, nx, bins, n, ROWS * WIDTH, num_warps=WARPS)
    return by_angle, by_shift
