"""The tilt axis and the bad images of a series: what is found, and that healthy series are left alone."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from dip4d.measures import input_checks
from dip4d.measures.input_checks import disorder
from dip4d.simulation.schemes import SCHEMES
from dip4d.simulation.simulate import simulate
from dip4d.simulation.specimens import SPECIMENS
from dip4d.tilt_series import TiltSeries


def blobs(angles_deg: np.ndarray, size: int = 48, drift: float = 0.0, seed: int = 0) -> np.ndarray:
    """Images (t, z, s) of some Gaussian blobs, in closed form, at places that do not lie on the tilt axis."""
    rng = np.random.default_rng(seed)
    x, y, z = rng.uniform(-0.25, 0.25, (3, 5)) * size * np.array([[1.0], [0.4], [0.7]])
    widths = rng.uniform(1.5, 3, 5)
    theta = np.deg2rad(angles_deg)[:, None]
    s = x * np.cos(theta) + y * np.sin(theta) + drift * np.linspace(0, 1, len(angles_deg))[:, None]
    grid = np.arange(size) - (size - 1) / 2
    along_z = np.exp(-(((grid[:, None] - z) / widths) ** 2) / 2)  # (z, blob)
    across = np.exp(-(((grid[None, :, None] - s[:, None]) / widths) ** 2) / 2)  # (t, s, blob)
    return np.einsum("zb,tsb->tzs", along_z, across)


ORDERS = {
    "one sweep": np.linspace(-70, 70, 60),
    "scattered": SCHEMES["grs"](60, 70),
    "repeated": np.repeat(np.linspace(-70, 70, 20), 3),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("axis", ["x", "y"])
def test_tilt_axis_of_a_static_specimen(order, axis):
    images = blobs(ORDERS[order]) + 3
    images = images.transpose(0, 2, 1) if axis == "x" else images
    found, confidence = input_checks.tilt_axis(images, ORDERS[order])
    assert found == axis
    assert 0.9 < confidence <= 1


def test_shifts_and_noise_do_not_hide_the_tilt_axis():
    rng = np.random.default_rng(0)
    images = [np.roll(i, rng.integers(-4, 5, 2), (0, 1)) for i in blobs(ORDERS["one sweep"])]
    found, confidence = input_checks.tilt_axis(images + rng.normal(0, 0.01, np.shape(images)), ORDERS["one sweep"])
    assert found == "y"
    assert confidence > 0.5


def test_a_blank_image_does_not_hide_the_tilt_axis():
    images = blobs(ORDERS["one sweep"])
    images[5] = 0
    found, confidence = input_checks.tilt_axis(images, ORDERS["one sweep"])
    assert found == "y"
    assert confidence > 0.9


def test_where_the_tilt_axis_cannot_be_told_the_confidence_is_low():
    grid = np.arange(48) - 23.5
    sphere = np.exp(-(grid[:, None] ** 2 + grid**2) / 50)
    noise = np.random.default_rng(0).normal(0, 0.01, (60, 48, 48))
    assert input_checks.tilt_axis(np.tile(sphere, (60, 1, 1)) + noise, ORDERS["one sweep"])[1] < 0.3
    assert input_checks.tilt_axis(blobs(np.zeros(20)), np.zeros(20)) == ("y", 0)
    assert input_checks.tilt_axis(np.zeros((60, 48, 48)), ORDERS["one sweep"]) == ("y", 0)
    assert input_checks.tilt_axis(blobs(ORDERS["one sweep"])[:, :1], ORDERS["one sweep"]) == ("y", 0)


@pytest.mark.parametrize(
    ("name", "axis", "least"),
    [("nist_needle_raw_fei.mrc", "x", 0.9), ("emat_liquid_N6.mrc", "y", 0.4)],
)
def test_tilt_axis_of_measured_series(real_data, name, axis, least):
    from dip4d.io import read_tilt_series

    series = read_tilt_series(real_data / name, tilt_axis="y")
    found, confidence = input_checks.tilt_axis(series.images, series.angles_deg)
    assert found == axis
    assert confidence > least


@pytest.mark.parametrize("name", ["nist_needle_raw_fei.mrc", "emat_liquid_N6.mrc"])
def test_measured_series_of_jittering_images_have_no_suspects(real_data, name):
    from dip4d.io import read_tilt_series

    assert input_checks.suspects(read_tilt_series(real_data / name, tilt_axis="y" if "N6" in name else "x")) == []


@pytest.mark.parametrize("specimen", SPECIMENS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_healthy_dynamic_series_has_no_suspects(specimen, scheme):
    series, _ = simulate(specimen, 24, frames=40, scheme=scheme, peak_counts=300, seed=3)
    assert input_checks.suspects(series) == []


@pytest.mark.parametrize("order", ORDERS)
def test_thickness_that_grows_with_the_tilt_is_healthy(order):
    """A film, thicker as 1 / cos, with particles on it, all drifting slowly and in less and less of a beam."""
    angles = ORDERS[order]
    film = 1 / np.cos(np.deg2rad(angles))
    beam = np.linspace(1, 0.7, len(angles))
    images = (blobs(angles, drift=6) * film[:, None, None]) * beam[:, None, None]
    images += np.random.default_rng(0).normal(0, 0.02, images.shape)
    assert input_checks.suspects(TiltSeries(images, angles)) == []


def test_a_step_in_time_is_no_outlier():
    angles = ORDERS["scattered"]
    images = blobs(angles)
    images[30:] = 0.6 * np.roll(images[30:], 5, axis=2)
    assert input_checks.suspects(TiltSeries(images, angles)) == []


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
    found = {s.frame: s.reason for s in input_checks.suspects(TiltSeries(images, angles))}
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
        assert input_checks.suspects(TiltSeries(images, angles)) == []


def test_advice_names_the_key_and_counts_what_is_excluded_already():
    images = blobs(ORDERS["scattered"])
    images[[5, 9]] = 0
    series = TiltSeries(images, ORDERS["scattered"])
    line = input_checks.advice(series, excluded=[9])
    assert "5 (blank)" in line
    assert "9 (blank)" not in line
    assert line.endswith("leave them out with exclude=[5,9]")
    assert input_checks.advice(series, excluded=[9], key="data.exclude").endswith("with data.exclude=[5,9]")
    assert input_checks.advice(series.without_images([5, 9])) is None
    assert input_checks.suspects(series.without_images(range(11, 60))) == []  # too few to judge


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
        found, why = input_checks.suspects_or_why(TiltSeries(images, angles[: len(images)]))
        assert found == []
        assert words in why
    assert input_checks.suspects_or_why(TiltSeries(blobs(angles), angles)) == ([], None)


def slab(half_width: float, half_height: float) -> np.ndarray:
    """Images (t, 32, 32) of a bar along the tilt axis, in closed form but for the beam."""
    theta, s = np.deg2rad(ORDERS["scattered"])[:, None, None], np.arange(32)[:, None] - 15.5
    u = np.linspace(-60, 60, 961)
    x, y = s * np.cos(theta) - u * np.sin(theta), s * np.sin(theta) + u * np.cos(theta)
    inside = (np.abs(x) < half_width) & (np.abs(y) < half_height)
    return np.repeat(inside.mean(-1)[:, None] * 2400, 32, axis=1)


@pytest.mark.parametrize(("half_width", "reaches"), [(10, False), (16, True), (20, True), (30, True)])
def test_a_specimen_that_reaches_the_border_is_named_and_a_film_is_not(half_width, reaches):
    angles, rng = ORDERS["scattered"], np.random.default_rng(0)
    images = rng.poisson(slab(half_width, 3) + 5)
    said = input_checks.border_advice(TiltSeries(images, angles), key="data.background")
    assert (said is not None) == reaches
    assert said is None or "data.background=none or the number of an empty image" in said
    film = 50 / np.cos(np.deg2rad(angles)) * np.linspace(1, 0.6, 60)
    over = rng.poisson(100 * blobs(angles) + film[:, None, None])
    assert input_checks.border_advice(TiltSeries(over, angles)) is None


@pytest.mark.parametrize("specimen", SPECIMENS)
def test_no_simulated_specimen_looks_inverted_or_cut(specimen):
    series, _ = simulate(specimen, 24, frames=40, peak_counts=100, seed=3)
    assert input_checks.contrast_advice(series) is None
    assert input_checks.border_advice(series) is None
    dark = TiltSeries(200 - series.images, series.angles_deg)
    assert "invert=true" in input_checks.contrast_advice(dark)


def test_few_images_and_a_turned_axis_are_not_certain():
    angles, rng = ORDERS["scattered"], np.random.default_rng(0)
    images = blobs(angles) + rng.normal(0, 0.02, (60, 48, 48))
    for count in (2, 3, 9):
        assert input_checks.tilt_axis(images[:count], angles[:count])[1] == 0
    turned = ndimage.rotate(images, 45, axes=(1, 2), reshape=False)
    assert input_checks.tilt_axis(turned, angles)[1] < input_checks.CERTAIN
    spiky = images.copy()
    spiky[rng.random(images.shape) < 1e-3] += 50
    assert input_checks.tilt_axis(spiky, angles)[0] == "y" or input_checks.tilt_axis(spiky, angles)[1] < 0.5


@pytest.mark.parametrize("specimen", ["nanocage", "drift", "growth"])
def test_images_that_do_not_follow_their_angles_are_told(specimen):
    series, _ = simulate(specimen, 32, frames=50, n_z=20, scheme="grs", peak_counts=500, seed=4)
    shuffled = np.random.default_rng(3).permutation(series.angles_deg)
    assert disorder(series) < 0.7
    assert disorder(dataclasses.replace(series, angles_deg=shuffled)) > 0.78
