"""Simulated dynamic nanoparticles: ground truth in 4D, and the one tilt series that a microscope would take of it.

Each specimen is a star-shaped body ``r < R(u, t)`` (u: direction) whose composition depends on ``rho = r / R``, so
that its conservation laws hold exactly at every time and at any size:

- *shape* (Au nanostar, after Vanrompay et al., Nanoscale 10:22792, 2018): the arms retract as ``exp(-rate t)`` and the
  body takes up their volume, which is kept.
- *composition* (Au@Ag, after Mychinko et al., Small 17:2102348, 2021): Fickian diffusion of Au in a sphere with a
  closed surface (Crank, *The Mathematics of Diffusion*, 2nd ed. 1975, ch. 6), mapped onto the body by rho; the mass of
  each element is kept. The intensity is that of HAADF, ``Z^1.7``.

Truth and projections are averages over a grid `SUPERSAMPLING` times finer than the volume that is reconstructed, so
the reconstruction never inverts the operator that made its data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.spatial.transform import Rotation

from dip4d.projector import Geometry, Projector
from dip4d.tilt_series import TiltSeries

SUPERSAMPLING = 2
GOLDEN_RATIO = (1 + 5**0.5) / 2
Z_EXPONENT = 1.7  # HAADF intensity grows as Z^n, n about 1.6 to 2
SILVER_OVER_GOLD = (47 / 79) ** Z_EXPONENT
DIFFUSION = 0.12  # D T / R^2: diffusivity times the duration of the series over the squared radius
DIFFUSED_BEFORE = 0.01  # share of the series for which the interface has already been diffusing at its start


@dataclass(frozen=True)
class Body:
    """A star-shaped particle, in units of half the width of the volume.

    radius(directions (3, n), progress) -> (n,): R(u, t); progress runs from 0 to 1 over the series.
    gold(rho (n,), progress) -> (n,): the Au concentration; the rest is Ag.
    reach: the largest radius it ever has.
    """

    radius: Callable[[np.ndarray, float], np.ndarray]
    gold: Callable[[np.ndarray, float], np.ndarray]
    reach: float

    def frames(self, size: int, progress: np.ndarray) -> Iterator[np.ndarray]:
        """Yields the intensity (z, y, x) on a grid of size^3 at each progress; 1 is pure Au."""
        axis = (np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1
        squared = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
        voxels = np.flatnonzero(squared < (self.reach + 2 / size) ** 2)
        position = np.stack([axis[i] for i in np.unravel_index(voxels, squared.shape)])
        r = np.sqrt(squared.ravel()[voxels])
        shape_at = partial(self.radius, position / r)
        for p in progress:
            surface = shape_at(p)
            filled = np.clip(0.5 + (surface - r) * (size / 2), 0, 1)  # the share of the voxel inside the surface
            gold = self.gold(np.minimum(r / surface, 1), p)
            frame = np.zeros(size**3, np.float32)
            frame[voxels] = filled * (SILVER_OVER_GOLD + (1 - SILVER_OVER_GOLD) * gold)
            yield frame.reshape(size, size, size)


class _Star:
    """R(u, t) = s(t) (1 + a(t) f(u)): a core with arms f, of constant volume."""

    def __init__(self, rng: np.random.Generator, arms: int = 12, core: float = 0.37, rate: float = 4.0) -> None:
        self.directions = _spread_directions(arms, rng)
        self.lengths = rng.uniform(0.9, 1.4, arms).astype(np.float32)
        self.sharpness = rng.uniform(20, 36, arms).astype(np.float32)
        self.rate = rate
        sphere = _fibonacci_sphere(20000)
        f = self._arms(sphere)
        self._moments = [float((f**k).mean()) for k in range(4)]
        self.core = core / self._scale(0) * self._scale(1)  # s(0) = core
        self.reach = float(self._scale_at(0) * (1 + f.max()))
        self._cache: tuple[int, np.ndarray] | None = None

    def _arms(self, u: np.ndarray) -> np.ndarray:
        f = np.zeros(u.shape[1], np.float32)
        for d, length, kappa in zip(self.directions.T, self.lengths, self.sharpness, strict=True):
            f += length * np.exp(kappa * (d @ u - 1))
        return f

    def _height(self, progress: float) -> float:
        return float(np.exp(-self.rate * progress))

    def _scale(self, progress: float) -> float:
        a, (m0, m1, m2, m3) = self._height(progress), self._moments
        return (m0 + 3 * a * m1 + 3 * a**2 * m2 + a**3 * m3) ** (-1 / 3)

    def _scale_at(self, progress: float) -> float:
        return self.core * self._scale(progress) / self._scale(1)

    def __call__(self, u: np.ndarray, progress: float) -> np.ndarray:
        if self._cache is None or self._cache[0] is not u:
            self._cache = u, self._arms(u)
        return self._scale_at(progress) * (1 + self._height(progress) * self._cache[1])


def _rounded_cuboid(rng: np.random.Generator) -> tuple[Callable, float]:
    """R(u) of a superellipsoid of exponent 4 in a random orientation, and its reach."""
    turn = Rotation.random(rng=rng).as_matrix().astype(np.float32)
    half_axes = rng.uniform(0.40, 0.62, 3).astype(np.float32)[:, None]

    def radius(u: np.ndarray, progress: float) -> np.ndarray:
        return (np.abs(turn @ u / half_axes) ** 4).sum(0) ** -0.25

    return radius, float(radius(_fibonacci_sphere(20000), 0).max())


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

    def __call__(self, rho: np.ndarray, progress: float) -> np.ndarray:
        decay = np.exp(-(self.eigen**2) * DIFFUSION * (progress + DIFFUSED_BEFORE))
        return np.interp(rho, self.rho, self.mean + decay @ self.modes).astype(np.float32)


def _pure_gold(rho: np.ndarray, progress: float) -> np.ndarray:
    return np.ones_like(rho)


def _nanostar(rng: np.random.Generator) -> Body:
    star = _Star(rng)
    return Body(star, _pure_gold, star.reach)


def _alloying(rng: np.random.Generator) -> Body:
    radius, reach = _rounded_cuboid(rng)
    return Body(radius, _Alloying(), reach)


def _nanostar_alloying(rng: np.random.Generator) -> Body:
    star = _Star(rng)
    return Body(star, _Alloying(), star.reach)


SPECIMENS: dict[str, Callable[[np.random.Generator], Body]] = {
    "nanostar": _nanostar,
    "alloying": _alloying,
    "nanostar_alloying": _nanostar_alloying,
}


def _fibonacci_sphere(n: int) -> np.ndarray:
    """n directions (3, n) that cover the sphere evenly."""
    i = np.arange(n) + 0.5
    z, azimuth = 1 - 2 * i / n, 2 * np.pi * i / GOLDEN_RATIO
    return np.stack([np.sqrt(1 - z**2) * np.cos(azimuth), np.sqrt(1 - z**2) * np.sin(azimuth), z]).astype(np.float32)


def _spread_directions(n: int, rng: np.random.Generator) -> np.ndarray:
    """n directions (3, n) that keep apart from each other, perturbed and turned at random."""
    u = Rotation.random(rng=rng).as_matrix() @ _fibonacci_sphere(n) + rng.normal(0, 0.15, (3, n))
    return (u / np.linalg.norm(u, axis=0)).astype(np.float32)


def grs(frames: int, max_angle: float, sweeps: int) -> np.ndarray:
    """Golden-ratio scanning: every new image falls into the largest gap that the earlier ones left. Degrees."""
    width = 2 * max_angle
    return np.arange(1, frames + 1) * GOLDEN_RATIO * width % width - max_angle


def incremental(frames: int, max_angle: float, sweeps: int) -> np.ndarray:
    """One sweep from the lowest to the highest angle. Degrees."""
    return np.linspace(-max_angle, max_angle, frames)


def pingpong(frames: int, max_angle: float, sweeps: int) -> np.ndarray:
    """`sweeps` sweeps, up and down in turn. Degrees."""
    angles = [np.linspace(-max_angle, max_angle, len(part)) for part in np.array_split(np.arange(frames), sweeps)]
    return np.concatenate([a if i % 2 == 0 else a[::-1] for i, a in enumerate(angles)])


SCHEMES: dict[str, Callable[[int, float, int], np.ndarray]] = {
    "grs": grs,
    "incremental": incremental,
    "pingpong": pingpong,
}


def add_noise(images: np.ndarray, dose: float, seed: int, brightest: float | None = None) -> np.ndarray:
    """Poisson noise of `dose` counts at the brightest pixel (0: none), drawn from (seed, frame) for each image.

    images: (t, z, s), intensity. brightest: the intensity that gets `dose` counts; the maximum of the images if None.
    """
    if dose == 0:
        return images
    counts_per_intensity = dose / (images.max() if brightest is None else brightest)
    noisy = [
        np.random.default_rng((seed, frame)).poisson(image * counts_per_intensity) / counts_per_intensity
        for frame, image in enumerate(images)
    ]
    return np.stack(noisy).astype(np.float32)


def simulate(
    specimen: str, size: int, frames: int, scheme: str, dose: float, seed: int, max_angle: float = 70, sweeps: int = 5
) -> tuple[TiltSeries, np.ndarray]:
    """One tilt series of a specimen that changes while it is taken, and the truth.

    Returns the series (t = frames, z = size, s = size) and the volumes (t, z, y, x), float32, in intensity per voxel
    (pure Au: 1). `dose`: counts at the brightest pixel, 0 for no noise. `seed` shapes the particle and the noise.
    """
    body = SPECIMENS[specimen](np.random.default_rng(seed))
    angles = SCHEMES[scheme](frames, max_angle, sweeps)
    k, fine = SUPERSAMPLING, size * SUPERSAMPLING
    truth = np.empty((frames, size, size, size), np.float32)
    images = np.empty((frames, size, size), np.float32)
    for t, volume in enumerate(body.frames(fine, np.linspace(0, 1, frames))):
        truth[t] = volume.reshape(size, k, size, k, size, k).mean((1, 3, 5))
        view = Projector(Geometry((fine, fine), fine, torch.tensor([np.deg2rad(angles[t])])))
        rows = view(torch.from_numpy(volume))[:, 0].numpy() / k  # a fine pixel is 1/k of a pixel long
        images[t] = rows.reshape(size, k, size, k).mean((1, 3))
    return TiltSeries(add_noise(images, dose, seed), angles, source=f"simulated {specimen}"), truth
