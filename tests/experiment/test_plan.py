"""What a run will take is said before its work, and what does not fit is refused before anything is written."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dip4d.__main__ import main
from dip4d.config.load import load_config
from dip4d.experiment import plan as plans
from dip4d.experiment.inputs import outline
from dip4d.reconstruction.fit import LEAST_STEPS, fit
from dip4d.reconstruction.memory import BASE_GB, free_gb, gb_of_step
from dip4d.reconstruction.split import choose_split
from dip4d.reconstruction.warm_up import Pace, pace_of
from dip4d.simulation.simulate import simulate
from tests.helpers import run, same

LARGE = ["simulate.size=512", "simulate.n_z=16", "train.max_minutes=4", "network.motion=never", "logger=csv"]


@pytest.fixture
def slow_steps(monkeypatch):
    """Steps as slow as on two CPU cores, by the size of the images, without working any out."""

    def pace(series, split, *, settings, motion=None):
        return Pace(2.5e-8 * settings.train.slices * len(series.images) * series.shape[2] ** 2 + 0.01, 0.0, 0.0)

    monkeypatch.setattr(plans, "pace_of", pace)


def refused(capsys, *arguments: str) -> str:
    """The one line that a run is refused with."""
    assert main(["reconstruct", *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_a_budget_that_cannot_hold_the_fit_is_refused_at_once(tmp_path, slow_steps, monkeypatch, capsys):
    monkeypatch.setattr("dip4d.experiment.inputs.simulate", lambda **_: pytest.fail("it took its time to simulate"))
    said = refused(capsys, *LARGE, f"run.dir={tmp_path / 'run'}")
    assert f"fewer than {LEAST_STEPS} it may be worse than SIRT" in said
    assert not (tmp_path / "run").exists()
    words = said.replace(",", " ").split()
    minutes, size = (
        next(float(w.split("=")[1]) for w in words if w.startswith(key) and w != "train.max_minutes=4")
        for key in ("train.max_minutes", "simulate.size")
    )
    for asked, fits in ((f"train.max_minutes={minutes}", 1), (f"train.max_minutes={minutes / 1.3}", 0),
                        (f"simulate.size={int(size)}", 1), (f"simulate.size={int(1.5 * size)}", 0)):  # fmt: skip
        config = load_config([*LARGE, asked])
        pace = plans._pace(config, outline(config))
        assert (pace.steps_in(0.6 * 60 * config.train.max_minutes) >= LEAST_STEPS) == fits


def test_of_a_file_the_binning_that_fits_is_named(tmp_path, slow_steps, capsys):
    images = np.ones((100, 16, 256))
    images[:, 8, 128] = 9
    np.savez(tmp_path / "s.npz", images=images, angles=np.arange(100) % 50)
    budget = ["train.max_minutes=1", "align.automatic=false", "network.motion=never", f"run.dir={tmp_path / 'run'}"]
    assert "data.bin=3 would do" in refused(capsys, f"data.path={tmp_path / 's.npz'}", "data.bin=1", *budget)


def test_whoever_asks_for_few_steps_gets_them(slow_steps):
    config = load_config([*LARGE, "train.steps=2"])
    budget = plans.Budget.of(config)
    pace = plans._pace(config, outline(config))
    plans.check_budget(config, outline(config), pace=pace, steps=2, budget=budget)


def test_too_little_memory_is_refused_with_the_key_that_helps(tmp_path, small, monkeypatch, capsys):
    monkeypatch.setattr(plans, "free_gb", lambda: 0.5)
    said = refused(capsys, *small, f"run.dir={tmp_path / 'run'}")
    assert "0.5 GB are free: train.slices=2, train.rows=6 or smaller images with simulate.size" in said
    assert not (tmp_path / "run").exists()


def test_too_little_room_on_the_disk_is_refused(tmp_path, small, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert "GB are free in its folder: run.dir on another disk" in refused(capsys, *small, f"run.dir={tmp_path / 'r'}")
    assert not (tmp_path / "r").exists()


def test_the_memory_of_a_step_is_what_was_measured():
    """Peaks of processes, MiB: of so many bins, positions, images and materials."""
    for bins, positions, images, materials, peak in (
        (64, 8, 100, 1, 682), (128, 8, 100, 1, 858), (256, 8, 100, 1, 1488), (128, 16, 100, 1, 1073),
        (128, 8, 50, 1, 797), (256, 4, 100, 1, 1042), (64, 8, 100, 2, 707), (128, 8, 100, 2, 974),
        (256, 8, 100, 2, 1802), (256, 4, 100, 2, 1165), (128, 8, 100, 3, 1090),
    ):  # fmt: skip
        step = gb_of_step(positions, images=images, voxels=bins**2, channels=32, materials=materials)
        assert BASE_GB + step == pytest.approx(peak * 2**20 * 1e-9, rel=0.07)
    free = free_gb()
    assert free is None or 0.01 < free < 1e5


def test_a_warm_up_leaves_no_trace(small):
    series, _ = simulate("nanostar", 16, frames=12, peak_counts=500, seed=2)
    split, config = choose_split(series, 0.1), load_config([*small, "train.steps=3"])
    fits = []
    for warm in (False, True):
        torch.manual_seed(0)
        if warm:
            before = torch.random.get_rng_state()
            pace = pace_of(series, split, settings=config)
            assert torch.equal(torch.random.get_rng_state(), before)
            assert 0 < pace.step < 60
            assert pace.validation > 0
            assert pace.volume > 0
        fits.append(fit(series, split, settings=config).module.state_dict())
    assert same(*fits)


def test_a_plan_is_a_few_aligned_lines_before_the_work(tmp_path, small, capsys):
    run(tmp_path / "run", *small, "train.steps=2", "compare.methods=[sirt_whole]", "train.max_minutes=3")
    said = capsys.readouterr().out.splitlines()
    first, last = (next(i for i, line in enumerate(said) if word in line) for word in ("Plan", "free"))
    assert last < next(i for i, line in enumerate(said) if "simulated" in line)
    lines = said[first + 1 : last + 1]
    assert len(lines) <= 8
    assert any("fit" in line and "2 steps" in line for line in lines)
    assert len({line.index(" min") for line in lines if " min" in line}) == 1


def test_parts_that_are_not_done_are_not_planned():
    described = plans.Plan({"alignment": 0.0, "fit": 90.0}, 400, Pace(0.2, 0.1, 0.1)).describe()
    assert "alignment" not in described
    assert "1.5 min   400 steps" in described


def test_an_alignment_that_will_be_is_planned(small, tmp_path):
    for jitter, automatic, planned in ((0, "true", False), (1, "true", True), (1, "false", False)):
        config = load_config([*small, f"simulate.jitter={jitter}", f"align.automatic={automatic}"])
        plan = plans.make_plan(config, outline(config), folder=tmp_path / "run", methods=[], with_truth=True)
        assert (plan.seconds["alignment"] > 0) == planned


def test_the_memory_of_space_time_tv_counts():
    keys = ["simulate.size=128", "simulate.frames=100"]
    of = lambda *more: plans.gb_of_run(config := load_config([*keys, *more]), outline(config), with_truth=True)
    movie = 4e-9 * 100 * 128**3
    assert of("compare.methods=[sttv]") - BASE_GB > 9 * movie  # eight, and the truth
    assert of("compare.methods=[sirt_whole]") < of("compare.methods=[sttv]")
