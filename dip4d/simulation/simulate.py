"""The one tilt series that a microscope would take of a specimen that changes: angles, projections, noise.

Truth and projections are averages over a grid `SUPERSAMPLING` times finer than the volume that is reconstructed, so
the reconstruction never inverts the operator that made its data. Specimens with sharp edges are projected by another
projector altogether, `dip4d.simulation.strips`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
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
from dip4d.tilt_geometry import remove_unobservable_shift
from dip4d.tilt_series import TiltSeries

SUPERSAMPLING, SHARP_SUPERSAMPLING = 2, 3


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
    n_z = size if n_z is None else n_z
    faults = vars(camera) if isinstance(camera, Camera) else camera
    known_faults = [f.name for f in fields(Camera)]
    for name, known in ((specimen, ALL), (scheme, SCHEMES), *((fault, known_faults) for fault in faults)):
        if name not in known:
            raise ValueError(f"{name!r} is not one of {', '.join(known)}")
    particle = ALL[specimen](np.random.default_rng(seed))
    angles = SCHEMES[scheme](frames, max_angle, sweeps=sweeps)
    images, truth = exposed(particle, angles, size=size, n_z=n_z, shifts=jitter_shifts(angles, jitter, seed=seed))
    noisy = recorded(images, angles, camera=Camera(**faults), peak_counts=peak_counts, seed=seed)
    return TiltSeries(noisy, angles, source=f"simulated {specimen}"), truth


def exposed(
    particle: Specimen,
    angles_deg: np.ndarray,
    *,
    size: int,
    n_z: int,
    shifts: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Perfect images (t, n_z, size) of a specimen that changes evenly in time, and its volumes (t, n_z, size, size).

    particle: the specimen.
    angles_deg: (t,).
    size, n_z: voxels across and along the tilt axis.
    shifts: (t, 2), pixels along z and along s, of each image.
    """
    frames = len(angles_deg)
    k = SHARP_SUPERSAMPLING if particle.sharp else SUPERSAMPLING
    fine, fine_z, beyond = size * k, n_z * k, k * math.ceil(particle.beyond * size / 2)
    truth = np.empty((frames, n_z, size, size), np.float32)
    images = np.empty((frames, n_z, size), np.float32)
    volumes = particle.frames((fine_z, fine, fine + 2 * beyond), np.linspace(0, 1, frames), width=fine)
    for t, volume in enumerate(volumes):
        inside = volume[..., beyond : beyond + fine]
        truth[t] = inside.reshape(n_z, k, size, k, size, k).mean((1, 3, 5))
        angle = np.deg2rad(angles_deg[t])
        rows = (strips.project if particle.sharp else _projected)(volume, angle, bins=fine)
        rows = rows / k  # a fine pixel is 1/k of a pixel long
        if shifts[t].any():
            rows = ndimage.shift(rows, k * shifts[t], order=1, mode="nearest")
        images[t] = rows.reshape(n_z, k, size, k).mean((1, 3))
    return images, truth


def _projected(volume: np.ndarray, angle: float, *, bins: int) -> np.ndarray:
    """As `strips.project`, by the projector of the reconstruction."""
    view = Projector(Geometry((bins, bins), bins, torch.tensor([angle])))
    return view(torch.from_numpy(volume))[:, 0].numpy()
