"""The Python face: arrays in, volumes out, nothing written unless asked, and the same weights as a run."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch

import dip4d
from dip4d.__main__ import main
from dip4d.io import open_volumes, read_tilt_series
from dip4d.measures.image_quality import psnr
from tests.helpers import same, weights

SMALL = {"steps": 30, "network": {"channels": 16, "rank": 4, "motion": "never"}, "train": {"slices": 4}}


@pytest.fixture(scope="module")
def simulated():
    return dip4d.simulate("nanostar", 16, frames=12, seed=2)


@pytest.fixture(scope="module")
def movie(simulated) -> dip4d.Reconstruction:
    series, truth = simulated
    return dip4d.reconstruct(series, truth=truth, progress=False, **SMALL)


def test_every_public_name_is_there():
    for name in dip4d.__all__:
        assert getattr(dip4d, name).__doc__
    assert set(dip4d.__all__) <= set(dir(dip4d))
    with pytest.raises(AttributeError, match="no attribute 'reconstrcut'"):
        _ = dip4d.reconstrcut


def test_volumes_are_those_of_the_images_and_of_any_time_between(movie, simulated):
    volumes = movie.volumes()
    assert volumes.shape == simulated[1].shape
    np.testing.assert_array_equal(movie.volume(3), volumes[3])
    np.testing.assert_array_equal(movie.volume(-1), volumes[11])
    between = movie.at([0, 4.5, 11])
    np.testing.assert_array_equal(between[[0, 2]], volumes[[0, 11]])
    assert not np.array_equal(between[1], volumes[4])
    np.testing.assert_array_equal(movie.at(4.5), between[1:2])
    np.testing.assert_array_equal(np.stack(list(movie.frames([4.5]))), between[1:2])
    with pytest.raises(dip4d.InputError, match=r"11\.5 s is not within the series"):
        movie.at([11.5])
    with pytest.raises(IndexError, match="image 12: there are 12, from 0 to 11"):
        movie.volume(12)


def test_metrics_are_those_of_the_volumes(movie, simulated):
    truth = simulated[1]
    scores = [psnr(v, t, data_range=float(truth.max())) for v, t in zip(movie.volumes(), truth, strict=True)]
    assert movie.metrics["psnr_mean"] == pytest.approx(np.mean(scores))
    assert movie.metrics["psnr_worst"] == pytest.approx(min(scores))
    assert movie.metrics["steps"] == 30
    assert 0 < movie.metrics["test_error"] < 1
    assert 0 < movie.metrics["validation_error"] < 1


def test_bare_arrays_are_a_series_and_the_truth_changes_nothing(movie, simulated):
    series, _ = simulated
    again = dip4d.reconstruct(
        series.images, angles_deg=series.angles_deg.tolist(), times_s=range(12), progress=False, **SMALL
    )
    np.testing.assert_array_equal(again.volume(5), movie.volume(5))
    assert "psnr_mean" not in again.metrics


def test_it_writes_nothing_and_leaves_the_random_numbers_alone(simulated, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("dip4d"), "handlers", [])  # those of a command of another test
    torch.manual_seed(5)
    np.random.seed(5)
    before, numbers = torch.random.get_rng_state(), np.random.get_state()[1]
    dip4d.reconstruct(simulated[0], progress=False, **SMALL | {"steps": 3})
    assert list(tmp_path.iterdir()) == []
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state()[1], numbers)
    assert capsys.readouterr().out == ""


def test_a_saved_reconstruction_is_a_run(movie, simulated, tmp_path, capsys):
    folder = movie.save(tmp_path / "run")
    np.testing.assert_array_equal(open_volumes(folder / "volumes.ome.tif"), movie.volumes())
    np.testing.assert_array_equal(read_tilt_series(folder / "series.npz").images, movie.series.images)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert np.mean(metrics["methods"]["dip"]["psnr"]) == pytest.approx(movie.metrics["psnr_mean"])
    assert main(["report", str(folder)]) == 0
    assert {"orthoslices_yx.png", "quality.png", "diagnostics.png"} <= {f.name for f in (folder / "figures").iterdir()}
    with pytest.raises(dip4d.InputError, match="already holds a run"):
        movie.save(folder)
    movie.save(folder, overwrite=True)

    arguments = ["compare.methods=[]", "logger=csv", "trainer.accelerator=cpu", f"run.dir={tmp_path / 'again'}"]
    assert main(["reconstruct", str(folder / "config.yaml"), *arguments]) in (0, 3)
    assert same(weights(folder), weights(tmp_path / "again"))


def test_uncertainty_is_one_for_every_voxel(movie):
    sigma = movie.uncertainty(members=3)
    assert sigma.shape == movie.volumes().shape
    np.testing.assert_array_equal(sigma, movie.uncertainty(members=3))
    assert sigma.min() >= 0
    assert sigma.max() > 0
    with pytest.raises(dip4d.InputError, match="members=2 must be at least 3"):
        movie.uncertainty(members=2)


def test_presets_give_way_to_keys_wherever_they_stand(simulated):
    keys = {"train": {"slices": 3}, "network": "voxels", "steps": 2, "run": {"seed": 4}}
    config = dip4d.reconstruct(simulated[0], progress=False, **keys).config
    assert (config.network.name, config.network.rank, config.train.slices, config.run.seed) == ("voxels", 5, 3, 4)


def test_progress_is_told_where_it_is_asked_for(simulated, capsys, monkeypatch):
    monkeypatch.setattr("dip4d.experiment.reconstruct.SECONDS_BETWEEN_LINES", 0.0)
    dip4d.reconstruct(simulated[0], **SMALL | {"steps": 3})
    assert "step 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": {"stpes": 3}}, "unknown key train.stpes; did you mean train.steps"),
        ({"network": "dipstr"}, "network=dipstr: must be one of dip"),
        ({"simulate": {"size": 20}}, "simulate.size does nothing here"),
        ({"data": {"path": "x.mrc"}}, "data.path does nothing here"),
        ({"train": {"steps": 3}}, "give steps as an argument, not as a key"),
        ({"angles_deg": [1, 2]}, "a TiltSeries has its own angles"),
        ({"truth": np.zeros((3, 4, 4, 4))}, r"truth has shape \(3, 4, 4, 4\), the volumes will be"),
    ],
)
def test_what_does_not_fit_is_one_line_before_the_work(simulated, changes, words):
    with pytest.raises(dip4d.InputError, match=words) as error:
        dip4d.reconstruct(simulated[0], **{"steps": 1, "progress": False} | changes)
    assert "\n" not in str(error.value)


def test_images_need_angles_and_times_in_order():
    images = np.ones((4, 5, 6))
    with pytest.raises(dip4d.InputError, match="need angles_deg"):
        dip4d.reconstruct(images)
    with pytest.raises(dip4d.InputError, match="4 images but 3 tilt angles"):
        dip4d.reconstruct(images, angles_deg=[0, 1, 2])
    with pytest.raises(dip4d.InputError, match="times_s must not decrease"):
        dip4d.reconstruct(images, angles_deg=[0, 1, 2, 3], times_s=[0, 2, 1, 3])


EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DIP4D_TINY", "1")
    monkeypatch.setattr("sys.argv", ["reconstruct_array.py", str(tmp_path / "run")])
    exec(compile((EXAMPLES / "reconstruct_array.py").read_text(), "example", "exec"), {"__name__": "__main__"})
    said = capsys.readouterr().out
    assert "(16, 16, 16)" in said
    assert "psnr_mean" in said
    assert (tmp_path / "run" / "volumes.ome.tif").exists()


def test_the_notebook_runs(tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipywidgets")
    root = str(EXAMPLES.parent)
    monkeypatch.setenv("DIP4D_TINY", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)  # none are kept in the repository
    client = nbclient.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert any("interactive" in str(output.get("data", {})) for output in outputs)  # the sliders
    assert list(tmp_path.iterdir()) == []
