"""Rows come in batches that say where they are from, and what is kept aside stays out of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dip4d.reconstruction.data import Rows, StepSampler, TiltRows, drawn
from dip4d.reconstruction.split import Split, choose_validation_rows, rows_of
from dip4d.tilt_series import TiltSeries


@pytest.fixture
def series() -> TiltSeries:
    images = np.arange(6 * 5 * 4, dtype=np.float32).reshape(6, 5, 4)
    return TiltSeries(images, np.linspace(-50, 50, 6), np.array([0, 1, 2, 4, 8, 10.0]))


def test_rows_are_those_of_their_z_and_t(series):
    kept = choose_validation_rows((5, 6), 0.2, seed=0)
    data = TiltRows(series, Split(kept), slices=2, steps=3, seed=0)
    batch = data.batch([4, 1])
    assert batch.z.tolist() == [4, 1]
    for rows, kept_aside in ((batch.rows, False), (batch.validation, True)):
        for b, z in enumerate((4, 1)):
            for i, t in enumerate(rows.t[b].tolist()):
                assert bool(kept[z, t]) is kept_aside
                np.testing.assert_array_equal(rows.values[b, i], series.images[t, z])
                assert rows.angles[b, i] == pytest.approx(np.deg2rad(series.angles_deg[t]))
                assert rows.tau[b, i] == pytest.approx(series.times_s[t] / 10)
    assert sorted(batch.rows.t[0].tolist() + batch.validation.t[0].tolist()) == list(range(6))
    taken = batch.rows.take(torch.tensor([[2, 0], [1, 1]]))
    assert torch.equal(taken.values[0, 1], batch.rows.values[0, 0])
    assert torch.equal(taken.t[1], batch.rows.t[1, [1, 1]])


def test_every_sweep_visits_every_position_once():
    batches = list(StepSampler(10, 4, steps=25, seed=1, first_step=lambda: 0))
    assert len(batches) == 25
    visited = [z for batch in batches for z in batch]
    for sweep in range(10):
        assert sorted(visited[sweep * 10 : sweep * 10 + 10]) == list(range(10))


def test_the_sampler_goes_on_where_it_was():
    whole = list(StepSampler(10, 4, steps=25, seed=1, first_step=lambda: 0))
    rest = list(StepSampler(10, 4, steps=25, seed=1, first_step=lambda: 17))
    assert rest == whole[17:]


def test_rows_are_drawn_by_the_step_alone():
    t = torch.arange(10).expand(3, 10)
    rows = Rows(t[..., None].float().expand(-1, -1, 4), t, t / 9, t / 5)
    once, again, later = (drawn(rows, 4, step=step) for step in (7, 7, 8))
    assert torch.equal(once.t, again.t)
    assert not torch.equal(once.t, later.t)
    assert all(len(set(row.tolist())) == 4 for row in once.t)
    assert torch.equal(once.values[..., 0], once.t.float())
    assert drawn(rows, 99, step=0).t.shape == (3, 10)


def test_test_images_are_kept_apart_from_validation_rows(series):
    images = [2, 3]
    split = Split(choose_validation_rows((5, 6), 0.3, seed=0, test_images=images), rows_of(images, (5, 6)))
    data = TiltRows(series, split, slices=2, steps=3, seed=0)
    assert list(data.split.test_images) == images
    for z in range(5):
        batch = data.batch([z])
        assert not set(images) & {*batch.rows.t[0].tolist(), *batch.validation.t[0].tolist()}
        rows = data.rows_at(torch.tensor([z]), images)
        np.testing.assert_array_equal(rows.values[0], series.images[images, z])
        np.testing.assert_allclose(rows.angles[0], np.deg2rad(series.angles_deg[images]), rtol=1e-6)
