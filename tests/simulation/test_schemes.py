"""The schemes order the tilt angles as they say."""

from __future__ import annotations

import numpy as np
import pytest

from dip4d.simulation.schemes import SCHEMES, grs, incremental, pingpong


def test_golden_ratio_scanning_fills_the_largest_gap():
    angles = grs(100, 70)
    assert angles[0] == pytest.approx((1 + 5**0.5) / 2 * 140 % 140 - 70)
    for n in (5, 13, 34, 89):
        gaps = np.diff(np.sort(angles[:n]))
        assert gaps.max() < 2.7 * gaps.min()
    assert np.abs(angles).max() <= 70


def test_sweeps():
    up = incremental(10, 60)
    assert up[0] == -60
    assert (np.diff(up) > 0).all()
    several = pingpong(20, 60, sweeps=4)
    assert len(several) == 20
    turns = np.flatnonzero(np.diff(np.sign(np.diff(several)[np.diff(several) != 0])))
    assert len(turns) == 3
    assert set(SCHEMES) == {"grs", "incremental", "pingpong"}
