"""Counts and measures compact particles in the volumes of a run: python benchmarks/particles.py RUN [--threshold 0.35]

Of the mean volume and of the first, middle and last frame: local maxima above a share of the largest intensity, each
grown down to half of its own height. Prints for each particle its place (z, y, x), its diameter seen along the beam
(of a disc of equal area: the missing wedge does not lengthen it) and its length along the beam, all in nm, or in voxels
where the size of a voxel is unknown.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import common  # noqa: F401  # first: it finds the package

# isort: split
import numpy as np
from scipy.ndimage import gaussian_filter
from skimage.feature import peak_local_max
from skimage.segmentation import watershed

from dip4d.io import open_volumes
from dip4d.io.volumes import read_times_and_size
from dip4d.run_folder import VOLUMES


def particles(volume: np.ndarray, threshold: float, apart: int) -> list[tuple[np.ndarray, float, float]]:
    """Place (z, y, x), diameter along the beam's view and length along it, in voxels, of particles in (z, y, x)."""
    smooth = gaussian_filter(volume, 0.7)
    peaks = peak_local_max(smooth, min_distance=apart, threshold_rel=threshold)
    markers = np.zeros(volume.shape, int)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    regions = watershed(-smooth, markers, mask=smooth > threshold * smooth.max() / 2)
    found = []
    for number, peak in enumerate(peaks, start=1):
        inside = (regions == number) & (smooth > smooth[tuple(peak)] / 2)
        area, length = inside.any(1).sum(), inside.any((0, 2)).sum()
        found.append((peak, float(np.sqrt(4 * area / np.pi)), float(length)))
    return found


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("run", type=Path)
    p.add_argument("--threshold", type=float, default=0.35, help="share of the largest intensity (default: 0.35)")
    p.add_argument("--apart", type=int, default=4, help="voxels between two maxima (default: 4)")
    a = p.parse_args()
    volumes = open_volumes(a.run / VOLUMES)
    _, size = read_times_and_size(a.run / VOLUMES)
    size, unit = (1.0, "voxels") if size is None else (size, "nm")
    frames = {"mean": np.mean(volumes, axis=0)} | {f"frame {t}": volumes[t] for t in (0, len(volumes) // 2, -1)}
    for name, volume in frames.items():
        found = particles(volume, a.threshold, a.apart)
        across, along = (np.array([f[k] for f in found]) * size for k in (1, 2))
        print(f"{name}: {len(found)} particles, diameter {across.mean():.2f} +- {across.std():.2f} {unit}")
        for (place, *_), d, length in zip(found, across, along, strict=True):
            print(f"  at ({', '.join(f'{v:.1f}' for v in place * size)}): {d:.2f} across, {length:.2f} along the beam")


if __name__ == "__main__":
    main()
