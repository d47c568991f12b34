"""Row sums tell displacements along the tilt axis, and whether the images jitter, at any order of the angles."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dip4d.alignment.row_profiles import along_axis, jitter_px
from dip4d.simulation.simulate import jitter_shifts, simulate


def test_row_sums_align_along_the_axis_at_any_order_of_angles(changing):
    _, measured, true = changing
    left = along_axis(measured) - true.z
    assert left.std() < 0.25


@pytest.mark.parametrize("specimen", ["nanostar", "drift", "event"])
def test_jitter_is_told_from_change_and_drift(specimen):
    still, _ = simulate(specimen, 32, frames=40, scheme="grs", peak_counts=500, seed=3)
    moved, _ = simulate(specimen, 32, frames=40, scheme="grs", peak_counts=500, seed=3, jitter=0.7)
    assert jitter_px(still) < 0.12
    steps = np.diff(jitter_shifts(moved.angles_deg, 0.7, seed=3)[:, 0])
    assert jitter_px(moved) == pytest.approx(1.4826 * np.median(np.abs(steps - np.median(steps))) / 2**0.5, rel=0.15)
    images = still.images.copy()
    images[7] = 0
    assert jitter_px(dataclasses.replace(still, images=images)) < 0.12  # one bad image does not count
    assert jitter_px(dataclasses.replace(moved, images=moved.images[:, :7])) == 0  # too few rows to tell


@pytest.mark.parametrize(("specimen", "size", "n_z", "peak_counts"), [
    ("event", 128, 16, 500),  # larger than the field along z, and it changes at once
    ("nanostar_alloying", 64, 16, 50),
    ("nanocage", 40, 24, 50),
])  # fmt: skip
def test_series_without_jitter_are_left_alone(specimen, size, n_z, peak_counts):
    series, _ = simulate(specimen, size, n_z=n_z, frames=60, scheme="grs", peak_counts=peak_counts, seed=4)
    assert jitter_px(series) == 0
