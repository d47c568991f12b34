"""What is said of a run without truth: bad images are flagged, and the mass is flat."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from dip4d.conventional.baselines import Baseline
from dip4d.experiment.callbacks import Comparison, frames_to_score
from dip4d.experiment.outputs import key_frames
from dip4d.reconstruction.data import rows_of_fit
from dip4d.reconstruction.module import DIP4D
from dip4d.reconstruction.networks.low_rank import BoundedLowRank
from dip4d.simulation.simulate import simulate
from tests.helpers import measured, run


def test_bad_images_are_flagged_and_mass_is_flat(tmp_path, small, capsys):
    series, _ = simulate("static", 16, frames=40, scheme="grs", peak_counts=500, seed=0)
    images = series.images.copy()
    images[9] = np.roll(images[9], 3, axis=1)
    images[15] *= 1.7
    arguments = [
        *small,
        "compare.methods=[]",
        "train.steps=200",
        "network.rank=1",  # not enough to follow a single image
        "data.background=none",
        "data.exclude=[2]",
    ]
    metrics = run(tmp_path / "run", *arguments, measured(tmp_path, images, series.angles_deg))
    assert metrics["suspect_images"] == [9, 15]
    assert "data.exclude=[2,9,15]" in capsys.readouterr().out.split("the reconstruction explains")[1]
    assert metrics["images"] == [0, 1, *range(3, 40)]
    assert len(metrics["residual_per_image"]) == 39

    metrics = run(tmp_path / "clean", *arguments[:-1], measured(tmp_path, series.images, series.angles_deg))
    assert metrics["suspect_images"] == []
    assert "the reconstruction explains" not in capsys.readouterr().out
    mass = metrics["mass"]
    assert abs(mass["slope"]) < 0.02
    assert mass["scatter"] < 0.03
    np.testing.assert_allclose(mass["images"], series.images.sum((1, 2)), rtol=1e-4)
    np.testing.assert_allclose(mass["volumes"], np.mean(mass["images"]), rtol=0.1)


@pytest.mark.parametrize("frames", [1, 2, 12, 25, 60, 100, 300])
def test_frames_that_are_scored_are_few_and_spread_and_cover_the_beginning(frames):
    chosen = frames_to_score(frames)
    assert len(chosen) <= 25
    assert {0, frames - 1, *key_frames(frames)} <= set(chosen)
    assert np.diff(chosen, append=frames).max() <= max(1, np.ceil(frames / 20))
    assert sum(t < 0.05 * frames for t in chosen) >= min(5, np.floor(0.05 * frames))


@pytest.mark.parametrize(("name", "seconds", "scored"), [
    ("sirt_whole", np.inf, 60), ("sirt_frozen", np.inf, 23), ("sirt_window", np.inf, 23), ("sirt_frozen", 30.0, 10),
])  # fmt: skip
def test_what_is_reconstructed_anew_for_every_frame_is_scored_at_some(tmp_path, name, seconds, scored):
    truth, asked = np.random.default_rng(0).random((60, 8, 8, 8)).astype(np.float32), []
    conventional = SimpleNamespace(frames=60, each=map)
    comparison = Comparison(tmp_path, conventional, methods=[name], truth=truth, seconds=seconds)
    baseline = Baseline(name, lambda t: asked.append(t) or truth[t], {}, seconds=3.0)
    there = [t for t, volume in enumerate(comparison._volumes(baseline)) if volume is not None]
    assert there == asked
    assert {0, 59, *key_frames(60)} <= set(there)
    assert abs(len(there) - scored) <= 4
    comparison.truth = None
    assert [t for t, v in enumerate(comparison._volumes(baseline)) if v is not None] == key_frames(60)


def test_every_volume_is_drawn_once_and_its_errors_are_those_of_the_fit(tmp_path, small, monkeypatch):
    drawn, errors = [], []
    volumes, end, render = DIP4D.whole_volumes, DIP4D.on_train_end, BoundedLowRank.render

    def watched(self, data, tau):
        drawn.append(len(tau))
        return volumes(self, data, tau)

    def ended(self) -> None:
        end(self)
        errors.append(self.validation_error(rows_of_fit(self.trainer)))
        drawn.clear()  # what the plan has timed before the fit
        rendered.clear()

    rendered: list[int] = []
    monkeypatch.setattr(BoundedLowRank, "render", lambda *a: rendered.append(a[2].numel()) or render(*a))
    monkeypatch.setattr(DIP4D, "whole_volumes", watched)
    monkeypatch.setattr(DIP4D, "on_train_end", ended)
    metrics = run(tmp_path / "run", *small, "compare.methods=[]", "train.steps=5", "data.test_images=0.2")
    assert drawn == [12]
    assert metrics["held_out"]["dip"] == pytest.approx(errors[-1], rel=1e-5)
    assert 0 < metrics["held_out_images"]["dip"] < 2
    assert sum(rendered) == 12 * 16  # orthoslices: nothing is decoded a second time
