"""What is said of a reconstruction in metrics.json: plain functions of volumes and images, theirs and measured ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dip4d.measures.consistency import (
    error_without_noise,
    mass_trend,
    masses_of_images,
    none_if_nan,
    relative_error,
    residual_per_image,
    suspects,
)
from dip4d.reconstruction.data import TiltRows
from dip4d.tilt_series import TiltSeries


@dataclass(frozen=True)
class Images:
    """All images of a series, (t, z, s) each: as the volumes of their times predict them, and as measured."""

    predicted: np.ndarray
    measured: np.ndarray


def errors_of(images: Images, data: TiltRows) -> dict[str, float | None]:
    """The errors of `dip4d.measures.image_quality.ERRORS`, by key; None where there is nothing to measure them on."""
    test = list(data.split.test_images)
    validation = data.split.validation_rows.T.numpy()
    predicted, measured = images.predicted[test], images.measured[test]
    errors = {
        "held_out": relative_error(images.predicted[validation], images.measured[validation]),
        "held_out_images": relative_error(predicted, measured),
        "held_out_without_noise": error_without_noise(predicted, measured, views=data.series.views[test]),
    }
    return {key: none_if_nan(value) for key, value in errors.items()}


def residuals_of(images: Images, data: TiltRows, *, excluded: Sequence[int] = ()) -> dict[str, Any]:
    """The residual of each image, relative to the rms of all, and the images that do not fit the others.

    excluded: images left out before; images are numbered as `exclude` counts them.
    """
    frames, test = len(data.tau), list(data.split.test_images)
    numbers = np.setdiff1d(np.arange(frames + len(excluded)), sorted(excluded))
    residuals = residual_per_image(images.predicted, images.measured)
    return {
        "images": numbers.tolist(),
        "unseen_images": numbers[test].tolist(),
        "residual_per_image": residuals.tolist(),
        "suspect_images": numbers[suspects(residuals, test)].tolist(),
    }


def diagnostics_of(images: Images, data: TiltRows, *, excluded: Sequence[int] = ()) -> dict[str, Any]:
    """What tells without truth how far to trust the network: `errors_of` and `residuals_of` for metrics.json."""
    errors = {key: {"dip": value} for key, value in errors_of(images, data).items()}
    return errors | residuals_of(images, data, excluded=excluded)


def mass_of(series: TiltSeries, volumes: Sequence[float]) -> dict[str, Any]:
    """The total intensity of images and volumes against time. volumes: (t,), that of each volume."""
    masses = masses_of_images(series)
    trend = mass_trend(masses, series.times_s)
    return {
        "images": masses.tolist(),
        "volumes": list(volumes),
        "slope": none_if_nan(trend.slope),
        "scatter": none_if_nan(trend.scatter),
    }


def warning_of(found: dict[str, Any], excluded: Sequence[int] = ()) -> str | None:
    """A line that names the images of `residuals_of` that do not fit; None if there are none."""
    suspect = found["suspect_images"]
    if not suspect:
        return None
    named = f"image{'s' if len(suspect) > 1 else ''} {', '.join(map(str, suspect))}"
    them, exclude = "it" if len(suspect) == 1 else "them", ",".join(map(str, sorted({*excluded, *suspect})))
    return (
        f"the reconstruction explains {named} worse than the others; look at {them}, and leave out what is bad with "
        f"data.exclude=[{exclude}]"
    )
