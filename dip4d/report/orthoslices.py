"""The orthoslices that stand for a volume in figures: through the densest z, and through the middle."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dip4d.report.arrays import read_arrays
from dip4d.run_folder import ORTHOSLICES


def densest_z(images: np.ndarray) -> int:
    """The z with the most intensity in images (t, z, s)."""
    return int(images.sum((0, 2)).argmax())


def orthoslices(name: str, volumes: Sequence[np.ndarray], *, images: np.ndarray) -> dict[str, np.ndarray]:
    """The (y, x) slice through the densest z and the (z, x) slice through the middle, of some volumes.

    name: of the method; the slices are named after it.
    volumes: (z, y, x) each.
    images: (t, z, s), of the series; they say which z is the densest.
    """
    z, y = densest_z(images), images.shape[2] // 2
    return {
        f"{name}_yx": np.stack([v[z] for v in volumes]),
        f"{name}_zx": np.stack([v[:, y] for v in volumes]),
    }


def read_orthoslices(run: Path) -> dict[str, np.ndarray]:
    """orthoslices.npz of a run: the slices of `orthoslices`, and `frames`, their numbers. Raises InputError."""
    return read_arrays(run / ORTHOSLICES, needed=("frames",))
