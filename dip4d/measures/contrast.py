"""Whether the images of a tilt series show a specimen: brighter than its background, darker, or none."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter

from dip4d.measures.moments import BLANK, DESPIKED_PX, SPREAD_PER_MAD, frame_of, small_images
from dip4d.tilt_series import TiltSeries, middle_of

_DARKER, _EVEN = 5.0, 0.6  # times as much below as above the background, and the scatter of that: an inverted contrast
LARGEST_SHARE = 0.2  # of images may differ from the others, for these to be called healthy


def is_inverted(images: np.ndarray) -> bool:
    """Whether what differs from the background is darker than it, in images (t, rows, columns), as in a bright field.

    By the moment condition of the inverted images: what lies below the level of the frame stays about the same.
    """
    below, above = np.empty(len(images)), np.empty(len(images))
    for t, image in enumerate(images):
        image = uniform_filter(image, 3) if min(image.shape) >= DESPIKED_PX else image  # noise
        frame = frame_of(image)
        away = image - middle_of(frame)
        noise = 3 * SPREAD_PER_MAD * float(np.median(np.abs(frame - np.median(frame))))
        below[t], above[t] = (np.maximum(d - noise, 0).sum(dtype=np.float64) for d in (-away, away))
    held = below > BLANK * np.median(below)
    if not held.any() or not np.median(below) > _DARKER * np.median(above):
        return False
    return bool((below > above).mean() > 1 - LARGEST_SHARE and below[held].std() < _EVEN * below[held].mean())


def dark_side(images: np.ndarray) -> np.ndarray:
    return np.stack([middle_of(frame_of(image)) - image for image in images])


def contrast_advice(series: TiltSeries, *, key: str = "invert=true") -> str | None:
    """One line for a series whose specimen is darker than its background; None for any other."""
    if 1 in series.shape[1:] or not is_inverted(small_images(series.images)):
        return None
    return (
        "the contrast looks inverted: the specimen is darker than its background, as in a bright field; "
        f"{key} reconstructs the background less the image"
    )


def blank_advice(series: TiltSeries) -> str | None:
    """One line for a series that shows nothing: all pixels of each image are equal; None for any other."""
    flat = [float(image.min()) == float(image.max()) for image in series.images]
    return "the series is blank: all pixels of every image are equal" if all(flat) else None
