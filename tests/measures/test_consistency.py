"""Mass against time, and the misfit of every image."""

from __future__ import annotations

import numpy as np
import pytest

from dip4d.measures.consistency import (
    error_without_noise,
    mass_trend,
    masses_of_images,
    outliers,
    residual_per_image,
    suspects,
    weighed,
)
from dip4d.simulation.simulate import simulate

TIMES = np.array([0.0, 1.0, 5.0, 7.0, 20.0])


def test_the_mass_of_a_specimen_is_that_of_its_images_at_any_angle():
    series, truth = simulate("nanostar_alloying", 24, frames=12, scheme="grs", peak_counts=0, seed=0)
    volumes, images = [], masses_of_images(series)
    for passed, volume in zip(weighed(iter(truth), into=volumes), truth, strict=True):
        np.testing.assert_array_equal(passed, volume)
    np.testing.assert_allclose(volumes, images, rtol=1e-3)
    trend = mass_trend(images, series.times_s)
    assert abs(trend.slope) < 5e-3
    assert trend.scatter < 5e-3


def test_a_loss_of_mass_is_seen_at_irregular_times():
    trend = mass_trend(10 * (1 - 0.2 * TIMES / 20), TIMES)
    mean = np.mean(1 - 0.2 * TIMES / 20)
    assert trend.slope == pytest.approx(-0.2 / mean)
    assert trend.scatter == pytest.approx(0, abs=1e-12)
    flicker = mass_trend(np.array([1.1, 0.9, 1.1, 0.9, 1.0]), TIMES)
    assert flicker.scatter == pytest.approx(0.089, abs=0.01)
    assert np.isnan(mass_trend(np.zeros(5), TIMES).slope)


def test_the_misfit_of_each_image():
    measured = np.ones((3, 4, 5), np.float32)
    predicted = measured.copy()
    predicted[1] += 0.5
    predicted[2, 0, 0] = np.nan
    counted = np.ones((3, 4, 5), bool)
    counted[2, 0, 0] = False
    np.testing.assert_allclose(residual_per_image(predicted, measured, counted=counted), [0, 0.5, 0])
    counted[0] = False
    assert np.isnan(residual_per_image(predicted, measured, counted=counted)[0])


@pytest.mark.parametrize("noise", [0.0, 0.3, 0.6])
def test_the_error_without_noise_is_that_against_what_was_there_to_see(noise):
    rng = np.random.default_rng(0)
    views = np.repeat(np.arange(60), [1, 2, 3] * 20)
    there = rng.random((60, 60, 60))[views]
    predicted = there + 0.1 * rng.normal(size=(60, 60, 60))[views]
    measured = there + noise * rng.normal(size=there.shape)
    several = np.bincount(views)[views] > 1
    true = np.linalg.norm((predicted - there)[several]) / np.linalg.norm(there[several])
    assert error_without_noise(predicted, measured, views=views) == pytest.approx(true, rel=0.02 + noise / 10)
    if noise:
        assert np.linalg.norm((predicted - measured)[several]) / np.linalg.norm(measured[several]) > 1.5 * true
    assert np.isnan(error_without_noise(predicted, measured, views=np.arange(len(views))))


def test_outliers_do_not_hide_themselves():
    values = np.array([1.0, 1.1, 0.9, 1.05, 9.0, 0.95, 8.0, np.nan])
    assert np.flatnonzero(outliers(values)).tolist() == [4, 6]
    assert not outliers(np.full(5, 2.0)).any()


def test_suspects_stand_out_from_their_neighbours():
    fast = 1 + 3 * np.exp(-np.arange(40) / 8) + 0.05 * np.random.default_rng(0).normal(size=40)
    assert suspects(fast) == []  # the specimen changes fast, and all images are missed by more
    fast[[3, 20, 30, 39]] *= [2.5, 1.7, 1.7, 2.5]
    assert suspects(fast) == [3, 20, 30, 39]
    assert suspects(fast, test_images=[3, 20]) == [3, 30, 39]  # 1.7 is what prediction may cost, 2.5 is not
    assert suspects(np.zeros(12)) == []
