"""Hard specimens are sharp, change as they say, and are in the images as an area in a strip."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from scipy.ndimage import center_of_mass, label

from dip4d.config.load import help_text, load_config
from dip4d.measures.time_rank import time_rank
from dip4d.simulation.hard_specimens import ALL, FAMILIES, HARD
from dip4d.simulation.simulate import simulate
from dip4d.simulation.specimens import SPECIMENS, elements_of_specimen

every_specimen = pytest.mark.parametrize("specimen", HARD)
WIDER_THAN_THE_FIELD = ("film", "leaving")


def frames(specimen: str, taus: np.ndarray, *, seed: int = 1, size: int = 48) -> np.ndarray:
    return np.stack(list(HARD[specimen](np.random.default_rng(seed)).frames((size, size, size), taus)))


def test_families_are_apart_and_known_by_their_names():
    a, b = FAMILIES["A"], FAMILIES["B"]
    assert len(a) >= 4
    assert len(b) >= 4
    assert set(FAMILIES) == {"A", "B"}
    assert list(ALL) == [*SPECIMENS, *a, *b]
    assert len(set(ALL)) == len(SPECIMENS) + len(a) + len(b)
    assert load_config(["simulate.specimen=facets"]).simulate.specimen == "facets"
    assert all(name in help_text() for name in HARD)


@every_specimen
def test_voxels_are_full_or_empty(specimen):
    volume = frames(specimen, np.array([0.5]))[0]
    levels = np.unique(volume)
    assert len(levels) <= 4  # nothing, and one of at most two materials, or both
    assert levels[0] == 0
    assert levels[-1] == pytest.approx(1)


@every_specimen
def test_the_series_shows_the_truth_and_the_seed_shapes_it(specimen):
    series, truth = simulate(specimen, 16, frames=4, peak_counts=0, seed=1)
    assert truth.shape == (4, 16, 16, 16)
    mass = truth.sum((2, 3))
    if specimen in WIDER_THAN_THE_FIELD:
        assert (series.images.sum((1, 2)) > 0.9 * mass.sum(1)).all()
    else:
        np.testing.assert_allclose(series.images.sum(2), mass, rtol=1e-3, atol=1e-3)  # in every row of every image
        edge = truth.copy()
        edge[:, 1:-1, 1:-1, 1:-1] = 0
        assert (edge == 0).all()
    slab, middle = simulate(specimen, 16, frames=4, peak_counts=0, seed=1, n_z=6)
    np.testing.assert_allclose(middle, truth[:, 5:11], atol=0.05)
    np.testing.assert_allclose(slab.images, series.images[:, 5:11], atol=0.3)
    other, _ = simulate(specimen, 16, frames=4, peak_counts=0, seed=2)
    assert not np.allclose(other.images, series.images, atol=0.5)


@every_specimen
def test_few_functions_of_time_do_not_describe_it(specimen):
    _, truth = simulate(specimen, 24, frames=30, peak_counts=0, seed=3, n_z=12)
    assert time_rank(truth) >= (8 if specimen == "film" else 12)
    _, easy = simulate("nanostar", 24, frames=30, peak_counts=0, seed=3, n_z=12)
    assert time_rank(easy) < 8


def test_the_rod_bends_and_keeps_its_length():
    volumes = frames("bending_rod", np.linspace(0, 1, 9))
    mass = volumes.sum((1, 2, 3))
    np.testing.assert_allclose(mass, mass[0], rtol=0.05)
    longest = [np.linalg.eigvalsh(np.cov(np.argwhere(v).T))[::-1] for v in volumes]
    straight = np.array([values[1] / values[0] for values in longest])
    assert straight.max() > 1.5 * straight.min()  # a rigid motion would keep it
    assert all(label(v, np.ones((3, 3, 3)))[1] == 1 for v in volumes)


def test_ripening_keeps_the_mass_while_small_particles_go():
    for seed in range(3):
        volumes = frames("ripening", np.linspace(0, 1, 6), seed=seed, size=72)
        mass = volumes.sum((1, 2, 3))
        np.testing.assert_allclose(mass, mass[0], rtol=0.02)
        counts = [label(v)[1] for v in volumes]
        assert counts == sorted(counts, reverse=True)
        assert counts[0] >= 14
        assert counts[-1] <= 0.6 * counts[0]
        largest = [np.bincount(label(v)[0].ravel())[1:].max() for v in volumes]
        assert largest[-1] > 1.2 * largest[0]


def test_the_porous_body_coarsens_and_keeps_most_of_its_mass():
    volumes = frames("porous", np.linspace(0, 1, 5))
    mass = volumes.sum((1, 2, 3))
    np.testing.assert_allclose(mass, mass[0], rtol=0.12)
    surface = np.array([sum(np.abs(np.diff(v, axis=a)).sum() for a in range(3)) for v in volumes])
    assert (np.diff(surface) < 0).all()
    assert surface[-1] < 0.8 * surface[0]


def test_each_place_of_the_front_changes_once_at_a_time_of_its_own():
    volumes = frames("front", np.linspace(0, 1, 21))
    inside = volumes[0] > 0
    assert (np.diff(volumes, axis=0) <= 0).all()
    assert ((volumes > 0) == inside).all()  # the body stays
    turned = (volumes < 0.5)[:, inside].mean(1)
    assert turned[0] < 0.15
    assert turned[-1] > 0.9
    assert (np.diff(turned) < 0.25).all()  # never all at once
    assert elements_of_specimen("front").names == ("Au", "Ag")


def test_the_frame_is_thin_and_neither_breaks_nor_loses_mass():
    volumes = frames("swinging_frame", np.linspace(0, 1, 7), size=64)
    mass = volumes.sum((1, 2, 3))
    np.testing.assert_allclose(mass, mass[0], rtol=0.06)
    assert (mass / 64**3 < 0.04).all()
    assert all(label(v, np.ones((3, 3, 3)))[1] == 1 for v in volumes)


def test_holes_open_and_a_corner_leaves():
    volumes = frames("holes_and_fracture", np.linspace(0, 1, 11), size=64)
    mass = volumes.sum((1, 2, 3))
    assert (np.diff(mass) < 0.01 * mass[0]).all()
    assert 0.6 < mass[-1] / mass[0] < 0.95
    pieces = [np.sort(np.bincount(label(v)[0].ravel())[1:])[::-1] for v in volumes]
    assert len(pieces[0]) == 1
    last = pieces[-1][pieces[-1] > 20]
    assert len(last) == 2
    assert 0.02 < last[1] / last[0] < 0.5


def test_facets_are_flat_and_the_volume_stays():
    volumes = frames("facets", np.linspace(0, 1, 6))
    mass = volumes.sum((1, 2, 3))
    np.testing.assert_allclose(mass, mass[0], rtol=0.02)
    spread = [np.linalg.eigvalsh(np.cov(np.argwhere(v).T)) for v in volumes]
    longest = [s[-1] / s[0] for s in spread]
    assert longest[0] > 1.3
    assert longest[-1] < 1.15  # nearly round


def test_the_film_reaches_beyond_the_field_and_is_in_the_images_at_high_tilt():
    specimen = HARD["film"](np.random.default_rng(1))
    (wide,) = specimen.frames((16, 16, 48), np.array([0.5]), width=16)
    film = (wide > 0) & (wide < 0.1)
    assert film[..., 0].any()
    assert film[..., -1].any()
    series, _ = simulate("film", 16, frames=21, scheme="incremental", peak_counts=0, seed=1)
    border = series.images[..., [0, -1]].mean((1, 2))
    assert border[[0, -1]].mean() > 1.5 * border[10]  # thicker as 1 / cos
    assert elements_of_specimen("film") is None


def test_a_particle_leaves_the_field_and_high_tilts_still_see_it():
    specimen = HARD["leaving"](np.random.default_rng(2))
    wide = list(specimen.frames((32, 32, 48), np.linspace(0, 1, 5), width=32))
    outside = [1 - v[..., 8:40].sum() / v.sum() for v in wide]
    assert outside[0] == 0
    assert (np.diff(outside) >= 0).all()
    assert 0.2 < outside[-1] < 0.7
    kept = [center_of_mass(v[..., :20]) for v in wide]  # the other stays where it is
    np.testing.assert_allclose(kept, np.broadcast_to(kept[0], (5, 3)), atol=0.5)
    series, truth = simulate("leaving", 24, frames=30, peak_counts=0, seed=2)
    more = series.images.sum((1, 2)) / truth.sum((1, 2, 3))
    assert more[-10:].max() > 1.03


def test_help_stays_quick():
    code = "import sys; from dip4d.config.load import help_text; help_text(); print([m for m in sys.modules if m in "
    code += "('torch', 'numba', 'lightning')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_images_were_not_made_by_the_projector_of_the_reconstruction(monkeypatch):
    monkeypatch.setattr("dip4d.simulation.simulate.Projector", lambda *_: pytest.fail("ours"))
    for specimen in itertools.islice(HARD, 2):
        simulate(specimen, 12, frames=2)
