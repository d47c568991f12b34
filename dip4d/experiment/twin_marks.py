"""What a twin experiment puts into a movie, to see how fast a change and how small a feature comes back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from torch import Tensor

from dip4d.measures.error_bars import rise, smallest_seen
from dip4d.measures.quantities import filled
from dip4d.tilt_series import TiltSeries

MOMENTS = (0.3, 0.5, 0.7)  # of the series, at which a place changes
CHANGE = -0.5  # of its intensity
RADIUS_SHARE, SMALLEST_RADIUS_PX = 0.05, 2.0  # of the place that changes, of the width of the volume
FEATURES_PX = (1.0, 1.5, 2.0, 3.0)  # radii
AWAY_PX = 3.0  # of a feature from the specimen
BORDER_PX = 2.0


@dataclass(frozen=True)
class Marks:
    """moments: the frames at which places change. places, features: (n, z, y, x), intensity that is added, each."""

    moments: tuple[int, ...]
    places: np.ndarray
    features: np.ndarray

    def added(self, t: int) -> np.ndarray:
        """What is added to frame t, (z, y, x)."""
        changed = [p for m, p in zip(self.moments, self.places, strict=True) if t >= m]
        return np.sum([*changed, *self.features], axis=0).astype(np.float32)

    def told(self, volumes: Iterable[np.ndarray], plain: Iterable[np.ndarray], *, series: TiltSeries) -> dict:
        """What came back of it, as a twin.json holds it.

        volumes: (z, y, x), reconstructed of the series with it.
        plain: of the series without.
        """
        seen = [
            [_share_of(m, v - p) for m in (*self.places, *self.features)] for v, p in zip(volumes, plain, strict=True)
        ]
        shares = np.array(seen)
        rises = [rise(shares[:, k]) for k in range(len(self.places))]
        found: list[float] = [r for r in rises if r is not None]
        images = float(np.median(found)) if found and len(found) * 2 > len(rises) else None
        per_image = float(np.ptp(series.times_s)) / max(len(series.times_s) - 1, 1)
        recovered = shares[:, len(self.places) :].mean(0)
        size, finer = smallest_seen([2 * r for r in FEATURES_PX], recovered.tolist())
        return {
            "rise_images": images,
            "rise_s": None if images is None else images * per_image,
            "feature_px": size,
            "feature_nm": None if size is None or series.pixel_nm is None else size * series.pixel_nm,
            "feature_or_finer": finer,
        }


def marks_for(volumes: Sequence[Tensor], *, seed: int) -> Marks | None:
    """Places in a movie (t, z, y, x) that stay filled, and others beside the specimen that stay empty; None where there
    is no room.

    seed: of the choice among them.
    """
    some = [v.numpy() for v in volumes[:: max(1, len(volumes) // 10)]]
    fills = [filled(v)[0] for v in some]
    radius = max(SMALLEST_RADIUS_PX, RADIUS_SHARE * some[0].shape[2])
    inside = _depth(np.min(fills, axis=0) >= 1) - 1
    outside = np.minimum(_depth(np.max(fills, axis=0) <= 0), _from_border(some[0].shape))
    rng, material = np.random.default_rng(seed), float(np.median(some[-1][fills[-1] >= 1]))
    places = _apart(inside >= radius, radii=[radius] * len(MOMENTS), rng=rng)
    centres = _apart(outside >= max(FEATURES_PX) + AWAY_PX, radii=list(FEATURES_PX), rng=rng)
    if places is None or centres is None:
        return None
    mean = np.mean(some, axis=0)
    balls = [CHANGE * mean * _ball(mean.shape, c, radius=radius) for c in places]
    features = [material * _ball(mean.shape, c, radius=r) for c, r in zip(centres, FEATURES_PX, strict=True)]
    return Marks(tuple(round(m * len(volumes)) for m in MOMENTS), np.stack(balls), np.stack(features))


def _share_of(mark: np.ndarray, difference: np.ndarray) -> float:
    """How much of a mark there is in a difference (z, y, x): 1 if all of it."""
    return float((mark * difference).sum() / np.square(mark).sum())


def _depth(where: np.ndarray) -> np.ndarray:
    return np.asarray(ndimage.distance_transform_edt(where))


def _from_border(shape: tuple[int, ...]) -> np.ndarray:
    """How far each voxel is from the border of what all images show, a cylinder about z, and more."""
    n_z, n_y, n_x = shape
    z, y, x = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in shape), indexing="ij", sparse=True)
    return np.minimum(n_z / 2 - np.abs(z), min(n_y, n_x) / 2 - np.hypot(y, x)) + max(FEATURES_PX) - BORDER_PX


def _apart(where: np.ndarray, *, radii: Sequence[float], rng: np.random.Generator) -> list[np.ndarray] | None:
    """As many places (3,) among those where it is true as there are radii, far from each other; None if too close."""
    candidates = np.argwhere(where).astype(float)
    if len(candidates) == 0:
        return None
    chosen = [candidates[rng.integers(len(candidates))]]
    for radius in radii[1:]:
        apart = np.min([np.linalg.norm(candidates - c, axis=1) for c in chosen], axis=0)
        if apart.max() < 2 * radius:
            return None
        chosen.append(candidates[apart.argmax()])
    return chosen


def _ball(shape: tuple[int, ...], centre: np.ndarray, *, radius: float) -> np.ndarray:
    """The share (z, y, x) of voxels that lies in a ball."""
    axes = (np.arange(n) - c for n, c in zip(shape, centre, strict=True))
    z, y, x = np.meshgrid(*axes, indexing="ij", sparse=True)
    return np.clip(0.5 + radius - np.sqrt(z**2 + y**2 + x**2), 0, 1).astype(np.float32)
