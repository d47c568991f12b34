"""The learning rate goes through one cycle, by steps or by time, whichever is further."""

from __future__ import annotations

import math
import time
from itertools import pairwise

import numpy as np
import pytest

from dip4d.reconstruction.schedule import FitTime, Schedule


def test_one_cycle():
    schedule = Schedule(steps=100)
    rates = [schedule.learning_rate(s, 1.0) for s in range(101)]
    assert rates[0] == pytest.approx(1 / 25)
    assert max(rates) == pytest.approx(1, abs=1e-3)
    assert int(np.argmax(rates)) == 10
    assert rates[-1] < 1e-3
    assert all(a <= b for a, b in pairwise(rates[:11]))
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_a_constant_rate_and_a_pause():
    assert {Schedule(100, constant=True).learning_rate(s, 0.5) for s in (0, 50, 100)} == {0.5}
    schedule = Schedule(10**9, FitTime(1e6, time.monotonic()))
    schedule.start()
    schedule.pause(1000.0)
    assert schedule.elapsed() == pytest.approx(-1000, abs=10)


def test_the_schedule_fits_a_budget():
    schedule = Schedule(10**9, FitTime(100.0, 0.0))
    schedule.spent = 50.0  # half of it went before an interruption
    assert schedule.fraction_done(3) == pytest.approx(0.5)
    schedule.spent = 1e6
    assert schedule.fraction_done(3) == 1
    assert math.isclose(Schedule(10, FitTime(1e9, 0.0)).fraction_done(5), 0.5)


def test_what_was_done_before_the_fit_takes_from_its_time_and_an_interruption_is_remembered(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("dip4d.reconstruction.schedule.time.monotonic", lambda: now[0])
    schedule = Schedule(10**9, FitTime(100.0, 1000.0))
    now[0] += 40.0  # conventional reconstructions, say
    schedule.start()
    now[0] += 30.0
    assert schedule.elapsed() == 30
    assert schedule.fraction_done(3) == pytest.approx(0.5)
    schedule.stop()
    now[0] += 1000.0
    assert schedule.elapsed() == 30
    assert schedule.fraction_done(3) == pytest.approx(0.5)


def test_a_further_cycle_is_of_what_is_left_of_steps_and_time():
    schedule = Schedule(100, FitTime(100.0))
    schedule.spent = 60.0
    schedule.begin_cycle(40)
    assert schedule.fraction_done(40) == 0
    assert schedule.learning_rate(40, 1.0) == pytest.approx(1 / 25)
    assert schedule.learning_rate(46, 1.0) == pytest.approx(1, abs=1e-3)
    assert schedule.fraction_done(70) == pytest.approx(0.5)
    schedule.spent = 90.0
    assert schedule.fraction_done(40) == pytest.approx(0.75)
    assert schedule.fraction_done(100) == 1


def test_without_a_limit_only_steps_count():
    schedule = Schedule(10)
    schedule.start()
    schedule.spent = 1e9
    assert [schedule.fraction_done(step) for step in (0, 5, 10, 20)] == [0, 0.5, 1, 1]


def test_the_first_step_which_compiles_the_others_takes_nothing_from_the_time(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("dip4d.reconstruction.schedule.time.monotonic", lambda: now[0])
    schedule = Schedule(10**9, FitTime(100.0))
    schedule.spent = 20.0  # before an interruption
    schedule.start()
    now[0] += 70.0
    schedule.discount()
    now[0] += 10.0
    assert schedule.elapsed() == 30
    assert schedule.fraction_done(3) == pytest.approx(0.3)
