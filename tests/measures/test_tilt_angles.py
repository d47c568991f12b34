"""Images that do not follow their tilt angles are told."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dip4d.measures.tilt_angles import disorder
from dip4d.simulation.simulate import simulate


@pytest.mark.parametrize("specimen", ["nanocage", "drift", "growth"])
def test_images_that_do_not_follow_their_angles_are_told(specimen):
    series, _ = simulate(specimen, 32, frames=50, n_z=20, scheme="grs", peak_counts=500, seed=4)
    shuffled = np.random.default_rng(3).permutation(series.angles_deg)
    assert disorder(series) < 0.7
    assert disorder(dataclasses.replace(series, angles_deg=shuffled)) > 0.78
