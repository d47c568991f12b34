"""The tilt axis of a series: it is found, and is not certain where it cannot be told."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from dip4d.io import read_tilt_series
from dip4d.measures.tilt_axis import CERTAIN, likely_tilt_axis
from tests.helpers import ORDERS, blobs


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("axis", ["x", "y"])
def test_tilt_axis_of_a_static_specimen(order, axis):
    images = blobs(ORDERS[order]) + 3
    images = images.transpose(0, 2, 1) if axis == "x" else images
    found, confidence = likely_tilt_axis(images, ORDERS[order])
    assert found == axis
    assert 0.9 < confidence <= 1


def test_shifts_and_noise_do_not_hide_the_tilt_axis():
    rng = np.random.default_rng(0)
    images = [np.roll(i, rng.integers(-4, 5, 2), (0, 1)) for i in blobs(ORDERS["one sweep"])]
    found, confidence = likely_tilt_axis(images + rng.normal(0, 0.01, np.shape(images)), ORDERS["one sweep"])
    assert found == "y"
    assert confidence > 0.5


def test_a_blank_image_does_not_hide_the_tilt_axis():
    images = blobs(ORDERS["one sweep"])
    images[5] = 0
    found, confidence = likely_tilt_axis(images, ORDERS["one sweep"])
    assert found == "y"
    assert confidence > 0.9


def test_where_the_tilt_axis_cannot_be_told_the_confidence_is_low():
    grid = np.arange(48) - 23.5
    sphere = np.exp(-(grid[:, None] ** 2 + grid**2) / 50)
    noise = np.random.default_rng(0).normal(0, 0.01, (60, 48, 48))
    assert likely_tilt_axis(np.tile(sphere, (60, 1, 1)) + noise, ORDERS["one sweep"])[1] < 0.3
    assert likely_tilt_axis(blobs(np.zeros(20)), np.zeros(20)) == ("y", 0)
    assert likely_tilt_axis(np.zeros((60, 48, 48)), ORDERS["one sweep"]) == ("y", 0)
    assert likely_tilt_axis(blobs(ORDERS["one sweep"])[:, :1], ORDERS["one sweep"]) == ("y", 0)


@pytest.mark.parametrize(
    ("name", "axis", "least"),
    [("nist_needle_raw_fei.mrc", "x", 0.9), ("emat_liquid_N6.mrc", "y", 0.4)],
)
def test_tilt_axis_of_measured_series(real_data, name, axis, least):

    series = read_tilt_series(real_data / name, tilt_axis="y")
    found, confidence = likely_tilt_axis(series.images, series.angles_deg)
    assert found == axis
    assert confidence > least


def test_few_images_and_a_turned_axis_are_not_certain():
    angles, rng = ORDERS["scattered"], np.random.default_rng(0)
    images = blobs(angles) + rng.normal(0, 0.02, (60, 48, 48))
    for count in (2, 3, 9):
        assert likely_tilt_axis(images[:count], angles[:count])[1] == 0
    turned = ndimage.rotate(images, 45, axes=(1, 2), reshape=False)
    assert likely_tilt_axis(turned, angles)[1] < CERTAIN
    spiky = images.copy()
    spiky[rng.random(images.shape) < 1e-3] += 50
    assert likely_tilt_axis(spiky, angles)[0] == "y" or likely_tilt_axis(spiky, angles)[1] < 0.5
