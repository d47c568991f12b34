"""A tilt series keeps together what belongs together, and refuses what does not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dip4d.errors import InputError
from dip4d.simulation.simulate import simulate
from dip4d.tilt_series import TiltSeries, border_levels, border_slope, empty_pixels

ANGLES = np.array([-30.0, 0.0, 15.5, 60.0])


def test_images_go_with_their_angles_and_times():
    series = TiltSeries(np.arange(4.0)[:, None, None] * np.ones((4, 2, 3)), [0, 10, 20, 30], [0, 1, 5, 6])
    rest = series.without_images([2, 0])
    np.testing.assert_array_equal(rest.images[:, 0, 0], [1, 3])
    np.testing.assert_array_equal(rest.angles_deg, [10, 30])
    np.testing.assert_array_equal(rest.times_s, [1, 6])
    for wrong in ([4], [-1], [0, 1, 2]):
        with pytest.raises(InputError, match="exclude") as refused:
            series.without_images(wrong)
        assert refused.value.argument == "exclude"


def test_irregular_times_and_repeated_angles():
    times = np.array([0, 0.5, 0.5, 90, 3600.25])
    series = TiltSeries(np.ones((5, 2, 2)), [10, 10, -10, -10, 10], times[[4, 0, 1, 3, 2]]).in_time_order()
    np.testing.assert_array_equal(series.times_s, times)
    np.testing.assert_allclose(series.tau, times / times[-1])
    still = replace(series, times_s=np.full(5, 7.0))
    np.testing.assert_array_equal(still.tau, 0)


def test_a_view_seen_again_later_is_another_one():
    sweeps = TiltSeries(np.zeros((8, 2, 2)), [0, 10, 10.05, 20, 20, 10, 0, 10]).views
    np.testing.assert_array_equal(sweeps, [0, 1, 1, 2, 2, 3, 4, 5])
    standing = TiltSeries(np.zeros((40, 2, 2)), np.zeros(40)).views
    np.testing.assert_array_equal(standing, np.arange(40))  # the specimen may have changed meanwhile


def test_what_is_shown_must_fit_the_images():
    for wrong in (np.ones((3, 8), bool), np.ones((4, 8))):
        with pytest.raises(InputError, match=r"s: shown must be true or false for each of \(4, 8\)"):
            TiltSeries(np.ones((4, 8, 6)), np.arange(4), source="s", shown=wrong)


def test_crop_bin_and_background():
    images = np.random.default_rng(0).integers(0, 1000, (4, 6, 9)).astype(np.int16)
    series = TiltSeries(images + 100, ANGLES, pixel_nm=2.0)
    binned = series.cropped((1, 6, 0, 9)).binned(2)
    assert binned.shape == (4, 2, 4)
    assert binned.pixel_nm == 4
    np.testing.assert_allclose(binned.images[0, 0, 0], (images + 100)[0, 1:3, 0:2].mean())
    flat = np.full((3, 8, 8), 7.0)
    flat[:, :, 3:5] = 50
    clean = TiltSeries(flat, np.zeros(3)).without_background("auto")
    assert clean.background == 7
    assert (clean.images.min(), clean.images.max()) == (0, 43)
    for wrong in ((0, 99, 0, 9), (3, 3, 0, 9)):
        with pytest.raises(InputError, match=r"crop=\[") as refused:
            series.cropped(wrong)
        assert refused.value.argument == "crop"
    with pytest.raises(InputError, match="bin=50") as refused:
        series.binned(50)
    assert refused.value.argument == "bin"


def test_orthoslices_with_a_margin_are_wider_and_what_the_images_show_is_their_middle():
    series = TiltSeries(np.ones((4, 6, 10)), ANGLES, margin=3)
    assert series.slice_shape == (10, 16)
    assert series.binned(2).slice_shape == (5, 9)  # no less than before
    assert series.without_images([1]).at_positions([0]).slice_shape == (10, 16)
    whole = np.arange(16.0) * np.ones((2, 10, 1))
    np.testing.assert_array_equal(series.field(whole), whole[..., 3:13])
    np.testing.assert_array_equal(replace(series, margin=0).field(whole[..., :10]), whole[..., :10])


def test_times_asked_for_lie_within_the_series():
    series = TiltSeries(np.ones((4, 2, 3)), ANGLES, [0, 1, 5, 10])
    np.testing.assert_allclose(series.tau_at([0, 2.5, 10]), [0, 0.25, 1])
    np.testing.assert_allclose(series.tau_at(series.times_s), series.tau)
    for wrong in (-0.1, 10.5, np.nan):
        with pytest.raises(InputError, match="not within the series") as refused:
            series.tau_at([1, wrong])
        assert refused.value.argument == "times"


def spot(level: float, counts: float = 20.0) -> np.ndarray:
    """Images (t, z, s) of a spot on a background, Poisson counts."""
    grid = np.arange(32) - 15.5
    image = counts * np.exp(-(grid**2 + grid[:, None] ** 2) / 20) + level
    return np.random.default_rng(0).poisson(image, (200, 32, 32)).astype(np.float32)


@pytest.mark.parametrize("level", [0.0, 0.05, 0.3, 1, 2, 10])
def test_the_level_of_few_counts_is_their_mean(level):
    assert border_levels(spot(level)).mean() == pytest.approx(level, abs=0.02 + 0.02 * level)
    clean = TiltSeries(spot(level), np.zeros(200)).without_background("auto")
    right = 20 * 20 * np.pi
    assert clean.images.sum((1, 2)).mean() == pytest.approx(right, rel=0.04)


@pytest.mark.parametrize(("counts", "tolerance"), [(500, 0.02), (20, 0.04)])
@pytest.mark.parametrize(("level", "gradient"), [(0.2, 0.0), (0.1, 0.2), (0.2, -0.2), (0.3, 0.6), (0.0, 0.0)])
def test_a_gradient_of_the_background_costs_no_mass(counts, tolerance, level, gradient):
    """Both relative to the brightest pixel; gradient: from one side to the other."""
    clean, _ = simulate("nanostar", 48, frames=40, peak_counts=0, seed=3)
    peak = clean.images.max()
    ramp = level + gradient * np.linspace(-0.5, 0.5, 48)
    noisy = np.random.default_rng(1).poisson((clean.images / peak + ramp) * counts) * (peak / counts)
    found = replace(clean, images=noisy).without_background("auto")
    ratio = found.images.sum((1, 2), dtype=float) / clean.images.sum((1, 2), dtype=float)
    assert ratio.mean() == pytest.approx(1, abs=tolerance)
    slope = border_slope(noisy)
    assert slope == (pytest.approx(gradient * peak / 47, rel=0.1) if gradient else 0)


def test_zeros_are_measured_unless_a_shift_has_filled_whole_lines():
    few, many = spot(0.05), spot(10)
    assert empty_pixels(few) is None
    many[:, :3], many[:, :, 28:] = 0, 0
    empty = empty_pixels(many)
    assert empty[:, :3].all()
    assert empty[:, :, 28:].all()
    assert not empty[:, 3:, :28].any()
    assert border_levels(many, empty).mean() == pytest.approx(10, abs=0.1)
    clean = TiltSeries(many, np.zeros(200)).without_background("auto")
    assert (clean.images[empty] == 0).all()


def test_a_specimen_beside_the_level_does_not_change_it():
    images = spot(10)
    images[:, :9, :3] += 40
    assert border_levels(images).mean() == pytest.approx(10, abs=0.3)


def test_an_inverted_bright_field_has_the_mass_of_the_dark_one():
    bright = TiltSeries(spot(0, counts=100), np.zeros(200))
    inverted = TiltSeries(500 - bright.images, np.zeros(200)).inverted()
    np.testing.assert_allclose(inverted.images, bright.images, atol=0.2)
    assert "the contrast was inverted" in inverted.notes[-1]
