"""The search sees the peak of every setting, side by side, and says when the time was too short for that."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from dip4d.conventional.search import FEWEST_LOOKS, SCORED_ITERATIONS, Choice, Problem, Trial, climbed, race
from dip4d.projector import Geometry, Projector

A = Projector(Geometry((1, 1), 1, torch.zeros(1)))


def trial(peak: int, height: float = 0.0, iterations: int = 200) -> Trial:
    """One whose score rises to `height` at some iteration, and falls again."""

    def steps(_: Projector, y: torch.Tensor, **__) -> Iterator[torch.Tensor]:
        yield from (torch.full((len(y), 1, 1), float(i)) for i in itertools.count(1))

    def score(volumes, problems) -> float:
        assert sum(map(len, volumes)) == 4
        return height - abs(float(volumes[0].mean()) - peak)

    problem = Problem(A, torch.zeros(4, 1, 1), None, np.arange(4), [0])
    return Trial(steps, [problem], score=score, weight=1.0, settings={}, iterations=iterations)


@pytest.mark.parametrize("peak", [1, 5, 20, 60])
def test_the_peak_is_found_and_little_more_is_run(peak):
    one = trial(peak)
    race([one], np.inf)
    found = one.choice()
    assert (found.iterations, found.settings, found.cut_short) == (peak, {"iterations": peak}, False)
    assert one.iteration <= max(peak + 10, 1.25 * peak) + SCORED_ITERATIONS


def test_the_last_iteration_allowed_may_be_the_best():
    one = trial(peak=1000, iterations=33)
    race([one], np.inf)
    assert (one.choice().iterations, one.choice().cut_short) == (33, False)


def test_every_setting_gets_a_few_looks_before_any_gets_more():
    trials = [trial(500), trial(5), trial(500)]
    race(trials, seconds=-1.0)
    assert [t.looks for t in trials] == [FEWEST_LOOKS] * 3
    assert [t.choice().cut_short for t in trials] == [True, False, True]
    assert all(t.choice().iterations > 1 for t in trials)


def test_no_setting_runs_ahead_of_the_others():
    looks = []

    class Watched(Trial):
        def look(self) -> None:
            super().look()
            looks.append(self)

    trials = [trial(30), trial(40)]
    for one in trials:
        one.__class__ = Watched
    race(trials, np.inf)
    counts = [[looks[:n].count(one) for one in trials] for n in range(len(looks))]
    assert all(abs(a - b) <= 1 for a, b in counts if max(a, b) < 8)


def test_a_search_that_was_cut_anywhere_says_so():
    tried = lambda weight: Choice(-abs(weight - 4), weight, {}, lambda: iter(()), 1, cut_short=weight == 2)
    assert climbed(tried(1.0), tried).weight == 4
    assert climbed(tried(1.0), tried).cut_short
    assert not climbed(tried(1.0), lambda weight: replace(tried(weight), cut_short=False)).cut_short
