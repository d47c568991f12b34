"""What a run reads and understands before it begins: bad images are named, jitter is aligned, wrong times refused."""

from __future__ import annotations

import numpy as np
import pytest

from dip4d.__main__ import main
from dip4d.alignment.align import SLOW_FUNCTIONS
from dip4d.alignment.shifts import Shifts
from dip4d.config.load import load_config
from dip4d.experiment.inputs import frozen_of, load_data, with_margin
from dip4d.io import open_volumes
from dip4d.report.words import methods_paragraph
from dip4d.simulation.schemes import grs
from dip4d.simulation.simulate import jitter_shifts, simulate
from dip4d.tilt_geometry import remove_slow_motion
from dip4d.tilt_series import TiltSeries
from tests.helpers import run


def test_irregular_times_repeated_angles_and_a_bad_image(tmp_path, small, capsys, logged):
    series, truth = simulate("alloying", 16, frames=14, scheme="pingpong", peak_counts=0, seed=0, sweeps=2)
    assert len(np.unique(series.angles_deg)) < 14
    images, times = series.images.copy(), np.array([0, 1, 2, 2.5, 9, 9.5, 10, 60, 61, 61, 70, 100, 101, 200.0])
    images[5] = 0
    np.savez(tmp_path / "s.npz", images=images, angles=series.angles_deg, times=times)
    np.save(tmp_path / "truth.npy", truth)
    where = [f"data.path={tmp_path / 's.npz'}", f"data.truth={tmp_path / 'truth.npy'}"]
    seen, _ = load_data(load_config([*small, *where]))
    assert len(seen.images) == 14  # named, not removed
    (record,) = logged
    assert record.levelname == "WARNING"
    assert "5 (blank)" in record.getMessage()
    assert "data.exclude=[5]" in record.getMessage()

    capsys.readouterr()
    metrics = run(tmp_path / "run", *small, *where, "data.exclude=[5]", "compare.methods=[sirt_window]")
    assert "warning" not in capsys.readouterr().out
    assert [r.levelname for r in logged[1:]].count("WARNING") == 0
    assert metrics["times_s"] == np.delete(times, 5).tolist()
    assert open_volumes(tmp_path / "run" / "volumes.ome.tif").shape == (13, 16, 16, 16)
    assert len(metrics["methods"]["dip"]["psnr"]) == 13


def test_frozen_frames_are_of_the_simulated_specimen_and_of_no_other(small, tmp_path):
    config = load_config([*small, "data.exclude=[2]", "simulate.peak_counts=0", "run.seed=4"])
    series, _ = load_data(config)
    images = frozen_of(config)
    assert images is not None
    for t in (0, 2, 5):
        np.testing.assert_allclose(images(t, series.angles_deg[[t]])[0], series.images[t], rtol=1e-5, atol=1e-5)
    assert frozen_of(load_config([*small, f"data.path={tmp_path / 'measured.npz'}"])) is None


def test_a_run_stands_beside_frozen_frames_of_its_specimen(tmp_path, small, monkeypatch):
    asked = []

    def watched(config):
        images = frozen_of(config)
        return lambda t, angles_deg: asked.append(t) or images(t, angles_deg)

    monkeypatch.setattr("dip4d.experiment.run.frozen_of", watched)
    run(tmp_path / "run", *small, "train.steps=2", "compare.methods=[sirt_frozen]")
    assert asked


def test_a_run_of_a_dark_specimen_on_a_bright_field_is_not_usable(tmp_path, small, capsys):
    series, _ = simulate("nanostar_alloying", 24, frames=16, peak_counts=0, seed=0)
    noise = np.random.default_rng(0).normal(0, 1, series.shape)
    dark = 100 - 60 * series.images / series.images.max() + noise
    np.savez(tmp_path / "s.npz", images=dark, angles=series.angles_deg)
    metrics = run(tmp_path / "run", *small, f"data.path={tmp_path / 's.npz'}", "compare.methods=[]")
    assert metrics["verdict"]["level"] == "not usable"
    assert "explains nothing of the unseen images" in metrics["verdict"]["because"][0]  # after however many steps
    assert "data.invert=true" in capsys.readouterr().out


@pytest.mark.parametrize("automatic", [True, False])
def test_images_that_jump_are_aligned_first_and_where_they_lay_is_kept(tmp_path, small, capsys, automatic):
    jumping = ["simulate={size: 32, frames: 40, jitter: 1}", "train.steps=2", "compare.methods=[sirt_window]"]
    run(tmp_path / "run", *small, *jumping, f"align.automatic={automatic}")
    assert ("aligning them" in capsys.readouterr().out) == automatic
    assert (tmp_path / "run" / "shifts.csv").exists() == automatic
    if automatic:
        shifts, true = Shifts.load(tmp_path / "run" / "shifts.csv"), jitter_shifts(grs(40, 70), 1, seed=0).T
        z, s = shifts.z - true[0], shifts.across - true[1]
        z, s = remove_slow_motion(z, s, angles_deg=grs(40, 70), tau=np.linspace(0, 1, 40), functions=SLOW_FUNCTIONS)
        assert max(z.std(), s.std()) < 0.1


def test_a_time_outside_of_the_series_is_refused_before_any_work(tmp_path, small, capsys):
    assert main(["reconstruct", *small, f"run.dir={tmp_path / 'run'}", "output.times=[0, 11.5]"]) == 2
    error = capsys.readouterr().err
    assert "output.times" in error
    assert "11.5 s" in error
    assert not (tmp_path / "run").exists()


def test_a_specimen_that_the_images_cut_off_is_reconstructed_beyond_them(tmp_path, small, capsys, logged):
    leaving = [*small, "simulate.specimen=leaving", "simulate.size=24", "simulate.n_z=12"]
    margins = {}
    for key in ("", "data.margin_px=0", "data.margin_px=2"):
        margins[key] = load_data(load_config([*leaving, *filter(None, [key])]))[0].margin
    assert margins == {"": 3, "data.margin_px=0": 0, "data.margin_px=2": 2}
    own = TiltSeries(np.ones((4, 8, 12)), np.arange(4.0), margin=5)  # given by the caller
    assert with_margin(own, load_config(small)).margin == 5
    assert with_margin(own, load_config([*small, "data.margin_px=0"])).margin == 0
    assert [r.getMessage() for r in logged if "cut the specimen off" in r.getMessage()]
    assert main(["reconstruct", *leaving, "data.margin_px=25", f"run.dir={tmp_path / 'run'}"]) == 2
    assert "data.margin_px=25: must be at most the width of the images, 24 px" in capsys.readouterr().err

    metrics = run(tmp_path / "run", *leaving, "uncertainty.members=3", "output.save=[sirt_window,truth]")
    for name in ("volumes", "uncertainty", "saved/sirt_window", "saved/truth"):
        assert open_volumes(tmp_path / "run" / f"{name}.ome.tif").shape == (12, 12, 24, 24)
    assert metrics["margin_px"] == 3
    assert "orthoslices that reach 3 pixels beyond the images" in methods_paragraph(metrics, None)
    assert metrics["mass"]["volumes_over_images"] is None  # the images and the volumes hold other parts of it
    assert main(["twin", str(tmp_path / "run"), "--refits", "2"]) == 0
