"""Volume, surface, particles and elements are those of closed forms, voxelised with partial volumes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from dip4d.measures.elements import Elements, elements_of
from dip4d.measures.quantities import Particle, map_of, measure, table_of, tracked

FINER = 4
GOLD_SILVER = Elements(("Au", "Ag"), (1.0, 0.4))


def grid(edge: int, centre: tuple[float, float, float] = (0.2, -0.3, 0.4)) -> np.ndarray:
    """Places (3, n, n, n), voxels, of the parts of voxels, from a point beside the middle."""
    axis = (np.arange(edge * FINER) + 0.5) / FINER - edge / 2
    return np.stack(np.meshgrid(*(axis - c for c in centre), indexing="ij"))


def voxels(depth: np.ndarray) -> np.ndarray:
    """Filled shares of voxels, of how deep their parts lie below a surface."""
    edge = len(depth) // FINER
    parts = np.clip(0.5 + depth * FINER, 0, 1).reshape(edge, FINER, edge, FINER, edge, FINER)
    return parts.mean((1, 3, 5)).astype(np.float32)


def sphere(radius: float, edge: int) -> np.ndarray:
    return voxels(radius - np.linalg.norm(grid(edge), axis=0))


@pytest.mark.parametrize(
    ("radius", "volume_off", "surface_off"), [(4, 0.06, 0.06), (8, 0.015, 0.03), (20, 0.005, 0.02)]
)
def test_a_sphere_has_its_volume_and_its_surface(radius, volume_off, surface_off):
    found = measure(sphere(radius, 2 * radius + 8)).values
    assert found["volume"] == pytest.approx(4 / 3 * np.pi * radius**3, rel=volume_off)
    assert found["surface"] == pytest.approx(4 * np.pi * radius**2, rel=surface_off)
    assert found["sphericity"] == pytest.approx(1, abs=0.03)
    assert found["length_z"] == pytest.approx(2 * radius, abs=0.3)
    assert found["particles"] == 1


def test_a_tilted_box_has_its_volume_and_its_surface():
    turn, half = Rotation.from_rotvec([0.3, 0.5, -0.4]).as_matrix(), np.array([11, 9, 7])
    places = np.abs(np.tensordot(turn, grid(40), 1))
    found = measure(voxels((half[:, None, None, None] - places).min(0))).values
    assert found["volume"] == pytest.approx(8 * half.prod(), rel=0.02)
    assert found["surface"] == pytest.approx(8 * (11 * 9 + 9 * 7 + 7 * 11), rel=0.03)


def test_a_torus_has_its_volume_and_its_surface():
    z, y, x = grid(40)
    found = measure(voxels(5 - np.hypot(np.hypot(x, y) - 12, z))).values
    assert found["volume"] == pytest.approx(2 * np.pi**2 * 12 * 25, rel=0.02)
    assert found["surface"] == pytest.approx(4 * np.pi**2 * 12 * 5, rel=0.03)


def test_a_faint_blur_changes_little():
    ball = sphere(12, 34)
    sharp, blurred = measure(ball).values, measure(gaussian_filter(ball, 0.5)).values
    assert blurred["volume"] == pytest.approx(sharp["volume"], rel=0.01)
    assert blurred["surface"] == pytest.approx(sharp["surface"], rel=0.01)


def test_lengths_have_the_unit_of_the_voxel():
    one, half = measure(sphere(6, 20)).values, measure(sphere(6, 20), voxel=0.5).values
    for name, power in (("volume", 3), ("surface", 2), ("surface_to_volume", -1), ("length_y", 1), ("sphericity", 0)):
        assert half[name] == pytest.approx(one[name] * 0.5**power)


def core_in_shell(radius: float, core: float) -> np.ndarray:
    """A ball of Au in a ball of Ag."""
    return 0.4 * sphere(radius, 36) + 0.6 * sphere(core, 36)


def test_amounts_of_elements_are_those_of_a_core_and_its_shell():
    found = measure(core_in_shell(14, 8), elements=GOLD_SILVER).values
    gold, whole = (4 / 3 * np.pi * r**3 for r in (8, 14))
    assert found["surface"] == pytest.approx(4 * np.pi * 14**2, rel=0.02)  # half of the global maximum is the core
    assert found["Au"] == pytest.approx(gold, rel=0.02)
    assert found["Ag"] == pytest.approx(whole - gold, rel=0.01)
    assert found["mixing_index"] == pytest.approx(0, abs=0.15)  # voxels of the interface are mixed


def test_the_map_of_an_element_holds_its_amount():
    shares = map_of(core_in_shell(14, 8), GOLD_SILVER)
    assert shares.sum() == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.03)
    assert shares[18, 18, 18] == 1


def test_the_mixing_index_is_1_of_an_alloy_and_that_of_a_linear_profile_between():
    ball = sphere(14, 36)
    assert measure(0.7 * ball, elements=GOLD_SILVER).values["mixing_index"] == pytest.approx(1, abs=0.01)
    r = np.linalg.norm(grid(36)[:, ::FINER, ::FINER, ::FINER] + 0.375, axis=0)
    linear = ball * (0.4 + 0.6 * np.clip(1 - r / 14, 0, 1))  # c = 1 - r/R: mean 1/4, variance 3/80
    found = measure(linear, elements=GOLD_SILVER)
    assert found.values["mixing_index"] == pytest.approx(
        1 - (3 / 80) / (1 / 4 * 3 / 4), abs=0.05
    )  # edges are taken for what is beside
    np.testing.assert_allclose(found.profile[2:12], 1 - np.arange(2.5, 12) / 14, atol=0.04)


def test_of_one_element_the_mass_tells_the_amount():
    found = measure(3 * sphere(8, 24), elements=Elements(("Pt",), (3.0,))).values
    assert found["Pt"] == pytest.approx(4 / 3 * np.pi * 8**3, rel=0.01)
    assert "mixing_index" not in found


def test_particles_are_found_and_followed():
    def pair(t: int) -> np.ndarray:
        places = grid(40, (0, 0, 0))
        balls = ((6, (-10 + t, 0, 0)), (4, (10, 2 * t, 0)))
        return voxels(np.max([r - np.linalg.norm(places - np.reshape(c, (3, 1, 1, 1)), axis=0) for r, c in balls], 0))

    frames = [measure(pair(t)) for t in range(3)]
    large, small = tracked([f.particles for f in frames])
    assert [p.place[0] for p in large] == pytest.approx([-10, -9, -8], abs=0.1)
    assert [p.place[1] for p in small] == pytest.approx([0, 2, 4], abs=0.1)
    assert small[0].volume == pytest.approx(4 / 3 * np.pi * 4**3, rel=0.06)
    assert table_of(frames)["particles"].tolist() == [2, 2, 2]


def test_a_particle_that_appears_far_away_is_another():
    here, there = Particle(30.0, (0, 0, 0)), Particle(20.0, (0, 15, 0))
    assert tracked([[here], [], [here, there]]) == [[here, None, here], [None, None, there]]


def test_an_empty_volume_has_no_quantities():
    found = measure(np.zeros((8, 8, 8), np.float32), elements=GOLD_SILVER)
    assert np.isnan(found.values["volume"])
    assert found.values["particles"] == 0
    assert np.isnan(measure(np.full((8, 8, 8), np.nan)).values["volume"])


def test_intensities_grow_with_the_atomic_number():
    found = elements_of(["Au", "Ag"], exponent=1.7, brightest=2.0)
    assert found.intensities == pytest.approx((2.0, 2.0 * (47 / 79) ** 1.7))
    assert elements_of(["Au", "Ag"], [3, 1]).intensities == (3, 1)
