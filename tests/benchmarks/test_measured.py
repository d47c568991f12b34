"""The benchmark of measured series: what is kept aside, what is kept of a run, and its table."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from dip4d.tilt_series import TiltSeries


@pytest.fixture
def measured(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    module = importlib.import_module("measured")
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    return module


def test_a_long_sinogram_is_made_small(measured):
    images = np.arange(7 * 10, dtype=np.float32).reshape(7, 1, 10)
    series = TiltSeries(images, np.arange(7.0), np.arange(7) * 2.0, pixel_nm=0.5)
    small = measured.binned(measured.averaged(series, 3), 4)
    assert small.shape == (2, 1, 2)
    np.testing.assert_allclose(small.angles_deg, [1, 4])
    np.testing.assert_allclose(small.times_s, [2, 8])
    assert small.images[0, 0, 0] == pytest.approx(images[:3, 0, :4].mean())
    assert small.pixel_nm == 2.0
    assert measured.averaged(series, 1) is series


def test_measured_series_are_read(measured, real_data):
    for name, shape in (("needle", (77, 64, 64)), ("particles", (116, 32, 74)), ("nanotube", (116, 1, 96))):
        assert measured.SERIES[name].read(real_data).shape == shape
    assert measured.SERIES["needle"].read(real_data, coarser=4).shape == (77, 16, 16)


def written(folder: Path) -> None:
    errors = {"dip": 0.05, "sirt_whole": 0.04, "tv_whole": 0.02}
    settings = {"sirt_whole": {"settings": {"iterations": 30}}, "tv_whole": {"settings": {"weight": 2.0}}}
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps({
        "held_out": errors, "held_out_images": errors, "held_out_without_noise": {}, "methods": {"dip": {}} | settings,
        "noise_floor": {"held_out": 0.01}, "steps": 900, "fit_seconds": 61.0,
    }))  # fmt: skip


def test_a_run_is_kept_and_told_beside_the_best_of_the_others(measured, tmp_path, monkeypatch):
    asked = []

    def dip4d(arguments: list[str]) -> int:
        keys = dict(a.split("=", 1) for a in arguments[1:])
        assert Path(keys["data.path"]).exists()
        written(Path(keys["run.dir"]))
        asked.append(keys)
        return 3

    series = TiltSeries(np.ones((12, 2, 8), np.float32), np.arange(12.0))
    monkeypatch.setattr(measured, "dip4d_main", dip4d)
    monkeypatch.setattr(measured.Measured, "read", lambda self, folder, *, coarser: series)
    monkeypatch.setattr(sys, "argv", ["measured.py", "--only", "needle"])
    measured.main()
    assert [k.get("data.test_images_in_a_row") for k in asked] == [None, "5"]
    ours = {"data.path", "data.background", "run.dir", "logger", "compare.methods"}  # no key of the method
    assert set(asked[0]) == ours
    kept = json.loads((tmp_path / "measured.json").read_text())["cases"]
    assert list(kept) == ["needle images", "needle gaps"]
    table = (tmp_path / "measured.md").read_text()
    assert "| needle | gaps | ours over the best other | 2.5000 | 2.5000 |  | |" in table
    assert "| needle | images | **DIP-4D** (61 s) | 0.0500 | 0.0500 |  | steps 900 |" in table
    measured.main()  # what is there is not run again,
    assert len(asked) == 2
    monkeypatch.setattr(sys, "argv", ["measured.py", "--only", "needle", "gaps", "--keys", "network.rank=1"])
    before = (tmp_path / "measured.json").read_text()
    measured.main()  # and a trial is not kept
    assert asked[2]["network.rank"] == "1"
    assert (tmp_path / "measured.json").read_text() == before
