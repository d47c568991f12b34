"""What a run was made of: the versions of what it ran with, and the hashes of what it read."""

from __future__ import annotations

import hashlib
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from dip4d.config.schema import Config
from dip4d.tilt_series import TiltSeries

PACKAGES = ("torch", "lightning", "numpy", "scipy", "numba", "scikit-image")


def made_of(config: Config, series: TiltSeries) -> dict[str, Any]:
    """For a metrics.json: versions, SHA-256 of the files read, and what the series was that was fitted.

    A file that is gone by now has no hash.
    """
    named = (config.data.path, config.data.angles, config.data.truth, config.align.shifts)
    angles = series.angles_deg
    return {
        "versions": {"dip4d": sys.modules["dip4d"].__version__, "python": platform.python_version()} | _versions(),
        "files": {Path(name).name: _hash_of_path(Path(name)) for name in named if name is not None},
        "series": {
            "shape": list(series.shape),
            "angles_deg": [float(angles.min()), float(angles.max())],
            "sha256": hashlib.sha256(np.ascontiguousarray(series.images).data).hexdigest(),
        },
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _hash_of_path(path: Path) -> str | None:
    """SHA-256 of a file; of a folder, of its files' names and hashes in their order; None if it is not there."""
    try:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.is_file())
            return hashlib.sha256("".join(f"{_hash_of_path(p)}  {p.name}\n" for p in inside).encode()).hexdigest()
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
