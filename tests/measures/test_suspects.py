"""The bad images of a series: they are found, and healthy series are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from dip4d.io import read_tilt_series
from dip4d.measures.suspects import suspects, suspects_advice, suspects_or_why
from dip4d.simulation.schemes import SCHEMES
from dip4d.simulation.simulate import simulate
from dip4d.simulation.specimens import SPECIMENS
from dip4d.tilt_series import TiltSeries
from tests.helpers import ORDERS, blobs


@pytest.mark.parametrize("name", ["nist_needle_raw_fei.mrc", "emat_liquid_N6.mrc"])
def test_measured_series_of_jittering_images_have_no_suspects(real_data, name):

    assert suspects(read_tilt_series(real_data / name, tilt_axis="y" if "N6" in name else "x")) == []


@pytest.mark.parametrize("specimen", SPECIMENS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_healthy_dynamic_series_has_no_suspects(specimen, scheme):
    series, _ = simulate(specimen, 24, frames=40, scheme=scheme, peak_counts=300, seed=3)
    assert suspects(series) == []


@pytest.mark.parametrize("order", ORDERS)
def test_thickness_that_grows_with_the_tilt_is_healthy(order):
    """A film, thicker as 1 / cos, with particles on it, all drifting slowly and in less and less of a beam."""
    angles = ORDERS[order]
    film = 1 / np.cos(np.deg2rad(angles))
    beam = np.linspace(1, 0.7, len(angles))
    images = (blobs(angles, drift=6) * film[:, None, None]) * beam[:, None, None]
    images += np.random.default_rng(0).normal(0, 0.02, images.shape)
    assert suspects(TiltSeries(images, angles)) == []


def test_a_step_in_time_is_no_outlier():
    angles = ORDERS["scattered"]
    images = blobs(angles)
    images[30:] = 0.6 * np.roll(images[30:], 5, axis=2)
    assert suspects(TiltSeries(images, angles)) == []


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("noise", [0, 0.05])
def test_bad_images_are_found_and_named(order, noise):
    angles = ORDERS[order]
    rng = np.random.default_rng(1)
    images = blobs(angles) + rng.normal(0, noise, (60, 48, 48)) + 10
    images[7] = 10 + rng.normal(0, noise, (48, 48))
    images[23] = 10 + 1.6 * (images[23] - 10)
    images[41] = np.roll(images[41], (9, -7), (0, 1))
    images[58] = 10 + 0.5 * (images[58] - 10)
    found = {s.frame: s.reason for s in suspects(TiltSeries(images, angles))}
    assert set(found) == {7, 23, 41, 58}
    assert found[7] == "blank"
    assert "shifted" in found[41]
    for frame, brightness in ((23, 1.6), (58, 0.5)):
        assert float(found[frame].split()[0]) == pytest.approx(brightness, abs=0.15)


def test_nothing_is_said_where_nothing_can_be_known():
    angles = ORDERS["one sweep"]
    rng = np.random.default_rng(0)
    wild = blobs(angles) * rng.uniform(0, 3, (60, 1, 1))
    sinogram = blobs(angles)[:, 24:25]
    sinogram[9] = 0
    dark = 10 - blobs(angles)
    for images in (wild, sinogram, dark, np.zeros((60, 48, 48))):
        assert suspects(TiltSeries(images, angles)) == []


def test_advice_names_the_key_and_counts_what_is_excluded_already():
    images = blobs(ORDERS["scattered"])
    images[[5, 9]] = 0
    series = TiltSeries(images, ORDERS["scattered"])
    line = suspects_advice(series, excluded=[9])
    assert "5 (blank)" in line
    assert "9 (blank)" not in line
    assert line.endswith("leave them out with exclude=[5,9]")
    assert suspects_advice(series, excluded=[9], key="data.exclude").endswith("with data.exclude=[5,9]")
    assert suspects_advice(series.without_images([5, 9])) is None
    assert suspects(series.without_images(range(11, 60))) == []  # too few to judge


def test_where_too_many_differ_that_is_the_reason():
    angles, rng = ORDERS["scattered"], np.random.default_rng(0)
    half = blobs(angles) + 0.1
    half[::2] = 0
    doses = (blobs(angles) + 0.1) * np.exp(rng.uniform(-0.7, 0.7, (60, 1, 1)))
    for images, words in (
        (half, "too many differ, 30 of 60 are blank"),
        (doses, "too many differ"),
        (np.full((60, 48, 48), 7.0), "blank"),
        (10 - blobs(angles), "not brighter than its background"),
        (blobs(angles)[:9], "fewer than 12 images"),
    ):
        found, why = suspects_or_why(TiltSeries(images, angles[: len(images)]))
        assert found == []
        assert words in why
    assert suspects_or_why(TiltSeries(blobs(angles), angles)) == ([], None)
