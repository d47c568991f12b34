"""The time of a run is shared out so that all of it is done in time."""

from __future__ import annotations

import math

import pytest

from dip4d.config.load import load_config
from dip4d.experiment.budget import Budget


def test_without_a_limit_nothing_is_limited():
    budget = Budget.of(load_config(["train.max_minutes=null"]), began=5.0)
    assert budget.fit is None
    assert budget.seconds == budget.search_seconds == budget.scoring_seconds == math.inf


@pytest.mark.parametrize(("minutes", "seconds"), [(10, 0.78 * 600 - 10), (0.1, 3)])
def test_the_fit_ends_in_time_to_finish_all_else(minutes, seconds):
    limit = Budget.of(load_config([f"train.max_minutes={minutes}"]), began=5.0).fit
    assert limit.began == 5.0
    assert limit.seconds == pytest.approx(seconds)


def test_further_fits_take_their_part_of_the_time():
    minutes = "train.max_minutes=10"
    alone = Budget.of(load_config([minutes]), began=0.0).fit.seconds
    for more, fits in ((["uncertainty.members=5"], 2), (["compare.resolution=true"], 2),
                       (["uncertainty.members=5", "compare.resolution=true"], 3)):  # fmt: skip
        assert Budget.of(load_config([minutes, *more]), began=0.0).fit.seconds == pytest.approx(alone / fits)
