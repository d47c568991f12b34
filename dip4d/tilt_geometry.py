"""What no image of a tilt series can see: where the specimen lies in space.

A specimen that is moved by (a, b) across the tilt axis looks, at the tilt angle theta, shifted by ``a cos + b sin``;
one that is moved along it, by the same amount in all images. Such displacements move the reconstruction and change
nothing else, so no alignment can find them and none should be blamed for them.
"""

from __future__ import annotations

import numpy as np


def tilt_basis(angles_deg: np.ndarray, *, constant: bool = False) -> np.ndarray:
    """[1,] cos and sin of the tilt angles (t,), degrees, as columns: (t, 2), or (t, 3) with the constant."""
    theta = np.deg2rad(angles_deg)
    return np.stack([*([np.ones_like(theta)] if constant else []), np.cos(theta), np.sin(theta)], axis=1)


def remove_unobservable_shift(
    z: np.ndarray,
    s: np.ndarray,
    *,
    angles_deg: np.ndarray,
    axis: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Displacements less what no method can know: the mean of z, and ``a cos + b sin`` of the tilt angle in s.

    z, s: (t,), displacement of each image along and across the tilt axis, pixels.
    angles_deg: (t,), tilt angles, degrees.
    axis: also remove what all images have in common in s, the place of the tilt axis.
    """
    basis = tilt_basis(angles_deg, constant=axis)
    return z - z.mean(), s - basis @ np.linalg.lstsq(basis, s, rcond=1e-6)[0]


def remove_slow_motion(
    z: np.ndarray,
    s: np.ndarray,
    *,
    angles_deg: np.ndarray,
    tau: np.ndarray,
    functions: int,
    told_by: np.ndarray | slice = slice(None),
) -> tuple[np.ndarray, np.ndarray]:
    """Displacements less a slow motion of the specimen, which may be real, in each direction of space.

    z, s: (t,), displacement of each image along and across the tilt axis, pixels.
    angles_deg: (t,), tilt angles, degrees.
    tau: (t,), times, 0..1.
    functions: how many cosines of time the motion may be made of; of 1, the place of the specimen, s keeps nothing that
        `remove_unobservable_shift` takes.
    told_by: the images that tell that motion; all by default.
    """
    slow = np.cos(np.pi * np.arange(functions) * tau[:, None])
    across = (slow[:, :, None] * tilt_basis(angles_deg)[:, None]).reshape(len(tau), -1)
    left = lambda values, basis: values - basis @ np.linalg.lstsq(basis[told_by], values[told_by], rcond=1e-3)[0]
    return left(z, slow), left(s, across)
