"""Network, microscope and loss together: what they see, predict, stop at and keep small."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch

from dip4d.config.load import config_of
from dip4d.reconstruction.data import TiltRows
from dip4d.reconstruction.fit import prepare
from dip4d.reconstruction.forward_model import Microscope
from dip4d.reconstruction.losses import SquaredError
from dip4d.reconstruction.module import DIP4D
from dip4d.reconstruction.networks.low_rank import BoundedLowRank, Decoder
from dip4d.reconstruction.schedule import Schedule
from dip4d.reconstruction.split import Split, choose_validation_rows
from dip4d.simulation.simulate import simulate

VALIDATION = Split(choose_validation_rows((16, 10), 0.2, seed=0))


@pytest.fixture(scope="module")
def data() -> TiltRows:
    series, _ = simulate("nanostar", 16, frames=10, scheme="grs", peak_counts=500, seed=0)
    return TiltRows(series, VALIDATION, slices=4, steps=5, seed=0)


def module_of(windows: int) -> DIP4D:
    torch.manual_seed(0)
    decoder = Decoder((16, 16), 4, n_z=16, images=windows, channels=16, octaves=4)
    return DIP4D(
        BoundedLowRank(decoder, 4, damping=0.3, intensity_bound=1.0, windows=windows),
        Microscope((16, 16), 16),
        loss=SquaredError(1.0),
        schedule=Schedule(5),
        learning_rate=1e-3,
        intensity_bound=1.0,
    )


def test_rows_may_be_missing(data):
    module, batch = module_of(windows=4), data.batch([3, 5])
    asked = torch.tensor([[0.123], [0.9]])  # no image was taken then
    with_rows, without = module(batch.z, batch.rows, tau=asked), module(batch.z, None, tau=asked)
    assert with_rows.shape == without.shape == (2, 1, 16, 16)
    assert not torch.allclose(with_rows, without)
    same_time = module(batch.z, None, tau=asked[:1].expand(2, 1))
    assert not torch.allclose(same_time[0], same_time[1])  # z alone tells them apart
    coarse, fine = module.images(batch.rows)
    assert coarse.shape == (2, 4, 8, 8)
    assert fine.shape == (2, 4, 16, 16)
    assert not torch.allclose(fine[:, 0], fine[:, -1])  # the windows are of different times


def test_what_the_network_is_shown_is_worked_out_once_and_is_the_same(data):
    module = module_of(windows=4)
    rows = TiltRows(data.series, data.split, slices=4, steps=5, seed=0)
    before, own = module.images(rows.batch([3, 5]).rows), module.microscope.back_project
    module.show_once(rows)
    module.microscope.back_project = None  # not asked again
    for kept, fresh in zip(module.images(rows.batch([3, 5]).rows), before, strict=True):
        assert torch.equal(kept, fresh)
    tau = rows.batch([3]).validation.tau
    kept = module(torch.tensor([3.0]), rows.batch([3]).rows, tau=tau)
    module.microscope.back_project, rows.back_projected = own, None
    assert torch.equal(kept, module(torch.tensor([3.0]), rows.batch([3]).rows, tau=tau))


def test_a_validation_row_is_never_an_input(data):
    module = module_of(windows=4)
    spoiled = TiltRows(data.series, data.split, slices=4, steps=5, seed=0)
    spoiled.rows = data.rows.clone()
    spoiled.rows[torch.arange(16)[:, None], data.validation] = 1e6
    for z in range(16):
        batch, other = data.batch([z]), spoiled.batch([z])
        tau = batch.validation.tau
        assert torch.equal(module(batch.z, batch.rows, tau=tau), module(other.z, other.rows, tau=tau))
    assert module.validation_error(data) != module.validation_error(spoiled)


@pytest.mark.parametrize("images", [None, 6])
def test_what_an_image_does_not_show_teaches_nothing(data, images):
    shown = np.ones((10, 16), bool)
    shown[3, :5] = shown[7, 12:] = False
    losses, errors = [], []
    for filling in (0.0, 50.0):
        values = np.where(shown[..., None], data.series.images, filling)
        series = dataclasses.replace(data.series, images=values, shown=shown)
        split = Split(choose_validation_rows((16, 10), 0.3, seed=0))
        rows = TiltRows(series, split, slices=4, steps=5, seed=0, images=images)
        batch = rows.batch(range(16)) if images is None else rows.batch_of_images([2, 3, 4, 7, 8])
        module = module_of(windows=0)
        module.log, module.optimizers = lambda *_, **__: None, lambda: SimpleNamespace(param_groups=[{"lr": 0}])
        losses.append(module.training_step(batch, 0).item())
        errors.append(module.validation_error(rows))
        assert (~batch.validation.row_mask).any()  # also of validation rows
        volume = next(module.volumes(rows, rows.tau[[3]]))
        assert not module.image(rows, 3, volume=volume)[0][:5].any()
    assert losses[0] == losses[1]
    assert errors[0] == errors[1]


def test_without_rows_the_network_depends_on_z_and_t_alone(data):
    module, batch, other = module_of(windows=0), data.batch([3]), data.batch([4])
    assert module.images(batch.rows) is None
    assert torch.equal(module(batch.z, batch.rows, tau=batch.rows.tau), module(batch.z, other.rows, tau=batch.rows.tau))


def test_the_validation_error_is_the_relative_one(data):
    module = module_of(windows=4)
    predicted, measured = [], []
    for z in range(16):
        batch = data.batch([z])
        slices = module(batch.z, batch.rows, tau=batch.validation.tau)
        predicted.append(module.microscope.project(slices, batch.validation.angles))
        measured.append(batch.validation.values)
    expected = (torch.cat(predicted).detach() - torch.cat(measured)).norm() / torch.cat(measured).norm()
    assert module.validation_error(data) == pytest.approx(float(expected), rel=1e-5)


def test_images_are_predicted_by_the_volumes_of_their_times(data):
    module, frames = module_of(windows=4), [2, 6]
    for t, volume in zip(frames, module.volumes(data, data.tau[frames]), strict=True):
        predicted, measured = module.image(data, t, volume=volume)
        np.testing.assert_array_equal(measured, data.series.images[t])
        angle = data.angles[t].expand(16, 1)
        torch.testing.assert_close(predicted, module.microscope.project(volume[:, None], angle)[:, 0])


def test_volumes_are_the_orthoslices_stacked(data):
    module = module_of(windows=4)
    volumes = list(module.volumes(data, data.tau[[0, 7]]))
    batch = data.batch([11])
    for volume, t in zip(volumes, (0, 7), strict=True):
        assert volume.shape == (16, 16, 16)
        torch.testing.assert_close(volume[11], module(batch.z, batch.rows, tau=data.tau[t].view(1, 1))[0, 0])


def test_with_a_margin_a_volume_is_what_the_images_show_of_what_is_drawn_and_projected(data):
    series = dataclasses.replace(data.series, margin=5)
    settings = config_of(**{"network.materials": 1, "train.steps": 2})
    module, rows = prepare(series, data.split, settings=settings)
    whole, volume = (next(draw(rows, rows.tau[[3]])) for draw in (module.whole_volumes, module.volumes))
    assert whole.shape == (16, 16, 26)
    np.testing.assert_array_equal(volume, whole[..., 5:21])
    predicted, _ = module.image(rows, 3, volume=whole)
    beyond = whole.clone()
    beyond[..., 5:21] = 0
    angle = rows.angles[[3]].expand(16, 1)
    of_both = [module.microscope.project(v[:, None], angle)[:, 0] for v in (beyond, whole - beyond)]
    assert float(of_both[0].sum()) > 0  # what is beyond the images at one angle is in them at another
    torch.testing.assert_close(predicted, of_both[0] + of_both[1])


def fit(module: DIP4D, data: TiltRows, *callbacks: L.Callback) -> DIP4D:
    keys = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    steps = {"max_steps": data.steps, "val_check_interval": 5, "check_val_every_n_epoch": None, "accelerator": "cpu"}
    module.schedule = Schedule(data.steps)
    L.Trainer(**keys, **steps, num_sanity_val_steps=0, callbacks=list(callbacks)).fit(module, data)
    return module


def test_the_time_of_the_first_step_is_not_counted_and_that_of_the_others_is(data, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("dip4d.reconstruction.schedule.time.monotonic", lambda: now[0])

    class Slow(L.Callback):
        def on_train_batch_start(self, trainer, *_):
            now[0] += 1.0 if trainer.global_step else 1000.0

    module = fit(module_of(windows=0), data, Slow())
    assert module.schedule.elapsed() == data.steps - 1


def test_the_network_with_the_lowest_validation_error_stays(data):
    class Spoil(L.Callback):
        """Ruins the network after half of the steps."""

        def __init__(self):
            self.errors = []

        def on_validation_end(self, trainer, module):
            self.errors.append(float(trainer.callback_metrics["validation/dip"]))

        def on_train_batch_start(self, trainer, module, *_):
            if trainer.global_step == 22:
                module.network.log_bound.data += 3

    spoil, rows = Spoil(), TiltRows(data.series, VALIDATION, slices=4, steps=60, seed=0)
    module = fit(module_of(windows=0), rows, spoil)
    assert len(spoil.errors) == 7  # it did not go on to the end
    assert min(spoil.errors[-3:]) > 1.01 * min(spoil.errors)
    assert module.validation_error(rows) == pytest.approx(min(spoil.errors), rel=1e-5)


def test_total_variation_in_space_and_in_time_is_kept_small(data):
    def roughness(**weights: float) -> tuple[float, float]:
        rows = TiltRows(data.series, VALIDATION, slices=8, steps=60, seed=0)
        module = module_of(windows=0)
        module.learning_rate = 1e-2
        module.tv_space, module.tv_time = weights.get("tv_space", 0), weights.get("tv_time", 0)
        volumes = torch.stack(list(fit(module, rows).volumes(rows, rows.tau)))
        in_space = volumes.diff(dim=-1).abs().mean() + volumes.diff(dim=-2).abs().mean()
        return float(in_space), float(volumes.diff(dim=0).abs().mean())

    plain = roughness()
    assert roughness(tv_space=3e4)[0] < 0.5 * plain[0]
    assert roughness(tv_time=3e5)[1] < 0.2 * plain[1]


def test_total_variation_along_z_is_that_of_neighbours_alone(data):
    module = module_of(windows=0)
    z, tau = torch.tensor([3.0, 9.0, 2.0, 4.0]), torch.rand(4, 9)
    features = module.features(z, None)
    slices = module.network.render(features, tau[:1, ::4].expand(4, -1))
    expected = ((slices[0] - slices[2]).abs().mean() + (slices[3] - slices[0]).abs().mean()) / 2
    torch.testing.assert_close(module.variation_along_z(module.network, features, z=z, tau=tau), expected)
    assert module.variation_along_z(module.network, features[:2], z=z[:2], tau=tau[:2]).item() == 0

    def roughness(tv_z: float) -> float:
        rows = TiltRows(data.series, VALIDATION, slices=100, steps=60, seed=0)
        fitted = module_of(windows=0)
        fitted.learning_rate, fitted.tv_z = 1e-2, tv_z
        return float(torch.stack(list(fit(fitted, rows).volumes(rows, rows.tau))).diff(dim=1).abs().mean())

    assert roughness(3e4) < 0.5 * roughness(0)
