"""Scores against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from dip4d.metrics import comparison_rows, psnr, ssim


def test_psnr_of_a_constant_error():
    truth = np.zeros((8, 8, 8))
    assert psnr(truth + 0.1, truth, data_range=1.0) == pytest.approx(20)
    assert psnr(truth + 0.1, truth, data_range=10.0) == pytest.approx(40)
    assert psnr(truth, truth, data_range=1.0) > 150


def test_ssim_of_equal_noisy_and_unlike_volumes():
    rng = np.random.default_rng(0)
    truth = rng.random((16, 16, 16))
    assert ssim(truth, truth, 1.0) == pytest.approx(1)
    little, much = (ssim(truth + rng.normal(0, s, truth.shape), truth, 1.0) for s in (0.05, 0.5))
    assert 1 > little > much > 0
    assert ssim(2 * truth, truth, 1.0) < 0.9  # nothing is rescaled
    assert ssim(truth, 1 - truth, 1.0) < 0


def test_the_table_tells_mean_and_worst():
    metrics = {
        "methods": {"dip": {"psnr": [30.0, 40.0], "ssim": [0.9, 1.0]}, "sirt_frozen": {"psnr": [None, 20.0]}},
        "held_out": {"dip": 0.1},
    }
    ours, frozen = comparison_rows(metrics)
    assert ours == {
        "method": "dip",
        "psnr mean": 35.0,
        "psnr worst": 30.0,
        "ssim mean": 0.95,
        "ssim worst": 0.9,
        "held-out error": 0.1,
    }
    assert (frozen["psnr mean"], frozen["ssim mean"], frozen["held-out error"]) == (20.0, None, None)
