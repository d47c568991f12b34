"""Where the tilt axis lies in every image of a tilt series, and the one interpolation that brings it to the middle.

Conventions, stated here once. Positions (z, s) count pixels from the middle of an image. The pixel (z, s) of the
aligned image t shows what image t of the file has at

    z' = z cos r - s sin r + z_t
    s' = z sin r + s cos r + axis + s_t

so `z` and `s` say how far the specimen was displaced in each image, `axis` how far the tilt axis is from the middle of
all of them, and `rotation_deg` = r how far it is turned from the z axis towards s. The sum ``axis + s_t`` is the
`shift` of `dip4d.projector.Geometry`.

What no method can know: where the specimen lies in space. A constant in z, and ``a cos + b sin`` of the tilt angle in
s, move the reconstruction and change nothing else (`dip4d.tilt_geometry`); for a specimen that drifts slowly the same
holds with a and b that change slowly.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates, spline_filter

from dip4d.errors import InputError
from dip4d.tilt_series import TiltSeries

MATCHED_PX = 96  # matching runs on images binned to at most about this size, then once more on finer ones
_COLUMNS = ("image", "z_px", "s_px", "axis_px", "rotation_deg")


@dataclass(frozen=True, eq=False)
class Shifts:
    """How far the specimen is displaced in each image of a series, and where the tilt axis lies.

    z, s: (t,), displacement of each image in pixels.
    axis: of the tilt axis, pixels.
    rotation_deg: of it, degrees.
    Raises InputError for lengths that differ or values that are not finite.
    """

    z: np.ndarray
    s: np.ndarray
    axis: float = 0.0
    rotation_deg: float = 0.0

    def __post_init__(self) -> None:
        for name in ("z", "s"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64))
        if self.z.ndim != 1 or self.z.shape != self.s.shape:
            raise InputError(f"shifts need one z and one s for each image, found shapes {self.z.shape}, {self.s.shape}")
        if not np.isfinite([*self.z, *self.s, self.axis, self.rotation_deg]).all():
            raise InputError("shifts must be finite numbers")

    @classmethod
    def none(cls, frames: int) -> Shifts:
        return cls(np.zeros(frames), np.zeros(frames))

    def __len__(self) -> int:
        return len(self.z)

    @property
    def across(self) -> np.ndarray:
        """(t,): where the tilt axis falls in each image, in pixels from its middle."""
        return self.axis + self.s

    def plus(self, z: np.ndarray | float = 0.0, s: np.ndarray | float = 0.0) -> Shifts:
        """After a further displacement (z, s), seen in the aligned images."""
        cos, sin = np.cos(np.deg2rad(self.rotation_deg)), np.sin(np.deg2rad(self.rotation_deg))
        return replace(self, z=self.z + z * cos - s * sin, s=self.s + z * sin + s * cos)

    def scaled(self, factor: float) -> Shifts:
        """For the same images with pixels 1 / `factor` as large."""
        return replace(self, z=self.z * factor, s=self.s * factor, axis=self.axis * factor)

    def centred(self) -> Shifts:
        """The same displacements, those along s with mean 0: what all images share is called the axis.

        How much of it the axis is, and how much the position of the specimen, cannot be told apart.
        """
        mean = float(self.s.mean())
        return replace(self, axis=self.axis + mean, s=self.s - mean)

    def save(self, path: str | Path) -> None:
        """Writes a table with a header that names the units, a line for each image."""
        with open(path, "w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(_COLUMNS)
            for t, (z, s) in enumerate(zip(self.z, self.s, strict=True)):
                table.writerow([t, *(f"{v:.5f}" for v in (z, s, self.axis, self.rotation_deg))])

    @classmethod
    def load(cls, path: str | Path) -> Shifts:
        """Reads what `save` wrote. Raises InputError, naming the file, the line and the remedy."""
        path = Path(path)
        if not path.is_file():
            raise InputError(f"{path}: no such file of shifts; `dip4d align FILE` makes one", argument="shifts")
        try:
            lines = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{path}: not a text table ({error}); expected lines of {','.join(_COLUMNS)}") from None
        if not lines or tuple(cell.strip() for cell in lines[0]) != _COLUMNS:
            raise InputError(f"{path}, line 1: the header must be {','.join(_COLUMNS)}")
        values = np.array([_numbers(path, n, line=line) for n, line in enumerate(lines[1:], start=2) if line])
        if len(values) == 0:
            raise InputError(f"{path}: no images; there must be a line for each")
        if not np.array_equal(values[:, 0], np.arange(len(values))):
            raise InputError(f"{path}: the images must be 0, 1, 2, ... in this order, a line for each")
        if np.ptp(values[:, 3:], axis=0).any():
            raise InputError(f"{path}: axis_px and rotation_deg belong to the series, give the same on every line")
        return cls(values[:, 1], values[:, 2], float(values[0, 3]), float(values[0, 4]))


def _numbers(path: Path, number: int, *, line: list[str]) -> list[float]:
    try:
        values = [float(cell) for cell in line]
    except ValueError:
        values = []
    if len(values) != len(_COLUMNS) or not np.isfinite(values).all():
        raise InputError(f"{path}, line {number}: '{','.join(line)}' must be {len(_COLUMNS)} finite numbers")
    return values


def apply(series: TiltSeries, shifts: Shifts) -> TiltSeries:
    """The aligned series: every image interpolated once (cubic spline), 0 where it shows nothing (`TiltSeries.shown`).

    Subtract the background before, so that 0 is what lies beside the specimen. Raises InputError if the series has
    another number of images than the shifts.
    """
    if len(series.images) != len(shifts):
        raise InputError(f"{series.source}: {len(series.images)} images, but shifts for {len(shifts)}")
    images = [_resample(image, _places(series.shape[1:], shifts, t=t)) for t, image in enumerate(series.images)]
    whole = shown(inside(series, shifts))
    return replace(series, images=np.stack(images), shown=None if whole.all() else whole)


def shown(seen: np.ndarray) -> np.ndarray:
    """(t, z): True for rows of aligned images that are nearly whole; seen: (t, z, s), as by `inside`."""
    return seen.mean(2) > 0.9


def inside(series: TiltSeries, shifts: Shifts) -> np.ndarray:
    """(t, z, s): True where the aligned image shows a place that the measured one had."""
    seen = []
    for t in range(len(shifts)):
        rows, columns = _places(series.shape[1:], shifts, t=t)
        seen.append(_is_inside(series.shape[1:], (rows, columns)))
        if series.shown is not None:
            seen[t] &= series.shown[t][rows.round().astype(int).clip(0, series.shape[1] - 1)]
    return np.stack(seen)


def _places(shape: tuple[int, int], shifts: Shifts, *, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the measured image t that the pixels of the aligned one are read from, (Z, S) each."""
    middle_z, middle_s = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    z, s = np.arange(shape[0])[:, None] - middle_z, np.arange(shape[1]) - middle_s
    r = np.deg2rad(shifts.rotation_deg)
    rows = z * np.cos(r) - s * np.sin(r) + shifts.z[t] + middle_z
    columns = z * np.sin(r) + s * np.cos(r) + shifts.across[t] + middle_s
    return rows, columns


def _is_inside(shape: tuple[int, int], places: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    rows, columns = places
    return (rows > -0.5) & (rows < shape[0] - 0.5) & (columns > -0.5) & (columns < shape[1] - 0.5)


def _resample(image: np.ndarray, places: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    coefficients = spline_filter(image.astype(np.float64), mode="mirror")
    values = map_coordinates(coefficients, np.stack(places), mode="mirror", prefilter=False)
    return np.where(_is_inside(image.shape, places), values, 0).astype(np.float32)


def on_binned_images(shifts: Shifts, series: TiltSeries, *, k: int) -> Shifts:
    """The shifts for the series binned by k, whose middle is not quite that of the series if pixels were cut off."""
    return replace(s := shifts.scaled(1 / k), axis=s.axis - _middle(series.shape[2], k) / k)


def on_full_images(shifts: Shifts, series: TiltSeries, *, k: int) -> Shifts:
    """The inverse of `on_binned_images`."""
    return replace(s := shifts.scaled(k), axis=s.axis + _middle(series.shape[2], k))


def _middle(n: int, k: int) -> float:
    """Where the middle of n pixels binned by k lies, in pixels from the middle of all."""
    return (n // k * k - n) / 2


def matching_scales(shape: tuple[int, int, int]) -> list[int]:
    """Binning at which projections are matched, coarse to fine."""
    return sorted({-(-max(shape[1:]) // size) for size in (MATCHED_PX, 2 * MATCHED_PX)}, reverse=True)


def on_small_images(
    find: Callable[[TiltSeries, Shifts], Shifts],
    series: TiltSeries,
    *,
    shifts: Shifts,
) -> Shifts:
    """What `find` makes of the shifts on images binned to a size at which it is quick."""
    k = matching_scales(series.shape)[0]
    return on_full_images(find(series.binned(k), on_binned_images(shifts, series, k=k)), series, k=k)
