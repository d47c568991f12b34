"""A twin of a run gives error bars, which stand in its table and its figure; the run itself stays as it was."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from dip4d.__main__ import main
from dip4d.experiment.twin_marks import marks_for
from dip4d.report.measures_table import read_measures
from dip4d.tilt_series import TiltSeries


def test_a_run_measures_its_specimen_and_the_truth(folder):
    table = read_measures(folder / "measures.csv")
    assert len(table["time_s"]) == 12
    for name in ("volume_px3", "surface_px2", "Au_px3", "mixing_index"):
        assert np.isfinite(table[f"{name}_truth"]).all()
        assert name in table
    assert np.ptp(table["volume_px3_truth"]) < 0.3 * table["volume_px3_truth"].mean()  # the star keeps its volume
    assert (folder / "profiles.csv").exists()


def test_a_report_measures_a_run_that_was_not(folder):
    before = (folder / "measures.csv").read_text()
    (folder / "measures.csv").unlink()
    assert main(["report", str(folder)]) == 0
    assert (folder / "measures.csv").read_text() == before  # the truth is simulated again


def test_a_twin_gives_error_bars(folder, capsys):
    kept = {name: (folder / name).read_bytes() for name in ("checkpoint.ckpt", "volumes.ome.tif", "config.yaml")}
    assert main(["twin", str(folder), "--refits", "2"]) == 0
    told = json.loads((folder / "twin.json").read_text())
    assert set(told["sigma"]) >= {"volume", "surface", "Au", "mixing_index"}
    table = read_measures(folder / "measures.csv")
    np.testing.assert_allclose(table["volume_px3_sigma"], np.array(told["sigma"]["volume"]) * table["volume_px3"], 1e-4)
    assert (table["mixing_index_sigma"] > 0).all()
    assert "standard deviation" in capsys.readouterr().out
    assert (folder / "figures" / "measures.png").stat().st_size > 10_000
    assert all((folder / name).read_bytes() == content for name, content in kept.items())


def test_a_twin_needs_a_finished_run_and_two_refits(folder, tmp_path, capsys):
    assert main(["twin", str(tmp_path)]) == 2
    assert main(["twin", str(folder), "--refits", "1"]) == 2
    assert "no spread" in capsys.readouterr().err


def test_what_is_put_in_and_comes_back_as_it_was_is_seen_at_once():
    ball = np.linalg.norm(np.indices((48, 48, 48)) - 24, axis=0) < 11
    movie = [torch.from_numpy(ball.astype(np.float32))] * 20
    marks = marks_for(movie, seed=0)
    assert marks is not None
    series = TiltSeries(np.ones((20, 48, 48)), np.arange(20.0), 3 * np.arange(20.0), pixel_nm=0.5)
    plain = [v.numpy() for v in movie]
    told = marks.told([v + marks.added(t) for t, v in enumerate(plain)], plain, series=series)
    assert told["rise_images"] == pytest.approx(0.8, abs=0.01)  # 80 % of the way from one image to the next
    assert told["rise_s"] == pytest.approx(2.4, abs=0.03)
    assert told["feature_px"] == 2.0
    assert told["feature_or_finer"]
