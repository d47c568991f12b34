"""A specimen that moves as a whole: where its planes are cut, and that its motion can be learned."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dip4d.reconstruction.networks.free_form import CELLS, FreeFormMotion, splines
from dip4d.reconstruction.networks.low_rank import BoundedLowRank, VoxelMaps
from dip4d.reconstruction.networks.moving import Moving
from dip4d.reconstruction.networks.rigid_motion import PACE, RigidMotion, agreement

N_Z, WIDTH = 12, 16


def specimen(place=(5.0, 6.0, 9.0), margin=0) -> BoundedLowRank:
    """A Gaussian blob at (z, y, x) in planes that reach `margin` beyond the volume, the same at all times."""
    axes = torch.meshgrid(torch.arange(N_Z + 2 * margin) - margin, *2 * [torch.arange(WIDTH)], indexing="ij")
    squared = sum((a - p) ** 2 for a, p in zip(axes, place, strict=True))
    maps = VoxelMaps(torch.exp(-squared / 8), 1, intensity_bound=1.0)
    return BoundedLowRank(maps, 1, damping=0.0, intensity_bound=1.0)


def moving(motion: RigidMotion, margin: int = 0, **blob) -> Moving:
    return Moving(specimen(margin=margin, **blob), motion, tau=torch.linspace(0, 1, 7), n_z=N_Z, margin=margin)


def volume(network: Moving, tau: float) -> torch.Tensor:
    z = torch.arange(N_Z)
    return network.render(network.features(z, None), torch.full((N_Z, 1), tau))[:, 0].detach()


def centre(v: torch.Tensor) -> list[float]:
    """(z, y, x) of the bright voxels."""
    v = (v - 0.2).clamp(min=0)
    axes = torch.meshgrid(*(torch.arange(n).float() for n in v.shape), indexing="ij")
    return [float((v * a).sum() / v.sum()) for a in axes]


@pytest.mark.parametrize("margin", [0, 3])
def test_at_rest_it_is_the_specimen_itself(margin):
    network = moving(RigidMotion(WIDTH / 2), margin)
    z, tau = torch.tensor([7.0, 0.0, 11.0]), torch.tensor([[0.5, 0.1], [0.1, 0.9], [0.5, 0.5]])
    slices = network.render(network.features(z, None), tau)
    own = network.specimen.render(network.specimen.features(z + margin, None), tau)
    torch.testing.assert_close(slices, own, rtol=1e-4, atol=1e-5)


def test_it_travels_along_each_axis():
    motion = RigidMotion(WIDTH / 2)
    with torch.no_grad():
        motion.travel[0] = torch.tensor([0.10, -0.05, 0.08])  # x, y, z
    network = moving(motion)
    travel = motion(torch.tensor([1.0]))[1][0].tolist()
    assert min(map(abs, travel)) > 0.5
    start, end = centre(volume(network, 0.5)), centre(volume(network, 1.0))
    assert start == pytest.approx([5.0, 6.0, 9.0], abs=0.1)
    assert np.subtract(end, start) == pytest.approx(travel[::-1], abs=0.1)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_it_turns_about_the_middle_of_the_volume(axis):
    motion = RigidMotion(WIDTH / 2)
    with torch.no_grad():
        motion.turn[0, axis] = 0.1  # 5 times that, radians, at the end
    place = np.array([5.0, 6.0, 9.0])
    middle = np.array([(N_Z - 1) / 2, (WIDTH - 1) / 2, (WIDTH - 1) / 2])
    x, y, z = (place - middle)[::-1]
    c, s = math.cos(0.5), math.sin(0.5)
    turned = {
        0: (x, c * y - s * z, s * y + c * z),
        1: (c * x + s * z, y, c * z - s * x),
        2: (c * x - s * y, s * x + c * y, z),
    }
    assert centre(volume(moving(motion), 1.0)) == pytest.approx(middle + turned[axis][::-1], abs=0.1)
    turn, travel = motion.between(0.5, 1.0)
    assert turn == pytest.approx(math.degrees(0.5), abs=1e-3)
    assert travel.norm() == 0
    assert motion.largest_move() == pytest.approx(2 * math.sin(0.25) * WIDTH / 4, rel=1e-3)


def test_what_lies_beyond_the_volume_comes_in():
    motion = RigidMotion(WIDTH / 2)
    with torch.no_grad():
        motion.travel[0, 2] = -0.3
    network = moving(motion, margin=5, place=(15.0, 8.0, 8.0))
    assert volume(network, 0.5)[:10].max() < 0.1
    assert volume(network, 1.0)[10:].max() > 0.8


def test_its_change_in_time_is_that_in_its_own_frame():
    motion = RigidMotion(WIDTH / 2)
    with torch.no_grad():
        motion.turn[0, 0] = 0.1
    network = moving(motion)
    assert (volume(network, 0.0) - volume(network, 1.0)).abs().max() > 0.1
    features = network.features(torch.arange(2), None)
    still = network.in_specimen_frame(features, network.layers(features, torch.tensor([[0.0, 1.0]] * 2))).slices
    assert still.shape == (3, 7, WIDTH, WIDTH)
    assert (still - still[:, :1]).abs().max() == 0


def test_a_motion_that_is_held_at_none_is_one_of_none():
    z, tau = torch.tensor([2.0, 9.0]), torch.tensor([[0.1, 0.7], [0.7, 0.3]])
    held, free = (moving(RigidMotion(WIDTH / 2, held=held), margin=2) for held in (True, False))
    assert not any(p.requires_grad for p in held.motion.parameters())
    for times in (tau, tau[:1].expand(2, -1)):
        slices = [network.render(network.features(z, None), times) for network in (held, free)]
        torch.testing.assert_close(*slices, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_the_motion_is_that_of_the_image():
    torch.manual_seed(0)
    motion = RigidMotion(WIDTH / 2)
    with torch.no_grad():
        motion.turn.normal_(0, 0.02)
        motion.travel.normal_(0, 0.02)
    network = moving(motion)
    weights = torch.randn(N_Z, 1, WIDTH, WIDTH)
    tau = torch.full((N_Z, 1), 0.8)

    def value() -> torch.Tensor:
        return (weights * network.render(network.features(torch.arange(N_Z), None), tau)).sum()

    value().backward()
    for parameter in (motion.turn, motion.travel):
        step, numeric = 1e-3, torch.zeros_like(parameter)
        with torch.no_grad():
            for k in np.ndindex(*parameter.shape):
                parameter[k] += step
                high = value()
                parameter[k] -= 2 * step
                numeric[k] = (high - value()) / (2 * step)
                parameter[k] += step
        assert parameter.grad.norm() > 0
        assert (parameter.grad - numeric).norm() < 0.03 * numeric.norm()


def test_splines_follow_a_line_and_sum_to_one():
    place = torch.linspace(0, 1, 21)
    weights = splines(place)
    torch.testing.assert_close(weights.sum(-1), torch.ones(21))
    torch.testing.assert_close(weights @ torch.arange(-1.0, CELLS + 2) / CELLS, place, rtol=0, atol=1e-6)


def test_without_bending_a_free_form_motion_is_rigid():
    rigid, free = RigidMotion(WIDTH / 2), FreeFormMotion(WIDTH / 2)
    with torch.no_grad():
        for motion in (rigid, free):
            motion.turn[0, 2], motion.travel[1, 0] = 0.05, 0.1
    torch.testing.assert_close(volume(moving(free), 0.9), volume(moving(rigid), 0.9))
    assert free.largest_move() == rigid.largest_move()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_bends_is_seen_where_its_displacement_says(axis):
    motion, tau = FreeFormMotion(WIDTH / 2), torch.tensor([1.0])
    places = {name: torch.arange(n) / (n - 1) for name, n in (("z", N_Z), ("y", WIDTH), ("x", WIDTH))}
    along = torch.linspace(-1, 1, CELLS + 3)  # a displacement along x, y or z that grows along z: a shear
    with torch.no_grad():
        motion.bend[0, axis] = 0.1 * along[:, None, None]
        moved = motion.displacement(tau, **places | {"z": places["z"][None]})[0]  # (Z, Y, X, 3)
    assert moved[..., [a for a in range(3) if a != axis]].abs().max() == 0
    torch.testing.assert_close(moved[:, 0, 0, axis], moved[:, 5, 9, axis])
    assert (moved[:, 0, 0, axis].diff() * torch.sign(moved[-1, 0, 0, axis]) > 0).all()
    network = moving(motion, place=(3.0, 7.0, 8.0))
    seen = centre(volume(network, 1.0))
    where = [round(c) for c in seen]
    shift = moved[where[0], where[1], where[2]]
    expected = [3.0, 7.0, 8.0]
    expected[2 - axis] -= float(shift[axis])
    assert seen == pytest.approx(expected, abs=0.25)
    assert abs(float(shift[axis])) > 0.4
    assert float(motion.bent(tau)) == pytest.approx(float(moved[..., axis].abs().max()) / 2, rel=0.1)
    assert "bends by up to" in motion.describe()


def turned(by: float) -> RigidMotion:
    motion = RigidMotion(WIDTH / 2)
    with torch.no_grad():
        motion.turn[0] = torch.tensor([0.0, 0.0, by])
    return motion


def test_points_inside_are_moved_by_turn_and_travel():
    motion, shape = turned(0.05), (N_Z, WIDTH, WIDTH)
    with torch.no_grad():
        motion.travel[1] = torch.tensor([0.1, 0.0, 0.0])
    paths = motion.paths(torch.tensor([0.0, 1.0]), shape=shape)
    angle, half = PACE * 0.05, WIDTH / 4
    travel = float(motion(torch.tensor([1.0]))[1].detach()[0, 0])
    assert paths.shape == (2, 27, 3)
    of_corner = half * (1 - math.cos(angle) + math.sin(angle)) + travel  # along x, at (-half, -half) of (x, y)
    assert float(paths[1, 0, 0]) == pytest.approx(of_corner, abs=1e-4)
    assert float(paths[:, :, 2].abs().max()) == 0


def test_motions_agree_with_themselves_and_not_with_their_reverse():
    shape = (N_Z, WIDTH, WIDTH)
    assert agreement(turned(0.05), turned(0.02), shape=shape) == pytest.approx(1.0, abs=0.02)
    assert agreement(turned(0.05), turned(-0.05), shape=shape) == pytest.approx(-1.0, abs=0.05)
    assert agreement(turned(0.05), RigidMotion(WIDTH / 2), shape=shape) == 0


def test_a_travel_agrees_with_a_bending_motion_that_moves_all_places_alike():
    travel, bending = RigidMotion(WIDTH / 2), FreeFormMotion(WIDTH / 2)
    with torch.no_grad():
        travel.travel[0, 1] = 0.1  # towards larger y: as the first of the Legendre polynomials,
        bending.bend[0, 1] = 0.1  # which the first wave is about the reverse of; what is seen lies farther inside
    assert agreement(travel, bending, shape=(N_Z, WIDTH, WIDTH)) == pytest.approx(1.0, abs=0.02)
    before, after = (volume(moving(bending), tau) for tau in (0.0, 1.0))
    assert centre(after)[1] > centre(before)[1] + 0.5
