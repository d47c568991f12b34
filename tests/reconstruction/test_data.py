"""Rows come in batches that say where they are from, and held-out rows stay out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dip4d.data import StepSampler, TiltRows, choose_held_out, choose_held_out_images, rows_of
from dip4d.tilt_series import TiltSeries


@pytest.fixture
def series() -> TiltSeries:
    images = np.arange(6 * 5 * 4, dtype=np.float32).reshape(6, 5, 4)
    return TiltSeries(images, np.linspace(-50, 50, 6), np.array([0, 1, 2, 4, 8, 10.0]))


def test_held_out_rows_are_spread_and_repeatable():
    held = choose_held_out(frames=100, slices=30, share=0.05, seed=3)
    assert held.shape == (30, 100)
    assert (held.sum(1) == 5).all()
    assert not held[:, [0, -1]].any()
    assert held.any(0).float().mean() > 0.6
    assert torch.equal(held, choose_held_out(100, 30, 0.05, 3))
    assert not torch.equal(held, choose_held_out(100, 30, 0.05, 4))
    assert choose_held_out(100, 30, 0, 3).sum() == 0
    assert (choose_held_out(3, 4, 0.5, 3).sum(1) == 1).all()


def test_rows_are_those_of_their_z_and_t(series):
    held = choose_held_out(6, 5, 0.2, 0)
    data = TiltRows(series, held, slices=2, steps=3, seed=0)
    batch = data.batch([4, 1])
    assert batch.z.tolist() == [4, 1]
    for rows, kept_aside in ((batch.rows, False), (batch.held_out, True)):
        for b, z in enumerate((4, 1)):
            for i, t in enumerate(rows.t[b].tolist()):
                assert bool(held[z, t]) is kept_aside
                np.testing.assert_array_equal(rows.values[b, i], series.images[t, z])
                assert rows.angles[b, i] == pytest.approx(np.deg2rad(series.angles_deg[t]))
                assert rows.progress[b, i] == pytest.approx(series.times_s[t] / 10)
    assert sorted(batch.rows.t[0].tolist() + batch.held_out.t[0].tolist()) == list(range(6))
    taken = batch.rows.take(torch.tensor([[2, 0], [1, 1]]))
    assert torch.equal(taken.values[0, 1], batch.rows.values[0, 0])
    assert torch.equal(taken.t[1], batch.rows.t[1, [1, 1]])


def test_every_sweep_visits_every_position_once():
    batches = list(StepSampler(10, 4, 25, seed=1, first_step=lambda: 0))
    assert len(batches) == 25
    visited = [z for batch in batches for z in batch]
    for sweep in range(10):
        assert sorted(visited[sweep * 10 : sweep * 10 + 10]) == list(range(10))


def test_the_sampler_goes_on_where_it_was():
    whole = list(StepSampler(10, 4, 25, seed=1, first_step=lambda: 0))
    rest = list(StepSampler(10, 4, 25, seed=1, first_step=lambda: 17))
    assert rest == whole[17:]


@pytest.mark.parametrize("frames", [10, 12, 31, 100, 116, 500])
@pytest.mark.parametrize("share", [0.01, 0.03, 0.2])
def test_held_out_images_are_spread_over_the_series(frames, share):
    for seed in range(20):
        images = choose_held_out_images(np.arange(frames), share, seed)
        assert images == choose_held_out_images(np.arange(frames), share, seed)
        assert 1 <= len(images) <= max(1, round(share * frames))
        assert images[0] >= 2
        assert images[-1] <= frames - 3
        gaps = np.diff(images)
        assert (gaps >= 2).all()
        assert (gaps <= 2 * frames / max(1, round(share * frames))).all()
    assert len(choose_held_out_images(np.arange(100), 0.03, 0)) == 3
    assert choose_held_out_images(np.arange(frames), 0, 0) == choose_held_out_images(np.arange(9), share, 0) == []


@pytest.mark.parametrize("share", [0.03, 0.2])
def test_images_of_one_view_are_held_out_together(share):
    angles = np.repeat(np.arange(-40, 42, 2.0), ([2, 3, 1] * 14)[:41])
    views = TiltSeries(np.zeros((len(angles), 2, 2)), angles).views
    np.testing.assert_array_equal(np.unique(angles, return_inverse=True)[1], views)
    for seed in range(20):
        images = choose_held_out_images(views, share, seed)
        chosen = np.unique(views[images])
        assert len(chosen) == max(1, round(share * 41))
        np.testing.assert_array_equal(images, np.flatnonzero(np.isin(views, chosen)))
        assert 2 <= chosen.min() <= chosen.max() <= 38
        assert (np.diff(chosen) >= 2).all()


@pytest.mark.parametrize("in_a_row", [2, 5, 8])
@pytest.mark.parametrize("share", [0.01, 0.2])
def test_a_gap_of_several_views_is_held_out(share, in_a_row):
    views = np.repeat(np.arange(46), [1, 3] * 23)
    for seed in range(20):
        chosen = np.unique(views[choose_held_out_images(views, share, seed, in_a_row)])
        runs = np.split(chosen, np.flatnonzero(np.diff(chosen) > 1) + 1)
        assert [len(run) for run in runs] == [in_a_row] * max(1, round(share * 46 / in_a_row))
        assert 2 <= chosen.min() <= chosen.max() <= 43
    assert choose_held_out_images(np.arange(20), share, 0, 5) == []


def test_a_view_seen_again_later_is_another_one_and_a_standing_stage_no_reason_to_hold_out_all():
    sweeps = TiltSeries(np.zeros((8, 2, 2)), [0, 10, 10.05, 20, 20, 10, 0, 10]).views
    np.testing.assert_array_equal(sweeps, [0, 1, 1, 2, 2, 3, 4, 5])
    standing = TiltSeries(np.zeros((40, 2, 2)), np.zeros(40)).views
    assert len(choose_held_out_images(standing, 0.03, 0)) == 1


def test_held_out_images_are_kept_apart_from_held_out_rows(series):
    images = [2, 3]
    held, unseen = choose_held_out(6, 5, 0.3, 0, images), rows_of(images, 6, 5)
    assert unseen.sum() == 10
    assert not (held & unseen).any()
    assert (held.sum(1) == 2).all()
    data = TiltRows(series, held, slices=2, steps=3, seed=0, unseen=unseen)
    assert data.unseen_images == images
    for z in range(5):
        batch = data.batch([z])
        assert not set(images) & {*batch.rows.t[0].tolist(), *batch.held_out.t[0].tolist()}
        rows = data.rows_at(torch.tensor([z]), images)
        np.testing.assert_array_equal(rows.values[0], series.images[images, z])
        np.testing.assert_allclose(rows.angles[0], np.deg2rad(series.angles_deg[images]), rtol=1e-6)
