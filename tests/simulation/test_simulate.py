"""A simulated series shows its truth, jitters and is noisy as it says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import center_of_mass

from dip4d.simulation.schemes import grs
from dip4d.simulation.simulate import add_noise, frozen_images, jitter_shifts, simulate
from dip4d.simulation.specimens import SPECIMENS


@pytest.mark.parametrize("specimen", list(SPECIMENS))
def test_fewer_positions_z_show_the_middle_of_the_cube(specimen):
    series, truth = simulate(specimen, 16, frames=3, scheme="grs", peak_counts=0, seed=1)
    slab, middle = simulate(specimen, 16, frames=3, scheme="grs", peak_counts=0, seed=1, n_z=6)
    assert slab.shape == (3, 6, 16)
    np.testing.assert_allclose(middle, truth[:, 5:11], atol=1e-4)
    np.testing.assert_allclose(slab.images, series.images[:, 5:11], atol=1e-3)


def test_jitter_has_its_rms_and_moves_neither_specimen_nor_axis():
    angles = grs(2000, 70)
    shifts = jitter_shifts(angles, 0.7, seed=4)
    assert shifts.shape == (2000, 2)
    np.testing.assert_allclose(shifts.mean(0), 0, atol=1e-12)
    for of_place in (np.cos, np.sin):
        assert shifts[:, 1] @ of_place(np.deg2rad(angles)) == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(shifts.std(0), 0.7, rtol=0.05)
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.1
    assert np.array_equal(shifts, jitter_shifts(angles, 0.7, seed=4))
    assert not np.allclose(shifts, jitter_shifts(angles, 0.7, seed=5))


def test_jitter_moves_each_image_and_not_the_truth():
    still, truth = simulate("alloying", 32, frames=8, scheme="grs", peak_counts=0, seed=2)
    moved, same = simulate("alloying", 32, frames=8, scheme="grs", peak_counts=0, seed=2, jitter=0.8)
    assert np.array_equal(truth, same)
    shifts = [np.subtract(center_of_mass(a), center_of_mass(b))
              for a, b in zip(moved.images, still.images, strict=True)]  # fmt: skip
    np.testing.assert_allclose(shifts, jitter_shifts(grs(8, 70), 0.8, seed=2), atol=0.01)


@pytest.mark.parametrize("specimen", ["alloying", "leaving", "film"])
def test_a_frozen_specimen_is_seen_as_the_series_sees_it(specimen):
    """From the finer grid, and with what lies outside of the volume: the same images at the same time and angle."""
    series, _ = simulate(specimen, 16, n_z=10, frames=6, scheme="grs", peak_counts=0, seed=2)
    images = frozen_images(specimen, 16, n_z=10, frames=6, seed=2, exclude=[1])
    for t, frame in enumerate([0, 2, 3, 4, 5]):
        seen = images(t, series.angles_deg)
        assert seen.shape == series.shape
        np.testing.assert_allclose(seen[frame], series.images[frame], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [16, 21])
@pytest.mark.parametrize("specimen", list(SPECIMENS))
def test_a_simulated_series_shows_its_truth(specimen, size):
    series, truth = simulate(specimen, size, frames=5, scheme="grs", peak_counts=0, seed=1)
    assert series.shape == (5, size, size)
    assert truth.shape == (5, size, size, size)
    np.testing.assert_allclose(series.images.sum((1, 2)), truth.sum((1, 2, 3)), rtol=5e-3)  # mass in every image
    np.testing.assert_allclose(series.images.sum(2), truth.sum((2, 3)), rtol=0.02, atol=0.05)  # and in every row


@pytest.mark.parametrize("specimen", list(SPECIMENS))
def test_the_seed_shapes_the_particle(specimen):
    one, again, other = (
        simulate(specimen, 16, frames=2, scheme="grs", peak_counts=100, seed=seed, jitter=0.3)[0].images
        for seed in (0, 0, 1)
    )
    assert np.array_equal(one, again)
    assert not np.allclose(one, other)


def test_the_noise_is_poisson_of_the_counts_at_the_peak():
    images = np.full((2, 200, 200), 4.0, np.float32)
    images[:, :100] = 1.0
    noisy = add_noise(images, 400, seed=7)
    counts = noisy * 100  # 400 counts at intensity 4
    for part, mean in ((counts[:, 100:], 400), (counts[:, :100], 100)):
        assert part.mean() == pytest.approx(mean, rel=0.01)
        assert part.var() == pytest.approx(mean, rel=0.05)
    assert np.array_equal(noisy[1], add_noise(images, 400, seed=7)[1])
    assert not np.array_equal(noisy[0], noisy[1])  # each frame has its own
    assert np.array_equal(add_noise(images, 0, seed=7), images)


def test_a_specimen_or_a_scheme_that_is_not_known_is_refused():
    with pytest.raises(ValueError, match="'gold' is not one of"):
        simulate("gold", 16, frames=2)
    with pytest.raises(ValueError, match="'zigzag' is not one of grs, incremental, pingpong"):
        simulate("static", 16, frames=2, scheme="zigzag")
