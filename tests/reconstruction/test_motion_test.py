"""Whether the specimen moves as a whole is found where it does, and only from what may be seen."""

from __future__ import annotations

import math
from functools import partial

import lightning as L
import numpy as np
import pytest
import torch

from dip4d.config.load import load_config
from dip4d.config.schema import Config
from dip4d.errors import InputError
from dip4d.experiment.inputs import load_data
from dip4d.reconstruction.fit import STEPS_BETWEEN_VALIDATIONS
from dip4d.reconstruction.motion_test import (
    Behaviour,
    _binned_rows,
    _Compared,
    _noise_of,
    _Tried,
    _tried,
    find_behaviour,
    motion_of,
    without_rows,
)
from dip4d.reconstruction.networks.free_form import FreeFormMotion
from dip4d.reconstruction.networks.rigid_motion import RigidMotion
from dip4d.reconstruction.split import Split, choose_validation_rows, rows_of
from dip4d.tilt_series import TiltSeries
from tests.helpers import same


def problem(specimen: str, *more: str) -> tuple[TiltSeries, Split, Config]:
    """A series, truth apart, with validation rows, and a configuration."""
    size = f"simulate={{specimen: {specimen}, size: 24, n_z: 14, frames: 30, peak_counts: 2000}}"
    config = load_config([size, "train.max_minutes=null", "trainer.accelerator=cpu", "network.z_detail_px=12", *more])
    series, _ = load_data(config)
    return series, Split(choose_validation_rows((14, 30), 0.05, seed=0)), config


def test_a_motion_is_found_where_there_is_one(monkeypatch):
    monkeypatch.setattr("dip4d.reconstruction.motion_test.STEPS", 200)
    series, split, config = problem("drift", "simulate.peak_counts=20000")  # at 2000 rounding decides
    motion = find_behaviour(series, Split(split.validation_rows, rows_of([7], (14, 30))), settings=config).motion
    turn, travel = motion.between()
    assert turn == pytest.approx(40, abs=4)
    assert float(travel.norm()) == pytest.approx(0.12 * 12, abs=0.7)
    never = load_config(["network.motion=never", "network.z_detail_px=12"])
    assert find_behaviour(series, split, settings=never) == Behaviour()


def test_a_bending_specimen_is_found_to_bend(monkeypatch):
    monkeypatch.setattr("dip4d.reconstruction.motion_test.STEPS", 200)
    series, split, config = problem("bending_rod", "simulate.peak_counts=20000", "run.seed=1")
    motion = find_behaviour(series, split, settings=config).motion
    assert isinstance(motion, FreeFormMotion)
    assert motion.largest_move() > 2


@pytest.mark.parametrize(
    ("rest", "rigid", "bending", "noise", "agreement", "best"),
    [
        (1.0, 0.79, 0.77, 0.0, 0.1, RigidMotion),
        (1.0, 0.79, 0.66, 0.0, 0.1, FreeFormMotion),
        (1.0, 0.79, 1.2, 0.0, 0.1, RigidMotion),
        (1.0, 0.84, 0.82, 0.0, 0.1, type(None)),
        (1.0, 0.84, 0.82, 0.0, 0.8, RigidMotion),  # both fits find it
        (1.0, 1.05, 0.88, 0.0, 0.8, FreeFormMotion),
        (1.0, 0.99, 0.92, 0.0, 0.8, RigidMotion),
        (1.0, 0.95, 0.95, 0.0, 0.8, type(None)),
        (1.0, 1.1, 0.79, 0.0, 0.1, FreeFormMotion),
        (0.139, 0.121, 0.135, 0.0, 0.1, type(None)),
        (0.139, 0.121, 0.135, 0.1, 0.1, RigidMotion),  # less its noise the error falls by a third
        (0.139, 0.137, 0.139, 0.2, 0.1, type(None)),  # such noise cannot be
        (0.139, 0.121, 0.135, math.nan, 0.8, RigidMotion),
    ],
)
def test_a_motion_has_to_be_worth_more_than_rest_and_a_bending_one_than_a_rigid(
    monkeypatch, rest, rigid, bending, noise, agreement, best
):
    monkeypatch.setattr("dip4d.reconstruction.motion_test.agreement", lambda *_, **__: agreement)
    errors = {RigidMotion: rigid, FreeFormMotion: bending}
    tried = lambda *, kind, **_: _Tried(kind(8.0), errors[kind])
    found = _Compared.of(_Tried(RigidMotion(8.0), rest), tried=tried, noise=noise, shape=(8, 16, 16))
    assert type(found.best) is best


@pytest.mark.parametrize(
    ("rigid", "bending", "agreement", "promising"),
    [
        (0.94, 1.1, 0.0, True),
        (1.1, 0.79, 0.0, True),
        (1.1, 0.84, 0.0, False),
        (0.97, 1.0, 0.1, False),
        (1.07, 0.92, 0.44, True),
        (0.99, 1.1, 0.7, True),
        (1.0, 1.1, 0.4, False),
        (1.03, 1.03, 0.76, True),  # both find the same motion, and are not yet better for it
    ],
)
def test_short_fits_end_early_where_nothing_seems_to_move(rigid, bending, agreement, promising):
    assert _Compared(RigidMotion(8.0), FreeFormMotion(8.0), rigid, bending, agreement).promising is promising


def test_the_beginning_of_a_short_fit_ends_with_its_first_validation_and_another_has_other_numbers():
    series, split, config = problem("drift")
    steps = []
    ends = L.Callback()
    ends.on_train_end = lambda trainer, _: steps.append(trainer.global_step)
    tried = partial(_tried, series, split, kind=RigidMotion, early=True, settings=config, budget=None, callbacks=[ends])
    once, again, other = tried(), tried(), tried(other_numbers=True)
    assert steps == 3 * [STEPS_BETWEEN_VALIDATIONS]
    assert once.early == again.early != other.early


def test_what_does_not_change_is_found_to_be_static(monkeypatch):
    monkeypatch.setattr("dip4d.reconstruction.motion_test.STEPS", 150)
    series, split, config = problem("static")
    before = torch.random.get_rng_state()
    found = find_behaviour(series, split, settings=config)
    assert found == Behaviour(changes=False)
    assert torch.equal(torch.random.get_rng_state(), before)  # the fit begins as without
    assert (config.network.change, found.settings(config).network.change) == ("auto", "never")
    assert find_behaviour(series, split, settings=found.settings(config)) == Behaviour()


@pytest.mark.parametrize("kind", [RigidMotion, FreeFormMotion])
def test_the_motion_of_a_checkpoint_is_had_again_or_refused_in_a_line(kind):
    series, _, _ = problem("drift")
    motion = kind(12.0)
    with torch.no_grad():
        motion.turn.fill_(0.1)
    saved = {"state_dict": {f"network.motion.{name}": value for name, value in motion.state_dict().items()}}
    found = motion_of(saved, series)
    assert type(found) is kind
    assert same(found.state_dict(), motion.state_dict())
    saved["state_dict"]["network.motion.turn"] = torch.zeros(1, 1)
    with pytest.raises(InputError, match="other weights"):
        motion_of(saved, series)
    assert motion_of({"state_dict": {"network.decoder": torch.zeros(1)}}, series) is None


def test_in_a_single_sweep_no_motion_is_looked_for(monkeypatch):
    monkeypatch.setattr("dip4d.reconstruction.motion_test._tried", None)
    series, split, config = problem("drift", "simulate.scheme=incremental")
    assert find_behaviour(series, split, settings=config) == Behaviour()


@pytest.mark.parametrize("argument", ["network=voxels", "align.refine=true"])
def test_no_motion_is_looked_for_where_none_can_be_followed(monkeypatch, argument):
    monkeypatch.setattr("dip4d.reconstruction.motion_test._tried", None)
    series, split, config = problem("drift", argument)
    assert find_behaviour(series, split, settings=config) == Behaviour()


def test_a_change_is_not_taken_for_a_motion(monkeypatch):
    monkeypatch.setattr("dip4d.reconstruction.motion_test.STEPS", 150)
    series, split, config = problem("alloying")
    assert find_behaviour(series, split, settings=config) == Behaviour()


def test_the_noise_of_binned_images_is_that_which_was_put_in():
    rng = np.random.default_rng(0)
    clean = TiltSeries(np.full((30, 24, 48), 40.0) * (np.abs(np.arange(48) - 24) < 18), np.linspace(-60, 60, 30))
    series = TiltSeries(rng.poisson(clean.images).astype(np.float32), clean.angles_deg)
    for k in (1, 2, 3):
        noise = series.binned(k).images - clean.binned(k).images
        assert _noise_of(series, k).mean_variance(series.images) == pytest.approx(float(noise.var()), rel=0.15)


def test_validation_rows_do_not_tell_the_motion():
    series, split, _ = problem("drift")
    images, aside = series.images.copy(), split.validation_rows.T.numpy()
    images[aside] = 1e6
    spoiled = without_rows(TiltSeries(images, series.angles_deg), split.validation_rows)
    clean = without_rows(series, split.validation_rows)
    np.testing.assert_array_equal(spoiled.images, clean.images)
    np.testing.assert_array_equal(clean.images[~aside], series.images[~aside])
    assert np.abs(clean.images - series.images).max() < 0.5 * series.images.max()


def test_detail_that_the_images_hold_along_the_tilt_axis_is_that_of_the_fit():
    z = np.arange(24)[:, None]
    fine = TiltSeries(np.full((20, 24, 16), 10 + 5 * np.sin(2 * np.pi * z / 6), np.float32), np.linspace(-60, 60, 20))
    split, config = Split(choose_validation_rows((24, 20), 0.1, seed=0)), load_config([])
    found = find_behaviour(fine, split, settings=config)  # a single sweep: no short fits
    assert found == Behaviour(z_detail_px=6)
    assert found.settings(config).network.z_detail_px == 6
    assert find_behaviour(fine, split, settings=found.settings(config)) == Behaviour()
    images = fine.images.mean(1, keepdims=True).repeat(24, 1)
    images[7] = fine.images[7]  # a test image does not tell it
    tested = Split(split.validation_rows, rows_of([7], (24, 20)))
    assert find_behaviour(TiltSeries(images, fine.angles_deg), tested, settings=config) == Behaviour()


def test_no_short_fit_is_judged_by_a_row_that_was_filled_in(monkeypatch):
    judged = []
    monkeypatch.setattr(
        "dip4d.reconstruction.motion_test._tried",
        lambda _, split, **more: judged.append(split.validation_rows) or _Tried(RigidMotion(12.0), 1.0),
    )
    series, split, config = problem("drift")
    find_behaviour(series, split, settings=config)
    assert len(judged) == 3
    assert not any((rows & split.validation_rows).any() for rows in judged)


def test_rows_of_binned_images_are_filled_in_where_one_of_theirs_is():
    rows = torch.zeros(7, 10, dtype=torch.bool)
    rows[1, 3] = rows[4, 5] = rows[6, 8] = True
    told = _binned_rows(Split(rows, rows_of([4], (7, 10))), 2)
    assert told.nonzero().tolist() == [[0, 3], [2, 4]]  # the seventh row is cut off, the fifth image left out
    assert torch.equal(_binned_rows(Split(rows), 1), rows)
