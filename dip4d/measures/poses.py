"""Where the images of a series fit its reconstruction best: how far from the places and angles that were given.

A volume that changes smoothly cannot follow the wrong angle of a single image. A linear step from the predicted image
to the measured one tells by how much image and specimen are turned and displaced against each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

FAINT = 0.02  # share of the brightest predicted pixel that noise adds to the variance of all
POSES = ("turn_deg", "z_px", "s_px")


@dataclass(frozen=True)
class PoseStep:
    """step: (3,), by how much an image differs, in the order of `POSES`. error: (3,), its standard errors."""

    step: np.ndarray
    error: np.ndarray


def pose_step(measured: np.ndarray, predicted: np.ndarray, *, per_degree: np.ndarray) -> PoseStep | None:
    """The turn and the displacement that bring a predicted image nearest to the measured one; None of an empty one.

    measured, predicted: (z, s), intensity.
    per_degree: (z, s), how the predicted image changes with a turn of the specimen by one degree.
    """
    slopes = [
        per_degree,
        *(-np.gradient(predicted, axis=a) if predicted.shape[a] > 1 else 0 * predicted for a in (0, 1)),
    ]
    design = np.stack([of.ravel() for of in slopes], axis=1).astype(np.float64)
    misfit = (measured - predicted).ravel().astype(np.float64)
    weight = 1 / np.maximum(predicted + FAINT * max(float(predicted.max()), 1e-30), 1e-30).ravel()
    normal = design.T @ (weight[:, None] * design)
    if not np.isfinite(normal).all() or not np.diag(normal).any():
        return None
    inverse = np.linalg.pinv(normal, rcond=1e-6, hermitian=True)
    scatter = design.T @ ((weight * misfit)[:, None] ** 2 * design)  # of White (Econometrica 48:817, 1980)
    return PoseStep(inverse @ design.T @ (weight * misfit), np.sqrt(np.diag(inverse @ scatter @ inverse).clip(0)))


def poses_off(steps: Iterable[PoseStep | None]) -> dict[str, dict[str, float]]:
    """By how much the images of a series are off, root mean square over them less what the standard errors explain.

    For each of `POSES` rms, 0 where it is no more than chance, and error, the rms of the standard errors; empty without
    any step.
    """
    there = [step for step in steps if step is not None]
    if not there:
        return {}
    squares, chance = (np.mean(np.square([getattr(s, k) for s in there]), axis=0) for k in ("step", "error"))
    rms, error = np.sqrt(np.maximum(squares - chance, 0)), np.sqrt(chance)
    return {name: {"rms": float(r), "error": float(e)} for name, r, e in zip(POSES, rms, error, strict=True)}
