"""The time of a run is shared out: the fit has its part, whatever comes before it."""

from __future__ import annotations

import itertools
import math
import time

import pytest

from dip4d.config.load import load_config
from dip4d.experiment.budget import Budget
from dip4d.reconstruction.motion_test import Behaviour
from tests.helpers import run, same, weights


def test_the_default_does_not_depend_on_the_clock():
    budget = Budget.of(load_config([]), methods=3)
    assert budget.fit is None
    assert budget.motion_test is None
    assert budget.seconds == budget.search_seconds == budget.scoring_seconds == math.inf


def test_without_a_budget_no_time_enters(tmp_path, small, monkeypatch):
    jumping = ["simulate.jitter=1", "network.motion=rigid", "train.steps=10"]
    monkeypatch.setattr("dip4d.reconstruction.motion_test.STEPS", 5)
    found = []
    for name, tick in (("fast", 1e-9), ("slow", 1e6)):
        now = itertools.count(0, tick)
        for clock in ("monotonic", "perf_counter"):
            monkeypatch.setattr(time, clock, lambda now=now: float(next(now)))
        metrics = run(tmp_path / name, *small, *jumping)
        found.append({k: v for k, v in metrics.items() if "seconds" not in k})
    assert same(weights(tmp_path / "fast"), weights(tmp_path / "slow"))
    assert found[0] == found[1]


def test_the_shares_leave_time_for_alignment_and_writing():
    budget = Budget.of(load_config(["train.max_minutes=10"]), methods=3)
    assert budget.fit.began is None  # its time begins with its first step
    assert budget.fit.seconds >= 0.6 * 600
    side = 3 * budget.motion_test.seconds + 3 * (2 * budget.search_seconds + budget.scoring_seconds)
    assert budget.fit.seconds + side + budget.align_seconds <= 0.97 * 600 + 1e-9
    assert budget.minutes_for(budget.fit.seconds) == pytest.approx(10)


def test_further_fits_take_their_part_of_the_time():
    minutes = "train.max_minutes=10"
    alone = Budget.of(load_config([minutes])).fit.seconds
    assert Budget.of(load_config([minutes, "uncertainty.members=5"])).fit.seconds == pytest.approx(alone / 2)


def test_what_comes_before_the_fit_does_not_starve_it(tmp_path, small, monkeypatch):
    def slow(*arguments, **keys):
        time.sleep(7)  # longer than the budget of the whole run
        return Behaviour()

    monkeypatch.setattr("dip4d.experiment.run.find_behaviour", slow)
    monkeypatch.setattr("dip4d.experiment.plan.LEAST_STEPS", 1)
    budget = ["train.steps=1000000", "train.max_minutes=0.1", "compare.methods=[]"]
    metrics = run(tmp_path / "run", *small, *budget)
    assert metrics["fit_seconds"] >= 0.6 * 6
    assert metrics["steps"] > 10
    assert metrics["ended"] == "time"
