"""Tilt series from files: the one way in."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dip4d.errors import InputError
from dip4d.io import rosetta
from dip4d.io.angles import Angles, check_degrees, read_angle_file, sidecars_of
from dip4d.io.arrays import read_mat, read_npy, read_npz
from dip4d.io.folder import read_folder
from dip4d.io.gaps import without_gaps
from dip4d.io.hdf5 import read_h5
from dip4d.io.mrc import read_mrc
from dip4d.io.raw import SANE_PIXEL_NM, Raw
from dip4d.io.tiff import read_picture, read_tiff
from dip4d.measures.tilt_angles import angle_warnings
from dip4d.measures.tilt_axis import CERTAIN, likely_tilt_axis
from dip4d.tilt_series import TiltSeries

READERS: dict[str, Callable[[Path], Raw]] = {
    **dict.fromkeys((".mrc", ".ali", ".st", ".rec", ".mrcs", ".map", ".preali", ".ccp4"), read_mrc),
    **dict.fromkeys((".tif", ".tiff"), read_tiff),
    ".npy": read_npy,
    ".npz": read_npz,
    ".mat": read_mat,
    **dict.fromkeys((".h5", ".hdf5"), read_h5),
    **dict.fromkeys(rosetta.READERS, rosetta.read_rosetta),
    ".png": read_picture,
}
_COMPRESSED = (".gz", ".bz2")
_SAME_SERIES_DEG = 1.0  # by which an angle file may differ from another of the same series
_LISTED = 3  # files that an error names
_log = logging.getLogger(__name__)


def read_tilt_series(
    path: str | Path,
    angles: str | Path | None = None,
    *,
    tilt_axis: str = "auto",
    pixel_nm: float | None = None,
) -> TiltSeries:
    """Reads a tilt series and converts it to the conventions of `TiltSeries`, sorted by time.

    path: a file of one of the kinds in `READERS`, images along the first axis; a sinogram (t, s) in a `.npy`; or a
        folder of single images (`read_folder`).
    angles: an angle file; if None, the angles in the file's own header, then those of a file beside it.
    tilt_axis: the image axis, 'x' (columns) or 'y' (rows), along which the tilt axis lies; 'auto': the one that the
        images speak for, y where that is not certain, and of a file that dip4d has written.
    pixel_nm: the pixel size, where the file does not know it or is wrong.
    What had to be assumed is in `notes` of the result; what is likely wrong is a warning in the log. Raises InputError,
    naming the file and the remedy.
    """
    path = Path(path).expanduser()
    if tilt_axis not in ("auto", "x", "y"):
        raise InputError(f"tilt_axis={tilt_axis} must be auto, x or y", argument="tilt_axis")
    raw = _read(path)
    if raw.tilt_axis == "y" and tilt_axis == "x":
        raise InputError(f"{path}: was written by dip4d, its tilt axis lies along y", argument="tilt_axis")
    _check_stack(path, raw)
    found = _angles_of(path, angles, raw=raw)
    images = _stack_of(path, raw, count=len(found.angles_deg), axis=tilt_axis)
    if len(found.angles_deg) == raw.planned:
        found = found.first(len(images))
    _check_counts(path, images, found=found)
    check_degrees(found.angles_deg, path)
    times = _times_of(found, raw)
    images, shown = without_gaps(images, raw, path=path)
    order = np.argsort(times, kind="stable")
    in_order = images if (np.diff(order) > 0).all() else images[order]
    axis = raw.tilt_axis or _axis_of(in_order, found.angles_deg[order], asked=tilt_axis, raw=raw)
    if axis == "x":
        images, shown = images.transpose(0, 2, 1), None
    pixel = _pixel_of(raw, pixel_nm, beside=found.pixel_nm)
    series = TiltSeries(
        images, found.angles_deg, times, pixel, source=str(path), notes=tuple(raw.notes), shown=shown, tilt_axis=axis
    ).in_time_order()
    for warning in angle_warnings(series):
        _log.warning(f"{path}: {warning}")
    return series


def write_tilt_series(path: Path, series: TiltSeries) -> None:
    """Writes a series as an .npz that `read_tilt_series` reads: images, angles, times, pixel size and rows shown."""
    optional = {k: v for k in ("pixel_nm", "shown") if (v := getattr(series, k)) is not None}
    arrays = {"images": series.images, "angles": series.angles_deg, "times": series.times_s, "tilt_axis": "y"}
    np.savez_compressed(path, **arrays, **optional)


def read_truth(path: str | Path, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Truth volumes (t, z, y, x) of the given shape, from .npy or .tif; float32. Raises InputError."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"{path}: no such file", argument="truth")
    if path.suffix.lower() not in (".npy", ".tif", ".tiff"):
        raise InputError(f"{path}: truth volumes are .npy or .tif", argument="truth")
    volumes = np.asarray(READERS[path.suffix.lower()](path).images)
    if path.suffix.lower() != ".npy" and volumes.squeeze().shape == np.squeeze(np.empty(shape, "?")).shape:
        volumes = volumes.reshape(shape)  # TIFF leaves out axes of length 1
    if volumes.shape != shape:
        raise InputError(f"{path}: truth has shape {volumes.shape}, the volumes will be (t, z, y, x) = {shape}")
    if not np.isfinite(volumes).all():
        raise InputError(f"{path}: NaN or infinite voxels")
    return volumes.astype(np.float32)


def _read(path: Path) -> Raw:
    if path.is_dir():
        return read_folder(path, READERS)
    kind = path.suffix.lower()
    packed = kind in _COMPRESSED
    reader = READERS.get(Path(path.stem).suffix.lower() if packed else kind)
    if packed and reader is not None and reader is not read_mrc:
        raise InputError(f"{path}: of compressed files only MRC is read; unpack it first", argument="path")
    if reader is None:
        raise InputError(
            f"{path}: unknown kind of file; a tilt series is one of {', '.join(READERS)} or a folder", argument="path"
        )
    if not path.is_file():
        raise InputError(f"{path}: no such file", argument="path")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    return reader(path)


def _check_stack(path: Path, raw: Raw) -> None:
    """Drops axes of length 1. Raises InputError for what is no stack of real images, nor perhaps a sinogram."""
    raw.images = np.asarray(raw.images)
    while raw.images.ndim > 3 and 1 in raw.images.shape:
        raw.images = raw.images.squeeze(raw.images.shape.index(1))
    dimensions = (2, 3) if path.suffix.lower() == ".npy" else (3,)
    if raw.images.ndim not in dimensions or len(raw.images) < 2:
        raise InputError(_no_stack(path, raw.images))
    if raw.images.dtype.kind not in "uif":
        raise InputError(f"{path}: pixels must be real numbers, found {raw.images.dtype}")


def _no_stack(path: Path, images: np.ndarray) -> str:
    return f"{path}: a tilt series is a stack of images (t, rows, columns), found shape {images.shape}"


def _stack_of(path: Path, raw: Raw, *, count: int, axis: str) -> np.ndarray:
    """Images (t, rows, columns); a sinogram (t, s) gets an axis. Raises InputError for what is neither."""
    images = raw.images
    if images.ndim == 2 and len(images) == count:
        images = images[:, :, None] if axis == "x" else images[:, None]
        raw.notes.append("two axes and as many rows as angles: taken as a sinogram (t, s) of one slice")
    if images.ndim != 3:
        raise InputError(_no_stack(path, images))
    return images


@dataclass
class _Found:
    """Angles of a series and where they are from; times in s and pixel size in nm, where the same place has them."""

    angles_deg: np.ndarray
    times_s: np.ndarray | None
    source: str
    pixel_nm: float | None = None

    def first(self, count: int) -> _Found:
        times = None if self.times_s is None else self.times_s[:count]
        return _Found(self.angles_deg[:count], times, self.source, self.pixel_nm)


def _angles_of(path: Path, angles: str | Path | None, *, raw: Raw) -> _Found:
    """As the user says, as the file says, as beside it. Notes what was not used, and why."""
    own = None if raw.angles_deg is None else np.asarray(raw.angles_deg, dtype=np.float64).ravel()
    if own is not None and angles is None and not np.isfinite(own).all():
        raise InputError(
            f"{path}: not all tilt angles in the file are finite numbers; name a file of them", argument="angles"
        )
    if angles is not None:
        said = read_angle_file(angles)
        raw.notes += said.notes
        return _with_beside(path, _Found(said.angles_deg, said.times_s, str(angles), said.pixel_nm), raw=raw)
    if own is not None and (len(own) < 2 or np.ptp(own) > 0):
        return _with_beside(path, _Found(own, raw.times_s, "the file"), raw=raw)
    for beside, said in _readable(path, raw, needed=own is None):
        raw.notes += [f"angles from {beside.name}", *said.notes]
        if own is not None:
            raw.notes.append(f"the tilt angles in the file are all {own[0]:g}: not used")
        return _with_beside(path, _Found(said.angles_deg, said.times_s, beside.name, said.pixel_nm), raw=raw)
    if own is not None:
        return _Found(own, raw.times_s, "the file")
    raise InputError(
        f"{path}: no tilt angles in the file or beside it; name a file of them{_perhaps(path)}", argument="angles"
    )


def _perhaps(path: Path) -> str:
    """The angle files in the folder of a series whose names begin alike, for an error."""
    near = [] if not path.parent.is_dir() else sidecar_like(path)
    return f", perhaps {' or '.join(near[:_LISTED])}" if near else ""


def sidecar_like(path: Path) -> list[str]:
    """Names of angle files in the folder of a series whose names begin as its own does."""
    return sorted(
        p.name
        for p in path.parent.iterdir()
        if p.suffix.lower() in (".tlt", ".rawtlt", ".mdoc")
        and path.name.lower().startswith(p.name.split(".")[0].lower())
    )


def _readable(path: Path, raw: Raw, *, needed: bool) -> list[tuple[Path, Angles]]:
    """The angle files beside a series that have an angle for each of its images, the first one first.

    needed: whether to raise the InputError of one that cannot be read, or has another count, where none is left.
    """
    count = len(raw.images)
    counts = {count, raw.planned or count}
    found, wrong = [], []
    for beside in sidecars_of(path):
        try:
            said = read_angle_file(beside)
        except InputError as error:
            wrong.append(str(error))
            continue
        said = _without_count(said, counts, raw=raw, name=beside.name)
        if len(said.angles_deg) in counts:
            found.append((beside, said))
        else:
            wrong.append(f"{beside.name} has {len(said.angles_deg)} angles")
    if found:
        raw.notes += [f"not used: {text}" for text in wrong]
    elif wrong and needed:
        rows, columns = raw.images.shape[-2:]
        many = " angles" in wrong[0] and wrong[0].endswith("angles")
        told = f"{path}: {count} images of {rows} x {columns} pixels, but {'; '.join(wrong)}; give one for each image"
        raise InputError(told if many else wrong[0], argument="angles" if many else None)
    return found


def _without_count(said: Angles, counts: set[int], *, raw: Raw, name: str) -> Angles:
    """The angles less a first line that says how many there are."""
    angles = said.angles_deg
    if said.times_s is not None or len(angles) - 1 not in counts or angles[0] != len(angles) - 1:
        return said
    raw.notes.append(f"the first line of {name}, {angles[0]:g}, is taken as the number of angles")
    return Angles(angles[1:], None, said.pixel_nm, said.notes)


def _with_beside(path: Path, found: _Found, *, raw: Raw) -> _Found:
    """Adds the times and the pixel size of a file beside a series that speaks of the same angles; notes another."""
    found.times_s = raw.times_s if found.times_s is None else found.times_s
    for beside, said in _readable(path, Raw(raw.images, planned=raw.planned), needed=False):
        if beside.name == Path(found.source).name or len(said.angles_deg) != len(found.angles_deg):
            continue
        apart = np.abs(said.angles_deg - found.angles_deg).max()
        if apart > _SAME_SERIES_DEG:
            raw.notes.append(f"not used: {beside.name}, whose angles differ by up to {apart:.3g} degrees")
            continue
        if found.times_s is None and said.times_s is not None:
            found.times_s = said.times_s
            raw.notes += [f"times from {beside.name}", *said.notes]
        found.pixel_nm = said.pixel_nm if found.pixel_nm is None else found.pixel_nm
    return found


def _check_counts(path: Path, images: np.ndarray, *, found: _Found) -> None:
    for what, values in (("angles", found.angles_deg), ("times", found.times_s)):
        if values is not None and np.shape(values) != (len(images),):
            raise InputError(
                f"{path}: {len(images)} images of {images.shape[1]} x {images.shape[2]} pixels, but {np.size(values)} "
                f"{what} in {found.source}; give one for each image",
                argument="angles",
            )
        if values is not None and not np.isfinite(values).all():
            raise InputError(f"{path}: {what} in {found.source} must be finite numbers", argument="angles")


def _times_of(found: _Found, raw: Raw) -> np.ndarray:
    """(t,), in seconds; where there are none, or all are equal, one second an image."""
    times = found.times_s
    if times is not None and np.ptp(times) > 0:
        times = np.asarray(times, dtype=np.float64)
        different = len(np.unique(times))
        if 2 * different <= len(times):
            raw.notes.append(f"only {different} of the {len(times)} times differ: images of one time show one state")
        return times
    said = "no times" if times is None else f"all times are {times[0]:g}"
    raw.notes.append(f"{said}: one second an image, in the order of the file")
    return np.arange(len(found.angles_deg), dtype=np.float64)


def _pixel_of(raw: Raw, asked: float | None, *, beside: float | None) -> float | None:
    """The pixel size in nm: as asked for, as in the file, as beside it; None if unknown or no size of a pixel."""
    if asked is not None:
        return asked
    pixel = raw.pixel_nm if raw.pixel_nm is not None else beside
    if pixel is not None and not SANE_PIXEL_NM[0] <= pixel <= SANE_PIXEL_NM[1]:
        raw.notes.append(f"the file says {pixel:.3g} nm a pixel, which cannot be")
        pixel = None
    if pixel is None:
        raw.notes.append("the pixel size is unknown (give pixel_nm)")
    return pixel


def _axis_of(images: np.ndarray, angles_deg: np.ndarray, *, asked: str, raw: Raw) -> str:
    """The axis of images (t, rows, columns), sorted by time, along which the tilt axis lies; says how it was found."""
    looks, confidence = likely_tilt_axis(images, angles_deg)
    if asked != "auto":
        if looks != asked and confidence >= CERTAIN:
            _log.warning(
                f"the tilt axis is said to lie along image {asked}, but the images speak for {looks} "
                f"(confidence {confidence:.2f})"
            )
        return asked
    if confidence >= CERTAIN:
        raw.notes.append(f"the tilt axis lies along image {looks}: the images say so (confidence {confidence:.2f})")
        return looks
    raw.notes.append(
        f"along which image axis the tilt axis lies is not certain (confidence {confidence:.2f}): y is taken; "
        "look at the figures of dip4d inspect"
    )
    return "y"
