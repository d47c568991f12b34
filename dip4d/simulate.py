"""The one tilt series that a microscope would take of a specimen that changes: angles, projections, noise.

Truth and projections are averages over a grid `SUPERSAMPLING` times finer than the volume that is reconstructed, so
the reconstruction never inverts the operator that made its data.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy import ndimage

from dip4d.projector import Geometry, Projector
from dip4d.shifts import without_gauge
from dip4d.specimens import GOLDEN_RATIO, SPECIMENS
from dip4d.tilt_series import TiltSeries

SUPERSAMPLING = 2


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


def jitter_shifts(angles_deg: np.ndarray, rms: float, seed: int) -> np.ndarray:
    """How far each image lies off its place: (t, 2), pixels along z and along s.

    Gaussian, `rms` pixels in each direction, drawn from (seed, frame) for each image, less what no alignment can tell
    from another place of the specimen (`shifts.without_gauge`) and less the mean, which would move the tilt axis.
    """
    z, s = np.transpose([np.random.default_rng((seed, frame, 1)).normal(0, rms, 2) for frame in range(len(angles_deg))])
    return np.stack(without_gauge(z, s, angles_deg, axis=True), axis=1)


def simulate(
    specimen: str,
    size: int,
    frames: int,
    scheme: str,
    dose: float,
    seed: int,
    max_angle: float = 70,
    sweeps: int = 5,
    depth: int | None = None,
    jitter: float = 0,
) -> tuple[TiltSeries, np.ndarray]:
    """One tilt series of a specimen that changes while it is taken, and the truth.

    Returns the series (t = frames, z = depth, s = size) and the volumes (t, z = depth, y = size, x = size), float32, in
    intensity per voxel (pure Au: 1). `depth`: voxels along the tilt axis, `size` if None; fewer show the middle of the
    specimen. `dose`: counts at the brightest pixel, 0 for no noise. `jitter`: rms in pixels of the random shifts of the
    images (`jitter_shifts`); the truth does not move. `seed` shapes the particle, the shifts and the noise.
    """
    depth = size if depth is None else depth
    particle = SPECIMENS[specimen](np.random.default_rng(seed))
    angles = SCHEMES[scheme](frames, max_angle, sweeps)
    shifts = jitter_shifts(angles, jitter, seed)
    k, fine, fine_depth = SUPERSAMPLING, size * SUPERSAMPLING, depth * SUPERSAMPLING
    truth = np.empty((frames, depth, size, size), np.float32)
    images = np.empty((frames, depth, size), np.float32)
    for t, volume in enumerate(particle.frames((fine_depth, fine, fine), np.linspace(0, 1, frames))):
        truth[t] = volume.reshape(depth, k, size, k, size, k).mean((1, 3, 5))
        view = Projector(Geometry((fine, fine), fine, torch.tensor([np.deg2rad(angles[t])])))
        rows = view(torch.from_numpy(volume))[:, 0].numpy() / k  # a fine pixel is 1/k of a pixel long
        if jitter:
            rows = ndimage.shift(rows, k * shifts[t], order=1, mode="nearest")
        images[t] = rows.reshape(depth, k, size, k).mean((1, 3))
    return TiltSeries(add_noise(images, dose, seed), angles, source=f"simulated {specimen}"), truth
