"""The files of a run: volumes at any times, uncertainty, motion, resolution; none changes the fit."""

from __future__ import annotations

import numpy as np
import pytest

from dip4d.__main__ import main
from dip4d.io import open_volumes
from dip4d.reconstruction.networks.free_form import MOTIONS
from dip4d.report.orthoslices import densest_z
from dip4d.simulation.simulate import simulate
from tests.helpers import run


def test_volumes_between_the_images(tmp_path, small):
    small += ["compare.methods=[]", "train.steps=5", f"run.dir={tmp_path / 'run'}"]
    assert main(["reconstruct", *small, "output.times=[0, 2.5, 3, 11]"]) in (0, 3)
    volumes = np.array(open_volumes(tmp_path / "run" / "volumes.ome.tif"))
    assert main(["reconstruct", *small, "run.overwrite=true"]) in (0, 3)
    of_images = np.array(open_volumes(tmp_path / "run" / "volumes.ome.tif"))
    np.testing.assert_array_equal(volumes[[0, 2, 3]], of_images[[0, 3, 11]])
    assert not np.array_equal(volumes[1], of_images[2])
    assert not np.array_equal(volumes[1], of_images[3])


def test_a_run_writes_a_standard_deviation_for_every_voxel(tmp_path, small):
    folder = tmp_path / "run"
    metrics = run(
        folder, *small, "train.steps=60", "compare.methods=[]", "uncertainty.members=3", "output.figures=true"
    )
    sigma, volumes = (np.array(open_volumes(folder / f"{n}.ome.tif")) for n in ("uncertainty", "volumes"))
    assert sigma.shape == volumes.shape
    assert sigma.min() >= 0
    assert sigma[volumes > 0.3].mean() > 5 * sigma[volumes < 0.01].mean()  # what is empty is known best
    shares = metrics["uncertainty"]
    assert 0.05 < shares["within_1_sigma"] < shares["within_2_sigma"] <= 1
    assert (folder / "figures" / "uncertainty.png").exists()


def test_two_members_are_refused(small, capsys):
    assert main(["reconstruct", *small, "uncertainty.members=2"]) == 2
    assert "uncertainty.members=2 must be 0 or at least 3" in capsys.readouterr().err


@pytest.mark.parametrize("kind", MOTIONS)
def test_a_moving_run_writes_its_motion_and_all_else(tmp_path, small, monkeypatch, kind):
    monkeypatch.setattr("dip4d.reconstruction.motion_test.STEPS", 20)
    small += [f"network.motion={kind}", "simulate.specimen=drift", "simulate.size=20", "compare.methods=[]"]
    small += ["uncertainty.members=3"]
    metrics = run(tmp_path, *small)
    table = np.genfromtxt(tmp_path / "motion.csv", delimiter=",", names=True)
    bend = ("bend_px",) if kind == "free_form" else ()
    assert table.dtype.names == ("time_s", *(f"turn_{a}_deg" for a in "xyz"), *(f"travel_{a}_px" for a in "xyz"), *bend)
    assert [metrics["motion"][name] for name in bend] == pytest.approx([table[name].max() for name in bend], rel=1e-4)
    assert len(table) == 12
    travel = [table[f"travel_{a}_px"][-1] - table[f"travel_{a}_px"][0] for a in "xyz"]
    np.testing.assert_allclose(travel, metrics["motion"]["travel_px"], atol=1e-3)
    assert (tmp_path / "uncertainty.ome.tif").exists()
    assert metrics["resolution"]


def test_a_bound_that_is_far_too_low_is_seen(tmp_path, small):
    """With 0.1 times the intensity of the brightest material most of the specimen is at it, whatever TV says."""
    small += ["compare.methods=[]", "train.steps=60", "simulate.specimen=nanostar"]
    found = {bound: run(tmp_path / str(bound), *small, f"network.intensity_bound={bound}") for bound in (0.1, 1.5)}
    low, right = found[0.1], found[1.5]
    assert low["bound"]["share"] > 0.5
    assert low["bound"]["learned"] == pytest.approx(0.1 * low["bound"]["grown"], rel=1e-4)
    assert any("at the bound" in why for why in low["verdict"]["because"])
    assert right["bound"]["share"] < 0.1
    assert not any("at the bound" in why for why in right["verdict"]["because"])


def test_what_output_save_asks_for_is_saved(tmp_path, small):
    small += ["compare.methods=[sirt_whole,sirt_window]", "output.save=[sirt_whole,sirt_window,truth,series]"]
    run(tmp_path / "run", *small)
    saved = tmp_path / "run" / "saved"
    series, truth = simulate("nanostar_alloying", 16, frames=12, scheme="grs", peak_counts=500, seed=0)
    np.testing.assert_array_equal(open_volumes(saved / "truth.ome.tif"), truth)
    np.testing.assert_array_equal(open_volumes(saved / "series.ome.tif")[:, 0], series.images)
    np.testing.assert_allclose(np.loadtxt(saved / "series.rawtlt"), series.angles_deg, atol=1e-4)
    assert open_volumes(saved / "sirt_whole.ome.tif").shape == (1, 16, 16, 16)
    volumes = open_volumes(saved / "sirt_window.ome.tif")
    with np.load(tmp_path / "run" / "orthoslices.npz") as slices:
        z = densest_z(series.images)
        np.testing.assert_allclose(volumes[slices["frames"], z], slices["sirt_window_yx"], rtol=1e-5, atol=1e-6)


def test_what_cannot_be_saved_is_refused_before_any_work(tmp_path, small, capsys):
    for name, words in (("em_whole", "add it to compare.methods"), ("truht", "did you mean truth?")):
        assert main(["reconstruct", *small, f"output.save=[{name}]", f"run.dir={tmp_path / 'run'}"]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
