"""The noise of a series is told from its own images, smoothed or not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from dip4d.measures.consistency import less_noise, relative_error
from dip4d.measures.noise import noise_level, noise_model, noise_of_images
from dip4d.simulation.simulate import add_noise, simulate
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


@pytest.mark.parametrize(("counts", "readout"), [(50, 0.0), (500, 0.0), (500, 0.3)])
def test_the_floor_is_the_error_of_a_perfect_prediction(counts, readout):
    series, _ = simulate("nanocage", 32, frames=40, n_z=16, peak_counts=0, seed=3)
    measured = add_noise(series.images, counts, seed=0)
    measured = measured + readout * np.random.default_rng(1).normal(size=measured.shape)
    true = relative_error(series.images, measured)
    for predicted in (series.images, 0.9 * series.images):  # a poor one as well
        model = noise_model(measured, predicted, views=np.arange(40))
        assert model.floor(measured) == pytest.approx(true, rel=0.1)
    assert model.gain == pytest.approx(float(series.images.max()) / counts, rel=0.25)
    assert model.offset == pytest.approx(readout**2, rel=0.2, abs=0.02)
    error = relative_error(0.9 * series.images, measured)
    assert less_noise(error, model.floor(measured)) == pytest.approx(0.1, rel=0.2)


def test_repeated_views_tell_the_noise_without_any_prediction():
    images = SMOOTH_ROWS + np.random.default_rng(0).normal(0, 0.7, (40, 30, 64))
    model = noise_model(images, 0 * images, views=np.repeat(np.arange(20), 2))
    assert model.mean_variance(images) == pytest.approx(0.49, rel=0.05)


def test_nothing_has_no_floor():
    nothing = np.zeros((3, 4, 8))
    assert np.isnan(noise_model(nothing, nothing, views=np.arange(3)).floor(nothing))


@pytest.mark.parametrize("specimen", ["nanostar", "nanocage"])
@pytest.mark.parametrize(("counts", "readout"), [(50, 0.0), (500, 0.0), (50, 0.1), (500, 0.1), (500, 0.01)])
def test_the_images_alone_tell_how_their_noise_grows(specimen, counts, readout):
    """readout: in units of the intensity of the brightest pixel."""
    series, _ = simulate(specimen, 48, frames=20, n_z=24, peak_counts=0, seed=3)
    peak = float(series.images.max())
    images = add_noise(series.images, counts, seed=0)
    images += np.random.default_rng(1).normal(0, readout * peak, images.shape)
    found = noise_of_images(replace(series, images=images.astype(np.float32)))
    assert found.gain == pytest.approx(peak / counts, rel=0.5, abs=0.2 * readout**2 * peak)
    assert found.offset == pytest.approx((readout * peak) ** 2, rel=0.1, abs=1e-3)


def test_of_a_large_series_some_images_tell_it(monkeypatch):
    images = np.random.default_rng(0).poisson(np.maximum(SMOOTH_ROWS - 6, 0) * 20, (40, 16, 64)) / 20
    few, many = TiltSeries(images, np.arange(40)), TiltSeries(images, np.repeat(np.arange(20), 2))
    monkeypatch.setattr("dip4d.measures.noise.MOST_NUMBERS", 8 * 16 * 64)
    for series in (few, many):  # of views that are repeated, too
        assert noise_of_images(series).gain == pytest.approx(1 / 20, rel=0.2)


def test_it_is_told_of_images_without_an_empty_pixel():
    clean = np.tile(np.linspace(20, 100, 64), (20, 16, 1))
    random = np.random.default_rng(0)
    found = noise_of_images(TiltSeries(random.poisson(clean), np.arange(20)))
    assert found.gain == pytest.approx(1, rel=0.2)
    assert found.offset < 10  # of the 20 that the dimmest have
    found = noise_of_images(TiltSeries(clean + random.normal(0, 3, clean.shape), np.arange(20)))
    assert found.gain < 0.02
    assert found.offset == pytest.approx(9, rel=0.1)


@pytest.mark.parametrize("level", [-2.0, 0.0, 5.0])
def test_it_is_none_where_all_pixels_are_alike(level):
    found = noise_of_images(TiltSeries(np.full((5, 4, 8), level), np.arange(5)))
    assert (found.gain, found.offset) == (0, 0)


def test_what_has_no_noise_shows_hardly_any():
    series, _ = simulate("nanostar", 48, frames=20, n_z=24, peak_counts=0, seed=3)
    assert noise_of_images(series).gain < 1e-4 * float(series.images.max())
    assert noise_of_images(TiltSeries(np.zeros((3, 4, 8)), np.arange(3))).gain == 0
