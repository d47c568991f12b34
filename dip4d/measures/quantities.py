"""A specimen in numbers at each time: volume, surface, particles, and what it is made of.

Everything starts from the filled share of each voxel (`filled`): 1 inside, 0 outside, and at the surface the intensity
over that of the material beside it, so that partial volumes count as what they are. The surface is that of marching
cubes (Lewiner et al. 2003) at half of the local intensity, at the level near it that encloses the volume.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from skimage.measure import label, marching_cubes, mesh_surface_area
from skimage.morphology import ball
from skimage.segmentation import expand_labels

from dip4d.measures.elements import Elements

FAINT = 0.2  # of the largest intensity: what is fainter is no specimen, where its elements are not known
EDGE_PX = 1.5  # so deep below the surface, at least, the material is told from,
THIN = 0.5  # or in the middle of what is thinner, where no neighbour is more than twice as bright
HALO_PX = 2  # so far outside of the surface a blurred edge reaches
LEVELS = 0.2, 0.8  # of the surface: near one half
SMALLEST_PX3 = 8  # a particle
FARTHEST = 1.0  # radii that a particle goes from one frame to the next
FEWEST_PX3 = 4.0  # of a shell of a radial profile


@dataclass(frozen=True)
class Particle:
    """One part of a specimen: its volume, and its place (z, y, x) from the middle of the volume."""

    volume: float
    place: tuple[float, float, float]


@dataclass(frozen=True)
class Measured:
    """What is measured of one volume. values: by name, as `names_of`. profile: of the intensity of the material, or the
    share of the first of two elements, in shells one voxel thick about the centre of mass; NaN where there is none.
    """

    values: dict[str, float]
    particles: list[Particle]
    profile: np.ndarray


def names_of(elements: Elements | None = None) -> dict[str, int]:
    """The names of the quantities, and the power of a length that each is."""
    shape = {"volume": 3, "surface": 2, "surface_to_volume": -1, "sphericity": 0}
    shape |= {f"length_{axis}": 1 for axis in "zyx"} | {"particles": 0}
    amounts = {} if elements is None else {name: 3 for name in elements.names}
    mixing = {"mixing_index": 0} if elements is not None and len(elements.names) == 2 else {}
    return shape | amounts | mixing


def measure(volume: np.ndarray, *, voxel: float = 1.0, elements: Elements | None = None) -> Measured:
    """The quantities of a volume (z, y, x), intensity per voxel.

    voxel: its edge, in the unit of length of what is returned.
    elements: what it is made of; None if unknown, then no amounts are told.
    NaN where there is no specimen.
    """
    volume = np.asarray(volume, np.float32)
    window = _around(volume)
    if window is None:
        nothing = dict.fromkeys(names_of(elements), np.nan) | {"particles": 0.0}
        return Measured(nothing, [], np.full(max(volume.shape) // 2, np.nan))
    offset = np.array([s.start for s in window]) - (np.array(volume.shape) - 1) / 2
    part = np.pad(volume[window], 1)
    fill, material = filled(part, elements=elements)
    fill, particles = _particles(fill, offset - 1)
    values = _shape_of(fill, len(particles))
    if elements is not None:
        values |= _amounts(fill, material, mass=float(part[fill > 0].sum()), elements=elements)
    profile = _profile(fill, material if elements is None else _share(material, elements), size=max(volume.shape) // 2)
    powers = names_of(elements)
    return Measured(
        {name: float(values[name] * voxel ** powers[name]) for name in powers},
        [
            Particle(p.volume * voxel**3, (p.place[0] * voxel, p.place[1] * voxel, p.place[2] * voxel))
            for p in particles
        ],
        profile,
    )


def filled(volume: np.ndarray, *, elements: Elements | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The filled share, 0..1, of each voxel of a volume (z, y, x), and the intensity that it has where it is filled.

    The latter is that of the voxel itself inside; at the edge, where partial volume and blur have their part in it,
    that of the nearest voxel inside. What is fainter than half of the lightest of the elements, or than `FAINT` where
    they are not known, is no specimen.
    """
    near = ball(HALO_PX)
    brightest = ndimage.maximum_filter(volume, footprint=near)
    least = FAINT * float(volume.max()) if elements is None else 0.5 * min(elements.intensities)
    among_others = ndimage.binary_erosion(volume > least, ball(1))  # as Ag beside Au, of less than half its intensity
    inside = np.logical_or(volume > np.maximum(0.5 * brightest, least), among_others)
    depth = _depth(inside)
    middle = (depth == ndimage.maximum_filter(depth, footprint=ball(1))) & (volume >= THIN * brightest)
    core = inside & ((depth >= EDGE_PX) | middle | (volume >= brightest))
    if not core.any():
        return np.zeros_like(volume), volume
    material = volume[tuple(_nearest(core))]
    share = np.where(core & (depth >= EDGE_PX), 1.0, np.clip(volume / material, 0, 1))
    return np.where(ndimage.binary_dilation(inside, near), share, 0.0), material


def surface_mesh(fill: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The surface of a filled share (z, y, x) that is 0 at its border: vertices (n, 3) in voxels, triangles (m, 3).

    At the level between those of `LEVELS` at which it encloses the volume: half would cut off what is convex.
    """
    wanted, levels, enclosed = float(fill.sum()), [0.5, 0.45], []
    for level in levels:
        vertices, faces = marching_cubes(fill, level)[:2]
        enclosed.append(_enclosed(vertices, faces))
    slope = (enclosed[1] - enclosed[0]) / (levels[1] - levels[0])
    level = float(np.clip(0.5 + (wanted - enclosed[0]) / slope, *LEVELS)) if slope < 0 else 0.5
    vertices, faces = marching_cubes(fill, level)[:2]
    return vertices, faces


def map_of(volume: np.ndarray, elements: Elements) -> np.ndarray:
    """The share of each voxel of a volume (z, y, x) that the first of two elements fills, 0..1."""
    fill, material = filled(volume, elements=elements)
    return fill * _share(material, elements)


def tracked(frames: Sequence[Sequence[Particle]]) -> list[list[Particle | None]]:
    """Particles followed through the frames: for each its states (t,), None where it is not there; the largest first.

    From one frame to the next those are one whose distances are the least in sum (Kuhn 1955), and none goes farther
    than `FARTHEST` times its radius, or three voxels of a volume of one.
    """
    tracks: list[list[Particle | None]] = []
    last: list[Particle] = []
    for t, found in enumerate(frames):
        places = np.array([p.place for p in found]).reshape(-1, 3)
        before = np.array([p.place for p in last]).reshape(-1, 3)
        apart = np.linalg.norm(before[:, None] - places[None], axis=-1)
        new = set(range(len(found)))
        for track, particle in zip(*linear_sum_assignment(apart), strict=True):
            if apart[track, particle] <= FARTHEST * max(_radius(last[track]), _radius(found[particle])):
                tracks[track].append(found[particle])
                last[track] = found[particle]
                new.discard(int(particle))
        for particle in sorted(new):
            tracks.append([None] * t + [found[particle]])
            last.append(found[particle])
        for track in tracks:
            track += [None] * (t + 1 - len(track))
    largest = lambda track: max(p.volume for p in track if p is not None)
    return sorted(tracks, key=largest, reverse=True)


def table_of(frames: Iterable[Measured]) -> dict[str, np.ndarray]:
    """The values of frames, by name: (t,) each."""
    frames = list(frames)
    return {name: np.array([f.values[name] for f in frames]) for name in frames[0].values} if frames else {}


def _depth(inside: np.ndarray) -> np.ndarray:
    """Of each voxel inside, how far the nearest outside is, in voxels."""
    return np.asarray(ndimage.distance_transform_edt(inside))


def _nearest(core: np.ndarray) -> np.ndarray:
    """The indices (3, z, y, x) of the voxel of a core that is nearest to each voxel."""
    return np.asarray(ndimage.distance_transform_edt(~core, return_distances=False, return_indices=True))


def _around(volume: np.ndarray) -> tuple[slice, ...] | None:
    """The window of a volume in which there is a specimen, with room for its edges; None if it is empty."""
    peak = float(volume.max())
    if not (np.isfinite(peak) and peak > 0):
        return None
    found = ndimage.find_objects((volume > FAINT * peak).astype(np.int8))[0]
    room = 2 * HALO_PX
    return tuple(slice(max(s.start - room, 0), min(s.stop + room, n)) for s, n in zip(found, volume.shape, strict=True))


def _particles(fill: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, list[Particle]]:
    """The filled share without specks, and its particles, in voxels; offset: (3,) of its corner from the middle."""
    labels = np.asarray(label(fill > 0.5))
    counts = np.bincount(labels.ravel(), minlength=1)
    small = counts < SMALLEST_PX3
    small[0] = False
    labels = expand_labels(np.where(small[labels], 0, labels), HALO_PX)
    fill = np.where(labels > 0, fill, 0.0)
    volumes = np.bincount(labels.ravel(), weights=fill.ravel(), minlength=1)
    numbers = [n for n in range(1, len(volumes)) if volumes[n] > 0]
    places = np.reshape(ndimage.center_of_mass(fill, labels, numbers), (-1, 3)) + offset
    return fill, [Particle(float(volumes[n]), tuple(p.tolist())) for n, p in zip(numbers, places, strict=True)]


def _shape_of(fill: np.ndarray, particles: int) -> dict[str, float]:
    volume = float(fill.sum())
    found = {"volume": volume, "particles": float(particles)}
    if particles == 0:
        return dict.fromkeys(names_of(), np.nan) | {"particles": 0.0}
    vertices, faces = surface_mesh(fill)
    surface = float(mesh_surface_area(vertices, faces))
    lengths = {f"length_{axis}": n for axis, n in zip("zyx", np.ptp(vertices, axis=0).tolist(), strict=True)}
    sphericity = np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / surface
    return found | lengths | {"surface": surface, "surface_to_volume": surface / volume, "sphericity": sphericity}


def _amounts(fill: np.ndarray, material: np.ndarray, *, mass: float, elements: Elements) -> dict[str, float]:
    """The volume that each element fills, and the mixing index of two."""
    volume = float(fill.sum())
    if len(elements.names) == 1:
        return {elements.names[0]: mass / elements.intensities[0]}
    first, second = elements.intensities
    amount = (mass - second * volume) / (first - second)
    share = _share(material, elements)
    mean = float((fill * share).sum()) / max(volume, 1e-9)
    apart = float((fill * (share - mean) ** 2).sum()) / max(volume, 1e-9)
    mixed = 1 - apart / (mean * (1 - mean)) if 0 < mean < 1 else np.nan
    return {elements.names[0]: amount, elements.names[1]: volume - amount, "mixing_index": mixed}


def _share(material: np.ndarray, elements: Elements) -> np.ndarray:
    """The share of the first of two elements in a material of some intensity; the intensity itself of one element."""
    if len(elements.names) == 1:
        return material
    first, second = elements.intensities
    return np.clip((material - second) / (first - second), 0, 1)


def _profile(fill: np.ndarray, values: np.ndarray, *, size: int) -> np.ndarray:
    """The mean of values (z, y, x) where there is a specimen, in shells about its centre of mass: (size,)."""
    if not fill.any():
        return np.full(size, np.nan)
    centre = ndimage.center_of_mass(fill)
    axes = (np.arange(n) - c for n, c in zip(fill.shape, centre, strict=True))
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    shell = np.minimum(np.sqrt(z**2 + y**2 + x**2).astype(int), size).ravel()
    weight = np.bincount(shell, weights=fill.ravel(), minlength=size + 1)[:size]
    total = np.bincount(shell, weights=(fill * values).ravel(), minlength=size + 1)[:size]
    return np.where(weight >= FEWEST_PX3, total / np.maximum(weight, 1e-9), np.nan)


def _enclosed(vertices: np.ndarray, faces: np.ndarray) -> float:
    """The volume that a closed mesh encloses: the sum of tetrahedra to the origin."""
    a, b, c = (vertices[faces[:, k]].astype(np.float64) for k in range(3))
    return abs(float((a * np.cross(b, c)).sum())) / 6


def _radius(particle: Particle) -> float:
    return (0.75 / np.pi * particle.volume) ** (1 / 3)
