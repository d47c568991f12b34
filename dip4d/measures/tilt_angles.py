"""Whether the tilt angles of a series can be right, and whether its images follow them."""

from __future__ import annotations

import numpy as np

from dip4d.measures.moments import above_frame, central_moments, moments_along, small_images, unexplained
from dip4d.tilt_series import TiltSeries

_RADIANS_DEG, _FEWEST_ANGLES = 7.0, 10  # a span of more angles than that below which they may be radians
_SHUFFLES = 50  # of the tilt angles, to see whether the images follow them
_FEWEST = 12  # images from which it can be told whether they follow their angles


def angle_warnings(series: TiltSeries) -> list[str]:
    """What is likely wrong with the tilt angles of a series, a sentence each."""
    angles = series.angles_deg
    span = float(np.ptp(angles))
    if span == 0:
        return [f"all tilt angles are {angles[0]:g} degrees: one direction of view tells nothing of the depth"]
    if len(angles) <= _FEWEST_ANGLES:
        return []
    if span < _RADIANS_DEG:
        return [
            f"the tilt angles span {span:.3g} degrees only: they look like radians; name a file of them in degrees "
            f"({np.rad2deg(span):.3g} then)"
        ]
    if angles[0] in (0, 1) and (np.diff(angles) == 1).all():
        return [f"the tilt angles are {angles[0]:g}, {angles[1]:g}, {angles[2]:g}, ...: they look like image numbers"]
    return []


def disorder(series: TiltSeries) -> float:
    """What the given tilt angles leave of the moments unexplained, over what the same angles in a random order leave:
    far below 1 if the images follow their angles, about 1 if not, or if the specimen looks alike from all sides.
    """
    lifted = np.stack([above_frame(image) for image in small_images(series.images)])
    held = lifted.sum((1, 2), dtype=np.float64) > 0
    if held.sum() < _FEWEST:
        return 0.0
    tensors = [central_moments(image) for image in lifted[held]]
    along, across = moments_along(tensors, (0.0, 1.0)), moments_along(tensors, (1.0, 0.0))
    theta, time = np.deg2rad(series.angles_deg[held]), np.linspace(-1, 1, len(held))[held]
    left = lambda angles: unexplained(along, across, theta=angles, slow=[time, time**2])
    random = np.random.default_rng(0)
    usual = float(np.median([left(random.permutation(theta)) for _ in range(_SHUFFLES)]))
    return left(theta) / usual if usual > 0 else 0.0
