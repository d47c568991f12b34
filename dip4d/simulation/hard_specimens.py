"""Specimens that are hard to reconstruct: sharp edges, and changes that few functions of time describe.

`FAMILIES` says which are for development, A, and which are for reports only, B: nothing is ever tuned on those. Each is
drawn at random by its seed. Their voxels are full or empty (`Sharp`), and they are projected by
`dip4d.simulation.strips`, which shares nothing with the projector of the reconstruction.

Units and axes are those of `dip4d.simulation.specimens`.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import numpy as np
from scipy import fft
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from dip4d.simulation.shapes import box_depth, oblique, random_field, random_turn, spread_directions
from dip4d.simulation.specimens import SILVER_OVER_GOLD, SPECIMENS, Distance, Specimen

OUTSIDE = np.float32(-1)  # a depth below the surface of a point that lies far from it


@dataclass(frozen=True)
class Sharp(Specimen):
    """Solids whose voxels are full or empty.

    layers: of each solid a function, above 0 inside as a `Distance` is, and the intensity that it adds.
    reach, beyond: as of a `Specimen`.
    """

    layers: tuple[tuple[Distance, float], ...]
    reach: float
    beyond: float = 0.0
    sharp = True

    def on(self, points: np.ndarray, per_unit: float) -> Callable[[float], np.ndarray]:
        layers = [(depth_of(points), np.float32(share)) for depth_of, share in self.layers]

        def intensity(tau: float) -> np.ndarray:
            total = np.zeros(points.shape[1], np.float32)
            for depth, share in layers:
                total[depth(tau) > 0] += share
            return total

        return intensity


# A: for development


def _bending_rod(rng: np.random.Generator) -> Specimen:
    """A beaded rod that bends to an arc and back while it swings about its middle, at other paces: no rigid motion."""
    length, radius, beading = rng.uniform(1.2, 1.4), rng.uniform(0.1, 0.13), rng.uniform(0.2, 0.3)
    bend, swing = rng.uniform(1.2, 1.7), np.deg2rad(rng.uniform(20, 32))  # of the whole arc; radians
    periods, phases = rng.uniform(0.7, 1.2, 2), rng.uniform(0, 2 * np.pi, 3)
    along = oblique(rng)
    across = np.cross(along, oblique(rng))
    across /= np.linalg.norm(across)
    frame = np.stack([along, across, np.cross(along, across)]).astype(np.float32)
    wave = lambda k, tau: np.sin(2 * np.pi * periods[k] * tau + phases[k])

    def rod(points: np.ndarray) -> Callable[[float], np.ndarray]:
        def depth(tau: float) -> np.ndarray:
            turned = Rotation.from_rotvec([0, 0, -swing * wave(1, tau)]).as_matrix().astype(np.float32) @ frame
            u, v, w = turned @ points
            angle = bend * wave(0, tau)
            r = length / (angle if abs(angle) > 1e-2 else np.copysign(1e-2, angle))  # of the arc
            place = np.clip(r * np.arctan2(u / r, 1 - v / r), -length / 2, length / 2)
            off = (u - r * np.sin(place / r)) ** 2 + (v - r + r * np.cos(place / r)) ** 2 + w**2
            return radius * (1 + beading * np.cos(3 * np.pi * place / length + phases[2])) - np.sqrt(off)

        return depth

    return Sharp(((rod, 1.0),), length / 2 + radius * (1 + beading))


def _ripening(rng: np.random.Generator) -> Specimen:
    """An ensemble that ripens, each particle at a pace of its own: small ones dissolve, large ones take up their mass.

    ``dV/dt = pace (r / r* - 1)`` with the critical radius r* that keeps the volume: interface-limited Ostwald ripening
    (Wagner, Z. Elektrochem. 65:581, 1961), until half of the particles are gone.
    """
    count = int(rng.integers(14, 20))
    radii = _ripened(rng.uniform(0.07, 0.17, count), rng.uniform(0.3, 2.0, count))
    places = _apart(rng, radii.max(0) * 1.25, region=np.array([0.45, 0.7, 0.7]))
    shapes = [np.diag(stretch / stretch.prod() ** (1 / 3)) @ random_turn(rng) for stretch in
              rng.uniform(0.85, 1.18, (count, 3))]  # fmt: skip
    steps = np.linspace(0, 1, len(radii))

    def ensemble(points: np.ndarray) -> Callable[[float], np.ndarray]:
        near = []
        for place, shape, most in zip(places, shapes, radii.max(0), strict=True):
            some = _ball(points, place, radius=1.25 * most)
            near.append((some, np.linalg.norm(shape @ (points[:, some] - place[:, None]), axis=0)))

        def depth(tau: float) -> np.ndarray:
            total = np.full(points.shape[1], OUTSIDE)
            for (some, r), radius in zip(near, radii.T, strict=True):
                total[some] = np.maximum(total[some], np.interp(tau, steps, radius) - r)
            return total

        return depth

    return Sharp(((ensemble, 1.0),), reach=0.95)


def _ripened(start: np.ndarray, pace: np.ndarray, *, step: float = 0.01) -> np.ndarray:
    """The radii (steps, n) of an ensemble that ripens until half of it is gone, of constant volume."""
    radii, volumes = [start], start**3
    while (volumes > 0).sum() > len(start) / 2:
        r = np.cbrt(volumes)
        critical = (pace * r).sum() / (pace * (r > 0)).sum()
        grown = np.maximum(volumes + step * (start**3).mean() * pace * (r > 0) * (r / critical - 1), 0)
        volumes = grown * (start**3).sum() / grown.sum()
        radii.append(np.cbrt(volumes))
    return np.stack(radii)


def _porous(rng: np.random.Generator) -> Specimen:
    """A porous body that coarsens, its pores growing as it does: the spinodal decomposition of Cahn and Hilliard.

    J. Chem. Phys. 28:258, 1958; the volume fraction is kept (Eyre's stable scheme, 1998).
    """
    turn, half_axes = random_turn(rng), rng.uniform(0.5, 0.62, (3, 1)).astype(np.float32)
    fields = _coarsening(rng)
    steps = np.linspace(0, len(fields) - 1, len(fields))

    def body(points: np.ndarray) -> Callable[[float], np.ndarray]:
        hull = box_depth(np.abs(turn @ points), half_axes, rounding=0.25)
        inside = np.flatnonzero(hull > 0)
        places = (points[:, inside] + 1) * (fields.shape[1] / 2) - 0.5
        at = lru_cache(maxsize=2)(lambda i: map_coordinates(fields[i], places, order=1, mode="grid-wrap"))

        def depth(tau: float) -> np.ndarray:
            i = min(int(tau * steps[-1]), len(fields) - 2)
            share = np.float32(tau * steps[-1] - i)
            total = np.full(points.shape[1], OUTSIDE)
            total[inside] = (1 - share) * at(i) + share * at(i + 1)
            return total

        return depth

    return Sharp(((body, 1.0),), float(np.linalg.norm(half_axes - 0.25) + 0.25))


def _coarsening(rng: np.random.Generator, *, size: int = 48, kept: int = 25) -> np.ndarray:
    """(kept, size, size, size), float32: fields u that separate into +1 and -1, ``du/dt = D (u^3 - u - D u)``."""
    waves = 2 * np.pi * fft.fftfreq(size), 2 * np.pi * fft.rfftfreq(size)
    k2 = (waves[0][:, None, None] ** 2 + waves[0][:, None] ** 2 + waves[1] ** 2).astype(np.float32)
    u = rng.normal(0, 0.1, (size,) * 3).astype(np.float32)
    u -= u.mean()
    fields, between = [], 4
    steps = np.r_[np.ones(50), np.geomspace(1, 12, between * (kept - 1))].astype(np.float32)
    for n, step in enumerate(steps, start=1):
        change, spectrum = (cast(np.ndarray, fft.rfftn(v)) for v in (u**3 - 3 * u, u))
        spectrum = (spectrum - step * k2 * change) / (1 + step * (k2**2 + 2 * k2))
        u = cast(np.ndarray, fft.irfftn(spectrum, s=(size,) * 3))
        if n >= 50 and (n - 50) % between == 0:
            fields.append(u)
    return np.stack(fields).astype(np.float32)


def _front(rng: np.random.Generator) -> Specimen:
    """A rough Au body of grains that turn into Ag, one by one: a front crosses each at a time and a pace of its own."""
    turn, half_axes = random_turn(rng), rng.uniform(0.45, 0.58, (3, 1)).astype(np.float32)
    rough = random_field(rng, 0.35)
    grains = rng.uniform(-0.6, 0.6, (int(rng.integers(10, 15)), 3)).astype(np.float32)
    directions = spread_directions(len(grains), rng).T
    begins, lasts = rng.uniform(-0.05, 0.75, len(grains)), rng.uniform(0.1, 0.35, len(grains))

    def body(points: np.ndarray) -> Callable[[float], np.ndarray]:
        depth = box_depth(np.abs(turn @ points), half_axes, rounding=0.2) + 0.03 * rough(points)
        return lambda tau: depth

    def gold(points: np.ndarray) -> Callable[[float], np.ndarray]:
        depth, arrival = body(points)(0), np.zeros(points.shape[1], np.float32)
        nearest = np.full(points.shape[1], np.inf, np.float32)
        for grain, direction, begin, last in zip(grains, directions, begins, lasts, strict=True):
            off = points - grain[:, None]
            squared = (off**2).sum(0)
            here = squared < nearest
            arrival[here] = begin + last * (0.5 + (direction @ off[:, here]) / 0.6)
            nearest = np.minimum(nearest, squared)
        return lambda tau: np.minimum(depth, arrival - np.float32(tau))

    reach = float(np.linalg.norm(half_axes - 0.2) + 0.2 + 0.09)
    return Sharp(((body, SILVER_OVER_GOLD), (gold, 1 - SILVER_OVER_GOLD)), reach)


# B: for reports only


def _swinging_frame(rng: np.random.Generator) -> Specimen:
    """A box of thin struts, with two diagonals, that twists about its long axis and bends, at different paces."""
    half = rng.uniform([0.36, 0.3, 0.42], [0.44, 0.38, 0.5])
    radius = rng.uniform(0.045, 0.06)
    turn = random_turn(rng)
    twist, bend = np.deg2rad(rng.uniform(25, 40)), rng.uniform(0.35, 0.55)
    periods, phases = rng.uniform(0.6, 1.3, 2), rng.uniform(0, 2 * np.pi, 2)
    corners = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)]) * half
    pairs = [(a, b) for a in range(8) for b in range(a) if bin(a ^ b).count("1") == 1] + [(0, 3), (4, 7)]
    struts = [(corners[a].astype(np.float32), corners[b].astype(np.float32)) for a, b in pairs]
    wave = lambda k, tau: np.float32(np.sin(2 * np.pi * periods[k] * tau + phases[k]))

    def frame(points: np.ndarray) -> Callable[[float], np.ndarray]:
        a, b, c = turn @ points

        def depth(tau: float) -> np.ndarray:
            x = a - np.float32(bend) * wave(1, tau) * (c**2 - np.float32(half[2] ** 2 / 3))  # bent back,
            angle = -np.float32(twist / half[2]) * wave(0, tau) * c  # and twisted back
            cos, sin = np.cos(angle), np.sin(angle)
            back = np.stack([cos * x - sin * b, sin * x + cos * b, c])
            nearest = np.full(points.shape[1], np.inf, np.float32)
            for start, end in struts:
                np.minimum(nearest, _from_segment(back, start, end=end), out=nearest)
            return np.float32(radius**2) - nearest

        return depth

    return Sharp(((frame, 1.0),), float(np.linalg.norm(half) + radius + bend * half[2] ** 2 * 2 / 3))


def _from_segment(points: np.ndarray, start: np.ndarray, *, end: np.ndarray) -> np.ndarray:
    """The squared distance (n,) of points (3, n) to a segment."""
    way = end - start
    off = points - start[:, None]
    share = np.clip(way @ off / (way @ way), 0, 1)
    return ((off - way[:, None] * share) ** 2).sum(0)


def _holes_and_fracture(rng: np.random.Generator) -> Specimen:
    """A plate in which two holes open, one after the other, and from which a corner breaks off, turns and leaves."""
    turn, half_axes = random_turn(rng), rng.uniform([0.44, 0.14, 0.36], [0.52, 0.2, 0.44])[:, None].astype(np.float32)
    opens, widths = np.sort(rng.uniform(0.02, 0.5, 2)), rng.uniform(0.13, 0.19, 2)
    side = rng.choice([-1, 1], 2)
    centres = np.array([[0.22, 0.1], [-0.2, -0.12]]) * side
    breaks = rng.uniform(0.3, 0.6)
    normal = np.array([-side[0] * rng.uniform(0.6, 1), 0, side[1] * rng.uniform(0.6, 1)])
    normal = (normal / np.linalg.norm(normal)).astype(np.float32)
    corner = half_axes[:, 0] * np.sign(normal)
    cut = np.float32(normal @ corner - rng.uniform(0.2, 0.26))
    spin, travel = oblique(rng) * np.deg2rad(rng.uniform(40, 70)), (rng.uniform(0.18, 0.26) * normal)
    centre = corner * 0.8

    def plate(points: np.ndarray, tau: float) -> np.ndarray:
        depth = box_depth(np.abs(points), half_axes, rounding=0.04)
        for (p, q), begins, width in zip(centres, opens, widths, strict=True):
            if tau > begins:
                radius = width * np.sqrt((tau - begins) / (1 - begins))
                depth = np.minimum(depth, np.hypot(points[0] - p, points[2] - q) - np.float32(radius))
        return depth

    def both(points: np.ndarray) -> Callable[[float], np.ndarray]:
        points = turn @ points

        def depth(tau: float) -> np.ndarray:
            if tau <= breaks:
                return plate(points, tau)
            gone = (tau - breaks) / (1 - breaks)
            back = Rotation.from_rotvec(-gone * spin).as_matrix().astype(np.float32)
            before = back @ (points - (centre + gone * travel)[:, None].astype(np.float32)) + centre[:, None]
            stays = np.minimum(plate(points, tau), cut - normal @ points)
            return np.maximum(stays, np.minimum(plate(before, tau), normal @ before - cut))

        return depth

    return Sharp(((both, 1.0),), float(np.linalg.norm(half_axes) + np.linalg.norm(travel) + 0.02))


def _facets(rng: np.random.Generator) -> Specimen:
    """A long Au crystal whose facets move, each at a pace of its own, to its equilibrium shape, of constant volume.

    Facets {100}, {110} and {111}; distances relax as by surface diffusion, fast facets first. Equilibrium: Wulff, 1901.
    """
    signs = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1], [-1, 0, 1], indexing="ij"), -1).reshape(-1, 3)
    signs = signs[np.abs(signs).sum(1) > 0]
    kind = np.abs(signs).sum(1) - 1  # 0: {100}, 1: {110}, 2: {111}
    crystal = (signs / np.linalg.norm(signs, axis=1, keepdims=True)).astype(np.float32)
    normals = crystal @ random_turn(rng)
    end = np.array([1.0, 1.02, 0.95])[kind]
    start = end * rng.uniform(0.75, 1.15, len(end)) * (1 + 0.6 * np.abs(crystal[:, 2]))
    begins, rates = rng.uniform(0, 0.6, len(end)), rng.uniform(2, 9, len(end))
    volume = rng.uniform(0.3, 0.38)

    def unscaled(tau: float) -> np.ndarray:
        return end + (start - end) * np.exp(-rates * np.maximum(tau - begins, 0))

    def depth_of(points: np.ndarray, distances: np.ndarray) -> np.ndarray:
        depth = np.full(points.shape[1], np.inf, np.float32)
        for normal, distance in zip(normals, distances.astype(np.float32), strict=True):
            np.minimum(depth, distance - normal @ points, out=depth)
        return depth

    axis = (np.arange(40, dtype=np.float32) - 19.5) * (2.2 / 20)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")).reshape(3, -1)
    steps = np.linspace(0, 1, 33)
    volumes = [np.mean(np.clip(0.5 + depth_of(grid, unscaled(t)) * 20 / 2.2, 0, 1)) * 4.4**3 for t in steps]
    scales = (volume / np.array(volumes)) ** (1 / 3)

    def crystal_at(points: np.ndarray) -> Callable[[float], np.ndarray]:
        return lambda tau: depth_of(points, unscaled(tau) * np.interp(tau, steps, scales))

    far = [np.linalg.norm(grid[:, depth_of(grid, unscaled(t)) > 0], axis=0).max() * s
           for t, s in zip(steps, scales, strict=True)]  # fmt: skip
    return Sharp(((crystal_at, 1.0),), float(max(far) + 0.1))


def _film(rng: np.random.Generator) -> Specimen:
    """A film with holes, wider than the field; on it a flat Au island becomes round, and a smaller one slides along."""
    level, thick, share = rng.uniform(-0.45, -0.3), rng.uniform(0.1, 0.16), rng.uniform(0.02, 0.05)
    holes = random_field(rng, 0.7)
    flat, volume = rng.uniform(2.2, 3.0), rng.uniform(0.3, 0.36) ** 3
    z, x = rng.uniform(-0.15, 0.15), rng.uniform(-0.35, -0.15)
    radius, tracks = rng.uniform(0.12, 0.16), np.sort(rng.uniform(0.15, 0.6, 2))
    pace, top = rng.uniform(0.7, 1.6), level + thick / 2

    def film(points: np.ndarray) -> Callable[[float], np.ndarray]:
        along = points.copy()
        along[1] = 0
        depth = np.minimum(thick / 2 - np.abs(points[1] - np.float32(level)), 1.2 + holes(along))
        return lambda tau: depth

    def islands(points: np.ndarray) -> Callable[[float], np.ndarray]:
        some = np.flatnonzero((points[1] > top) & (np.abs(points[0]) < 0.95) & (np.abs(points[2]) < 0.95))
        here = points[:, some]

        def depth(tau: float) -> np.ndarray:
            ratio = 1 + (flat - 1) * np.exp(-4 * tau)  # of the half axes of a half-spheroid on the film
            high = (volume / ratio**2) ** (1 / 3)
            island = ((here[0] - z) ** 2 + (here[2] - x) ** 2) / (ratio * high) ** 2 + ((here[1] - top) / high) ** 2
            slid = tracks[0] + (tracks[1] - tracks[0]) * tau**pace + 0.1
            ball = (here[0] + z) ** 2 + (here[1] - top - radius) ** 2 + (here[2] - slid) ** 2
            total = np.full(points.shape[1], OUTSIDE)
            total[some] = np.maximum(1 - island, radius**2 - ball)
            return total

        return depth

    return Sharp(((film, share), (islands, 1.0)), reach=4.0, beyond=2.0)


def _leaving(rng: np.random.Generator) -> Specimen:
    """A lumpy particle turns and leaves the field until about half of it is outside; another one stays and shrinks.

    Where it is outside of the volume, images at high tilt still see it.
    """
    lumps = 0.24 * spread_directions(int(rng.integers(5, 8)), rng)
    radii = rng.uniform(0.1, 0.18, lumps.shape[1])
    begin, end = (
        np.array([rng.uniform(-0.1, 0.1), rng.uniform(0.05, 0.2), 0.1]),
        np.array([0.0, 0.1, rng.uniform(0.9, 1)]),
    )
    spin, rest = oblique(rng) * np.deg2rad(rng.uniform(40, 80)), np.array([0.1, -0.2, -0.55])
    radius, left, pace = rng.uniform(0.2, 0.26), rng.uniform(0.4, 0.7), rng.uniform(1.0, 1.8)

    def both(points: np.ndarray) -> Callable[[float], np.ndarray]:
        from_rest = np.linalg.norm(points - rest[:, None].astype(np.float32), axis=0)

        def depth(tau: float) -> np.ndarray:
            total = np.float32(radius * (1 - (1 - left) * tau)) - from_rest
            middle = begin + (end - begin) * tau**pace
            for lump, r in zip((Rotation.from_rotvec(tau * spin).as_matrix() @ lumps).T, radii, strict=True):
                some = _ball(points, middle + lump, radius=r)
                total[some] = 1
            core = _ball(points, middle, radius=0.22)
            total[core] = 1
            return total

        return depth

    return Sharp(((both, 1.0),), reach=1.5, beyond=0.5)


def _ball(points: np.ndarray, centre: np.ndarray, *, radius: float) -> np.ndarray:
    """The indices of the points (3, n) within a ball."""
    off = points - centre[:, None].astype(np.float32)
    return np.flatnonzero((off**2).sum(0) < np.float32(radius**2))


def _apart(rng: np.random.Generator, radii: np.ndarray, *, region: np.ndarray) -> np.ndarray:
    """Random places (n, 3) of balls that do not touch, their middles in an ellipsoid with these half axes."""
    places = np.empty((len(radii), 3))
    placed: list[int] = []
    for i in np.argsort(-radii):
        while True:
            place = rng.uniform(-1, 1, 3)
            apart = np.linalg.norm(places[placed] - place * region, axis=1) > radii[placed] + radii[i]
            if place @ place < 1 and apart.all():
                break
        places[i] = place * region
        placed.append(i)
    return places


Family = Mapping[str, Callable[[np.random.Generator], Specimen]]
FAMILIES: dict[str, Family] = {
    "A": {"bending_rod": _bending_rod, "ripening": _ripening, "porous": _porous, "front": _front},
    "B": {
        "swinging_frame": _swinging_frame,
        "holes_and_fracture": _holes_and_fracture,
        "facets": _facets,
        "film": _film,
        "leaving": _leaving,
    },
}
HARD: dict[str, Callable[[np.random.Generator], Specimen]] = {**FAMILIES["A"], **FAMILIES["B"]}
ALL: MutableMapping[str, Callable[[np.random.Generator], Specimen]] = ChainMap(HARD, SPECIMENS)
