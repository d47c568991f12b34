"""The folder of a finished run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dip4d.io import write_volumes
from dip4d.run_folder import VOLUMES


@pytest.fixture
def volumes() -> np.ndarray:
    return np.random.default_rng(0).random((3, 4, 6, 6), dtype=np.float32)


@pytest.fixture
def finished(tmp_path, volumes) -> Path:
    """A folder with the volumes of a run."""
    folder = tmp_path / "run"
    folder.mkdir()
    write_volumes(
        folder / VOLUMES, iter(volumes), shape=volumes.shape, times_s=np.array([0.0, 30.0, 75.5]), pixel_nm=1.25
    )
    return folder
