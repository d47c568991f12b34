"""Adam and Muon as one optimiser."""

from __future__ import annotations

import copy

import torch
from torch import nn

from dip4d.optimiser import KERNELS, make_optimiser


def step(network: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad()
    (network(torch.ones(1, 4)) ** 2).sum().backward()
    optimiser.step()


def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))


def test_each_fits_its_own_parameters():
    network = two_layers()
    before = copy.deepcopy(network.state_dict())
    optimiser = make_optimiser(network.parameters(), 0.01, [network[0].weight])
    assert [len(g["params"]) for g in optimiser.param_groups] == [3, 1]
    step(network, optimiser)
    moved = {name: (p - before[name]).abs() for name, p in network.state_dict().items()}
    assert all(m.max() > 0 for m in moved.values())
    assert moved["1.weight"].max() < 1.01 * 0.01  # a step of Adam is as long as its rate
    update = network[0].weight.detach() - before["0.weight"]
    assert torch.linalg.matrix_rank(update, rtol=0.3) == 1  # the gradient has rank 1, and so has the step of Muon
    assert 0.5 * KERNELS * 0.01 < torch.linalg.matrix_norm(update, 2) < 1.5 * KERNELS * 0.01


def test_a_schedule_changes_the_rate_of_both():
    network = two_layers()
    optimiser = make_optimiser(network.parameters(), 0.01, [network[0].weight])
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 0.5**step)
    step(network, optimiser)
    scheduler.step()
    assert [o.param_groups[0]["lr"] for o in optimiser.optimisers] == [0.005, 0.005 * KERNELS]


def test_it_goes_on_from_its_state():
    one, other = two_layers(), two_layers()
    first = make_optimiser(one.parameters(), 0.01, [one[0].weight])
    for _ in range(3):
        step(one, first)
    other.load_state_dict(one.state_dict())
    second = make_optimiser(other.parameters(), 0.01, [other[0].weight])
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for network, optimiser in ((one, first), (other, second)):
        step(network, optimiser)
        optimiser.param_groups[1]["lr"] = 0.0  # still the rate of Muon
        step(network, optimiser)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_without_matrices_it_is_adam():
    assert type(make_optimiser(two_layers().parameters(), 0.01)) is torch.optim.Adam
