"""Which frames: windows stay inside the series, and a few frames are spread evenly over it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from dip4d.indices import evenly, window


def test_windows_stay_inside_and_around():
    for t in range(20):
        w = window(t, 20, width=7)
        assert w.start >= 0
        assert w.stop <= 20
        assert w.stop - w.start == 7
        assert t in range(w.start, w.stop)
    assert window(10, 20, width=7) == slice(7, 14)
    assert window(3, 5, width=50) == slice(0, 5)


@pytest.mark.parametrize("length", [1, 2, 7, 100])
@pytest.mark.parametrize("count", [1, 2, 6, 40])
def test_evenly_spread_frames_are_different_and_reach_both_ends(length, count):
    frames = evenly(length, count)
    assert frames == sorted(set(frames))
    assert len(frames) == min(count, length)
    assert frames[0] == 0
    assert count == 1 or frames[-1] == length - 1
    gaps = [b - a for a, b in pairwise(frames)]
    assert not gaps or max(gaps) <= min(gaps) + 1
