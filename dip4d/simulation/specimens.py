"""Simulated nanoparticles that change: the ground truth in 4D.

Every specimen is drawn at random by the generator it is given and renders itself on voxels of any number and size
(`Specimen.frames`). Lengths are in units of half the width of the volume, time is tau, 0 to 1 over the series,
intensities are those of HAADF, ``Z^1.7``, with pure Au at 1. Coordinates are (z, y, x) from the middle of the volume.

Two forms of particle:

- `Body`, star-shaped, ``r < R(u, t)`` (u: direction), of a composition that depends on ``rho = r / R``, so that its
  conservation laws hold exactly at every time and at any size. *Shape* (Au nanostar, after Vanrompay et al., Nanoscale
  10:22792, 2018): the arms retract as ``exp(-rate t)`` and the body takes up their volume, which is kept.
  *Composition* (Au@Ag, after Mychinko et al., Small 17:2102348, 2021): Fickian diffusion of Au in a sphere with a
  closed surface (Crank, *The Mathematics of Diffusion*, 2nd ed. 1975, ch. 6), mapped onto the body by rho; the mass of
  each element is kept.
- `Solid`, given by the signed distance to its surface: whatever is hollow, perforated, or made of several parts.

Two that change another: `Moving` turns and shifts it, `Timed` runs it by a clock of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import cast

import numpy as np
from scipy.ndimage import center_of_mass
from scipy.optimize import brentq
from scipy.spatial.transform import Rotation

from dip4d.measures.elements import Elements
from dip4d.simulation.shapes import box_depth, fibonacci_sphere, oblique, random_field, random_turn, spread_directions

Z_EXPONENT = 1.7  # HAADF intensity grows as Z^n, n about 1.6 to 2
SILVER_OVER_GOLD = (47 / 79) ** Z_EXPONENT
DIFFUSION = 0.12  # D T / R^2: diffusivity times the duration of the series over the squared radius
DIFFUSED_BEFORE = 0.01  # share of the series for which the interface has already been diffusing at its start
ROUGHNESS = 0.016  # rms height of rough walls

Distance = Callable[[np.ndarray], Callable[[float], np.ndarray]]
"""Of points (3, n): a function of tau that returns (n,), how deep the points lie below the surface; outside it is
negative. What does not depend on time is worked out with the points."""


class Specimen(ABC):
    """A particle that changes, in units of half the width of the volume.

    reach: the largest radius it ever has.
    beyond: how far outside of the volume, along x, it has to be drawn: what is there is in the images of some tilts.
    sharp: its voxels are full or empty; it is drawn on a finer grid for that, and projected by area.
    """

    reach: float
    beyond: float = 0.0
    sharp: bool = False

    @abstractmethod
    def on(self, points: np.ndarray, per_unit: float) -> Callable[[float], np.ndarray]:
        """The intensity (n,) of voxels around points (3, n), `per_unit` voxels to the unit, as a function of tau.

        What does not depend on time is worked out here, once.
        """

    def drawn(self, shape: tuple[int, int, int], *, width: int | None = None) -> Callable[[float], np.ndarray]:
        """A function of tau that returns the intensity (z, y, x), float32; 1 is pure Au.

        shape: the number of voxels along z, y and x. They are cubes, ``2 / width`` wide, so that a shape of fewer along
        z shows the middle of the specimen only.
        width: voxels that the volume is wide; as many as there are along x if None.
        """
        width = shape[2] if width is None else width
        z, y, x = ((np.arange(n, dtype=np.float32) + 0.5) * 2 / width - n / width for n in shape)
        squared = z[:, None, None] ** 2 + y[:, None] ** 2 + x**2
        voxels = np.flatnonzero(squared < (self.reach + 2 / width) ** 2)
        indices = np.unravel_index(voxels, shape)
        intensity_at = self.on(np.stack([axis[i] for axis, i in zip((z, y, x), indices, strict=True)]), width / 2)

        def volume(tau: float) -> np.ndarray:
            frame = np.zeros(squared.size, np.float32)
            frame[voxels] = intensity_at(float(tau))
            return frame.reshape(shape)

        return volume

    def frames(
        self,
        shape: tuple[int, int, int],
        taus: np.ndarray,
        *,
        width: int | None = None,
    ) -> Iterator[np.ndarray]:
        """Yields what is `drawn` of it at each tau."""
        return map(self.drawn(shape, width=width), taus)


@dataclass(frozen=True)
class Body(Specimen):
    """A star-shaped particle.

    radius(directions (3, n), tau) -> (n,): R(u, t).
    gold(rho (n,), tau) -> (n,): the Au concentration; the rest is Ag.
    """

    radius: Callable[[np.ndarray, float], np.ndarray]
    gold: Callable[[np.ndarray, float], np.ndarray]
    reach: float

    def on(self, points: np.ndarray, per_unit: float) -> Callable[[float], np.ndarray]:
        r = np.maximum(np.sqrt((points**2).sum(0)), 1e-6)
        surface_at = partial(self.radius, points / r)

        def intensity(tau: float) -> np.ndarray:
            surface = surface_at(tau)
            gold = self.gold(np.minimum(r / surface, 1), tau)
            return _filled(surface - r, per_unit) * (SILVER_OVER_GOLD + (1 - SILVER_OVER_GOLD) * gold)

        return intensity


@dataclass(frozen=True)
class Solid(Specimen):
    """Solids in one another, each given by its signed distance and the intensity that it adds."""

    layers: tuple[tuple[Distance, float], ...]
    reach: float

    def on(self, points: np.ndarray, per_unit: float) -> Callable[[float], np.ndarray]:
        layers = [(distance(points), share) for distance, share in self.layers]
        return lambda tau: cast(np.ndarray, sum(share * _filled(depth(tau), per_unit) for depth, share in layers))


@dataclass(frozen=True)
class Moving(Specimen):
    """A specimen that turns about its `pivot` while that travels through the middle of the volume, both evenly.

    turn: (3,) axis times angle over the series in radians.
    travel, pivot: (3,).
    """

    specimen: Specimen
    turn: np.ndarray
    travel: np.ndarray
    pivot: np.ndarray

    @property
    def reach(self) -> float:
        return self.specimen.reach + float(np.linalg.norm(self.pivot) + np.linalg.norm(self.travel) / 2)

    def on(self, points: np.ndarray, per_unit: float) -> Callable[[float], np.ndarray]:
        def intensity(tau: float) -> np.ndarray:
            back = Rotation.from_rotvec(-(tau - 0.5) * self.turn).as_matrix()
            offset = self.pivot - back @ self.travel * (tau - 0.5)
            points_then = back.astype(np.float32) @ points + offset.astype(np.float32)[:, None]
            return self.specimen.on(points_then, per_unit)(tau)

        return intensity


@dataclass(frozen=True)
class Timed(Specimen):
    """A specimen that runs by another clock: clock(tau) is the tau at which it is seen."""

    specimen: Specimen
    clock: Callable[[float], float]

    @property
    def reach(self) -> float:
        return self.specimen.reach

    def on(self, points: np.ndarray, per_unit: float) -> Callable[[float], np.ndarray]:
        intensity = lru_cache(maxsize=1)(self.specimen.on(points, per_unit))
        return lambda tau: intensity(self.clock(tau))


def _filled(depth: np.ndarray, per_unit: float) -> np.ndarray:
    """The share of a voxel that lies inside a surface, of the depth of its middle below it."""
    return np.clip(0.5 + depth * per_unit, 0, 1)


class _Star:
    """R(u, t) = s(t) (1 + a(t) f(u)): a core with arms f, of constant volume."""

    def __init__(self, rng: np.random.Generator, *, arms: int = 12, core: float = 0.37, rate: float = 4.0) -> None:
        self.directions = spread_directions(arms, rng)
        self.lengths = rng.uniform(0.9, 1.4, arms).astype(np.float32)
        self.sharpness = rng.uniform(20, 36, arms).astype(np.float32)
        self.rate = rate
        sphere = fibonacci_sphere(20000)
        f = self._arms(sphere)
        self._moments = [float((f**k).mean()) for k in range(4)]
        self.core = core / self._scale(0) * self._scale(1)  # s(0) = core
        self.reach = float(self._scale_at(0) * (1 + f.max()))
        self._cache: tuple[np.ndarray, np.ndarray] | None = None

    def _arms(self, u: np.ndarray) -> np.ndarray:
        f = np.zeros(u.shape[1], np.float32)
        for d, length, kappa in zip(self.directions.T, self.lengths, self.sharpness, strict=True):
            f += length * np.exp(kappa * (d @ u - 1))
        return f

    def _height(self, tau: float) -> float:
        return float(np.exp(-self.rate * tau))

    def _scale(self, tau: float) -> float:
        a, (m0, m1, m2, m3) = self._height(tau), self._moments
        return (m0 + 3 * a * m1 + 3 * a**2 * m2 + a**3 * m3) ** (-1 / 3)

    def _scale_at(self, tau: float) -> float:
        return self.core * self._scale(tau) / self._scale(1)

    def __call__(self, u: np.ndarray, tau: float) -> np.ndarray:
        if self._cache is None or self._cache[0] is not u:
            self._cache = u, self._arms(u)
        return self._scale_at(tau) * (1 + self._height(tau) * self._cache[1])


def _rounded_cuboid(rng: np.random.Generator) -> tuple[Callable, float]:
    """R(u) of a superellipsoid of exponent 4 in a random orientation, and its reach."""
    turn = random_turn(rng)
    half_axes = rng.uniform(0.40, 0.62, 3).astype(np.float32)[:, None]

    def radius(u: np.ndarray, tau: float) -> np.ndarray:
        return (np.abs(turn @ u / half_axes) ** 4).sum(0) ** -0.25

    return radius, float(radius(fibonacci_sphere(20000), 0).max())


class _Alloying:
    """Au concentration c(rho, t): a core of Au in a shell of Ag, diffusing in a sphere with a closed surface.

    ``c = core^3 + sum_n A_n sin(l_n rho) / rho exp(-l_n^2 D t)`` with ``tan l_n = l_n``: Crank 1975, eq. 6.43 ff.
    """

    def __init__(self, core: float = 0.62, terms: int = 60) -> None:
        eigen = np.array([brentq(lambda v: np.sin(v) - v * np.cos(v), n * np.pi, (n + 0.5) * np.pi)
                          for n in range(1, terms + 1)])  # fmt: skip
        overlap = (np.sin(eigen * core) - eigen * core * np.cos(eigen * core)) / eigen**2
        norm = 0.5 - np.sin(2 * eigen) / (4 * eigen)
        self.rho = np.linspace(0, 1, 513)
        self.modes = eigen[:, None] * np.sinc(eigen[:, None] * self.rho / np.pi) * (overlap / norm)[:, None]
        self.eigen, self.mean = eigen, core**3

    def __call__(self, rho: np.ndarray, tau: float) -> np.ndarray:
        decay = np.exp(-(self.eigen**2) * DIFFUSION * (tau + DIFFUSED_BEFORE))
        return np.interp(rho, self.rho, self.mean + decay @ self.modes).astype(np.float32)


def _pure_gold(rho: np.ndarray, tau: float) -> np.ndarray:
    return np.ones_like(rho)


def _nanostar(rng: np.random.Generator) -> Specimen:
    star = _Star(rng)
    return Body(star, _pure_gold, star.reach)


def _alloying(rng: np.random.Generator) -> Specimen:
    radius, reach = _rounded_cuboid(rng)
    return Body(radius, _Alloying(), reach)


def _nanostar_alloying(rng: np.random.Generator) -> Specimen:
    star = _Star(rng)
    return Body(star, _Alloying(), star.reach)


def _static(rng: np.random.Generator) -> Specimen:
    """A nanostar, partly alloyed, in which nothing changes: what changes in its reconstruction is an artefact."""
    return Timed(_nanostar_alloying(rng), lambda tau: 0.3)


def _event(rng: np.random.Generator) -> Specimen:
    """A nanostar that loses its arms from one image to the next, and does not change before or after."""
    moment = rng.uniform(0.4, 0.6)
    star = _Star(rng, core=0.35)
    return Timed(Body(star, _pure_gold, star.reach), lambda tau: 0.0 if tau < moment else 0.6)


def _drift(rng: np.random.Generator) -> Specimen:
    """A rigid Au@Ag nanostar that turns by 40 degrees about its centre of mass, which moves along a straight line."""
    star = _Star(rng, core=0.29)
    rigid = Timed(Body(star, _Alloying(), star.reach), lambda tau: 0.05)
    size = 64
    voxel = center_of_mass(next(rigid.frames((size, size, size), np.zeros(1))))
    centre = (np.array(voxel) + 0.5) * 2 / size - 1
    return Moving(rigid, np.deg2rad(40) * oblique(rng), 0.12 * oblique(rng), centre)


def _nanocage(rng: np.random.Generator) -> Specimen:
    """A hollow Au box with rough, perforated walls that dissolves from all its surfaces, fast at first.

    The shape is that of Au nanocages (Skrabalak et al., Acc. Chem. Res. 41:1587, 2008). The etched depth is
    ``e(x, t) = a (1 - exp(-3 t)) rate(x)`` on the inside and the outside of the walls and twice that in the holes; a is
    such that 38 to 47 % of the mass is left.
    """
    turn = random_turn(rng)
    half_axes = rng.uniform(0.42, 0.52, (3, 1)).astype(np.float32)
    rounding, wall = rng.uniform(0.12, 0.17), rng.uniform(0.14, 0.18)
    outside, inside, rate = random_field(rng, 0.3), random_field(rng, 0.3), random_field(rng, 0.6)
    holes = spread_directions(int(rng.integers(5, 8)), rng).T
    radii = rng.uniform(0.06, 0.12, len(holes))
    left = rng.uniform(0.38, 0.47)

    def cage(points: np.ndarray) -> Callable[[float], np.ndarray]:
        depth = box_depth(np.abs(turn @ points), half_axes, rounding=rounding)
        walls = np.minimum(depth + ROUGHNESS * outside(points), wall - depth + ROUGHNESS * inside(points))
        beside = np.full(points.shape[1], np.inf, np.float32)  # the distance to the nearest hole
        for hole, radius in zip(holes, radii, strict=True):
            along = np.maximum(hole @ points, 0)
            beside = np.minimum(beside, np.sqrt(((points - hole[:, None] * along) ** 2).sum(0)) - np.float32(radius))
        speed = np.maximum(1 + 0.35 * rate(points), 0.2)
        return lambda etched: np.minimum(walls - etched * speed, beside - 2 * etched * speed)

    reach = float(np.linalg.norm(half_axes - rounding) + rounding + 3 * ROUGHNESS)
    by_depth = Solid(((cage, 1.0),), reach)
    depths = np.linspace(0, 0.5 * wall, 16)
    mass = np.array([frame.sum() for frame in by_depth.frames((64, 64, 64), depths)])
    final = np.interp(-left, -mass / mass[0], depths)
    return Timed(by_depth, lambda tau: final * _slowing(tau))


def _sintering(rng: np.random.Generator) -> Specimen:
    """Two Au particles that touch, form a neck and become one, of constant volume, while they turn by 30 degrees.

    The smooth union (Quilez, *Smooth minimum*, 2013) of two spheres whose centres approach each other; at each time it
    is scaled to the volume and shifted to the centre of mass of the start. A phenomenological model of coalescence.
    """
    radii = np.array([0.31, 0.25]) * rng.uniform(0.95, 1.05, 2)
    axis = oblique(rng).astype(np.float32)
    share = radii**3 / (radii**3).sum()

    def pair(along: np.ndarray, across: np.ndarray, *, tau: float) -> np.ndarray:
        merged = _slowing(tau, rate=0.7)
        separation = radii.sum() * (0.97 - 0.82 * merged)
        first = radii[0] - np.hypot(along + separation * share[1], across)
        second = radii[1] - np.hypot(along - separation * share[0], across)
        blend = 0.05 + 0.15 * merged
        return np.maximum(first, second) + np.maximum(blend - np.abs(first - second), 0) ** 2 / (4 * blend)

    step = 0.005
    across, along = np.arange(step / 2, 0.6, step), np.arange(-0.9, 0.9, step)[:, None]

    @lru_cache(maxsize=1)
    def volume_and_centre(tau: float) -> tuple[float, float]:
        rings = _filled(pair(along, across, tau=tau), 1 / step) * across
        return float(rings.sum()), float((rings * along).sum() / rings.sum())

    volume, _ = volume_and_centre(0.0)

    def particle(points: np.ndarray) -> Callable[[float], np.ndarray]:
        z = axis @ points
        r = np.sqrt(np.maximum((points**2).sum(0) - z**2, 0))

        def depth(tau: float) -> np.ndarray:
            unscaled, centre = volume_and_centre(tau)
            scale = (volume / unscaled) ** (1 / 3)
            return scale * pair(z / scale + centre, r / scale, tau=tau)

        return depth

    reach = float((radii + radii.sum() * share[::-1]).max() + 0.02)
    turn = np.deg2rad(30) * np.copysign(oblique(rng), axis * [-1, 1, 1])  # far from the line through the pair
    return Moving(Solid(((particle, 1.0),), reach), turn, np.zeros(3), np.zeros(3))


def _growth(rng: np.random.Generator) -> Specimen:
    """An Au box that stays as it is while Ag grows on it, at a constant volume per time, not equally on all faces."""
    turn = random_turn(rng)
    hull = rng.uniform(0.42, 0.54, (3, 1)).astype(np.float32)
    seed = hull * 0.55 * rng.uniform(0.9, 1.1, (3, 1)).astype(np.float32)
    rounding = np.float32(0.3)  # of the smallest half axis
    start, end = float(seed.prod()), float(hull.prod())
    steps = np.linspace(0, 1, 257)
    volumes = np.prod(seed + steps * (hull - seed), axis=0)

    def gold(points: np.ndarray) -> Callable[[float], np.ndarray]:
        depth = box_depth(np.abs(turn @ points), seed, rounding=rounding * seed.min())
        return lambda tau: depth

    def whole(points: np.ndarray) -> Callable[[float], np.ndarray]:
        points = np.abs(turn @ points)

        def depth(tau: float) -> np.ndarray:
            half_axes = seed + np.float32(np.interp(start + tau * (end - start), volumes, steps)) * (hull - seed)
            return box_depth(points, half_axes, rounding=rounding * half_axes.min())

        return depth

    rounded = rounding * hull.min()
    reach = float(np.linalg.norm(hull - rounded) + rounded)
    return Solid(((whole, SILVER_OVER_GOLD), (gold, 1 - SILVER_OVER_GOLD)), reach)


SPECIMENS: dict[str, Callable[[np.random.Generator], Specimen]] = {
    "nanostar": _nanostar,
    "alloying": _alloying,
    "nanostar_alloying": _nanostar_alloying,
    "nanocage": _nanocage,
    "sintering": _sintering,
    "drift": _drift,
    "event": _event,
    "growth": _growth,
    "static": _static,
}
WITH_SILVER = {"alloying", "nanostar_alloying", "drift", "growth", "static", "front"}  # others are of pure Au,
ON_A_FILM = {"film"}  # but for these


def elements_of_specimen(name: str) -> Elements | None:
    """What a specimen is made of, and the intensity per voxel of each element; None if it is more than that."""
    if name in ON_A_FILM:
        return None
    if name in WITH_SILVER:
        return Elements(("Au", "Ag"), (1.0, SILVER_OVER_GOLD))
    return Elements(("Au",), (1.0,))


def _slowing(tau: float, rate: float = 3.0) -> float:
    """From 0 to 1, fast at first."""
    return float(np.expm1(-rate * tau) / np.expm1(-rate))
