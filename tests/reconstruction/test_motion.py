"""A specimen that moves as a whole: where its planes are cut, how its motion is found, and the fit with it."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dip4d.build import build_module, images_in_a_batch, load_data
from dip4d.config import load_config
from dip4d.data import TiltRows, choose_held_out, rows_of
from dip4d.networks import BoundedLowRank, Moving, RigidMotion, VoxelMaps
from dip4d.pilot import _without_rows, find_motion
from tests.test_run import StopNowError, interrupt, run, same, weights

DEPTH, WIDTH = 12, 16


def specimen(place=(5.0, 6.0, 9.0), margin=0) -> BoundedLowRank:
    """A Gaussian blob at (z, y, x) in planes that reach `margin` beyond the volume, the same at all times."""
    axes = torch.meshgrid(torch.arange(DEPTH + 2 * margin) - margin, *2 * [torch.arange(WIDTH)], indexing="ij")
    squared = sum((a - p) ** 2 for a, p in zip(axes, place, strict=True))
    return BoundedLowRank(VoxelMaps(torch.exp(-squared / 8), 1, 1.0), 1, 0.0, 1.0)


def moving(motion: RigidMotion, margin: int = 0, **blob) -> Moving:
    return Moving(specimen(margin=margin, **blob), motion, torch.linspace(0, 1, 7), DEPTH, margin)


def volume(network: Moving, progress: float) -> torch.Tensor:
    z = torch.arange(DEPTH)
    return network.render(network.features(z, None), torch.full((DEPTH, 1), progress))[:, 0].detach()


def centre(v: torch.Tensor) -> list[float]:
    """(z, y, x) of the bright voxels."""
    v = (v - 0.2).clamp(min=0)
    axes = torch.meshgrid(*(torch.arange(n).float() for n in v.shape), indexing="ij")
    return [float((v * a).sum() / v.sum()) for a in axes]


@pytest.mark.parametrize("margin", [0, 3])
def test_at_rest_it_is_the_specimen_itself(margin):
    network = moving(RigidMotion(WIDTH / 2), margin)
    z, progress = torch.tensor([7.0, 0.0, 11.0]), torch.tensor([[0.5, 0.1], [0.1, 0.9], [0.5, 0.5]])
    slices = network.render(network.features(z, None), progress)
    own = network.specimen.render(network.specimen.features(z + margin, None), progress)
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
    middle = np.array([(DEPTH - 1) / 2, (WIDTH - 1) / 2, (WIDTH - 1) / 2])
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


def test_steadiness_is_that_of_its_own_frame():
    motion = RigidMotion(WIDTH / 2)
    with torch.no_grad():
        motion.turn[0, 0] = 0.1
    network = moving(motion)
    assert (volume(network, 0.0) - volume(network, 1.0)).abs().max() > 0.1
    still = network.at_rest(network.features(torch.arange(2), None), every=4)
    assert still.shape == (3, 7, WIDTH, WIDTH)
    assert (still - still[:, :1]).abs().max() == 0


def test_the_gradient_of_the_motion_is_that_of_the_image():
    torch.manual_seed(0)
    motion = RigidMotion(WIDTH / 2)
    with torch.no_grad():
        motion.turn.normal_(0, 0.02)
        motion.travel.normal_(0, 0.02)
    network = moving(motion)
    weights = torch.randn(DEPTH, 1, WIDTH, WIDTH)
    progress = torch.full((DEPTH, 1), 0.8)

    def value() -> torch.Tensor:
        return (weights * network.render(network.features(torch.arange(DEPTH), None), progress)).sum()

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


def problem(specimen: str, *more: str):
    """A configuration and its series, truth apart, and held-out rows."""
    size = f"simulate={{specimen: {specimen}, size: 24, depth: 14, frames: 30, dose: 2000}}"
    config = load_config([size, "train.max_minutes=null", "trainer.accelerator=cpu", *more])
    series, _ = load_data(config)
    return config, series, choose_held_out(*series.shape[:2], 0.05, 0)


def test_a_motion_is_found_where_there_is_one():
    config, series, held_out = problem("drift")
    motion = find_motion(config, series, held_out, unseen=[7])
    turn, travel = motion.between()
    assert turn == pytest.approx(40, abs=4)
    assert float(travel.norm()) == pytest.approx(0.12 * 12, abs=0.7)
    assert find_motion(load_config(["network.motion=never"]), series, held_out) is None


def test_in_a_single_sweep_no_motion_is_looked_for(monkeypatch):
    monkeypatch.setattr("dip4d.pilot._fit", None)
    assert find_motion(*problem("drift", "simulate.scheme=incremental")) is None


def test_a_change_is_not_taken_for_a_motion():
    assert find_motion(*problem("alloying")) is None


def test_held_out_rows_do_not_tell_the_motion():
    _, series, held_out = problem("drift")
    images = series.images.copy()
    images[held_out.T.numpy()] = 1e6
    spoiled = _without_rows(type(series)(images, series.angles_deg), held_out)
    clean = _without_rows(series, held_out)
    np.testing.assert_array_equal(spoiled.images, clean.images)
    known = ~held_out.T.numpy()
    np.testing.assert_array_equal(clean.images[known], series.images[known])
    assert np.abs(clean.images - series.images).max() < 0.5 * series.images.max()


def test_a_step_sees_whole_images_but_not_what_is_kept_aside():
    config, series, held_out = problem("drift", "network.channels=16")
    unseen = rows_of([4, 9], 30, 14)
    held_out = held_out & ~unseen
    held_out[:, 11] = True
    for row in held_out:  # as many at every position
        row[row.nonzero()[:, 0][:-1]] = False
    data = TiltRows(series, held_out, 8, 10, 0, unseen, images=images_in_a_batch(8, 30, 14))
    module = build_module(config, series, 0.0, [4, 9], RigidMotion(12.0))
    module.log, module.optimizers = lambda *_, **__: None, lambda: torch.optim.Adam(module.parameters())
    batch = data.batch_of_images([11, 2, 20])
    assert batch.rows.t[0].tolist() == [2, 11, 20]
    assert torch.equal(batch.rows.known, ~held_out[:, [2, 11, 20]])
    loss = module.training_step(batch, 0)
    batch.rows.values[~batch.rows.known] = 1e6
    assert torch.equal(module.training_step(batch, 0), loss)
    data.trainer = SimpleNamespace(global_step=0)
    frames = [batch.rows.t[0].tolist() for batch in data.train_dataloader()]
    assert [len(f) for f in frames] == 10 * [data.images]
    assert {t for f in frames for t in f} == set(range(30)) - {4, 9}


MOVING = ["network.motion=always", "simulate.specimen=drift", "simulate.size=20", "compare.methods=[]"]


def test_a_moving_run_goes_on_exactly(tmp_path, small, monkeypatch):
    monkeypatch.setattr("dip4d.pilot.STEPS", 20)
    small += [*MOVING, "train.checkpoint_seconds=0.1", "train.steps=20"]
    run(tmp_path / "whole", *small)
    interrupt(monkeypatch, step=13)
    with pytest.raises(StopNowError):
        run(tmp_path / "parts", *small)
    run(tmp_path / "parts", "run.resume=true")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_a_moving_run_writes_its_motion_and_all_else(tmp_path, small, monkeypatch):
    monkeypatch.setattr("dip4d.pilot.STEPS", 20)
    small += [*MOVING, "uncertainty.members=3", "compare.resolution=true"]
    metrics = run(tmp_path, *small)
    table = np.genfromtxt(tmp_path / "motion.csv", delimiter=",", names=True)
    assert table.dtype.names == ("time_s", *(f"turn_{a}_deg" for a in "xyz"), *(f"travel_{a}_px" for a in "xyz"))
    assert len(table) == 12
    travel = [table[f"travel_{a}_px"][-1] - table[f"travel_{a}_px"][0] for a in "xyz"]
    np.testing.assert_allclose(travel, metrics["motion"]["travel_px"], atol=1e-3)
    assert (tmp_path / "uncertainty.ome.tif").exists()
    assert metrics["resolution"]
