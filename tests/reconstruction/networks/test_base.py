"""A network is known by its name wherever networks are chosen, and offers what the fit asks for."""

from __future__ import annotations

import pytest
import torch

from dip4d.config.load import load_config
from dip4d.errors import InputError
from dip4d.reconstruction.fit import prepare
from dip4d.reconstruction.networks import NETWORKS, OrthosliceNetwork, Problem, register_network
from dip4d.reconstruction.split import choose_split
from dip4d.simulation.simulate import simulate


class Grey(OrthosliceNetwork):
    """The same grey everywhere and at any time."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.shape, self.level = problem.slice_shape, torch.nn.Parameter(torch.tensor(problem.intensity_bound))

    def features(self, z, images):
        return z

    def render(self, features, tau):
        return self.level.expand(*tau.shape, *self.shape)


def test_a_network_that_is_registered_is_one_argument_away(small, monkeypatch):
    with pytest.raises(InputError, match="network=grey: must be one of"):
        load_config(["network=grey"])
    monkeypatch.setitem(NETWORKS, "grey", None)  # forgotten after the test
    register_network("grey", label="All grey")(Grey)
    assert NETWORKS["grey"].label == "All grey"
    config = load_config([*small, "network=grey", "network.intensity_bound=2"])
    assert config.network.name == "grey"
    series, _ = simulate("nanostar", 16, frames=12, peak_counts=0)
    module, data = prepare(series, choose_split(series, 0.1), settings=config)
    batch = data.batch([3, 5])
    slices = module(batch.z, batch.rows, tau=batch.rows.tau)
    assert slices.shape == (2, 11, 16, 16)
    assert (slices == 2).all()


def test_a_network_that_says_nothing_more_is_shown_no_rows_has_no_motion_and_is_fitted_by_adam():
    series, _ = simulate("nanostar", 16, frames=12, peak_counts=0)
    network = Grey(Problem(load_config([]).network, series, series, 1.0))
    assert network.windows == 0
    assert not network.draws_whole_specimen
    assert network.learned_motion() is None
    assert not list(network.muon_matrices())
    layers = network.layers(torch.zeros(1), torch.rand(1, 3))
    assert len(layers) == 1
    assert network.in_specimen_frame(torch.zeros(1), layers) is layers


def test_every_network_has_a_label_of_its_own():
    assert {"dip", "voxels", "dipster", "tddip"} <= set(NETWORKS)
    assert len({entry.label for entry in NETWORKS.values()}) == len(NETWORKS)
