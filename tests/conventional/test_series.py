"""What an early SIRT tells of a whole series: a bound of the intensity, and the statistics of a fit."""

from __future__ import annotations

import numpy as np
import pytest

from dip4d.conventional.series import guess_intensity_bound, statistics_of, whole_series
from dip4d.measures.noise import noise_level
from dip4d.simulation.simulate import simulate
from dip4d.tilt_series import TiltSeries

SIZE, FRAMES = 20, 24


@pytest.fixture(scope="module")
def series() -> TiltSeries:
    return simulate("nanostar", SIZE, frames=FRAMES, scheme="grs", peak_counts=200, seed=0)[0]


def test_the_brightest_voxel_is_of_the_right_order(series):
    assert 0.7 < guess_intensity_bound(series) < 2.0  # pure gold is 1


def test_the_statistics_are_those_of_the_images_unless_the_bound_is_known(series):
    found = statistics_of(series)
    assert found.peak_intensity == series.images.max()
    assert found.noise == noise_level(series)
    assert found.intensity_bound == guess_intensity_bound(series)
    assert statistics_of(series, 7.5).intensity_bound == 7.5
    assert found.counting == pytest.approx(1 / 200, rel=0.5)  # 200 counts at the brightest pixel
    assert found.readout < 1e-5


def test_the_whole_series_has_the_mass_of_its_images(series):
    volume = whole_series(series, 30).numpy()
    assert volume.shape == (SIZE, SIZE, SIZE)
    assert volume.min() >= 0
    assert volume.sum() == pytest.approx(np.mean(series.images.sum((1, 2))), rel=0.05)  # noise is clipped at 0
