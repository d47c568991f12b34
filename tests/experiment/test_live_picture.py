"""The picture of a fit while it runs: there before the fit, in step with it, and never in its way."""

from __future__ import annotations

import math
import re

import pytest

from dip4d.experiment import live_picture
from dip4d.report import live_figure
from tests.helpers import StopNowError, interrupt, run, same, weights


@pytest.fixture
def drawn(monkeypatch) -> list[dict]:
    """What the pictures are drawn of; they are drawn, too."""
    seen, draw = [], live_figure.draw_live

    def watched(path, slices, **keys):
        seen.append({"slices": dict(slices), **keys, "errors": dict(keys["errors"])})
        draw(path, slices, **keys)

    monkeypatch.setattr(live_figure, "draw_live", watched)
    return seen


def few(small: list[str]) -> list[str]:
    return [*small, "output.figures=true", "compare.methods=[]", "trainer.val_check_interval=10"]


def test_it_is_there_before_the_fit_and_then_not_too_often(tmp_path, small, drawn, capsys, monkeypatch):
    monkeypatch.setattr(live_picture, "SECONDS_BETWEEN", 1000.0)
    metrics = run(tmp_path / "run", *few(small))
    picture = tmp_path / "run" / "figures" / "live.png"
    said = capsys.readouterr().out
    assert said.count(f"Look at {picture} while it fits") == 1
    assert "figures/live.png" in said.split("In ")[-1]
    assert not list(picture.parent.glob("*.part"))
    before, first, done = drawn
    label = next(name for name in before["slices"] if name.startswith("SIRT"))
    assert list(before["slices"]) == list(done["slices"]) == ["truth", "DIP-4D", label]
    assert before["slices"]["DIP-4D"] is None
    assert re.fullmatch(r"DIP-4D: step 10, 33% of the fit, \d\.\d minutes, validation error 0\.\d{4}", first["title"])
    assert done["title"].startswith("DIP-4D: done, 30 steps, ")
    assert done["title"].endswith(f" minutes, validation error {metrics['held_out']['dip']:.4f}")
    assert list(done["errors"]) == [10, 20, 30]  # of all of them, whether or not they were drawn
    assert done["to_beat"][1] == before["to_beat"][1] > 0


def test_without_figures_none_is_drawn_and_none_is_promised(tmp_path, small, drawn, capsys):
    run(tmp_path / "run", *few(small), "output.figures=false")
    assert not drawn
    assert not (tmp_path / "run" / "figures" / "live.png").exists()
    assert "live.png" not in capsys.readouterr().out


def test_at_each_validation_where_the_time_suffices_and_no_weight_changes(tmp_path, small, drawn, monkeypatch):
    run(tmp_path / "rare", *few(small))
    drawn.clear()
    monkeypatch.setattr(live_picture, "SECONDS_BETWEEN", 0.0)
    monkeypatch.setattr(live_picture, "TIME_SHARE", math.inf)
    run(tmp_path / "often", *few(small))
    assert [list(d["errors"]) for d in drawn] == [[], [10], [10, 20], [10, 20, 30], [10, 20, 30]]
    assert same(weights(tmp_path / "rare"), weights(tmp_path / "often"))


def test_a_picture_that_fails_says_so_once_and_ends_nothing(tmp_path, small, logged, monkeypatch):
    run(tmp_path / "good", *few(small))

    def fail(*arguments, **keys):
        raise OSError("No space left on device")

    monkeypatch.setattr(live_figure, "draw_live", fail)
    logged.clear()
    run(tmp_path / "bad", *few(small))
    (warning,) = [r.getMessage() for r in logged if "live.png" in r.getMessage()]
    assert "No space left on device" in warning
    assert not (tmp_path / "bad" / "figures" / "live.png").exists()
    assert same(weights(tmp_path / "good"), weights(tmp_path / "bad"))


def test_an_interrupted_run_goes_on_with_its_errors(tmp_path, small, drawn, monkeypatch):
    small = [*few(small), "train.checkpoint_seconds=0.1"]
    with monkeypatch.context() as patch:
        interrupt(patch, step=17)
        with pytest.raises(StopNowError):
            run(tmp_path / "run", *small)
    drawn.clear()
    run(tmp_path / "run", "run.resume=true")
    assert all(d["slices"]["DIP-4D"] is not None for d in drawn)  # nothing is drawn over by an empty one
    assert list(drawn[-1]["errors"]) == [10, 20, 30]


def test_the_motion_test_is_the_first_to_be_seen(tmp_path, small, drawn, logged, monkeypatch):
    monkeypatch.setattr("dip4d.reconstruction.motion_test.STEPS", 6)
    monkeypatch.setattr("dip4d.reconstruction.motion_test.WIDTH_PX", 8)
    monkeypatch.setattr(live_picture, "SECONDS_BETWEEN", 0.0)
    odd = ["simulate.size=17", "network.motion=auto", "compare.methods=[]", "train.steps=4"]
    run(tmp_path / "run", *few(small), *odd)
    assert not [r for r in logged if "could not be drawn" in r.getMessage()]
    before, coarse, *_ = drawn
    assert before["slices"]["DIP-4D"] is None
    assert coarse["title"] == "DIP-4D: looking for a motion in images binned 2 x 2, step 6"
    assert coarse["slices"]["DIP-4D"].shape == coarse["slices"]["truth"].shape  # what was cut off is filled up
    assert coarse["slices"]["DIP-4D"].max() > 0
    assert coarse["errors"] == {}
