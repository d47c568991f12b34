"""How fine a reconstruction is: what it predicts of rows that it has not seen, against what was measured there.

Two halves of one series share the prior of the network, and their Fourier shell correlation promises what the volumes
do not hold. Rows that no fit saw share nothing with it. By the Fourier slice theorem a row tells of a line of the
slice at its tilt, so all of them tell what the shells of the volumes hold, inside of the tilt range: what the missing
wedge hides they cannot know.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from scipy import fft
from scipy.signal.windows import tukey

THRESHOLD = 0.5  # of the correlation with what is free of noise (Rosenthal and Henderson, J. Mol. Biol. 333:721, 2003)
TAPER = 0.1  # share of each axis over which volumes are faded out, for specimens that reach the border
BAND = 3  # frequencies that are taken together: of one alone the few unseen rows tell too little
CERTAIN = 3.0  # standard errors that the signal of a band must be above nothing


@dataclass(frozen=True, eq=False)
class Correlation:
    """frequency: (n,), in cycles per voxel, up to Nyquist. correlation: (n,), -1..1; NaN where it cannot be told."""

    frequency: np.ndarray
    correlation: np.ndarray


def unseen_correlation(predicted: np.ndarray, measured: np.ndarray, *, noise: float) -> Correlation:
    """The correlation of predicted rows with what measured ones would be without their noise, by frequency along s.

    predicted, measured: (n, s), intensity; rows that the prediction has not seen.
    noise: mean variance of a measured pixel; it is taken from the power of the measured rows. Where what is left is no
        more than chance, the correlation cannot be told.
    """
    n, bins = measured.shape
    ours, theirs = (cast(np.ndarray, fft.rfft(rows)) for rows in (predicted, measured))
    bands = [slice(k, k + BAND) for k in range(1, bins // 2 + 1, BAND)]
    total = lambda values: np.array([values[:, band].sum(dtype=np.float64) for band in bands])
    numbers = np.array([n * np.arange(bins // 2 + 1)[band].size for band in bands])
    cross, own = total(np.real(ours * theirs.conj())), total(np.abs(ours) ** 2)
    chance = noise * bins * numbers  # power of the noise
    signal = total(np.abs(theirs) ** 2) - chance
    told = signal > CERTAIN * chance / np.sqrt(numbers)
    norm = np.sqrt(np.maximum(own * signal, np.finfo(float).tiny))
    correlation = np.where(told, np.clip(cross / norm, -1, 1), np.nan)
    middle = [(band.start + min(band.stop - 1, bins // 2)) / 2 / bins for band in bands]
    return Correlation(np.array(middle), correlation)


def shell_correlation(a: np.ndarray, b: np.ndarray, *, taper: float = 0.0) -> Correlation:
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
    return Correlation(np.arange(1, count + 1) / max(a.shape), correlation)


def mean_correlation(a: Iterable[np.ndarray], b: Iterable[np.ndarray], *, taper: float = TAPER) -> Correlation:
    """`shell_correlation` of two movies of the same frames, one or more, averaged over them."""
    frames = [shell_correlation(x, y, taper=taper) for x, y in zip(a, b, strict=True)]
    return replace(frames[0], correlation=np.mean([f.correlation for f in frames], axis=0))


def resolution_nm(found: Correlation, voxel_nm: float, *, threshold: float = THRESHOLD) -> tuple[float, bool]:
    """The full period, in nm, at which the correlation first falls below a threshold; and whether it may be finer.

    Between frequencies it is interpolated. It may be finer where the correlation is above the threshold as far as it
    can be told: up to Nyquist, or to where noise hides the rest. Infinite if the coarsest is below already. Give
    voxel_nm=1 for voxels.
    """
    frequency, above = found.frequency, found.correlation - threshold
    bad = np.flatnonzero(~(above >= 0))
    k = int(bad[0]) if len(bad) else len(above)
    if k == 0:
        return float("inf"), False
    if k == len(above) or np.isnan(above[k]):
        return float(voxel_nm / frequency[k - 1]), True
    share = above[k - 1] / (above[k - 1] - above[k])
    return float(voxel_nm / (frequency[k - 1] + share * (frequency[k] - frequency[k - 1]))), False


def record(found: Correlation, pixel_nm: float | None) -> dict[str, Any]:
    """The curve and the resolution, for a metrics.json: in nm, or in voxels where their size is unknown.

    resolution: None where even the coarsest frequency is below the threshold. or_finer: as by `resolution_nm`.
    frequency: in cycles per nm or per voxel. correlation: None where it cannot be told.
    """
    size = 1.0 if pixel_nm is None else pixel_nm
    value, or_finer = resolution_nm(found, size)
    return {
        "unit": "voxels" if pixel_nm is None else "nm",
        "resolution": value if np.isfinite(value) else None,
        "or_finer": or_finer,
        "frequency": (found.frequency / size).tolist(),
        "correlation": [None if np.isnan(c) else c for c in found.correlation.tolist()],
    }


def in_words(found: dict[str, Any]) -> str:
    """The resolution of a `record`, with its unit."""
    if found["resolution"] is None:
        return "cannot be told" if found["correlation"][0] is None else "none"
    return f"{found['resolution']:.3g} {found['unit']}" + (" or finer" if found["or_finer"] else "")


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
