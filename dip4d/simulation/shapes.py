"""What specimens are drawn from: random fields, turns and directions, and the distance to a box.

Points and directions are (3, n), in units of half the width of the volume.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial.transform import Rotation

GOLDEN_RATIO = (1 + 5**0.5) / 2


def box_depth(points: np.ndarray, half_axes: np.ndarray, *, rounding: float) -> np.ndarray:
    """The signed distance (n,) of points (3, n) >= 0 to a box (3, 1) with rounded edges, positive inside.

    Source: Quilez, *Distance functions*, 2008.
    """
    outward = points - (half_axes - np.float32(rounding))
    outside = np.sqrt((np.maximum(outward, 0) ** 2).sum(0))
    return np.float32(rounding) - outside - np.minimum(outward.max(0), 0)


def random_field(
    rng: np.random.Generator, wave_length: float, *, waves: int = 24
) -> Callable[[np.ndarray], np.ndarray]:
    """A random function of points (3, n) with mean 0 and rms 1, cut at 3, of waves about `wave_length` long."""
    directions = rng.normal(size=(3, waves))
    lengths = wave_length * rng.uniform(0.7, 1.5, waves)
    vectors = (2 * np.pi * directions / np.linalg.norm(directions, axis=0) / lengths).T.astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, waves).astype(np.float32)

    def field(points: np.ndarray) -> np.ndarray:
        total = np.zeros(points.shape[1], np.float32)
        for vector, phase in zip(vectors, phases, strict=True):
            total += np.cos(vector @ points + phase)
        return np.clip(total * np.float32((2 / waves) ** 0.5), -3, 3)

    return field


def random_turn(rng: np.random.Generator) -> np.ndarray:
    """A random rotation (3, 3), float32."""
    return Rotation.random(rng=rng).as_matrix().astype(np.float32)


def oblique(rng: np.random.Generator) -> np.ndarray:
    """A random direction (3,) that is close to none of the axes, nor to a plane of two of them."""
    direction = rng.uniform(0.5, 1, 3) * rng.choice([-1, 1], 3)
    return direction / np.linalg.norm(direction)


def fibonacci_sphere(n: int) -> np.ndarray:
    """n directions (3, n) that cover the sphere evenly."""
    i = np.arange(n) + 0.5
    z, azimuth = 1 - 2 * i / n, 2 * np.pi * i / GOLDEN_RATIO
    return np.stack([np.sqrt(1 - z**2) * np.cos(azimuth), np.sqrt(1 - z**2) * np.sin(azimuth), z]).astype(np.float32)


def spread_directions(n: int, rng: np.random.Generator) -> np.ndarray:
    """n directions (3, n) that keep apart from each other, perturbed and turned at random."""
    u = Rotation.random(rng=rng).as_matrix() @ fibonacci_sphere(n) + rng.normal(0, 0.15, (3, n))
    return (u / np.linalg.norm(u, axis=0)).astype(np.float32)
