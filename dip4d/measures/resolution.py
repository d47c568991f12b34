"""Resolution by Fourier shell correlation of two reconstructions, for instance from the odd and from the even images.

It measures what two halves of the data agree on. Each half has half the dose and twice the angular step, so the whole
is better than it says; what both halves share, the missing wedge, a prior or a mask, makes it say too much.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from scipy import fft
from scipy.signal.windows import tukey

FIXED = 0.143  # Rosenthal and Henderson, J. Mol. Biol. 333:721, 2003
TAPER = 0.1  # share of each axis over which volumes are faded out, for specimens that reach the border


@dataclass(frozen=True, eq=False)
class ShellCorrelation:
    """frequency: (n,), middle of each shell, in cycles per voxel, up to Nyquist. correlation: (n,), -1..1; 0 where a
    shell is empty. voxels: (n,), of Fourier space in each.
    """

    frequency: np.ndarray
    correlation: np.ndarray
    voxels: np.ndarray


def shell_correlation(a: np.ndarray, b: np.ndarray, *, taper: float = 0.0) -> ShellCorrelation:
    """Fourier shell correlation of two volumes (z, y, x) of the same shape, which need not be a cube.

    taper: share of each axis over which the volumes are faded out at their borders (Tukey window); for volumes whose
    specimen reaches the border. Shells are one frequency of the longest axis wide (Harauz and van Heel, Optik 73:146,
    1986). Raises ValueError for volumes of different shapes, other than three axes, or values that are not finite.
    """
    if a.shape != b.shape or a.ndim != 3:
        raise ValueError(f"expected two volumes (z, y, x) of one shape, got {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("volumes must be finite numbers")
    window = _window(a.shape, taper)
    spectra = [cast(np.ndarray, fft.rfftn((v - v.mean(dtype=np.float64)) * window)) for v in (a, b)]
    shell, weight = _shells(a.shape)
    count = max(a.shape) // 2
    total = lambda values: np.bincount(shell.ravel(), (weight * values).ravel(), count + 1)[1 : count + 1]
    cross, one, two = total(np.real(spectra[0] * spectra[1].conj())), *(total(np.abs(s) ** 2) for s in spectra)
    norm = np.sqrt(one * two)
    floor = 1e-14 * max(float(norm.max()), 1e-300)  # shells without any signal, but for rounding
    correlation = np.where(norm > floor, cross / np.maximum(norm, floor), 0)
    return ShellCorrelation(np.arange(1, count + 1) / max(a.shape), correlation, total(np.ones(shell.shape)))


def mean_correlation(a: Iterable[np.ndarray], b: Iterable[np.ndarray], *, taper: float = TAPER) -> ShellCorrelation:
    """`shell_correlation` of two movies of the same frames, one or more, averaged over them."""
    frames = [shell_correlation(x, y, taper=taper) for x, y in zip(a, b, strict=True)]
    return replace(frames[0], correlation=np.mean([f.correlation for f in frames], axis=0))


def record(fsc: ShellCorrelation, pixel_nm: float | None) -> dict[str, Any]:
    """The curve and the resolutions, for a metrics.json: in nm, or in voxels where their size is unknown.

    fixed, half_bit: the resolution at each threshold; None where even the coarsest shell is below it. frequency: in
    cycles per nm or per voxel. half_bit_curve: the threshold of each shell.
    """
    size = 1.0 if pixel_nm is None else pixel_nm
    found = {"fixed": resolution_nm(fsc, size), "half_bit": resolution_nm(fsc, size, threshold=half_bit)}
    return {
        "unit": "voxels" if pixel_nm is None else "nm",
        **{name: value if np.isfinite(value) else None for name, value in found.items()},
        "frequency": (fsc.frequency / size).tolist(),
        "correlation": fsc.correlation.tolist(),
        "half_bit_curve": half_bit(fsc.voxels).tolist(),
    }


def in_words(found: dict[str, Any], threshold: str) -> str:
    """The resolution of a `record` at the threshold `fixed` or `half_bit`, with its unit."""
    value, finest = found[threshold], 1 / found["frequency"][-1]
    if value is None:
        return "none"
    return f"{value:.3g} {found['unit']}" + (" or finer (Nyquist)" if value <= finest * (1 + 1e-9) else "")


def _window(shape: tuple[int, ...], taper: float) -> np.ndarray:
    z, y, x = (tukey(n, taper) for n in shape)
    return z[:, None, None] * y[:, None] * x


def _shells(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The shell of each frequency of an rfftn, those beyond Nyquist counted in one last shell, and how often it occurs
    in the whole transform, once or twice.
    """
    z, y, x = fft.fftfreq(shape[0]), fft.fftfreq(shape[1]), fft.rfftfreq(shape[2])
    radius = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    longest = max(shape)
    shell = np.rint(radius * longest).astype(int)
    shell[shell > longest // 2] = 0
    twice = np.where((x == 0) | ((shape[2] % 2 == 0) & (x == x.max())), 1.0, 2.0)
    return shell, np.broadcast_to(twice, shell.shape)


def half_bit(voxels: np.ndarray) -> np.ndarray:
    """The half-bit threshold for shells of so many voxels (van Heel and Schatz, J. Struct. Biol. 151:250, 2005).

    Voxels of Fourier space are counted with their mirror images, which tell nothing new: half of them count.
    """
    root = np.sqrt(np.maximum(voxels / 2, 1))
    return np.minimum((0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root), 1.0)


def resolution_nm(
    fsc: ShellCorrelation, voxel_nm: float, *, threshold: float | Callable[[np.ndarray], np.ndarray] = FIXED
) -> float:
    """The full period, in nm, at which the correlation first falls below the threshold: a number, or `half_bit`.

    Between shells it is interpolated. Two voxels (Nyquist) if it never falls below; infinite if the coarsest shell is
    below already. Give voxel_nm=1 for voxels.
    """
    level = threshold(fsc.voxels) if callable(threshold) else np.full(len(fsc.voxels), threshold)
    above = fsc.correlation - level
    below = np.flatnonzero(above < 0)
    if len(below) == 0:
        return float(voxel_nm / fsc.frequency[-1])
    k = int(below[0])
    if k == 0:
        return float("inf")
    share = above[k - 1] / (above[k - 1] - above[k])
    return float(voxel_nm / (fsc.frequency[k - 1] + share * (fsc.frequency[k] - fsc.frequency[k - 1])))


def odd_and_even(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """The two halves of a series for the correlation: images 0, 2, 4, ... and 1, 3, 5, ..."""
    return np.arange(0, frames, 2), np.arange(1, frames, 2)
