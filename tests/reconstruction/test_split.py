"""Validation rows and test images are spread over the series, drawn from the seed, and kept apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dip4d.reconstruction.split import Split, choose_split, choose_test_images, choose_validation_rows, rows_of
from dip4d.tilt_series import TiltSeries


def test_validation_rows_are_spread_and_repeatable():
    rows = choose_validation_rows((30, 100), 0.05, seed=3)
    assert rows.shape == (30, 100)
    assert (rows.sum(1) == 5).all()
    assert not rows[:, [0, -1]].any()
    assert rows.any(0).float().mean() > 0.6
    assert torch.equal(rows, choose_validation_rows((30, 100), 0.05, seed=3))
    assert not torch.equal(rows, choose_validation_rows((30, 100), 0.05, seed=4))
    assert choose_validation_rows((30, 100), 0, seed=3).sum() == 0
    assert (choose_validation_rows((4, 3), 0.5, seed=3).sum(1) == 1).all()


@pytest.mark.parametrize("frames", [10, 12, 31, 100, 116, 500])
@pytest.mark.parametrize("share", [0.01, 0.03, 0.2])
def test_test_images_are_spread_over_the_series(frames, share):
    for seed in range(20):
        images = choose_test_images(np.arange(frames), share, seed=seed)
        assert images == choose_test_images(np.arange(frames), share, seed=seed)
        assert 1 <= len(images) <= max(1, round(share * frames))
        assert images[0] >= 2
        assert images[-1] <= frames - 3
        gaps = np.diff(images)
        assert (gaps >= 2).all()
        assert (gaps <= 2 * frames / max(1, round(share * frames))).all()
    assert len(choose_test_images(np.arange(100), 0.03, seed=0)) == 3
    assert choose_test_images(np.arange(frames), 0, seed=0) == choose_test_images(np.arange(9), share, seed=0) == []


@pytest.mark.parametrize("share", [0.03, 0.2])
def test_images_of_one_view_are_test_images_together(share):
    angles = np.repeat(np.arange(-40, 42, 2.0), ([2, 3, 1] * 14)[:41])
    views = TiltSeries(np.zeros((len(angles), 2, 2)), angles).views
    np.testing.assert_array_equal(np.unique(angles, return_inverse=True)[1], views)
    for seed in range(20):
        images = choose_test_images(views, share, seed=seed)
        chosen = np.unique(views[images])
        assert len(chosen) == max(1, round(share * 41))
        np.testing.assert_array_equal(images, np.flatnonzero(np.isin(views, chosen)))
        assert 2 <= chosen.min() <= chosen.max() <= 38
        assert (np.diff(chosen) >= 2).all()


@pytest.mark.parametrize("in_a_row", [2, 5, 8])
@pytest.mark.parametrize("share", [0.01, 0.2])
def test_test_images_in_a_row_leave_a_gap_of_several_views(share, in_a_row):
    views = np.repeat(np.arange(46), [1, 3] * 23)
    for seed in range(20):
        chosen = np.unique(views[choose_test_images(views, share, seed=seed, in_a_row=in_a_row)])
        runs = np.split(chosen, np.flatnonzero(np.diff(chosen) > 1) + 1)
        assert [len(run) for run in runs] == [in_a_row] * max(1, round(share * 46 / in_a_row))
        assert 2 <= chosen.min() <= chosen.max() <= 43
    assert choose_test_images(np.arange(20), share, seed=0, in_a_row=5) == []


def test_a_standing_stage_is_no_reason_to_keep_all_images_aside():
    standing = TiltSeries(np.zeros((40, 2, 2)), np.zeros(40)).views
    assert len(choose_test_images(standing, 0.03, seed=0)) == 1


def test_validation_rows_are_none_of_a_test_image():
    images = [2, 3]
    validation, hidden = choose_validation_rows((5, 6), 0.3, seed=0, test_images=images), rows_of(images, (5, 6))
    assert hidden.sum() == 10
    assert not (validation & hidden).any()
    assert (validation.sum(1) == 2).all()
    split = Split(validation, hidden)
    assert split.test_images == (2, 3)
    assert torch.equal(split.fitted_rows, ~validation & ~hidden)


def test_a_split_keeps_nothing_aside_but_what_it_is_told_to():
    split = Split(choose_validation_rows((5, 6), 0.3, seed=0))
    assert split.test_images == ()
    assert not split.hidden_rows.any()
    some = torch.zeros(5, 6, dtype=torch.bool)
    some[:, 2] = some[:3, 4] = True  # of image 4 two rows are fitted
    assert Split(torch.zeros_like(some), some).test_images == (2,)
    assert Split(torch.zeros_like(some), some, (1,)).test_images == (1,)


def test_a_chosen_split_is_of_the_series_and_what_may_be_seen_is_the_rest_of_it():
    images = np.arange(40 * 5 * 4, dtype=np.float32).reshape(40, 5, 4)
    series = TiltSeries(images, np.linspace(-60, 60, 40))
    split = choose_split(series, 0.1, test_images=0.1, in_a_row=2, seed=1)
    assert list(split.test_images) == choose_test_images(series.views, 0.1, seed=1, in_a_row=2)
    assert len(split.test_images) == 4
    assert torch.equal(split.hidden_rows, rows_of(split.test_images, (5, 40)))
    assert (split.validation_rows.sum(1) == 4).all()
    assert not (split.validation_rows & split.hidden_rows).any()
    np.testing.assert_array_equal(split.seen(series).images, np.delete(images, split.test_images, axis=0))
    again, other = (choose_split(series, 0.1, test_images=0.1, in_a_row=2, seed=seed) for seed in (1, 2))
    assert torch.equal(split.validation_rows, again.validation_rows)
    assert again.test_images == split.test_images
    assert not torch.equal(split.validation_rows, other.validation_rows)


def test_rows_that_were_filled_in_judge_only_where_there_are_no_others():
    unknown = choose_validation_rows((12, 30), 0.5, seed=1)
    rows = choose_validation_rows((12, 30), 0.1, seed=1, unknown=unknown)
    assert rows.sum(1).tolist() == [3] * 12
    assert not (rows & unknown).any()
    assert (choose_validation_rows((12, 30), 0.1, seed=1) & unknown).any()
    assert choose_validation_rows((12, 30), 0.1, seed=1, unknown=torch.ones(12, 30, dtype=torch.bool)).sum() == 36
