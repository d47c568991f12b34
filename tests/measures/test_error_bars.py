"""Error bars hold bias and spread; edges become steeper without overshoot; rises and sizes are those put in."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dip4d.measures.error_bars import LEAST, WIDER, error_bars, how_much_sharper, rise, sharper, smallest_seen


def test_error_bars_hold_bias_and_spread():
    constant = np.full((3, 40), 0.02)
    np.testing.assert_allclose(error_bars(constant, "volume"), np.hypot(0.02 * WIDER["volume"], LEAST["volume"]))
    noisy = np.random.default_rng(0).normal(0, 0.02, (20, 400))
    expected = np.hypot(0.0206 * WIDER["surface"], LEAST["surface"])
    assert error_bars(noisy, "surface").mean() == pytest.approx(expected, rel=0.05)


def test_edges_become_steeper_without_overshoot():
    ball = (np.linalg.norm(np.indices((24, 24, 24)) - 12, axis=0) < 7).astype(np.float32)
    blurred = gaussian_filter(ball, 1.0)
    steeper = sharper(blurred)
    assert np.abs(steeper - ball).mean() < 0.8 * np.abs(blurred - ball).mean()
    assert steeper.min() >= blurred.min()
    assert steeper.max() <= blurred.max()


def test_edges_become_as_steep_as_unseen_rows_ask_for():
    assert how_much_sharper(0.04, of_one=0.04) == 1.0
    assert how_much_sharper(0.0, of_one=0.04) == 0.6  # noise may hide it
    assert how_much_sharper(1.0, of_one=0.04) == 1.5


def test_a_rise_is_told_in_images():
    ramp = np.clip((np.arange(40) - 10) / 10, 0, 1)
    assert rise(ramp) == pytest.approx(8.0)
    assert rise(0.6 * ramp) == pytest.approx(8.0)
    assert rise(0.3 * ramp) is None


def test_the_smallest_feature_seen_is_where_half_of_it_comes_back():
    assert smallest_seen([2, 3, 4, 6], [0.1, 0.4, 0.6, 0.9]) == (pytest.approx(3.5), False)
    assert smallest_seen([2, 3], [0.7, 0.9]) == (2.0, True)
    assert smallest_seen([2, 3], [0.1, 0.2]) == (None, False)
