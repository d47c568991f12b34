"""What is said of a reconstruction in metrics.json: plain functions of a fitted network, its rows and their series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dip4d.measures.consistency import (
    error_without_noise,
    mass_trend,
    masses_of_images,
    residual_per_image,
    suspects,
)
from dip4d.reconstruction.data import TiltRows
from dip4d.reconstruction.module import DIP4D
from dip4d.tilt_series import TiltSeries


def errors_of(module: DIP4D, data: TiltRows) -> dict[str, float | None]:
    """The errors of `dip4d.measures.image_quality.ERRORS`, by key; None where there is nothing to measure them on."""
    errors = {
        "held_out": module.validation_error(data),
        "held_out_images": module.test_error(data),
        "held_out_without_noise": _without_noise(module, data),
    }
    return {key: none_if_nan(value) for key, value in errors.items()}


def _without_noise(module: DIP4D, data: TiltRows) -> float:
    """`error_without_noise` of the test images; NaN if none shows what another shows."""
    images = list(data.split.test_images)
    if not images:
        return math.nan
    predicted, measured = (v.numpy() for v in module.projected(data, images))
    return error_without_noise(predicted, measured, views=data.series.views[images])


def residuals_of(module: DIP4D, data: TiltRows, *, excluded: Sequence[int] = ()) -> dict[str, Any]:
    """The residual of each image, relative to the rms of all, and the images that do not fit the others.

    excluded: images left out before; images are numbered as `exclude` counts them.
    """
    frames, test = len(data.tau), list(data.split.test_images)
    numbers = np.setdiff1d(np.arange(frames + len(excluded)), sorted(excluded))
    predicted, measured = (v.numpy() for v in module.projected(data, range(frames)))
    residuals = residual_per_image(predicted, measured)
    return {
        "images": numbers.tolist(),
        "unseen_images": numbers[test].tolist(),
        "residual_per_image": residuals.tolist(),
        "suspect_images": numbers[suspects(residuals, test)].tolist(),
    }


def diagnostics_of(module: DIP4D, data: TiltRows, *, excluded: Sequence[int] = ()) -> dict[str, Any]:
    """What tells without truth how far to trust the network: `errors_of` and `residuals_of` for metrics.json."""
    errors = {key: {"dip": value} for key, value in errors_of(module, data).items()}
    return errors | residuals_of(module, data, excluded=excluded)


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


def none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value
