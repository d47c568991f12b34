"""Projection matching: every image is predicted by others alone, and found where it lies."""

from __future__ import annotations

import numpy as np
import pytest

from dip4d.alignment.projection_matching import choose_width, match_projections, plans, prediction_residual, register
from dip4d.alignment.shifts import Shifts
from dip4d.simulation.simulate import simulate
from tests.helpers import AXIS_PX, error, random_shifts


def test_every_image_is_left_out_once_and_never_predicts_itself():
    for frames, width in ((10, 10), (48, 24), (50, 7), (5, 8)):
        plan = plans(frames, width)
        assert sorted(np.concatenate([group for group, _ in plan])) == list(range(frames))
        for group, used in plan:
            assert not set(group) & set(used)
            assert len(used) >= min(frames, width) - len(group)


def test_a_narrow_sector_of_angles_is_no_window():
    """In one sweep neighbours in time predict each other, and tell nothing of where they lie."""
    series, _ = simulate("nanostar", 24, frames=32, scheme="incremental", peak_counts=500, seed=0)
    assert choose_width(series, Shifts.none(32), widths=[8, 16]) == 32


def test_registration_finds_a_fraction_of_a_pixel():
    z, s = np.mgrid[:32, :32] - 15.5
    blob = lambda dz, ds: np.exp(-0.5 * (((z - dz) / 4) ** 2 + ((s - ds - 2) / 5) ** 2))
    seen = np.ones((32, 32), bool)
    dz, ds = register(1.3 * blob(0.3, -0.4), blob(0, 0), seen=seen)
    assert dz == pytest.approx(0.3, abs=0.03)
    assert ds == pytest.approx(-0.4, abs=0.03)
    assert register(np.zeros((32, 32)), blob(0, 0), seen=seen) == (0, 0)


def test_projection_matching_recovers_shifts_while_the_specimen_changes(changing):
    """Started one pixel off, without the help of the centre of mass."""
    clean, measured, true = changing
    off = random_shifts(48, 1.0, seed=2)
    start = Shifts(true.z + off.z, true.s + off.s, AXIS_PX)
    assert min(error(start, true, clean.angles_deg)) > 0.8
    found = match_projections(measured, start, width=24, rounds=15, iterations=6)
    assert max(error(found, true, clean.angles_deg)) < 0.25
    before, after = (prediction_residual(measured, s, width=24).mean() for s in (start, found))
    assert after < 0.8 * before
