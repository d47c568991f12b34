"""Bounded low rank: bounded at any shape, smooth in time, a position and a time of its own, and free voxel maps."""

from __future__ import annotations

import pytest
import torch

from dip4d.reconstruction.factors import added
from dip4d.reconstruction.forward_model import Microscope
from dip4d.reconstruction.networks.low_rank import BoundedLowRank, Decoder, TimeWarp, VoxelMaps, octaves_of_z
from dip4d.reconstruction.variation import total_variation, variation_of_layers


def network(shape=(16, 20), images=3, rank=4, materials=1) -> BoundedLowRank:
    torch.manual_seed(0)
    decoder = Decoder(shape, materials * rank, n_z=12, images=images, channels=16, octaves=4)
    return BoundedLowRank(decoder, rank, damping=0.3, intensity_bound=2.0, materials=materials)


@pytest.mark.parametrize("shape", [(8, 8), (16, 20), (37, 65), (5, 3)])
@pytest.mark.parametrize("images", [0, 3])
def test_orthoslices_of_any_shape_are_bounded(shape, images):
    net = network(shape, images)
    seen = torch.randn(2, images, *shape) * 100 if images else None
    slices = net.render(
        net.features(torch.tensor([0.0, 7.5]), None if seen is None else net.shown(seen)), torch.rand(2, 5)
    )
    assert slices.shape == (2, 5, *shape)
    assert slices.min() >= 0
    assert slices.max() <= 2.0
    assert slices.std() > 0


@pytest.mark.parametrize("materials", [1, 2, 3])
def test_materials_add_up_to_the_slices_and_their_bounds_to_that_of_all(materials):
    net = network(materials=materials)
    features, tau = net.features(torch.tensor([0.0, 7.5]), None), torch.rand(2, 5)
    layers = net.layers(features, tau)
    assert len(layers) == materials
    torch.testing.assert_close(added(layers), net.render(features, tau))
    bounds = [float(f.bound) for f in net.factors(features, tau)]
    assert sum(bounds) == pytest.approx(2.0)
    assert len(set(bounds)) == materials  # none is like another
    assert all(float(layer.min()) >= 0 and float(layer.max()) <= m for layer, m in zip(layers, bounds, strict=True))
    sums = [variation_of_layers(layers, 1), [sum(v) for v in zip(*map(total_variation, layers), strict=True)]]
    torch.testing.assert_close(torch.stack(sums[0]), torch.stack(sums[1]))


def test_the_rows_of_a_sum_are_the_sum_of_the_rows():
    net, microscope = network((16, 16), materials=2), Microscope((16, 16), 20)
    layers = net.layers(net.features(torch.tensor([3.0]), None), torch.rand(1, 4))
    angles = torch.rand(1, 4)
    apart = [microscope.project(layer, angles) for layer in layers]
    torch.testing.assert_close(microscope.project_sum(layers, angles), added(apart))


def test_the_finest_scale_has_half_of_the_channels_and_adam_fits_the_three_finest():
    decoder = Decoder((64, 64), 5, n_z=12, images=3, channels=16, octaves=4)
    kernels = [tuple(k.shape) for k in decoder.kernels()]
    assert decoder.sizes == [(8, 8), (16, 16), (32, 32), (64, 64)]
    assert kernels == 2 * [(16, 144), (16, 144), (16, 144), (8, 72)]
    specimen = BoundedLowRank(decoder, 5, damping=0.3, intensity_bound=1.0)
    first, second = decoder.first, decoder.second
    expected = [layers[0].kernel for layers in (first, second)]
    assert all(a is b for a, b in zip(specimen.muon_matrices(), expected, strict=True))


def test_time_is_smooth_and_each_position_has_its_own():
    net = network()
    features = net.features(torch.tensor([2.0, 9.0]), net.shown(torch.randn(2, 3, 16, 20)))
    times = torch.tensor([[0.2, 0.2001, 0.9], [0.9, 0.2, 0.2001]])
    slices = net.render(features, times)
    near, far = (slices[0, 0] - slices[0, 1]).norm(), (slices[0, 0] - slices[0, 2]).norm()
    assert 0 < near < 0.01 * far
    alone = net.render(features[:1], times[:1, 2:])
    torch.testing.assert_close(alone[0, 0], slices[0, 2])
    assert not torch.allclose(slices[0, 0], slices[1, 1])


def test_the_time_warp_begins_as_time_and_can_jump():
    tau = torch.tensor([0.0, 0.1, 0.1, 0.5, 1.0])  # irregular, two images at once
    warp = TimeWarp(tau)
    asked = torch.linspace(0, 1, 21).view(3, 7)
    torch.testing.assert_close(warp(asked), asked)
    with torch.no_grad():
        warp.pace[1] = 2.0  # between 0.1 and 0.5
    own = warp(asked).detach().flatten()
    assert (own.diff() > 0).all()
    assert own[0] == 0
    assert own[-1] == pytest.approx(1)
    assert own[10] - own[2] > 0.99  # nearly all that happens
    torch.testing.assert_close(own[2:11].diff(), own[2:11].diff()[:1].expand(8), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(TimeWarp(torch.zeros(1))(asked), asked)


def test_waves_of_z_are_at_least_as_long_as_asked_for():
    for n_z in (24, 64, 100, 256, 1000):
        octaves = octaves_of_z(n_z, 12)
        assert 12 <= n_z / 2 ** (octaves - 2) < 24
    assert octaves_of_z(2, 12) == 2


def test_voxel_maps_begin_as_the_volume_they_are_given():
    volume = 0.1 + 0.8 * torch.rand(5, 6, 7)
    net = BoundedLowRank(VoxelMaps(volume, 4, intensity_bound=1.0), 4, damping=0.3, intensity_bound=1.0)
    slices = net.render(net.features(torch.arange(5.0), None), torch.rand(5, 3))
    torch.testing.assert_close(slices, volume[:, None].expand(-1, 3, -1, -1), rtol=1e-4, atol=1e-5)
    maps = VoxelMaps(volume, 1, intensity_bound=1.0)
    halfway, ends = maps(torch.tensor([1.5]), None), maps(torch.tensor([1.0, 2.0]), None)
    torch.testing.assert_close(halfway[0], ends.mean(0))


def test_standing_still_it_draws_the_same_at_all_times():
    net = network(materials=2)
    features, tau = net.features(torch.tensor([3.0]), None), torch.linspace(0, 1, 5)[None]
    moving = net.render(features, tau)
    with net.standing_still():
        still = net.render(features, tau)
    assert torch.equal(still, still[:, :1].expand_as(still))
    assert not torch.equal(moving, still)
    assert torch.equal(net.render(features, tau), moving)
