"""What tells of a good or a bad series without any truth: mass against time, and the misfit of every image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter

from dip4d.tilt_series import TiltSeries

OF_SPECIMEN, NEAR_BOUND = 0.5, 0.95  # of the bound, above which a voxel is of the specimen, and near the bound


def masses_of_images(series: TiltSeries) -> np.ndarray:
    """(t,): the total intensity of each image. It does not depend on the tilt angle."""
    return series.images.sum((1, 2), dtype=np.float64)


def weighed(frames: Iterable[np.ndarray], *, into: list[float]) -> Iterator[np.ndarray]:
    """The same volumes (z, y, x), each weighed as it passes. into: gets their total intensities, those of their images
    if all is well.
    """
    for volume in frames:
        into.append(float(np.sum(volume, dtype=np.float64)))
        yield volume


@dataclass
class AtBound:
    """How much of the specimen is as bright as it can be, counted as volumes pass.

    bound: the intensity per voxel that no voxel can exceed.
    """

    bound: float
    specimen: int = 0
    near: int = 0

    def counted(self, frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The same volumes (z, y, x)."""
        for volume in frames:
            self.specimen += int(np.count_nonzero(volume > OF_SPECIMEN * self.bound))
            self.near += int(np.count_nonzero(volume > NEAR_BOUND * self.bound))
            yield volume

    @property
    def share(self) -> float:
        """Of the voxels of the specimen, those near the bound."""
        return self.near / max(self.specimen, 1)


@dataclass(frozen=True)
class MassTrend:
    """slope: change over the whole series, of a straight line, relative to the mean mass: damage, growth, or drift out
    of the field of view. scatter: standard deviation around that line, relative to the mean: brightness, or jitter.
    """

    slope: float
    scatter: float


def mass_trend(masses: np.ndarray, times_s: np.ndarray) -> MassTrend:
    """How flat the mass (t,) is against time; 0 and 0 is perfectly flat. NaN without mass."""
    mean = float(np.mean(masses))
    if not mean > 0:
        return MassTrend(np.nan, np.nan)
    span = max(float(np.ptp(times_s)), np.finfo(float).tiny)
    tau = (np.asarray(times_s) - np.mean(times_s)) / span  # -1/2 .. 1/2, about
    slope = float(tau @ masses) / max(float(tau @ tau), 1e-30)
    left = masses - mean - slope * tau
    return MassTrend(slope / mean, float(np.std(left)) / mean)


def residual_per_image(
    predicted: np.ndarray,
    measured: np.ndarray,
    *,
    counted: np.ndarray | None = None,
) -> np.ndarray:
    """(t,): root mean square misfit of each image, relative to the root mean square of all images; 0 is perfect.

    predicted, measured: (t, z, s), intensity. counted: (t, z, s) or what broadcasts to it, False for pixels that do not
    count, say rows that the fit has seen; all if None. NaN for an image without any that counts.
    """
    counted = np.broadcast_to(True if counted is None else counted, measured.shape)
    pixels = counted.sum((1, 2))
    squares = lambda images: np.where(counted, images, 0).astype(np.float64) ** 2
    usual = np.sqrt(squares(measured).sum() / max(int(pixels.sum()), 1))
    misfit = squares(predicted - measured).sum((1, 2)) / np.where(pixels > 0, pixels, np.nan)
    return np.sqrt(misfit) / max(float(usual), 1e-30)


def relative_error(predicted: np.ndarray, measured: np.ndarray) -> float:
    """The root of the squared differences over the squared measurements, of arrays of one shape; NaN where nothing was
    measured.
    """
    norm = float(np.square(measured, dtype=np.float64).sum())
    return float(np.sqrt(np.square(predicted - measured, dtype=np.float64).sum() / norm)) if norm > 0 else np.nan


def less_noise(error: float, floor: float) -> float:
    """A relative error of noisy measurements against what was there to see, given the error that their noise alone
    makes (`NoiseModel.floor`); 0 where the error is no larger.
    """
    return float(np.sqrt(max(error**2 - floor**2, 0.0) / max(1 - floor**2, 1e-6)))


def none_if_nan(value: float) -> float | None:
    """A number as a metrics.json may hold it."""
    return None if np.isnan(value) else value


def error_without_noise(predicted: np.ndarray, measured: np.ndarray, *, views: np.ndarray) -> float:
    """Relative error of predicted images against what was there to see, less the noise of the measured ones.

    predicted, measured: (t, z, s), intensity; measured images that the prediction did not see. views: (t,), images of
    the same number show the same. Only views of several images count, NaN if there are none. The noise of two images of
    one view is independent, and so is that of a prediction that saw neither: the mean product of their two misfits is
    the squared error without any noise (as the correlation of half data sets is free of it). 0 if that is negative.
    """
    misfit = signal = 0.0
    for view in np.unique(views):
        here = views == view
        if here.sum() > 1:
            misfit += _products_of_pairs(predicted[here] - measured[here])
            signal += _products_of_pairs(measured[here])
    return float(np.sqrt(max(misfit, 0.0) / signal)) if signal > 0 else np.nan


def _products_of_pairs(images: np.ndarray) -> float:
    """Sum of the products of all pairs of n images, (n, z, s), over n - 1: n images weigh as much as n / 2 pairs."""
    images = images.reshape(len(images), -1).astype(np.float64)
    together, alone = np.square(images.sum(0)).sum(), np.square(images).sum()
    return float(together - alone) / 2 / (len(images) - 1)


def suspects(residuals: np.ndarray, test_images: Sequence[int] = ()) -> list[int]:
    """Images whose residual (t,) stands out from those of their neighbours in time.

    Where the specimen changes fast all residuals are large, so each is judged by its ratio to the median of the seven
    images around it: an outlier, and 1.5 or more; 2 for the `test_images`, which the fit had to predict. Four bad
    images in a row hide each other.
    """
    ratio = residuals / np.maximum(median_filter(residuals, 7, mode="mirror"), 1e-30)
    least = np.full(len(residuals), 1.5)
    least[list(test_images)] = 2
    return np.flatnonzero(outliers(ratio, limit=4.0) & (ratio > least)).tolist()


def outliers(values: np.ndarray, limit: float = 6.0) -> np.ndarray:
    """(t,): True for values more than `limit` standard deviations above the median; NaN never is.

    The standard deviation is that of the median absolute deviation, so outliers do not hide themselves; at least 1 % of
    the median, so that a series without noise has none.
    """
    middle = float(np.nanmedian(values))
    deviation = np.nan_to_num(values - middle)
    return deviation > limit * max(1.4826 * float(np.median(np.abs(deviation))), 0.01 * abs(middle))


def centre_of_mass(profiles: np.ndarray) -> np.ndarray:
    """The centre of mass of profiles (..., n), in pixels from the middle; NaN where there is no mass."""
    place = np.arange(profiles.shape[-1]) - (profiles.shape[-1] - 1) / 2
    mass = profiles.sum(-1, dtype=np.float64)
    return (profiles @ place) / np.where(mass > 0, mass, np.nan)
