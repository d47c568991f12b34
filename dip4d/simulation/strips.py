"""A projector of its own for simulated data: the area of each square pixel in the strip of each bin, exactly.

It shares nothing with `dip4d.projector`, which interpolates along lines: what is reconstructed with that one was not
made by it.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import sparse

_SHORTEST = 1e-7  # of a footprint's flank, below which it counts as a box


def strip_weights(shape: tuple[int, int], angle: float, *, bins: int) -> sparse.csr_array:
    """(bins, Y X): the area of every pixel of a slice (Y, X) that falls on every bin, in pixels.

    angle: radians; ``s = x cos + y sin`` as everywhere, from the middle of slice and detector. Pixels and bins have the
    same size. The shadow of a square is a trapezoid, the convolution of the shadows of its two sides; its integral over
    a bin is a closed form. Source: Kak and Slaney, *Principles of Computerized Tomographic Imaging*, 1988, ch. 7.
    """
    y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
    long, short = sorted((abs(math.cos(angle)), abs(math.sin(angle))), reverse=True)
    middle = (x * math.cos(angle) + y[:, None] * math.sin(angle)).ravel() + bins / 2
    first = np.floor(middle - (long + short) / 2)
    edges = first[:, None] + np.arange(4)  # a shadow is at most the root of 2 wide: it meets three bins
    area = np.diff(_share_below(edges - middle[:, None], long, short=short), axis=1)
    onto = first[:, None].astype(int) + np.arange(3)
    pixel = np.broadcast_to(np.arange(len(middle))[:, None], onto.shape)
    on = (onto >= 0) & (onto < bins)
    return sparse.csr_array((area[on], (onto[on], pixel[on])), shape=(bins, len(middle)))


def project(volume: np.ndarray, angle: float, *, bins: int) -> np.ndarray:
    """Sums a volume (Z, Y, X), intensity per pixel, along the beam: (Z, bins), intensity, of its dtype."""
    weights = strip_weights(volume.shape[1:], angle, bins=bins).astype(volume.dtype)
    return (weights @ volume.reshape(len(volume), -1).T).T


def _share_below(u: np.ndarray, long: float, *, short: float) -> np.ndarray:
    """The share of a trapezoid of area 1 around 0, of boxes `long` and `short` wide convolved, that lies below u."""
    if short < _SHORTEST:
        return np.clip(u / long + 0.5, 0, 1)
    outer, inner = (long + short) / 2, (long - short) / 2
    ramp = lambda offset: np.maximum(u + offset, 0) ** 2
    return np.clip((ramp(outer) - ramp(inner) - ramp(-inner) + ramp(-outer)) / (2 * long * short), 0, 1)
