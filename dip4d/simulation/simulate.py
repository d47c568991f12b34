"""The one tilt series that a microscope would take of a specimen that changes: angles, projections, noise.

Truth and projections are averages over a grid `SUPERSAMPLING` times finer than the volume that is reconstructed, so
the reconstruction never inverts the operator that made its data.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from dip4d.measures.noise import NoiseModel
from dip4d.projector import Geometry, Projector
from dip4d.simulation.schemes import SCHEMES
from dip4d.simulation.specimens import SPECIMENS
from dip4d.tilt_geometry import remove_unobservable_shift
from dip4d.tilt_series import TiltSeries

SUPERSAMPLING = 2


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
) -> tuple[TiltSeries, np.ndarray]:
    """One tilt series of a specimen that changes while it is taken, and the truth.

    specimen: a name of `dip4d.simulation.specimens.SPECIMENS`.
    size: edge of the volume, voxels.
    frames: number of images.
    scheme: a name of `dip4d.simulation.schemes.SCHEMES`, the order of the angles.
    peak_counts: Poisson noise, counts at the brightest pixel; 0 for none.
    seed: shapes the particle, the shifts and the noise.
    max_angle: largest tilt angle, degrees.
    sweeps: number of sweeps of the scheme pingpong.
    n_z: voxels along the tilt axis, `size` if None; fewer show the middle of the specimen.
    jitter: rms, pixels, of the random shifts of the images (`jitter_shifts`); the truth does not move.
    Returns the series (t = frames, z = n_z, s = size) and the volumes (t, z = n_z, y = size, x = size), float32, in
    intensity per voxel (pure Au: 1). Raises ValueError for a specimen or a scheme that is not known.
    """
    n_z = size if n_z is None else n_z
    for name, known in ((specimen, SPECIMENS), (scheme, SCHEMES)):
        if name not in known:
            raise ValueError(f"{name!r} is not one of {', '.join(known)}")
    particle = SPECIMENS[specimen](np.random.default_rng(seed))
    angles = SCHEMES[scheme](frames, max_angle, sweeps=sweeps)
    shifts = jitter_shifts(angles, jitter, seed=seed)
    k, fine, fine_z = SUPERSAMPLING, size * SUPERSAMPLING, n_z * SUPERSAMPLING
    truth = np.empty((frames, n_z, size, size), np.float32)
    images = np.empty((frames, n_z, size), np.float32)
    for t, volume in enumerate(particle.frames((fine_z, fine, fine), np.linspace(0, 1, frames))):
        truth[t] = volume.reshape(n_z, k, size, k, size, k).mean((1, 3, 5))
        view = Projector(Geometry((fine, fine), fine, torch.tensor([np.deg2rad(angles[t])])))
        rows = view(torch.from_numpy(volume))[:, 0].numpy() / k  # a fine pixel is 1/k of a pixel long
        if jitter:
            rows = ndimage.shift(rows, k * shifts[t], order=1, mode="nearest")
        images[t] = rows.reshape(n_z, k, size, k).mean((1, 3))
    noisy = add_noise(images, peak_counts, seed=seed)
    return TiltSeries(noisy, angles, source=f"simulated {specimen}"), truth
