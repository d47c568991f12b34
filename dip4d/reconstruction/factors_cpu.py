"""Orthoslices from their factors on the CPU, with their total variation: one pass over memory each way.

What a step waits for is memory, through which orthoslices pass again with each operation. Here some rows of each frame
are drawn, compared with their neighbours and added up while they are in the cache; backwards they go from the
derivative of the slices straight to those of weights, maps and bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dip4d.reconstruction.factors import DrawnTogether, Factors
from dip4d.threads import fast_jit, on_threads

FRAMES = 5  # that are taken together: what is added up over frames has to be read and written less often
BAND = 2048  # pixels of a few rows that are worked on together: with their maps they stay in the cache
LOG2_E, LN_2 = np.float32(1.4426950408889634), np.float32(0.6931471805599453)
FARTHEST = np.float32(60.0)  # beyond this logit a pixel is empty, or full


def serve(factors: Sequence[Factors]) -> bool:
    """Whether these kernels can draw them."""
    return all(v.device.type == "cpu" and v.dtype == torch.float32 for f in factors for v in (f.weights, f.maps))


def draw_together(factors: Sequence[Factors], frames_apart: int) -> DrawnTogether:
    """Draws all layers, and adds up the differences of neighbours of each. Differentiable once."""
    weights, maps, bound = (torch.stack([getattr(f, of) for f in factors]) for of in ("weights", "maps", "bound"))
    slices, differences = _Drawn.apply(weights, maps, bound, factors[0].offset, frames_apart)
    return DrawnTogether(slices, differences, frames_apart)


class _Drawn(torch.autograd.Function):
    """Of weights (layers, B, n, K), maps (layers, B, K, Y, X) and bounds (layers,): slices and differences."""

    @staticmethod
    def forward(ctx: Any, weights: Tensor, maps: Tensor, bound: Tensor, offset: float, apart: int):
        (layers, b, n, _), (rows, cols) = weights.shape, maps.shape[3:]
        ctx.apart, ctx.bands = apart, -(-rows // max(1, BAND // cols))
        total, values = torch.empty(b, n, rows, cols), torch.empty(layers, b, n, rows, cols)
        differences = torch.zeros(b, ctx.bands, layers, 3, dtype=torch.float64)
        arrays = map(_array, (total, weights, maps, bound, values, differences))
        on_threads(_draw, (*arrays, np.float32(offset), apart), items=b * ctx.bands)
        ctx.save_for_backward(weights, maps, bound, values)
        ctx.set_materialize_grads(False)
        return total, differences.sum((0, 1)).to(weights)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None):
        weights, maps, bound, values = ctx.saved_tensors
        of_slices, of_differences = grads
        of_total = values[0] if of_slices is None else of_slices
        share = torch.zeros(len(bound), 3) if of_differences is None else of_differences
        (layers, b, n, known), bands = weights.shape, ctx.bands
        of_maps, of_bound = torch.empty(maps.shape), torch.zeros(b, bands, layers, dtype=torch.float64)
        of_weights = torch.empty(b, bands, layers, n, known)
        in_turn = weights.transpose(2, 3)  # those of all frames side by side
        arrays = map(_array, (values, of_total, in_turn, maps, bound, share, of_weights, of_maps, of_bound))
        on_threads(_differentiate, (*arrays, ctx.apart, of_slices is not None), items=b * bands)
        return of_weights.sum(1).transpose(0, 1), of_maps, (of_bound.sum((0, 1)) / bound).to(bound), None, None


def _array(x: Tensor) -> np.ndarray:
    return x.detach().contiguous().numpy()


@fast_jit
def _rows_of(item, bands, rows):
    """The position that an item belongs to, its band, and the first and last + 1 of its rows."""
    b, band = divmod(item, bands)
    high = -(-rows // bands)
    return b, band, min(band * high, rows), min((band + 1) * high, rows)


@fast_jit
def _fill(out, value):
    """As ``out[:] = value``, which takes seconds to compile, for the words of its error."""
    for j in range(len(out)):
        out[j] = value


@fast_jit
def _copy(of, out):
    """As ``out[:] = of``, likewise."""
    for j in range(len(out)):
        out[j] = of[j]


@fast_jit
def _mix(weights, lines, out):
    """out (P,) += weights (K,) @ lines (K, P); five at a time, since `out` has to be read and written each time."""
    fives = len(weights) // 5 * 5
    for k in range(0, fives, 5):
        a, b, c, d, e = weights[k], weights[k + 1], weights[k + 2], weights[k + 3], weights[k + 4]
        of_a, of_b, of_c, of_d, of_e = lines[k], lines[k + 1], lines[k + 2], lines[k + 3], lines[k + 4]
        for j in range(len(out)):
            out[j] += a * of_a[j] + b * of_b[j] + c * of_c[j] + d * of_d[j] + e * of_e[j]
    for k in range(fives, len(weights)):
        a, of_a = weights[k], lines[k]
        for j in range(len(out)):
            out[j] += a * of_a[j]


@fast_jit
def _along(lines, of, out):
    """out (K,): lines (K, P) @ of (P,)."""
    fives = len(lines) // 5 * 5
    for k in range(0, fives, 5):
        of_a, of_b, of_c, of_d, of_e = lines[k], lines[k + 1], lines[k + 2], lines[k + 3], lines[k + 4]
        a = b = c = d = e = np.float32(0)
        for j in range(len(of)):
            a += of_a[j] * of[j]
            b += of_b[j] * of[j]
            c += of_c[j] * of[j]
            d += of_d[j] * of[j]
            e += of_e[j] * of[j]
        out[k], out[k + 1], out[k + 2], out[k + 3], out[k + 4] = a, b, c, d, e
    for k in range(fives, len(lines)):
        of_a, a = lines[k], np.float32(0)
        for j in range(len(of)):
            a += of_a[j] * of[j]
        out[k] = a


@fast_jit
def _bound_by(bound, bits, scale, out):
    """From logits (P,) to ``bound * sigmoid``. bits, scale: room for P numbers, the same."""
    for j in range(len(out)):  # exp(-x) is 2^power exp(rest)
        x = min(max(-out[j], -FARTHEST), FARTHEST)
        power = np.int32(x * LOG2_E + np.float32(128.5)) - np.int32(128)
        bits[j] = (power + np.int32(127)) << np.int32(23)
        out[j] = x - np.float32(power) * LN_2
    for j in range(len(out)):
        r = out[j]
        e = np.float32(1 / 720)
        e = e * r + np.float32(1 / 120)
        e = e * r + np.float32(1 / 24)
        e = e * r + np.float32(1 / 6)
        e = e * r + np.float32(0.5)
        e = e * r + np.float32(1)
        e = e * r + np.float32(1)
        out[j] = bound / (np.float32(1) + e * scale[j])


@fast_jit
def _distance(a, b):
    """The sum of absolute differences."""
    total = np.float32(0)
    for j in range(len(a)):
        total += abs(a[j] - b[j])
    return total


@fast_jit
def _lines(maps, top, bottom):
    """(layers, K, P): some rows of maps (layers, K, Y, X), side by side in memory."""
    layers, known, _, cols = maps.shape
    return maps[:, :, top:bottom].copy().reshape((layers, known, (bottom - top) * cols))


@fast_jit
def _draw(total, weights, maps, bounds, values, sums, offset, apart, first, last):
    n, rows, cols = total.shape[1:]
    bands = sums.shape[1]
    bits, above = np.empty(max(BAND, cols), np.int32), np.empty(cols, np.float32)
    scale = bits.view(np.float32)
    for item in range(first, last):
        b, band, top, bottom = _rows_of(item, bands, rows)
        pixels = (bottom - top) * cols
        here = _lines(maps[:, b], top, bottom)
        before = _lines(maps[:, b], max(top - 1, 0), max(top, 1))
        for t in range(n):
            sum_of_layers = total[b, t, top:bottom].reshape(pixels)
            _fill(sum_of_layers, np.float32(0))
            for layer in range(len(bounds)):
                drawn, found = values[layer, b, t, top:bottom].reshape(pixels), sums[b, band, layer]
                _fill(drawn, offset)
                _mix(weights[layer, b, t], here[layer], drawn)
                _bound_by(bounds[layer], bits, scale, drawn)
                for j in range(pixels):
                    sum_of_layers[j] += drawn[j]
                if t > 0:
                    found[2] += _distance(drawn, values[layer, b, t - 1, top:bottom].reshape(pixels))
                if t % apart:
                    continue
                for row in range(bottom - top):
                    line = drawn[row * cols : (row + 1) * cols]
                    found[0] += _distance(line[1:], line[:-1])
                found[1] += _distance(drawn[cols:], drawn[:-cols])
                if top > 0 and pixels > 0:  # the row above is another item's: drawn again
                    _fill(above, offset)
                    _mix(weights[layer, b, t], before[layer], above)
                    _bound_by(bounds[layer], bits, scale, above)
                    found[1] += _distance(drawn[:cols], above)


@fast_jit
def _add_signs(weight, a, b, out):
    """Adds the derivative of ``weight * |a - b|`` by a."""
    for j in range(len(out)):
        out[j] += (weight if a[j] > b[j] else np.float32(0)) - (weight if a[j] < b[j] else np.float32(0))


@fast_jit
def _of_values(slices, of_total, through, share, apart, t, top, bottom, out):
    """out (P,): the derivative by the rows top..bottom of the frame t of slices (n, Y, X): of their total variation,
    and `of_total` where it is given (`through`).
    """
    n, rows, cols = slices.shape
    pixels = (bottom - top) * cols
    drawn = slices[t, top:bottom].reshape(pixels)
    if through:
        _copy(of_total[t, top:bottom].reshape(pixels), out)
    else:
        _fill(out, np.float32(0))
    if t > 0:
        _add_signs(share[2], drawn, slices[t - 1, top:bottom].reshape(pixels), out)
    if t + 1 < n:
        _add_signs(share[2], drawn, slices[t + 1, top:bottom].reshape(pixels), out)
    if t % apart:
        return
    for row in range(bottom - top):
        line, of_line = drawn[row * cols : (row + 1) * cols], out[row * cols : (row + 1) * cols]
        _add_signs(share[0], line[1:], line[:-1], of_line[1:])
        _add_signs(share[0], line[:-1], line[1:], of_line[:-1])
    high = max(top - 1, 0)
    _add_signs(
        share[1],
        slices[t, high + 1 : bottom].reshape((bottom - high - 1) * cols),
        slices[t, high : bottom - 1].reshape((bottom - high - 1) * cols),
        out[(high + 1 - top) * cols :],
    )
    low = min(bottom + 1, rows)
    _add_signs(
        share[1],
        slices[t, top : low - 1].reshape((low - 1 - top) * cols),
        slices[t, top + 1 : low].reshape((low - 1 - top) * cols),
        out[: (low - 1 - top) * cols],
    )


@fast_jit
def _differentiate(
    values, of_total, weights, maps, bounds, share, of_weights, of_maps, of_bound, apart, through, first, last
):
    layers, _, n, rows, cols = values.shape
    bands = of_weights.shape[1]
    room = np.empty(FRAMES * max(BAND, cols), np.float32)
    for item in range(first, last):
        b, band, top, bottom = _rows_of(item, bands, rows)
        pixels = (bottom - top) * cols
        here = _lines(maps[:, b], top, bottom)
        of_here = np.zeros(here.shape, np.float32)
        of_frames = room[: FRAMES * pixels].reshape((FRAMES, pixels))
        for layer in range(layers):
            slices, inverse = values[layer, b], np.float32(1) / bounds[layer]
            for start in range(0, n, FRAMES):
                frames = min(FRAMES, n - start)
                for i in range(frames):
                    of = of_frames[i]
                    _of_values(slices, of_total[b], through, share[layer], apart, start + i, top, bottom, of)
                    drawn, total = slices[start + i, top:bottom].reshape(pixels), np.float32(0)
                    for j in range(pixels):
                        change = of[j] * drawn[j]
                        total += change
                        of[j] = change * (np.float32(1) - drawn[j] * inverse)
                    of_bound[b, band, layer] += total
                    _along(here[layer], of, of_weights[b, band, layer, start + i])
                for k in range(here.shape[1]):
                    _mix(weights[layer, b, k, start : start + frames], of_frames[:frames], of_here[layer, k])
        for layer in range(layers):
            for k in range(here.shape[1]):
                _copy(of_here[layer, k], of_maps[layer, b, k, top:bottom].reshape(pixels))
