"""The order of the tilt angles: each scheme gives as many angles as there are images, in degrees."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dip4d.simulation.shapes import GOLDEN_RATIO


def grs(frames: int, max_angle: float, *, sweeps: int = 1) -> np.ndarray:
    """Golden-ratio scanning: every new image falls into the largest gap that the earlier ones left. Degrees."""
    width = 2 * max_angle
    return np.arange(1, frames + 1) * GOLDEN_RATIO * width % width - max_angle


def incremental(frames: int, max_angle: float, *, sweeps: int = 1) -> np.ndarray:
    """One sweep from the lowest to the highest angle. Degrees."""
    return np.linspace(-max_angle, max_angle, frames)


def pingpong(frames: int, max_angle: float, *, sweeps: int) -> np.ndarray:
    """`sweeps` sweeps, up and down in turn. Degrees."""
    angles = [np.linspace(-max_angle, max_angle, len(part)) for part in np.array_split(np.arange(frames), sweeps)]
    return np.concatenate([a if i % 2 == 0 else a[::-1] for i, a in enumerate(angles)])


SCHEMES: dict[str, Callable[..., np.ndarray]] = {"grs": grs, "incremental": incremental, "pingpong": pingpong}
