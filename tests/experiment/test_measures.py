"""The table of quantities follows what it is made from."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from dip4d.config.load import config_of, save_config
from dip4d.experiment.measures import measure_if_stale
from dip4d.io.volumes import write_volumes
from dip4d.run_folder import CONFIG, MEASURES, VOLUMES


def write_run(folder: Path) -> None:
    """A run with three volumes of a ball of one intensity, in a shell of another."""
    r = np.linalg.norm(np.indices((16, 16, 16)) - 7.5, axis=0)
    volume = (0.4 * np.clip(7 - r, 0, 1) + 0.6 * np.clip(4 - r, 0, 1)).astype(np.float32)
    write_volumes(folder / VOLUMES, [volume] * 3, shape=(3, 16, 16, 16), times_s=np.arange(3.0), pixel_nm=0.5)
    say(folder)


def say(folder: Path, **keys) -> None:
    """Writes the configuration, a minute after the table, if there is one."""
    save_config(config_of(**{"data.path": "none.mrc"}, **keys), folder / CONFIG)
    if (table := folder / MEASURES).exists():
        os.utime(folder / CONFIG, (table.stat().st_mtime + 60,) * 2)


def test_what_was_said_of_the_elements_since_is_measured(tmp_path):
    write_run(tmp_path)
    measure_if_stale(tmp_path)
    first = (tmp_path / MEASURES).stat().st_mtime_ns
    assert "Au" not in (tmp_path / MEASURES).read_text()
    measure_if_stale(tmp_path)
    assert (tmp_path / MEASURES).stat().st_mtime_ns == first
    say(tmp_path, **{"evaluate.elements": ["Au", "Ag"], "evaluate.intensities": [1.0, 0.4]})
    measure_if_stale(tmp_path)
    assert ",Au_nm3,Ag_nm3," in (tmp_path / MEASURES).read_text()
