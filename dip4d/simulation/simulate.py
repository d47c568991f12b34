"""The one tilt series that a microscope would take of a specimen that changes: angles, projections, noise.

Truth and projections are averages over a grid `SUPERSAMPLING` times finer than the volume that is reconstructed, so
the reconstruction never inverts the operator that made its data. Specimens with sharp edges are projected by another
projector altogether, `dip4d.simulation.strips`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, cached_property
from types import MappingProxyType

import numpy as np
import torch
from scipy import ndimage

from dip4d.config.schema import Camera
from dip4d.measures.noise import NoiseModel
from dip4d.projector import Geometry, Projector
from dip4d.simulation import strips
from dip4d.simulation.camera import recorded
from dip4d.simulation.hard_specimens import ALL
from dip4d.simulation.schemes import SCHEMES
from dip4d.simulation.specimens import Specimen
from dip4d.threads import each_alone
from dip4d.tilt_geometry import remove_unobservable_shift
from dip4d.tilt_series import TiltSeries

SUPERSAMPLING, SHARP_SUPERSAMPLING = 2, 3

FrozenImages = Callable[[int, np.ndarray], np.ndarray]
"""Of a frame and of tilt angles (n,), degrees: perfect images (n, z, s) of the specimen as it is at that frame."""


def add_noise(images: np.ndarray, peak_counts: float, *, seed: int) -> np.ndarray:
    """Poisson noise of `peak_counts` counts at the brightest pixel (0: none), drawn from (seed, frame) for each image.

    images: (t, z, s), intensity.
    """
    gain = float(images.max()) / peak_counts if peak_counts else 0.0
    return NoiseModel(gain, 0.0).added_to(images, seed=seed)


def jitter_shifts(angles_deg: np.ndarray, rms_px: float, *, seed: int) -> np.ndarray:
    """How far each image lies off its place: (t, 2), pixels along z and along s.

    Gaussian, `rms_px` in each direction, drawn from (seed, frame) for each image, less what no alignment can tell from
    another place of the specimen (`dip4d.tilt_geometry`) and less the mean, which would move the tilt axis.
    """
    drawn = [np.random.default_rng((seed, frame, 1)).normal(0, rms_px, 2) for frame in range(len(angles_deg))]
    z, s = np.transpose(drawn)
    return np.stack(remove_unobservable_shift(z, s, angles_deg=angles_deg, axis=True), axis=1)


def simulate(
    specimen: str = "nanostar_alloying",
    size: int = 64,
    *,
    frames: int = 100,
    scheme: str = "grs",
    peak_counts: float = 500.0,
    seed: int = 0,
    max_angle: float = 70.0,
    sweeps: int = 5,
    n_z: int | None = None,
    jitter: float = 0.0,
    camera: Camera | Mapping[str, float] = MappingProxyType({}),
) -> tuple[TiltSeries, np.ndarray]:
    """One tilt series of a specimen that changes while it is taken, and the truth.

    specimen: a name of `dip4d.simulation.hard_specimens.ALL`.
    size: edge of the volume, voxels.
    frames: number of images.
    scheme: a name of `dip4d.simulation.schemes.SCHEMES`, the order of the angles.
    peak_counts: Poisson noise, counts at the brightest pixel; 0 for none.
    seed: shapes the particle, the shifts, the noise and the faults of the camera.
    max_angle: largest tilt angle, degrees.
    sweeps: number of sweeps of the scheme pingpong.
    n_z: voxels along the tilt axis, `size` if None; fewer show the middle of the specimen.
    jitter: rms, pixels, of the random shifts of the images (`jitter_shifts`); the truth does not move.
    camera: strengths of its faults by name, those of the section `simulate.camera` of the configuration.
    Returns the series (t = frames, z = n_z, s = size) and the volumes (t, z = n_z, y = size, x = size), float32, in
    intensity per voxel (pure Au: 1). Raises ValueError for a specimen, a scheme or a fault that is not known.
    """
    faults = vars(camera) if isinstance(camera, Camera) else camera
    known_faults = [f.name for f in fields(Camera)]
    for name, known in ((scheme, SCHEMES), *((fault, known_faults) for fault in faults)):
        _check_known(name, known)
    angles = SCHEMES[scheme](frames, max_angle, sweeps=sweeps)
    scene = Scene.of(specimen, size, n_z=n_z, seed=seed)
    images, truth = scene.exposed(angles, shifts=jitter_shifts(angles, jitter, seed=seed))
    noisy = recorded(images, angles, camera=Camera(**faults), peak_counts=peak_counts, seed=seed)
    return TiltSeries(noisy, angles, source=f"simulated {specimen}"), truth


def frozen_images(
    specimen: str,
    size: int,
    *,
    frames: int,
    n_z: int | None = None,
    seed: int = 0,
    exclude: Sequence[int] = (),
) -> FrozenImages:
    """Those of the specimen of a `simulate`d series, which is drawn when they are first asked for.

    specimen, size, frames, n_z, seed: as of `simulate`.
    exclude: images that are not counted.
    """
    scene, taus = cache(lambda: Scene.of(specimen, size, n_z=n_z, seed=seed)), np.delete(_taus(frames), exclude)
    return lambda t, angles_deg: scene().frozen(taus[t], angles_deg)


def _taus(frames: int) -> np.ndarray:
    """The times of images: a specimen begins at 0 and ends at 1."""
    return np.linspace(0, 1, frames)


def _check_known(name: str, known: Collection[str]) -> None:
    if name not in known:
        raise ValueError(f"{name!r} is not one of {', '.join(known)}")


@dataclass(frozen=True, eq=False)
class Scene:
    """A specimen before a perfect microscope: its voxels and its images at any time, from a finer grid.

    particle: the specimen.
    size, n_z: voxels across and along the tilt axis.
    """

    particle: Specimen
    size: int
    n_z: int

    @classmethod
    def of(cls, specimen: str, size: int, *, n_z: int | None, seed: int) -> Scene:
        """That of `simulate`. Raises ValueError for a specimen that is not known."""
        _check_known(specimen, ALL)
        return cls(ALL[specimen](np.random.default_rng(seed)), size, size if n_z is None else n_z)

    def exposed(self, angles_deg: np.ndarray, *, shifts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images (t, n_z, size) of the specimen, which changes evenly in time, and its volumes (t, n_z, size, size).

        angles_deg: (t,).
        shifts: (t, 2), pixels along z and along s, of each image.
        """
        frames, k = len(angles_deg), self._finer
        truth = np.empty((frames, self.n_z, self.size, self.size), np.float32)
        images = np.empty((frames, self.n_z, self.size), np.float32)
        fine, taus = self._fine, _taus(frames)

        def expose(t: int) -> None:
            volume = fine(taus[t])
            inside = volume[..., self._beyond : self._beyond + k * self.size]
            truth[t] = inside.reshape(self.n_z, k, self.size, k, self.size, k).mean((1, 3, 5))
            (rows,) = self._projected(volume, angles_deg[[t]])
            if shifts[t].any():
                rows = ndimage.shift(rows, k * shifts[t], order=1, mode="nearest")
            images[t] = self._binned(rows)

        for _ in each_alone(expose, range(frames)):
            pass
        return images, truth

    def frozen(self, tau: float, angles_deg: np.ndarray) -> np.ndarray:
        """Images (n, n_z, size), at angles (n,), of the specimen as it is at the time tau, 0 to 1."""
        return np.stack([self._binned(rows) for rows in self._projected(self._fine(tau), angles_deg)])

    @property
    def _finer(self) -> int:
        return SHARP_SUPERSAMPLING if self.particle.sharp else SUPERSAMPLING

    @property
    def _beyond(self) -> int:
        """Fine voxels that are drawn on each side of the volume."""
        return self._finer * math.ceil(self.particle.beyond * self.size / 2)

    @cached_property
    def _fine(self) -> Callable[[float], np.ndarray]:
        """The fine voxels (z, y, x) at a time."""
        width = self._finer * self.size
        return self.particle.drawn((self._finer * self.n_z, width, width + 2 * self._beyond), width=width)

    def _projected(self, volume: np.ndarray, angles_deg: np.ndarray) -> Iterator[np.ndarray]:
        """The rows (z, s) of fine voxels at each angle, a pixel being as long as a voxel of the reconstruction."""
        bins, angles = self._finer * self.size, np.deg2rad(angles_deg)
        if self.particle.sharp:
            views = (strips.project(volume, angle, bins=bins) for angle in angles)
        else:
            A = Projector(Geometry((bins, bins), bins, torch.from_numpy(angles)))
            views = A(torch.from_numpy(volume)).transpose(0, 1).numpy()
        return (rows / self._finer for rows in views)

    def _binned(self, rows: np.ndarray) -> np.ndarray:
        """An image (n_z, size) of fine rows."""
        return rows.reshape(self.n_z, self._finer, self.size, self._finer).mean((1, 3))
