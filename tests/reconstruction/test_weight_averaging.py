"""The averaged weights: a steadier network than the one that is fitted, which they leave alone; the best of them."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from dip4d.reconstruction.weight_averaging import AveragedWeights, BestWeights


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


def constant(network: nn.Linear, value: float) -> nn.Linear:
    for p in network.parameters():
        nn.init.constant_(p, value)
    return network


def offered(*errors: float) -> BestWeights:
    """Weights of 1, 2, 3 ... with these errors."""
    best = BestWeights()
    for step, error in enumerate(errors, start=1):
        best.offer(step, error, network=constant(nn.Linear(3, 2), step))
    return best


def test_weights_that_are_as_good_as_the_best_are_averaged_with_them():
    best = offered(0.5, 0.10004, 0.2, 0.1, 0.10005, 0.102)  # of the steps 2, 4 and 5
    assert best.lowest == 0.1
    assert (best.best()["weight"] == 4).all()
    assert torch.allclose(best.mean()["weight"], torch.tensor(11 / 3))


def test_what_was_as_good_is_forgotten_when_something_better_comes():
    assert (offered(0.1, 0.10001, 0.05).mean()["bias"] == 3).all()


@pytest.mark.parametrize(("error", "weight"), [(0.099, 1.5), (0.10005, 1.5), (0.102, 2), (math.nan, 2)])
def test_their_mean_is_taken_unless_it_is_worse_than_they_are(error, weight):
    network = nn.Linear(3, 2)
    offered(0.10001, 0.1, 0.3).load_into(network, lambda: error)
    assert torch.allclose(network.weight, torch.tensor(float(weight)))


def test_the_same_step_counts_once():
    best = offered(0.1, 0.1)
    best.offer(2, 0.1, network=constant(nn.Linear(3, 2), 2))
    assert torch.allclose(best.mean()["bias"], torch.tensor(1.5))


def test_only_a_few_weights_are_kept():
    assert len(offered(*[0.1] * 50).state_dict()) == 8


def test_the_best_weights_go_on_from_their_state():
    other = BestWeights()
    other.load_state_dict(copy.deepcopy(offered(0.1, 0.10001, 0.3).state_dict()))
    assert torch.allclose(other.mean()["bias"], torch.tensor(1.5))
