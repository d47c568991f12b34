"""What is said of a reconstruction in metrics.json: plain functions of volumes and images, theirs and measured ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from dip4d.measures.consistency import (
    error_without_noise,
    less_noise,
    mass_trend,
    masses_of_images,
    none_if_nan,
    relative_error,
    residual_per_image,
    suspects,
)
from dip4d.measures.noise import NoiseModel, noise_model
from dip4d.measures.resolution import record, unseen_correlation
from dip4d.measures.tilt_angles import disorder
from dip4d.measures.tilt_axis import likely_tilt_axis
from dip4d.reconstruction.data import TiltRows
from dip4d.tilt_series import TiltSeries

LEAST_TOLD = 0.2  # of the error that noise alone makes: a smaller one cannot be told
FEWEST_BINS = 8  # across the tilt axis, from which a resolution can be told


@dataclass(frozen=True)
class Images:
    """All images of a series, (t, z, s) each: as the volumes of their times predict them, and as measured."""

    predicted: np.ndarray
    measured: np.ndarray


def errors_of(images: Images, data: TiltRows, *, floors: dict[str, float | None]) -> dict[str, float | None]:
    """The errors of `dip4d.measures.image_quality.ERRORS`, by key; None where there is nothing to measure them on.

    floors: as by `floors_of`.
    """
    test = list(data.split.test_images)
    validation = data.split.validation_rows.T.numpy()
    predicted, measured = images.predicted[test], images.measured[test]
    errors = {
        "held_out": relative_error(images.predicted[validation], images.measured[validation]),
        "held_out_images": relative_error(predicted, measured),
    }
    free = error_without_noise(predicted, measured, views=data.series.views[test])
    found = {key: none_if_nan(value) for key, value in errors.items()}
    return found | {"held_out_without_noise": none_if_nan(free) or without_noise(found["held_out_images"], floors)}


def without_noise(error: float | None, floors: dict[str, float | None]) -> float | None:
    """The error of test images less their noise, where no view was taken twice to tell it; None without any.

    At least the part of the noise from which an error can be told: the noise is known to a few per cent.
    """
    floor = floors.get("held_out_images")
    return None if error is None or floor is None else max(less_noise(error, floor), LEAST_TOLD * floor)


def floors_of(images: Images, data: TiltRows, *, noise: NoiseModel) -> dict[str, float | None]:
    """The errors of a perfect prediction of validation rows and test images: their noise alone."""
    kept = {"held_out": data.split.validation_rows.T.numpy(), "held_out_images": list(data.split.test_images)}
    return {key: none_if_nan(noise.floor(images.measured[rows])) for key, rows in kept.items()}


def fit_over_noise(images: Images, data: TiltRows, *, noise: NoiseModel) -> float | None:
    """The misfit of the fitted rows over what their noise alone would make: 1 if all is explained."""
    fitted = data.split.fitted_rows.T.numpy()
    floor = noise.floor(images.measured[fitted])
    return relative_error(images.predicted[fitted], images.measured[fitted]) / floor if floor > 0 else None


def resolution_of(images: Images, data: TiltRows, *, noise: NoiseModel) -> dict[str, Any] | None:
    """The `dip4d.measures.resolution.record` of all rows that the fit has not seen; None if there are none."""
    unseen = ~data.split.fitted_rows.T.numpy()
    predicted, measured = images.predicted[unseen], images.measured[unseen]
    if not measured.any() or measured.shape[1] < FEWEST_BINS:
        return None
    found = unseen_correlation(predicted, measured, noise=noise.mean_variance(measured))
    return record(found, data.series.pixel_nm)


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
    """What tells without truth how far to trust the network, for metrics.json."""
    noise = noise_model(images.measured, images.predicted, views=data.series.views)
    floors = floors_of(images, data, noise=noise)
    errors = {key: {"dip": value} for key, value in errors_of(images, data, floors=floors).items()}
    found = {"noise_floor": floors, "fit_over_noise": fit_over_noise(images, data, noise=noise)}
    found["resolution"] = resolution_of(images, data, noise=noise)
    return errors | found | residuals_of(images, data, excluded=excluded)


def mass_of(series: TiltSeries, volumes: Sequence[float]) -> dict[str, Any]:
    """The total intensity of images and volumes against time; they need not agree where images cut the specimen off.

    volumes: (t,), that of each volume.
    """
    masses = masses_of_images(series)
    trend = mass_trend(masses, series.times_s)
    usual = float(np.median(masses))
    return {
        "images": masses.tolist(),
        "volumes": list(volumes),
        "volumes_over_images": float(np.median(volumes)) / usual if usual > 0 and not series.margin else None,
        "slope": none_if_nan(trend.slope),
        "scatter": none_if_nan(trend.scatter),
    }


def geometry_of(series: TiltSeries) -> dict[str, float]:
    """How sure the images are of another tilt axis, and how little they follow their angles (`disorder`)."""
    axis, confidence = likely_tilt_axis(series.images, series.angles_deg)
    return {"axis_other": confidence if axis == "x" else 0.0, "disorder": disorder(series)}


def change_of(frames: Sequence[np.ndarray]) -> float:
    """The largest share of the specimen that is elsewhere in the next of some volumes (z, y, x)."""
    moved = lambda a, b: float(np.abs(b - a).sum(dtype=np.float64) / max(float((a + b).sum(dtype=np.float64)), 1e-30))
    return max((moved(a, b) for a, b in pairwise(frames)), default=0.0)


def warning_of(found: dict[str, Any], excluded: Sequence[int] = ()) -> str | None:
    """A line that names the images of `residuals_of` that do not fit; None if there are none."""
    suspect = found["suspect_images"]
    if not suspect:
        return None
    unseen = found.get("unseen_images", [])
    named = ", ".join(f"{n} (a test image, which was not fitted)" if n in unseen else str(n) for n in suspect)
    named = f"image{'s' if len(suspect) > 1 else ''} {named}"
    them, exclude = "it" if len(suspect) == 1 else "them", ",".join(map(str, sorted({*excluded, *suspect})))
    return (
        f"the reconstruction explains {named} worse than the others; look at {them}, and leave out what is bad with "
        f"data.exclude=[{exclude}]"
    )
