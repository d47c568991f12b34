"""Scores against closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from dip4d.measures.image_quality import (
    SCORES,
    all_scores,
    comparison_rows,
    dice,
    psnr,
    psnr_near,
    scored,
    ssim,
    ssim_by_torch,
)


def test_psnr_of_a_constant_error():
    truth = np.zeros((8, 8, 8))
    assert psnr(truth + 0.1, truth, data_range=1.0) == pytest.approx(20)
    assert psnr(truth + 0.1, truth, data_range=10.0) == pytest.approx(40)
    assert psnr(truth, truth, data_range=1.0) > 150


def test_ssim_of_equal_noisy_and_unlike_volumes():
    rng = np.random.default_rng(0)
    truth = rng.random((16, 16, 16))
    assert ssim(truth, truth, data_range=1.0) == pytest.approx(1)
    little, much = (ssim(truth + rng.normal(0, s, truth.shape), truth, data_range=1.0) for s in (0.05, 0.5))
    assert 1 > little > much > 0
    assert ssim(2 * truth, truth, data_range=1.0) < 0.9  # nothing is rescaled
    assert ssim(truth, 1 - truth, data_range=1.0) < 0


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_ssim_by_torch_is_that_of_scikit_image(kind):
    rng = np.random.default_rng(0)
    truth = rng.random((12, 9, 10)).astype(kind)
    for volume in (truth, truth + rng.normal(0, 0.2, truth.shape).astype(kind), 1 - truth):
        found = ssim_by_torch(volume, truth, data_range=1.3, window=7, device="cpu")
        assert found == pytest.approx(ssim(volume, truth, data_range=1.3), abs=1e-5)


def test_the_table_tells_mean_and_worst():
    metrics = {
        "methods": {
            "dip": {"psnr": [30.0, 40.0], "ssim": [0.9, 1.0]},
            "sirt_whole": {"psnr": [10.0, 10.0]},
            "sirt_frozen": {"psnr": [None, 20.0]},
        },
        "held_out": {"dip": 0.1},
        "held_out_without_noise": {"sirt_frozen": 0.05},
    }
    ours, there, whole, frozen = comparison_rows(metrics)
    assert ours == {
        "method": "dip",
        "psnr mean": 35.0,
        "psnr worst": 30.0,
        "psnr_near mean": None,
        "psnr_near worst": None,
        "ssim mean": 0.95,
        "ssim worst": 0.9,
        "validation rows": 0.1,
        "test images": None,
        "test images, less their noise": None,
    }
    assert there["method"] == "dip, at 1 of 2 frames"  # means are compared over the same frames
    assert (there["psnr mean"], there["psnr worst"], there["validation rows"]) == (40.0, 40.0, None)
    assert (whole["method"], whole["psnr mean"]) == ("sirt_whole", 10.0)
    assert frozen["test images, less their noise"] == 0.05
    assert (frozen["psnr mean"], frozen["ssim mean"], frozen["validation rows"]) == (20.0, None, None)


def test_means_are_compared_over_frames_at_which_both_are_scored():
    """Ours at every second frame, where the time did not suffice for more; another method at all of them."""
    metrics = {
        "methods": {"dip": {"psnr": [30.0, None, 40.0, None]}, "sirt_whole": {"psnr": [10.0] * 4}},
        "held_out": {},
    }
    assert [row["method"] for row in comparison_rows(metrics)] == ["dip", "sirt_whole"]
    metrics["methods"]["sirt_frozen"] = {"psnr": [None, 20.0, 20.0, None]}
    ours, there, *_ = comparison_rows(metrics)
    assert (ours["psnr mean"], there["method"], there["psnr mean"]) == (35.0, "dip, at 1 of 4 frames", 40.0)


def test_every_score_of_a_movie():
    rng = np.random.default_rng(0)
    truth = np.zeros((4, 8, 8, 8), np.float32)
    for t in range(4):
        truth[t, : 2 + t] = 1  # grows by one layer a frame
    right = all_scores(truth, truth)
    assert right["dice"] == [1] * 4
    assert right["mass"] == [0] * 4
    assert right["change"] == right["change_of_truth"] == [64] * 3
    still = all_scores(np.repeat(truth[:1], 4, 0), truth)
    assert still["change"] == [0] * 3
    assert still["mass"] == pytest.approx([0, -1 / 3, -1 / 2, -3 / 5])
    assert still["dice"] == pytest.approx([1, 2 * 2 / 5, 2 * 2 / 6, 2 * 2 / 7])
    flicker = truth + rng.normal(0, 0.1, truth.shape).astype(np.float32)
    assert all_scores(flicker, np.repeat(truth[:1], 4, 0))["stillness"][0] < 20
    assert sum(all_scores(flicker, truth)["change"]) > 1.5 * 3 * 64
    for name, score in (("psnr", psnr), ("psnr_near", psnr_near), ("ssim", ssim)):
        assert all_scores(flicker, truth)[name] == [
            score(v, t, data_range=1.0) for v, t in zip(flicker, truth, strict=True)
        ]


def test_dice_of_nothing_is_one():
    nothing = np.zeros((4, 4, 4))
    assert dice(nothing, nothing, threshold=0.5) == 1
    assert dice(nothing, nothing + 1, threshold=0.5) == 0


def test_frames_are_scored_as_they_pass_and_one_that_is_left_out_has_no_score():
    truth = np.random.default_rng(0).random((3, 8, 8, 8))
    frames, found = [truth[0] + 0.1, None, truth[2] * 0.9], {}
    passed = list(scored(iter(frames), truth, into=found))
    assert all(a is b for a, b in zip(passed, frames, strict=True))
    assert set(found) == set(SCORES)
    for name, function in (("psnr", psnr), ("psnr_near", psnr_near), ("ssim", ssim)):
        expected = [
            None if v is None else function(v, t, data_range=truth.max()) for v, t in zip(frames, truth, strict=True)
        ]
        assert found[name] == pytest.approx(expected)


def test_where_the_time_is_short_frames_between_have_no_score(monkeypatch):
    monkeypatch.setattr("dip4d.threads.torch.get_num_threads", lambda: 1)  # with more, a few are scored ahead
    clock = itertools.count()  # a second at each look: each frame takes one to score
    monkeypatch.setattr("dip4d.measures.image_quality.time.perf_counter", lambda: float(next(clock)))
    truth = np.random.default_rng(0).random((12, 8, 8, 8))
    found: dict = {}
    assert len(list(scored(iter(truth * 0.9), truth, into=found, seconds=3.0))) == 12
    assert [t for t, value in enumerate(found["psnr"]) if value is not None] == [0, 4, 8]


def test_near_the_specimen_empty_space_does_not_count():
    truth = np.zeros((20, 20, 20))
    truth[8:12, 8:12, 8:12] = 1.0
    wrong_inside, wrong_outside = truth.copy(), truth.copy()
    wrong_inside[8:12, 8:12, 8:12] = 0.9
    wrong_outside[:4] = 0.1
    near = 4**3 + 6 * 4**2 * 2 + 12 * 4  # the cube, two layers on each face, one voxel along each edge
    expected = -10 * np.log10(0.01 * 4**3 / near)
    assert psnr_near(wrong_inside, truth, data_range=1.0) == pytest.approx(expected)
    assert psnr_near(wrong_outside, truth, data_range=1.0) > 100
    assert np.isnan(psnr_near(truth, 0 * truth, data_range=1.0))
