"""The specimens keep what physics keeps; the schemes and the noise are what they say."""

from __future__ import annotations

import numpy as np
import pytest

from dip4d.simulate import (
    SCHEMES,
    SILVER_OVER_GOLD,
    SPECIMENS,
    add_noise,
    grs,
    incremental,
    pingpong,
    simulate,
)

PROGRESS = np.array([0, 0.1, 0.4, 1.0])


def frames(specimen: str, seed: int = 3, size: int = 48) -> np.ndarray:
    body = SPECIMENS[specimen](np.random.default_rng(seed))
    return np.stack(list(body.frames(size, PROGRESS)))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_nanostar_keeps_its_volume_and_becomes_a_sphere(seed):
    volumes = frames("nanostar", seed)
    mass = volumes.sum((1, 2, 3))
    np.testing.assert_allclose(mass, mass[0], rtol=0.01)
    axis = np.arange(48) - 23.5
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    inertia = (volumes * (x**2 + y**2 + z**2)).sum((1, 2, 3)) / mass
    sphere = 3 / 5 * (3 * mass[-1] / (4 * np.pi)) ** (2 / 3)
    assert (np.diff(inertia) < 0).all()  # the arms retract
    assert inertia[0] > 1.1 * sphere
    assert inertia[-1] == pytest.approx(sphere, rel=0.02)


@pytest.mark.parametrize("specimen", ["alloying", "nanostar_alloying"])
def test_alloying_keeps_the_mass_of_each_element(specimen):
    body = SPECIMENS[specimen](np.random.default_rng(5))
    mass = frames(specimen, 5).sum((1, 2, 3))
    np.testing.assert_allclose(mass, mass[0], rtol=0.01)
    rho = (np.arange(20000) + 0.5) / 20000
    gold = [float((3 * rho**2 * body.gold(rho, p)).mean()) for p in PROGRESS]
    np.testing.assert_allclose(gold, gold[0], rtol=1e-3)
    contrast = [np.ptp(body.gold(rho, p)) for p in PROGRESS]
    assert contrast[0] > 0.95
    assert (np.diff(contrast) < 0).all()  # it only ever mixes
    for p in PROGRESS:
        assert -0.01 < body.gold(rho, p).min() <= body.gold(rho, p).max() < 1.01


def test_intensities_are_those_of_gold_and_silver():
    volumes = frames("alloying")
    assert volumes[0].max() == pytest.approx(1, abs=0.02)
    inside = volumes[0][volumes[0] > 0.3]
    assert np.median(inside[inside < 0.6]) == pytest.approx(SILVER_OVER_GOLD, abs=0.05)


@pytest.mark.parametrize("size", [16, 21])
@pytest.mark.parametrize("specimen", list(SPECIMENS))
def test_a_simulated_series_shows_its_truth(specimen, size):
    series, truth = simulate(specimen, size, 5, "grs", 0, seed=1)
    assert series.shape == (5, size, size)
    assert truth.shape == (5, size, size, size)
    np.testing.assert_allclose(series.images.sum((1, 2)), truth.sum((1, 2, 3)), rtol=5e-3)  # mass in every image
    np.testing.assert_allclose(series.images.sum(2), truth.sum((2, 3)), rtol=0.02, atol=0.05)  # and in every row


def test_the_seed_shapes_the_particle():
    one, again, other = (simulate("nanostar", 16, 2, "grs", 100, seed)[0].images for seed in (0, 0, 1))
    assert np.array_equal(one, again)
    assert not np.allclose(one, other)


def test_golden_ratio_scanning_fills_the_largest_gap():
    angles = grs(100, 70, 1)
    assert angles[0] == pytest.approx((1 + 5**0.5) / 2 * 140 % 140 - 70)
    for n in (5, 13, 34, 89):
        gaps = np.diff(np.sort(angles[:n]))
        assert gaps.max() < 2.7 * gaps.min()
    assert np.abs(angles).max() <= 70


def test_sweeps():
    up = incremental(10, 60, 1)
    assert up[0] == -60
    assert (np.diff(up) > 0).all()
    several = pingpong(20, 60, 4)
    assert len(several) == 20
    turns = np.flatnonzero(np.diff(np.sign(np.diff(several)[np.diff(several) != 0])))
    assert len(turns) == 3
    assert set(SCHEMES) == {"grs", "incremental", "pingpong"}


def test_the_noise_is_poisson_of_the_dose():
    images = np.full((2, 200, 200), 4.0, np.float32)
    images[:, :100] = 1.0
    noisy = add_noise(images, 400, seed=7)
    counts = noisy * 100  # 400 counts at intensity 4
    for part, mean in ((counts[:, 100:], 400), (counts[:, :100], 100)):
        assert part.mean() == pytest.approx(mean, rel=0.01)
        assert part.var() == pytest.approx(mean, rel=0.05)
    assert np.array_equal(noisy[1], add_noise(images, 400, seed=7)[1])
    assert not np.array_equal(noisy[0], noisy[1])  # each frame has its own
    assert add_noise(images, 0, seed=7) is images
