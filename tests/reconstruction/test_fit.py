"""The one recipe for a fit: what it is prepared from, what it may see, how long it lasts, where it begins."""

from __future__ import annotations

import dataclasses
import time
from types import SimpleNamespace

import lightning as L
import pytest
import torch

from dip4d.config.load import load_config
from dip4d.config.schema import Train
from dip4d.conventional.series import SeriesStatistics, statistics_of
from dip4d.errors import InputError
from dip4d.reconstruction.fit import fit, images_in_a_batch, prepare, steps_of_fit
from dip4d.reconstruction.networks import NETWORKS
from dip4d.reconstruction.networks.rigid_motion import RigidMotion
from dip4d.reconstruction.schedule import FitTime
from dip4d.reconstruction.split import Split, choose_split, choose_validation_rows, rows_of
from dip4d.simulation.simulate import simulate
from dip4d.tilt_series import TiltSeries
from tests.helpers import same


@pytest.fixture(scope="module")
def series() -> TiltSeries:
    return simulate("nanostar", 16, frames=12, scheme="grs", peak_counts=500, seed=2)[0]


def test_a_longer_series_gets_more_steps():
    train = Train(slices=8)
    assert [steps_of_fit(train, n_z) for n_z in (1, 24, 64, 128)] == [2000, 2000, 2000, 4000]
    assert steps_of_fit(Train(steps=7), 128) == 7


@pytest.mark.parametrize("name", NETWORKS)
def test_no_network_starts_from_a_test_image(series, small, name):
    images = series.images.copy()
    images[5] *= 30
    config = load_config([*small, f"network.name={name}"])
    split = Split(torch.zeros(16, 12, dtype=torch.bool), rows_of([5], (16, 12)))
    modules = []
    for seen in (series, dataclasses.replace(series, images=images)):
        torch.manual_seed(0)
        modules.append(prepare(seen, split, settings=config)[0])
    a, b = modules
    assert same(a.state_dict(), b.state_dict())
    assert (a.intensity_bound, a.tv_space, a.tv_time) == (b.intensity_bound, b.tv_space, b.tv_time)
    assert a.loss.peak_intensity == b.loss.peak_intensity


def test_the_bound_begins_where_it_is_told_to(series, small):
    split = choose_split(series, 0.05)
    module, _ = prepare(series, split, settings=load_config([*small, "network.intensity_bound=7.5"]))
    assert module.intensity_bound == 7.5
    assert module.network.learned_bound() == pytest.approx(7.5)


def test_statistics_are_worked_out_or_taken(series, small):
    split, config = choose_split(series, 0.05), load_config(small)
    found = statistics_of(series)
    own, taken, other = (
        prepare(series, split, settings=config, statistics=s)[0]
        for s in (None, found, SeriesStatistics(1.0, 50.0, 3.0))
    )
    for module in (own, taken):
        assert module.loss.peak_intensity == found.peak_intensity
        assert module.intensity_bound == found.intensity_bound
        noise = 100 * (found.noise / found.peak_intensity) ** 2  # in the units of the loss
        assert module.tv_space == pytest.approx(config.train.tv_space * noise / found.intensity_bound)
        assert module.tv_time == pytest.approx(config.train.tv_time * noise / found.intensity_bound)
    assert (other.loss.peak_intensity, other.intensity_bound) == (50, 3)
    assert other.tv_space == pytest.approx(config.train.tv_space * 100 / 50**2 / 3)


def test_a_step_sees_whole_images_but_not_what_is_kept_aside():
    series, _ = simulate("drift", 24, n_z=14, frames=30, peak_counts=2000)
    config = load_config(["train.max_minutes=null", "trainer.accelerator=cpu", "network.channels=16", "train.steps=10"])
    hidden = rows_of([4, 9], (14, 30))
    validation = choose_validation_rows((14, 30), 0.05, seed=0) & ~hidden
    validation[:, 11] = True
    for row in validation:  # as many at every position
        row[row.nonzero()[:, 0][:-1]] = False
    module, data = prepare(series, Split(validation, hidden), settings=config, motion=RigidMotion(12.0))
    assert data.images == images_in_a_batch(8, series) == 17
    module.log, module.optimizers = lambda *_, **__: None, lambda: torch.optim.Adam(module.parameters())
    batch = data.batch_of_images([11, 2, 20])
    assert batch.rows.t[0].tolist() == [2, 11, 20]
    assert torch.equal(batch.rows.row_mask, ~validation[:, [2, 11, 20]])
    loss = module.training_step(batch, 0)
    batch.rows.values[~batch.rows.row_mask] = 1e6
    assert torch.equal(module.training_step(batch, 0), loss)
    data.trainer = SimpleNamespace(global_step=0, global_rank=0, world_size=1)
    frames = [batch.rows.t[0].tolist() for batch in data.train_dataloader()]
    assert [len(f) for f in frames] == 10 * [data.images]
    assert {t for f in frames for t in f} == set(range(30)) - {4, 9}


def test_a_fit_needs_no_folder_and_repeats_to_the_last_bit(series, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    split, config = choose_split(series, 0.1, test_images=0.1), load_config(small)
    steps, found = [], []

    class Watch(L.Callback):
        def on_train_batch_end(self, trainer, *_):
            steps.append(trainer.global_step)

    for callbacks in ([], [Watch()]):
        torch.manual_seed(0)
        found.append(fit(series, split, settings=config, callbacks=callbacks))
    one, other = found
    assert same(one.module.state_dict(), other.module.state_dict())
    assert one.steps == other.steps == len(steps) == 30
    assert one.ended == other.ended == "steps"
    assert one.module.validation_error(one.data) < 1
    assert not list(tmp_path.iterdir())


def test_a_fit_says_whether_time_or_noise_ended_it(series, small):
    split = choose_split(series, 0.1)
    config = load_config([*small, "train.steps=1000000"])
    timed = fit(series, split, settings=config, budget=FitTime(1.5, time.monotonic()))
    assert 0 < timed.steps < 1000000
    assert timed.ended == "time"

    class Spoil(L.Callback):
        """Ruins the network after half of its schedule."""

        def on_train_batch_start(self, trainer, module, *_):
            if trainer.global_step == 30:
                module.network.log_bound.data += 3

    config = load_config([*small, "train.steps=60", "trainer.val_check_interval=5"])
    spoiled = fit(series, split, settings=config, callbacks=[Spoil()])
    assert 30 < spoiled.steps < 60
    assert spoiled.ended == "validation"


def test_a_fit_begins_from_the_weights_it_is_given(series, small):
    """And so do its averaged weights, which are those that are kept."""
    split, config = choose_split(series, 0.1), load_config([*small, "train.steps=1", "train.learning_rate=1e-7"])
    before = fit(series, split, settings=load_config(small))
    seen = []

    def begin(module):
        seen.append(module)
        module.start_from(before.module)

    done = fit(series, split, settings=config, begin=begin)
    assert seen == [done.module]
    for name, value in done.module.state_dict().items():
        torch.testing.assert_close(value, before.module.state_dict()[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_fits_in_mixed_precision(series, small, name):
    keys = [f"network.name={name}", "trainer.precision=bf16-mixed", "train.steps=2"]
    done = fit(series, choose_split(series, 0.05), settings=load_config([*small, *keys]))
    assert done.steps == 2


def test_the_weights_of_another_network_are_refused(series, small, tmp_path):
    split = choose_split(series, 0.1)
    fit(series, split, settings=load_config(small)).trainer.save_checkpoint(tmp_path / "last.ckpt")
    other = load_config([*small, "network.rank=7"])
    with pytest.raises(InputError, match="another network"):
        fit(series, split, settings=other, checkpoint=tmp_path / "last.ckpt")
