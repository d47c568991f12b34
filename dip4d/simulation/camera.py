"""What a real microscope adds to a perfect image: the faults of `simulate.camera`, and the noise of counting."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from dip4d.config.schema import Camera
from dip4d.measures.noise import NoiseModel

_GAIN, _GRADIENT, _HOT = 2, 3, 4  # numbers that keep the random draws of the faults apart; 1 is the jitter's


def recorded(
    images: np.ndarray,
    angles_deg: np.ndarray,
    *,
    camera: Camera,
    peak_counts: float,
    seed: int,
) -> np.ndarray:
    """Images as a camera with faults records them: blurred, saturated, of a drifting gain, on a background, noisy.

    images: (t, z, s), intensity, perfect.
    angles_deg: (t,).
    camera: the strength of each fault; all 0 leave the noise of counting alone.
    peak_counts: of the brightest pixel of the perfect images; 0 for no noise of counting.
    seed: the faults are drawn from it, the noise from (seed, frame).
    """
    peak = float(images.max())
    images = saturated(blurred(images, angles_deg, at_90_px=camera.tilt_blur_px), camera.saturation, peak=peak)
    images = images * gains(len(images), camera.gain_drift, seed=seed)[:, None, None]
    images += np.float32(peak) * background(images.shape[1:], camera.background, gradient=camera.gradient, seed=seed)
    noise = NoiseModel(peak / peak_counts if peak_counts else 0.0, (camera.readout * peak) ** 2)
    noisy = noise.added_to(images, seed=seed)
    noisy += np.float32(peak) * hot_pixels(images.shape[1:], camera.hot_pixels, seed=seed)
    return noisy


def blurred(images: np.ndarray, angles_deg: np.ndarray, *, at_90_px: float) -> np.ndarray:
    """Images (t, z, s), each under a Gaussian that grows with the tilt: ``at_90_px |sin|`` pixels wide (sigma)."""
    if not at_90_px:
        return images
    sigmas = at_90_px * np.abs(np.sin(np.deg2rad(angles_deg)))
    return np.stack([ndimage.gaussian_filter(i, s, mode="nearest") for i, s in zip(images, sigmas, strict=True)])


def saturated(images: np.ndarray, lost: float, *, peak: float) -> np.ndarray:
    """Images whose intensity grows ever less with the thickness: a pixel of intensity `peak` loses the share `lost`."""
    return images - np.float32(lost / peak) * images**2 if lost else images


def gains(frames: int, rms: float, *, seed: int) -> np.ndarray:
    """(frames,), float32: the factor of each image, 1 in the mean; half of its variance is a slow walk, half noise."""
    random = np.random.default_rng((seed, 0, _GAIN))
    both = np.stack([np.cumsum(random.normal(size=frames)), random.normal(size=frames)], axis=1)
    return (1 + rms * ((both - both.mean(0)) / both.std(0)).sum(1) / 2**0.5).astype(np.float32)


def background(shape: tuple[int, ...], level: float, *, gradient: float, seed: int) -> np.ndarray:
    """(z, s), float32: `level` where it is lowest, and `gradient` more where it is highest, in a random direction."""
    turn = np.random.default_rng((seed, 0, _GRADIENT)).uniform(0, 2 * np.pi)
    z, s = (np.linspace(-1, 1, n) for n in shape)
    plane = np.sin(turn) * z[:, None] + np.cos(turn) * s
    return (level + gradient * (plane - plane.min()) / np.ptp(plane)).astype(np.float32)


def hot_pixels(shape: tuple[int, ...], share: float, *, seed: int) -> np.ndarray:
    """(z, s), float32: 0.5 to 1.5 at a random share of the pixels, the same in all images; 0 elsewhere."""
    random = np.random.default_rng((seed, 0, _HOT))
    return ((random.random(shape) < share) * random.uniform(0.5, 1.5, shape)).astype(np.float32)
