"""Networks side by side: their mean is drawn, and each learns from positions of its own."""

from __future__ import annotations

import pytest
import torch

from dip4d.config.load import config_of
from dip4d.reconstruction.fit import ensemble_of_fit, fit, prepare
from dip4d.reconstruction.networks.ensemble import Ensemble, ensemble_in
from dip4d.reconstruction.networks.low_rank import BoundedLowRank, Decoder
from dip4d.reconstruction.networks.rigid_motion import RigidMotion
from dip4d.reconstruction.refits import fit_members
from dip4d.reconstruction.split import Split, choose_validation_rows
from dip4d.simulation.simulate import simulate

SPLIT = Split(choose_validation_rows((12, 10), 0.2, seed=0))


@pytest.fixture(scope="module")
def series():
    return simulate("nanostar", 16, frames=10, n_z=12, scheme="grs", peak_counts=500, seed=0)[0]


def network() -> BoundedLowRank:
    decoder = Decoder((16, 16), 6, n_z=12, images=4, channels=16, octaves=3)
    return BoundedLowRank(decoder, 3, damping=0.3, intensity_bound=2.0, windows=4, materials=2)


@pytest.fixture
def ensemble() -> Ensemble:
    torch.manual_seed(0)
    return Ensemble([network() for _ in range(3)])


def test_it_draws_the_mean_of_its_networks(ensemble):
    z, tau = torch.tensor([1.0, 4.5]), torch.rand(2, 5)
    images = ensemble.shown(torch.rand(2, 4, 16, 16))
    alone = [n.render(n.features(z, images), tau) for n in ensemble.each]
    assert not torch.allclose(alone[0], alone[1])
    torch.testing.assert_close(ensemble.render(ensemble.features(z, images), tau), torch.stack(alone).mean(0))


def test_its_bound_is_that_of_the_mean_and_its_matrices_those_of_all(ensemble):
    for k, one in enumerate(ensemble.each):
        one.log_bound.data.fill_(float(torch.tensor(1.0 + k).log()))
    assert ensemble.learned_bound() == pytest.approx(2.0)
    alone = [matrix for one in ensemble.each for matrix in one.muon_matrices()]
    assert [id(m) for m in ensemble.muon_matrices()] == [id(m) for m in alone]
    assert len(alone) == len(set(map(id, alone)))


@pytest.mark.parametrize("count", [3, 4, 7, 8])
def test_every_position_is_that_of_one_network(ensemble, count):
    parts = ensemble.shared_out(count)
    assert [one for one, _ in parts] == ensemble.each
    numbers = [list(range(count))[p] for _, p in parts]
    assert [n for of_one in numbers for n in of_one] == list(range(count))
    assert max(map(len, numbers)) - min(map(len, numbers)) <= 1


def test_of_too_few_positions_every_network_has_all(ensemble):
    assert [list(range(2))[p] for _, p in ensemble.shared_out(2)] == [[0, 1]] * 3


def module_of(series, ensemble: int):
    settings = config_of(network={"channels": 16, "ensemble": ensemble})
    torch.manual_seed(0)
    return prepare(series, SPLIT, settings=settings)


def test_a_step_teaches_each_network_what_its_own_positions_say(series):
    module, data = module_of(series, 2)
    batch, gradients = data.batch([2, 3, 7, 9]), {}
    spoiled = data.batch([2, 3, 7, 9])
    spoiled.rows.values[2:] = 0
    for name, one in (("as it is", batch), ("spoiled", spoiled)):
        module.zero_grad()
        module.loss_of(one, one.rows).backward()
        gradients[name] = [[p.grad.clone() for p in n.parameters() if p.grad is not None] for n in module.network.each]
    first, second = zip(gradients["as it is"], gradients["spoiled"], strict=True)
    assert all(torch.equal(a, b) for a, b in zip(*first, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(*second, strict=True))
    assert sum(float(g.abs().sum()) for g in first[0]) > 0


def test_its_loss_is_the_mean_of_those_of_its_networks(series):
    module, data = module_of(series, 2)
    batch = data.batch([2, 3, 7, 9])
    one, _ = module_of(series, 1)
    losses = []
    for network, z in zip(module.network.each, ([2, 3], [7, 9]), strict=True):
        one.network, part = network, data.batch(z)
        losses.append(one.loss_of(part, part.rows))
    torch.testing.assert_close(module.loss_of(batch, batch.rows), torch.stack(losses).mean())


def test_a_fit_is_repeated_exactly_and_its_networks_differ(series):
    settings = config_of(network={"channels": 16, "ensemble": 2}, train={"steps": 5}, run={"seed": 3})
    movies = []
    for _ in range(2):
        torch.manual_seed(3)
        done = fit(series, SPLIT, settings=settings)
        movies.append(torch.stack(list(done.module.volumes(done.data, done.data.tau[::3]))))
    assert torch.equal(*movies)
    one, other = done.module.network.each
    assert not torch.equal(one.decoder.pattern, other.decoder.pattern)


def test_a_specimen_that_moves_has_one_network(series):
    settings = config_of(network={"channels": 16, "ensemble": 2})
    module, _ = prepare(series, SPLIT, settings=settings, motion=RigidMotion(8.0))
    assert not isinstance(module.network, Ensemble)


def test_there_are_two_where_their_steps_suffice():
    of = lambda n_z, **train: ensemble_of_fit(config_of(train=train), n_z)
    assert of(32) == of(24, steps=1500) == of(64, steps=4000) == of(1) == of(3) == 2
    assert of(33) == of(24, steps=1499) == of(64) == of(24, max_minutes=60) == of(200) == 1
    asked = config_of(network={"ensemble": 3}, train={"steps": 5, "max_minutes": 1})
    assert ensemble_of_fit(asked, 24) == 3


def test_a_fit_that_goes_on_has_as_many_as_it_had(series, tmp_path):
    settings = config_of(network={"channels": 16, "ensemble": 3}, train={"steps": 2})
    done = fit(series, SPLIT, settings=settings)
    done.trainer.save_checkpoint(tmp_path / "last.ckpt")
    further = config_of(network={"channels": 16}, train={"steps": 4})
    again = fit(series, SPLIT, settings=further, checkpoint=tmp_path / "last.ckpt")
    assert again.module.network.ensemble_size == 3
    (member, *_) = fit_members(done, further, members=2)
    assert member.module.network.ensemble_size == 3


@pytest.mark.parametrize("count", [1, 2, 11])
def test_the_weights_tell_how_many_there_are(series, count):
    module, _ = module_of(series, count)
    assert ensemble_in(module.state_dict()) == module.network.ensemble_size == count
