"""The table of the conventional methods: what is added to it is known everywhere by its name."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dip4d.config.load import load_config
from dip4d.conventional import methods
from dip4d.conventional.algorithms import sirt, sirt_steps
from dip4d.conventional.baselines import Conventional
from dip4d.conventional.methods import ALGORITHMS, METHODS, Algorithm, add_algorithm, label_of
from dip4d.errors import InputError
from dip4d.simulation.simulate import simulate


def test_every_method_has_a_label_of_its_own():
    assert len({label_of(name) for name in METHODS}) == len(METHODS) == 3 * len(ALGORITHMS) + 1
    assert label_of("sirt_frozen") == "SIRT, frozen frames"
    assert label_of("sttv") == "Space-time TV, all frames at once"
    assert label_of("of another time") == "of another time"


def test_an_algorithm_that_is_added_can_be_asked_for_and_reconstructs(monkeypatch):
    with pytest.raises(InputError, match="must be one of"):
        load_config(["compare.methods=[mine_whole]"])
    for table in ("ALGORITHMS", "METHODS"):
        monkeypatch.setattr(methods, table, dict(getattr(methods, table)))
    add_algorithm(Algorithm("mine", "My own", "#123456", sirt_steps))
    monkeypatch.setattr("dip4d.conventional.baselines.METHODS", methods.METHODS)
    assert load_config(["compare.methods=[mine_whole]"]).compare.methods == ["mine_whole"]
    series, truth = simulate("nanostar", 12, frames=10, peak_counts=0)
    none = torch.zeros(12, 10, dtype=torch.bool)
    at_work = Conventional(series, none, truth=truth, iterations=10, windows=[5])
    baseline = at_work.baseline("mine_whole")
    expected = sirt(at_work._operator(at_work.angles), at_work.rows, baseline.settings["iterations"])
    np.testing.assert_array_equal(baseline.volume(0), expected.numpy())
