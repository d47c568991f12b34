"""Pixels of images that are no numbers: at the border they are what an alignment left without a value."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
from scipy import ndimage

from dip4d.errors import InputError
from dip4d.io.raw import Raw
from dip4d.tilt_series import middle_of

_NAMED = 8  # images in an error


def without_gaps(images: np.ndarray, raw: Raw, *, path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Images (t, rows, columns) whose border of NaN is filled with the level beside it, and the rows that are shown.

    Rows without any number count as not shown: (t, rows), or None if all are. Raises InputError for pixels inside of an
    image, or whole images, that are no finite numbers.
    """
    if images.dtype.kind != "f" or np.isfinite(images).all():
        return images, raw.shown
    images = images.astype(np.float32)
    shown = np.ones(images.shape[:2], bool) if raw.shown is None else raw.shown.copy()
    inside, filled = [], 0
    for t, image in enumerate(images):
        bad = ~np.isfinite(image)
        if not bad.any():
            continue
        parts = np.asarray(cast(tuple, ndimage.label(bad))[0])
        edges = np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]])
        border = np.isin(parts, edges[edges > 0])
        if bad.all() or (bad & ~border).any():
            inside.append(t)
            continue
        near = ndimage.binary_dilation(border, iterations=2) & ~bad
        image[border] = middle_of(image[near])
        shown[t] &= ~border.all(1)
        filled += 1
    if inside:
        named = ", ".join(map(str, inside[:_NAMED]))
        named += f" and {len(inside) - _NAMED} more" if len(inside) > _NAMED else ""
        raise InputError(
            f"{path}: NaN or infinite pixels in image {named}, inside of it: put the mean of their neighbours there, "
            "or take these images out of the file (a border of NaN is filled here)"
        )
    raw.notes.append(f"the borders of {filled} images are NaN: filled with the level beside them")
    return images, None if shown.all() else shown
