"""The network and the fit around it."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch

from dip4d.build import steps_of_fit
from dip4d.config import Train
from dip4d.data import TiltRows, choose_held_out, rows_of
from dip4d.loss import SquaredError, total_variation
from dip4d.module import DIP4D, Schedule
from dip4d.networks import BoundedLowRank, Clock, Decoder, octaves_of_z
from dip4d.physics import Microscope
from dip4d.simulate import simulate


def network(shape=(16, 20), images=3, rank=4) -> BoundedLowRank:
    torch.manual_seed(0)
    return BoundedLowRank(Decoder(shape, rank, 12, images, 16, octaves=4), rank, 0.3, brightest=2.0)


@pytest.fixture(scope="module")
def data() -> TiltRows:
    series, _ = simulate("nanostar", 16, 10, "grs", 500, seed=0)
    return TiltRows(series, choose_held_out(10, 16, 0.2, 0), slices=4, steps=5, seed=0)


def fit_module(windows: int) -> DIP4D:
    torch.manual_seed(0)
    net = BoundedLowRank(Decoder((16, 16), 4, 16, windows, 16, octaves=4), 4, 0.3, brightest=1.0)
    return DIP4D(net, Microscope((16, 16), 16), SquaredError(1.0), Schedule(5), 1e-3, windows, 1.0)


@pytest.mark.parametrize("shape", [(8, 8), (16, 20), (37, 65), (5, 3)])
@pytest.mark.parametrize("images", [0, 3])
def test_orthoslices_of_any_shape_are_bounded(shape, images):
    net = network(shape, images)
    seen = torch.randn(2, images, *shape) * 100 if images else None
    slices = net.render(net.features(torch.tensor([0.0, 7.5]), seen), torch.rand(2, 5))
    assert slices.shape == (2, 5, *shape)
    assert slices.min() >= 0
    assert slices.max() <= 2.0
    assert slices.std() > 0


def test_time_is_smooth_and_each_position_has_its_own():
    net = network()
    features = net.features(torch.tensor([2.0, 9.0]), torch.randn(2, 3, 16, 20))
    times = torch.tensor([[0.2, 0.2001, 0.9], [0.9, 0.2, 0.2001]])
    slices = net.render(features, times)
    near, far = (slices[0, 0] - slices[0, 1]).norm(), (slices[0, 0] - slices[0, 2]).norm()
    assert 0 < near < 0.01 * far
    alone = net.render(features[:1], times[:1, 2:])
    torch.testing.assert_close(alone[0, 0], slices[0, 2])
    assert not torch.allclose(slices[0, 0], slices[1, 1])


def test_the_clock_begins_as_time_and_can_jump():
    progress = torch.tensor([0.0, 0.1, 0.1, 0.5, 1.0])  # irregular, two images at once
    clock = Clock(progress)
    asked = torch.linspace(0, 1, 21).view(3, 7)
    torch.testing.assert_close(clock(asked), asked)
    with torch.no_grad():
        clock.pace[1] = 2.0  # between 0.1 and 0.5
    own = clock(asked).detach().flatten()
    assert (own.diff() > 0).all()
    assert own[0] == 0
    assert own[-1] == pytest.approx(1)
    assert own[10] - own[2] > 0.99  # nearly all that happens
    torch.testing.assert_close(own[2:11].diff(), own[2:11].diff()[:1].expand(8), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(Clock(torch.zeros(1))(asked), asked)


def test_rows_may_be_missing(data):
    module, batch = fit_module(windows=4), data.batch([3, 5])
    asked = torch.tensor([[0.123], [0.9]])  # no image was taken then
    with_rows, without = module(batch.z, batch.rows, asked), module(batch.z, None, asked)
    assert with_rows.shape == without.shape == (2, 1, 16, 16)
    assert not torch.allclose(with_rows, without)
    same_time = module(batch.z, None, asked[:1].expand(2, 1))
    assert not torch.allclose(same_time[0], same_time[1])  # z alone tells them apart
    seen = module.images(batch.rows)
    assert seen.shape == (2, 4, 16, 16)
    assert not torch.allclose(seen[:, 0], seen[:, -1])  # the windows are of different times


def test_a_held_out_row_is_never_an_input(data):
    module = fit_module(windows=4)
    spoiled = TiltRows(data.series, torch.zeros(16, 10).bool(), 4, 5, 0)
    spoiled.known, spoiled.held_out = data.known, data.held_out
    spoiled.rows = data.rows.clone()
    spoiled.rows[torch.arange(16)[:, None], data.held_out] = 1e6
    for z in range(16):
        batch, other = data.batch([z]), spoiled.batch([z])
        progress = batch.held_out.progress
        assert torch.equal(module(batch.z, batch.rows, progress), module(other.z, other.rows, progress))
    assert module.held_out_error(data) != module.held_out_error(spoiled)


@pytest.mark.parametrize("images", [None, 6])
def test_what_an_image_does_not_show_teaches_nothing(data, images):
    shown = np.ones((10, 16), bool)
    shown[3, :5] = shown[7, 12:] = False
    losses, errors = [], []
    for filling in (0.0, 50.0):
        values = np.where(shown[..., None], data.series.images, filling)
        series = dataclasses.replace(data.series, images=values, shown=shown)
        rows = TiltRows(series, choose_held_out(10, 16, 0.3, 0), slices=4, steps=5, seed=0, images=images)
        batch = rows.batch(range(16)) if images is None else rows.batch_of_images([2, 3, 4, 7, 8])
        module = fit_module(windows=0)
        module.log, module.optimizers = lambda *_, **__: None, lambda: SimpleNamespace(param_groups=[{"lr": 0}])
        losses.append(module.training_step(batch, 0).item())
        errors.append(module.held_out_error(rows))
        assert (~batch.held_out.known).any()  # also of what is held out
        assert not module.projected(rows, [3])[0][0, :5].any()
    assert losses[0] == losses[1]
    assert errors[0] == errors[1]


def test_without_rows_the_network_depends_on_z_and_t_alone(data):
    module, batch, other = fit_module(windows=0), data.batch([3]), data.batch([4])
    assert module.images(batch.rows) is None
    assert torch.equal(
        module(batch.z, batch.rows, batch.rows.progress), module(batch.z, other.rows, batch.rows.progress)
    )


def test_held_out_error_is_the_relative_one(data):
    module = fit_module(windows=4)
    predicted, measured = [], []
    for z in range(16):
        batch = data.batch([z])
        slices = module(batch.z, batch.rows, batch.held_out.progress)
        predicted.append(module.microscope.project(slices, batch.held_out.angles))
        measured.append(batch.held_out.values)
    expected = (torch.cat(predicted).detach() - torch.cat(measured)).norm() / torch.cat(measured).norm()
    assert module.held_out_error(data) == pytest.approx(float(expected), rel=1e-5)


def test_images_are_predicted_by_the_volumes_of_their_times(data):
    frames = [2, 6]
    whole = TiltRows(data.series, torch.zeros(16, 10).bool(), 4, 5, 0, rows_of(frames, 10, 16))
    module = fit_module(windows=4)
    predicted, measured = module.projected(whole, frames)
    np.testing.assert_array_equal(measured, data.series.images[frames])
    for k, volume in enumerate(module.volumes(whole, whole.progress[frames])):
        angle = whole.angles[frames[k]].expand(16, 1)
        torch.testing.assert_close(predicted[k], module.microscope.project(volume[:, None], angle)[:, 0])
    expected = (predicted - measured).norm() / measured.norm()
    assert module.held_out_images_error(whole) == pytest.approx(float(expected), rel=1e-5)
    assert math.isnan(module.held_out_images_error(data))


def test_volumes_are_the_orthoslices_stacked(data):
    module = fit_module(windows=4)
    volumes = list(module.volumes(data, data.progress[[0, 7]]))
    batch = data.batch([11])
    for volume, t in zip(volumes, (0, 7), strict=True):
        assert volume.shape == (16, 16, 16)
        torch.testing.assert_close(volume[11], module(batch.z, batch.rows, data.progress[t].view(1, 1))[0, 0])


def test_back_projections_in_windows_show_what_was_there_then(data):
    """Of a specimen that is bright in the first half and dark in the second, early windows are bright."""
    microscope = Microscope((16, 16), 16)
    truth = torch.zeros(1, 40, 16, 16)
    truth[:, :20, 5:11, 5:11] = 1
    angles = torch.linspace(-1.5, 1.5, 40).repeat(1, 1)[
        :, torch.randperm(40, generator=torch.Generator().manual_seed(0))
    ]
    rows = microscope.project(truth, angles)
    seen = microscope.back_project(rows, angles, torch.linspace(0, 1, 40)[None], windows=4)[0]
    inside = seen[:, 6:10, 6:10].mean((1, 2))
    assert inside[0] > 0.6
    assert inside[-1] < 0.1
    assert seen[0, 6:10, 6:10].mean() > 4 * seen[0].abs().mean()


def test_one_cycle():
    schedule = Schedule(steps=100)
    rates = [schedule.learning_rate(s, 1.0) for s in range(101)]
    assert rates[0] == pytest.approx(1 / 25)
    assert max(rates) == pytest.approx(1, abs=1e-3)
    assert int(np.argmax(rates)) == 10
    assert rates[-1] < 1e-3
    assert all(a <= b for a, b in pairwise(rates[:11]))
    assert all(a >= b for a, b in pairwise(rates[10:]))


def test_a_constant_rate_and_a_pause():
    assert {Schedule(100, constant=True).learning_rate(s, 0.5) for s in (0, 50, 100)} == {0.5}
    schedule = Schedule(steps=10**9, seconds=1e6)
    schedule.start()
    schedule.pause(1000.0)
    assert schedule.elapsed() == pytest.approx(-1000, abs=10)


def fit(module: DIP4D, data: TiltRows, *callbacks: L.Callback) -> DIP4D:
    keys = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    steps = {"max_steps": data.steps, "val_check_interval": 5, "check_val_every_n_epoch": None, "accelerator": "cpu"}
    module.schedule = Schedule(data.steps)
    L.Trainer(**keys, **steps, num_sanity_val_steps=0, callbacks=list(callbacks)).fit(module, data)
    return module


def test_the_network_with_the_lowest_held_out_error_stays(data):
    class Spoil(L.Callback):
        """Ruins the network after half of the steps."""

        def __init__(self):
            self.errors = []

        def on_validation_end(self, trainer, module):
            self.errors.append(float(trainer.callback_metrics["held_out/dip"]))

        def on_train_batch_start(self, trainer, module, *_):
            if trainer.global_step == 22:
                module.network.log_bound.data += 3

    spoil, rows = Spoil(), TiltRows(data.series, choose_held_out(10, 16, 0.2, 0), slices=4, steps=60, seed=0)
    module = fit(fit_module(windows=0), rows, spoil)
    assert len(spoil.errors) == 7  # it did not go on to the end
    assert min(spoil.errors[-3:]) > 1.01 * min(spoil.errors)
    assert module.held_out_error(rows) == pytest.approx(min(spoil.errors), rel=1e-5)


def test_smoothness_and_steadiness_do_what_they_say(data):
    def roughness(**weights: float) -> tuple[float, float]:
        rows = TiltRows(data.series, choose_held_out(10, 16, 0.2, 0), slices=8, steps=60, seed=0)
        module = fit_module(windows=0)
        module.learning_rate = 1e-2
        module.smoothness, module.steadiness = weights.get("smoothness", 0), weights.get("steadiness", 0)
        volumes = torch.stack(list(fit(module, rows).volumes(rows, rows.progress)))
        return float(total_variation(volumes)), float(volumes.diff(dim=0).abs().mean())

    plain = roughness()
    assert roughness(smoothness=3e4)[0] < 0.5 * plain[0]
    assert roughness(steadiness=3e5)[1] < 0.2 * plain[1]


def test_waves_of_z_are_at_least_as_long_as_asked_for():
    for depth in (24, 64, 100, 256, 1000):
        octaves = octaves_of_z(depth, 12)
        assert 12 <= depth / 2 ** (octaves - 2) < 24
    assert octaves_of_z(2, 12) == 2


def test_the_schedule_fits_a_budget():
    schedule = Schedule(steps=10**9, seconds=100.0, began=0.0)
    schedule.spent = 50.0  # half of it went before an interruption
    assert schedule.progress(3) == pytest.approx(0.5)
    schedule.spent = 1e6
    assert schedule.progress(3) == 1
    assert math.isclose(Schedule(steps=10, seconds=1e9).progress(5), 0.5)


def test_a_longer_series_gets_more_steps():
    train = Train(slices=8)
    assert [steps_of_fit(train, depth) for depth in (1, 24, 64, 128)] == [2000, 2000, 4000, 8000]
    assert steps_of_fit(Train(steps=7), 128) == 7
