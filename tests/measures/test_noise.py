"""The noise of a series is told from its own images, smoothed or not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dip4d.measures.noise import noise_level
from dip4d.tilt_series import TiltSeries

SMOOTH_ROWS = np.sin(np.linspace(0, 3, 64)) * 10 + 5


def test_the_noise_is_found():
    images = np.random.default_rng(0).normal(SMOOTH_ROWS, 0.7, (40, 30, 64))
    assert noise_level(TiltSeries(images, np.arange(40))) == pytest.approx(0.7, rel=0.1)


@pytest.mark.parametrize("smoothed", [0, 1.5])
def test_where_views_are_repeated_smoothing_does_not_hide_the_noise(smoothed):
    white = np.random.default_rng(0).normal(0, 0.7, (40, 32, 64))
    images = SMOOTH_ROWS * np.repeat(np.linspace(0.5, 1, 20), 2)[:, None, None] + gaussian_filter(
        white, (0, smoothed, smoothed), mode="wrap"
    )
    assert noise_level(TiltSeries(images, np.repeat(np.arange(20), 2))) == pytest.approx(0.7, rel=0.25)
    if smoothed:
        assert noise_level(TiltSeries(images, np.arange(40))) < 0.2
