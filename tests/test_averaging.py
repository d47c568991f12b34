"""The averaged weights: a steadier network than the one that is fitted, which they leave alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from dip4d.averaging import AveragedWeights


def hopping(decay: float, steps: int) -> tuple[nn.Linear, AveragedWeights]:
    """Weights that hop between 1 and 3."""
    network = nn.Linear(3, 2)
    averaged = AveragedWeights(network, decay)
    for step in range(steps):
        for p in network.parameters():
            nn.init.constant_(p, 1.0 if step % 2 else 3.0)
        averaged.update()
    return network, averaged


def test_the_average_of_hopping_weights_is_their_mean():
    network, averaged = hopping(0.95, 200)
    with averaged.used():
        assert all(float(p.detach().mean()) == pytest.approx(2, abs=0.06) for p in network.parameters())
    assert all((p == 1).all() for p in network.parameters())


def test_no_average_is_the_weights_themselves():
    network, averaged = hopping(0.0, 6)
    with averaged.used():
        assert all((p == 1).all() for p in network.parameters())


def test_the_first_random_weights_are_soon_forgotten():
    network = nn.Linear(3, 2)
    nn.init.constant_(network.weight, 100.0)
    averaged = AveragedWeights(network, 0.98)
    nn.init.constant_(network.weight, 1.0)
    for _ in range(40):
        averaged.update()
    assert averaged.values[0].max() < 1.01


def test_the_weights_come_back_after_an_error():
    network, averaged = hopping(0.9, 7)
    before = [p.clone() for p in network.parameters()]
    with pytest.raises(RuntimeError, match="in between"), averaged.used():
        raise RuntimeError("in between")
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_it_goes_on_from_its_state():
    network, averaged = hopping(0.9, 7)
    other = AveragedWeights(network, 0.9)
    other.load_state_dict(copy.deepcopy(averaged.state_dict()))
    for some in (averaged, other):
        some.update()
    assert other.steps == averaged.steps == 8
    assert all(torch.equal(a, b) for a, b in zip(averaged.values, other.values, strict=True))
