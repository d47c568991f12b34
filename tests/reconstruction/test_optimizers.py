"""Adam and Muon as one optimizer."""

from __future__ import annotations

import copy

import torch
from torch import nn

from dip4d.reconstruction.optimizers import MOMENTUM, MUON_RATE, Muon, make_optimizer, orthogonal


def step(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    (network(torch.ones(1, 4)) ** 2).sum().backward()
    optimizer.step()


def two_layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))


def test_each_fits_its_own_parameters():
    network = two_layers()
    before = copy.deepcopy(network.state_dict())
    optimizer = make_optimizer(network.parameters(), 0.01, muon_matrices=[network[0].weight])
    assert [len(g["params"]) for g in optimizer.param_groups] == [3, 1]
    step(network, optimizer)
    moved = {name: (p - before[name]).abs() for name, p in network.state_dict().items()}
    assert all(m.max() > 0 for m in moved.values())
    assert moved["1.weight"].max() < 1.01 * 0.01  # a step of Adam is as long as its rate
    update = network[0].weight.detach() - before["0.weight"]
    assert torch.linalg.matrix_rank(update, rtol=0.3) == 1  # the gradient has rank 1, and so has the step of Muon
    assert 0.5 * MUON_RATE * 0.01 < torch.linalg.matrix_norm(update, 2) < 1.5 * MUON_RATE * 0.01


def test_a_schedule_changes_the_rate_of_both():
    network = two_layers()
    optimizer = make_optimizer(network.parameters(), 0.01, muon_matrices=[network[0].weight])
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    step(network, optimizer)
    scheduler.step()
    assert [o.param_groups[0]["lr"] for o in optimizer.optimizers] == [0.005, 0.005 * MUON_RATE]


def test_it_goes_on_from_its_state():
    one, other = two_layers(), two_layers()
    first = make_optimizer(one.parameters(), 0.01, muon_matrices=[one[0].weight])
    for _ in range(3):
        step(one, first)
    other.load_state_dict(one.state_dict())
    second = make_optimizer(other.parameters(), 0.01, muon_matrices=[other[0].weight])
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for network, optimizer in ((one, first), (other, second)):
        step(network, optimizer)
        optimizer.param_groups[1]["lr"] = 0.0  # still the rate of Muon
        step(network, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_without_matrices_it_is_adam():
    assert type(make_optimizer(two_layers().parameters(), 0.01)) is torch.optim.Adam


def test_muon_steps_as_that_of_torch_does_whose_numbers_are_short():
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(shape)) for shape in ((8, 30), (8, 30), (20, 6))]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    both = Muon(ours, 0.02), torch.optim.Muon(theirs, 0.02, weight_decay=0.0, momentum=MOMENTUM)
    for _ in range(5):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        for optimizer in both:
            optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).norm() < 0.05 * 5 * 0.02 * min(a.shape) ** 0.5  # of how far it has gone, at most


def test_orthogonal_matrices_have_singular_values_of_about_one():
    for shape in ((2, 5, 9), (1, 9, 5)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(0))))
        assert 0.6 < values.min() < values.max() < 1.3
