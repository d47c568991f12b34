"""What the moments of the images of a tilt series must do, whatever the specimen.

The moment conditions of parallel projections (Helgason 1965; Ludwig 1966): whatever the tilt, an image holds all the
mass of the specimen, each row across the tilt axis holds all the mass of its slice, and the centre of mass moves as a
sine of the tilt. A specimen that changes does so slowly or in steps; a film grows thicker as 1 / cos.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import median_filter

SPREAD_PER_MAD = 1.4826  # of a normal distribution
_LARGEST_PX = 128  # images are binned to about this size to look for the tilt axis
DESPIKED_PX = 16  # images as large as that lose single bright pixels
_BELOW_MEAN = 0.84  # standard deviations by which the darkest fifth lies below the mean
BLANK = 0.25  # share of the usual mass below which an image counts as blank


def small_images(images: np.ndarray) -> np.ndarray:
    """Images (t, rows, columns) binned to at most about `_LARGEST_PX`, float32."""
    k = max(1, -(-max(images.shape[1:]) // _LARGEST_PX))
    rows, columns = max(images.shape[1] // k, 1), max(images.shape[2] // k, 1)
    k_rows, k_columns = min(k, images.shape[1]), min(k, images.shape[2])
    cut = [np.asarray(image[: rows * k_rows, : columns * k_columns], np.float32) for image in images]
    return np.stack([image.reshape(rows, k_rows, columns, k_columns).mean((1, 3)) for image in cut])


def frame_of(image: np.ndarray) -> np.ndarray:
    """Pixels of the border of an image, at all four sides."""
    width = max(1, min(image.shape) // 20)
    return np.concatenate([image[:width].ravel(), image[-width:].ravel(),
                           image[:, :width].ravel(), image[:, -width:].ravel()])  # fmt: skip


def above_frame(image: np.ndarray) -> np.ndarray:
    """An image less the darkest fifth of its border, where it is above that. Pixels of 0 are the filling of shifts."""
    border = frame_of(image)
    border = border[border != 0]
    return np.maximum(image - np.percentile(border, 20), 0) if border.size else image


def above_noise(image: np.ndarray) -> np.ndarray:
    """An image without single bright pixels, less its background and three standard deviations of its noise."""
    image = median_filter(image, 3) if min(image.shape) >= DESPIKED_PX else image
    steps = np.diff(image, axis=1)
    noise = SPREAD_PER_MAD * float(np.median(np.abs(steps - np.median(steps)))) / 2**0.5
    return np.maximum(above_frame(image) - (3 + _BELOW_MEAN) * noise, 0)


def central_moments(image: np.ndarray) -> np.ndarray:
    """The moments (4, 4) of an image about its centre of mass, of orders in y and x, relative to its mass."""
    weights = image.astype(np.float64) / image.sum(dtype=np.float64)
    y, x = (np.arange(n, dtype=np.float64) for n in image.shape)
    y, x = y - weights.sum(1) @ y, x - weights.sum(0) @ x
    return np.vander(y, 4, increasing=True).T @ weights @ np.vander(x, 4, increasing=True)


def moments_along(tensors: list[np.ndarray], direction: tuple[float, float]) -> np.ndarray:
    """Variance in pixels^2 along a direction (x, y), and skewness in units of the mean variance: (2, t)."""
    x, y = direction
    second = [x * x * m[0, 2] + 2 * x * y * m[1, 1] + y * y * m[2, 0] for m in tensors]
    third = [x**3 * m[0, 3] + 3 * x * x * y * m[1, 2] + 3 * x * y * y * m[2, 1] + y**3 * m[3, 0] for m in tensors]
    second = np.maximum(second, 1e-6)
    return np.stack([second, np.array(third) / second.mean() ** 1.5])


def unexplained(along: np.ndarray, across: np.ndarray, *, theta: np.ndarray, slow: list[np.ndarray]) -> float:
    """What of the moments (2, t) along and across a tilt axis its geometry leaves unexplained, weighed by flatness.

    Moments: variance in pixels^2, and skewness about it.
    """
    flat = np.stack([np.ones_like(theta), *slow], axis=1)
    twice = np.column_stack([flat, np.cos(2 * theta), np.sin(2 * theta)])
    thrice = np.stack([*slow, np.cos(theta), np.sin(theta), np.cos(3 * theta), np.sin(3 * theta)], axis=1)
    pairs = ((along[0] / along[0].mean(), flat), (along[1], flat), (across[0] / across[0].mean(), twice),
             (across[1], thrice))  # fmt: skip
    rest = sum(float(np.mean((values - basis @ least_squares(basis, values)) ** 2)) for values, basis in pairs)
    middle, *_, cosine, sine = least_squares(twice, across[0])
    thinnest = middle - np.hypot(cosine, sine)  # across the tilt axis, over all directions of view
    return rest * max(1.0, thinnest / along[0].mean()) ** 2


def least_squares(basis: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(basis, values, rcond=1e-6)[0]
