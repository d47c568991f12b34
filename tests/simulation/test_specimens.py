"""The specimens keep what physics keeps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, center_of_mass, label

from dip4d.simulation.simulate import simulate
from dip4d.simulation.specimens import SILVER_OVER_GOLD, SPECIMENS

TAU = np.array([0, 0.1, 0.4, 1.0])


def frames(specimen: str, seed: int = 3, size: int = 48) -> np.ndarray:
    body = SPECIMENS[specimen](np.random.default_rng(seed))
    return np.stack(list(body.frames((size, size, size), TAU)))


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
    gold = [float((3 * rho**2 * body.gold(rho, p)).mean()) for p in TAU]
    np.testing.assert_allclose(gold, gold[0], rtol=1e-3)
    contrast = [np.ptp(body.gold(rho, p)) for p in TAU]
    assert contrast[0] > 0.95
    assert (np.diff(contrast) < 0).all()  # it only ever mixes
    for p in TAU:
        assert -0.01 < body.gold(rho, p).min() <= body.gold(rho, p).max() < 1.01


def test_intensities_are_those_of_gold_and_silver():
    volumes = frames("alloying")
    assert volumes[0].max() == pytest.approx(1, abs=0.02)
    inside = volumes[0][volumes[0] > 0.3]
    assert np.median(inside[inside < 0.6]) == pytest.approx(SILVER_OVER_GOLD, abs=0.05)


@pytest.mark.parametrize("specimen", list(SPECIMENS))
def test_the_specimen_stays_in_the_field(specimen):
    for volume in frames(specimen, seed=1):
        assert volume.max() > 0.5
        volume[1:-1, 1:-1, 1:-1] = 0
        assert (volume == 0).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_nanocage_is_hollow_and_dissolves_fast_at_first(seed):
    tau = np.linspace(0, 1, 9)
    volumes = np.stack(list(SPECIMENS["nanocage"](np.random.default_rng(seed)).frames((64, 64, 64), tau)))
    assert (volumes[:, 28:36, 28:36, 28:36] == 0).all()
    fine = next(SPECIMENS["nanocage"](np.random.default_rng(seed)).frames((96, 96, 96), tau))
    below_the_surface = binary_erosion(fine > 0, iterations=3)
    assert below_the_surface.sum() > 1000
    assert (fine[below_the_surface] == 1).mean() > 0.99  # binary, but for the voxels that the surface cuts
    assert (np.diff(volumes, axis=0) <= 0).all()  # nothing comes back, anywhere
    lost = -np.diff(volumes.sum((1, 2, 3)))
    assert (np.diff(lost) < 0).all()
    assert lost[0] > 5 * lost[-1]
    assert 0.35 < volumes[-1].sum() / volumes[0].sum() < 0.5
    largest = np.bincount(label(volumes[-1] > 0.5)[0].ravel())[1:].max()
    assert largest > 0.9 * (volumes[-1] > 0.5).sum()  # still one cage


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sintering_keeps_volume_and_centre_of_mass_and_rounds_off(seed):
    tau = np.linspace(0, 1, 6)
    volumes = np.stack(list(SPECIMENS["sintering"](np.random.default_rng(seed)).frames((64, 64, 64), tau)))
    mass = volumes.sum((1, 2, 3))
    np.testing.assert_allclose(mass, mass[0], rtol=0.01)
    moments = [np.linalg.eigh(second_moments(v)) for v in volumes]
    longest = [values[-1] / values[0] for values, _ in moments]
    assert longest[0] > 4  # two balls of this ratio that touch: about 5
    assert (np.diff(longest) < 0).all()
    assert longest[-1] < 1.3
    for volume in volumes:
        np.testing.assert_allclose(center_of_mass(volume), 31.5, atol=0.15)
    cosines = [min(abs(moments[0][1][:, -1] @ vectors[:, -1]), 1) for _, vectors in moments[:4]]
    turned = np.degrees(np.arccos(cosines))
    assert 12 < turned[3] < 18.5  # at 0.6 of 30 degrees, about an axis that is not quite across the pair
    assert (np.diff(turned) > 0).all()


def second_moments(volume: np.ndarray) -> np.ndarray:
    """(3, 3): the mean of the products of the coordinates, from the centre of mass."""
    voxels = np.argwhere(volume > 0)
    return np.cov(voxels.T, aweights=volume[volume > 0])


@pytest.mark.parametrize("seed", [0, 1])
def test_a_drifting_particle_is_rigid_and_moves_on_a_straight_line(seed):
    tau = np.linspace(0, 1, 5)
    volumes = list(SPECIMENS["drift"](np.random.default_rng(seed)).frames((64, 64, 64), tau))
    np.testing.assert_allclose([v.sum() for v in volumes], volumes[0].sum(), rtol=0.01)
    spread = [np.linalg.eigvalsh(second_moments(v)) for v in volumes]
    np.testing.assert_allclose(spread, spread[0][None].repeat(5, 0), rtol=0.01)
    path = np.array([center_of_mass(v) for v in volumes])
    straight = np.linspace(path[0], path[-1], 5)
    np.testing.assert_allclose(path, straight, atol=0.03)
    assert np.linalg.norm(path[-1] - path[0]) == pytest.approx(0.12 * 32, abs=0.05)
    overlap = np.linalg.norm(np.roll(volumes[-1], np.rint(path[0] - path[-1]).astype(int), (0, 1, 2)) - volumes[0])
    assert overlap > 0.3 * np.linalg.norm(volumes[0])  # it has turned, too


def test_an_event_is_one_change_between_two_images():
    when = []
    for seed in range(4):
        _, truth = simulate("event", 24, frames=31, scheme="grs", peak_counts=0, seed=seed)
        changed = np.flatnonzero(np.abs(np.diff(truth, axis=0)).max((1, 2, 3)))
        assert len(changed) == 1
        assert 0.4 <= (changed[0] + 1) / 30 < 0.6 + 1 / 30
        assert truth[-1].sum() == pytest.approx(truth[0].sum(), rel=0.01)
        assert np.abs(truth[-1] - truth[0]).sum() > 0.2 * truth[0].sum()
        when.append(changed[0])
    assert len(set(when)) > 1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_silver_grows_evenly_on_a_gold_seed_that_stays(seed):
    tau = np.linspace(0, 1, 6)
    volumes = np.stack(list(SPECIMENS["growth"](np.random.default_rng(seed)).frames((64, 64, 64), tau)))
    assert (np.diff(volumes, axis=0) >= -1e-6).all()
    assert 0 <= volumes[0].min() <= volumes[0].max() == pytest.approx(1)
    seed_voxels = volumes[0] > 1 - 1e-6
    assert seed_voxels.sum() > 1000
    assert (volumes[:, seed_voxels] > 1 - 1e-6).all()
    added = volumes[1:] - volumes[:-1]
    assert added.max() == pytest.approx(SILVER_OVER_GOLD, rel=0.01)  # only ever Ag
    grown = added.sum((1, 2, 3))
    np.testing.assert_allclose(grown, grown.mean(), rtol=0.03)
    size = ((volumes > 0.5 * SILVER_OVER_GOLD).sum((1, 2, 3))) ** (1 / 3)
    assert size[0] / size[-1] == pytest.approx(0.55, abs=0.06)


def test_nothing_changes_in_the_static_specimen():
    _, truth = simulate("static", 16, frames=6, scheme="grs", peak_counts=0, seed=2)
    assert (truth == truth[0]).all()
    assert not np.allclose(
        truth[0], simulate("nanostar_alloying", 16, frames=6, scheme="grs", peak_counts=0, seed=2)[1][0], atol=0.05
    )
