"""Along which axis of the images the tilt axis lies, told from their moments before anything is reconstructed."""

from __future__ import annotations

import numpy as np

from dip4d.measures.contrast import dark_side, is_inverted
from dip4d.measures.moments import (
    BLANK,
    above_frame,
    above_noise,
    central_moments,
    moments_along,
    small_images,
    unexplained,
)

CERTAIN = 0.5  # a confidence in the tilt axis from which it is taken without being asked for
_BEYOND_DOUBT = 0.9  # a confidence from which an axis at 45 degrees is not asked for: a needle may lie askew
FEWEST_VIEWS = 10  # images from which the tilt axis can be told: fewer are explained by any
LEAST_TILT_DEG = 5.0  # degrees that the angles must span to tell the tilt axis
_ONE_SWEEP = 0.99  # correlation of angle and time from which they count as one and the same


def likely_tilt_axis(images: np.ndarray, angles_deg: np.ndarray) -> tuple[str, float]:
    """The image axis, 'x' (columns) or 'y' (rows), along which the tilt axis seems to lie, and how sure that is: 0..1.

    images: (t, rows, columns), in the order of time. angles_deg: (t,). Were the tilt axis along y, the profile of mass
    along y would stay the same, and the moments of order 2 and 3 of the profile along x would follow sines of two and
    three times the tilt. The confidence is 1 - V_right / V_wrong, with V the variance of these moments, about the
    centre of mass and relative to the size, that remains: 0 for a specimen that cannot tell (a sphere, a single tilt,
    noise only), for fewer than 10 images, where an axis at 45 degrees explains the moments better than both, and where
    single bright pixels or faint ones turn the verdict. What would be a plate on its edge, thin along the tilt axis
    and wide along the beam at every tilt, is taken for what it much rather is, a needle along the other axis: V grows
    with the fourth power of its flatness. In a single sweep a change of the specimen cannot be told from the tilt.
    Shifts do not matter. A dark specimen is inverted first.
    """
    if 1 in images.shape[1:] or len(images) < FEWEST_VIEWS:
        return "y", 0.0
    small = small_images(images)
    small = dark_side(small) if is_inverted(small) else small
    angles = np.asarray(angles_deg, np.float64)
    (axis, sure), (other, as_sure) = (
        _axis_by_moments(np.stack([lift(image) for image in small]), angles) for lift in (above_frame, above_noise)
    )
    return axis, min(sure, as_sure) if axis == other else 0.0


def _axis_by_moments(lifted: np.ndarray, angles_deg: np.ndarray) -> tuple[str, float]:
    """As `likely_tilt_axis`, of images less their background."""
    mass = lifted.sum((1, 2), dtype=np.float64)
    held = mass > BLANK * np.median(mass)
    if held.sum() < FEWEST_VIEWS or np.ptp(angles_deg[held]) < LEAST_TILT_DEG:
        return "y", 0.0
    theta, time = np.deg2rad(angles_deg)[held], np.linspace(-1, 1, len(mass))[held]
    in_one_sweep = abs(np.corrcoef(time, theta)[0, 1]) > _ONE_SWEEP
    slow = [] if in_one_sweep else [time, time**2]
    tensors = [central_moments(image) for image in lifted[held]]
    left = {}
    for name, turn in (("y", 0.0), ("x", 90.0), ("diagonal", 45.0), ("other diagonal", 135.0)):
        sin, cos = np.sin(np.deg2rad(turn)), np.cos(np.deg2rad(turn))
        along, across = moments_along(tensors, (sin, cos)), moments_along(tensors, (cos, -sin))
        left[name] = unexplained(along, across, theta=theta, slow=slow)
    right, wrong = sorted(("x", "y"), key=left.__getitem__)
    sure = float(1 - left[right] / left[wrong]) if left[wrong] > 0 else 0.0
    if sure < _BEYOND_DOUBT and min(left["diagonal"], left["other diagonal"]) < left[right]:
        return right, 0.0
    return right, sure
