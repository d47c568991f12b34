"""Tilt series from files: the one way in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from dip4d.errors import InputError
from dip4d.io import rosetta
from dip4d.io.angles import find_sidecar, read_angles
from dip4d.io.arrays import read_h5, read_mat, read_npy, read_npz, read_tiff
from dip4d.io.folder import read_folder
from dip4d.io.mrc import read_mrc
from dip4d.io.raw import Raw
from dip4d.tilt_series import SAME_ANGLE_DEG, TiltSeries

READERS: dict[str, Callable[[Path], Raw]] = {
    **dict.fromkeys((".mrc", ".ali", ".st", ".rec", ".mrcs"), read_mrc),
    **dict.fromkeys((".tif", ".tiff"), read_tiff),
    ".npy": read_npy,
    ".npz": read_npz,
    ".mat": read_mat,
    **dict.fromkeys((".h5", ".hdf5"), read_h5),
    **dict.fromkeys(rosetta.READERS, rosetta.read_rosetta),
}


def read_tilt_series(
    path: str | Path,
    angles: str | Path | None = None,
    *,
    tilt_axis: str = "y",
    pixel_nm: float | None = None,
) -> TiltSeries:
    """Reads a tilt series and converts it to the conventions of `TiltSeries`, sorted by time.

    path: a file of one of the kinds in `READERS`, images along the first axis; a sinogram (t, s) in a `.npy`; or a
        folder of single images (`read_folder`).
    angles: an angle file; if None, the angles in the file's own header, then those of a file beside it.
    tilt_axis: the image axis, 'x' (columns) or 'y' (rows), along which the tilt axis lies.
    pixel_nm: the pixel size, where the file does not know it or is wrong.
    What had to be assumed is in `notes` of the result. Raises InputError, naming the file and the remedy.
    """
    path = Path(path)
    raw = _read(path)
    images = np.asarray(raw.images)
    found, times = _angles_of(path, angles, raw=raw)
    if images.ndim == 2 and path.suffix.lower() == ".npy" and len(images) == len(found) > 1:
        images = images[:, None] if tilt_axis == "y" else images[:, :, None]
        raw.notes.append("two axes and as many rows as angles: taken as a sinogram (t, s) of one slice")
    if images.ndim != 3 or len(images) < 2:
        raise InputError(f"{path}: a tilt series is a stack of images (t, rows, columns), found shape {images.shape}")
    if images.dtype.kind not in "uif":
        raise InputError(f"{path}: pixels must be real numbers, found {images.dtype}")
    for what, values in (("angles", found), ("times", times)):
        if values is not None and np.shape(values) != (len(images),):
            raise InputError(
                f"{path}: {len(images)} images of {images.shape[1]} x {images.shape[2]} pixels, but {np.size(values)} "
                f"{what} in {angles or 'the file'}; give one for each image",
                argument="angles",
            )
    if np.abs(found).max() > 360:
        raise InputError(f"{path}: {found[np.abs(found).argmax()]:g} is not a tilt angle in degrees")
    if tilt_axis == "x":
        images = images.transpose(0, 2, 1)
    if times is None:
        times = np.arange(len(images))
        raw.notes.append("no times: one second an image, in the order of the file")
    if pixel_nm is None and raw.pixel_nm is None:
        raw.notes.append("the pixel size is unknown (give pixel_nm)")
    pixel_nm = raw.pixel_nm if pixel_nm is None else pixel_nm
    if raw.shown is not None and tilt_axis == "x":
        raise InputError(f"{path}: was aligned by dip4d, its tilt axis lies along y", argument="tilt_axis")
    series = TiltSeries(images, found, times, pixel_nm, source=str(path), notes=tuple(raw.notes), shown=raw.shown)
    return series.in_time_order()


def write_tilt_series(path: Path, series: TiltSeries) -> None:
    """Writes a series as an .npz that `read_tilt_series` reads: images, angles, times, pixel size and rows shown."""
    optional = {k: v for k in ("pixel_nm", "shown") if (v := getattr(series, k)) is not None}
    np.savez_compressed(path, images=series.images, angles=series.angles_deg, times=series.times_s, **optional)


def read_truth(path: str | Path, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Truth volumes (t, z, y, x) of the given shape, from .npy or .tif; float32. Raises InputError."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file", argument="truth")
    if path.suffix.lower() not in (".npy", ".tif", ".tiff"):
        raise InputError(f"{path}: truth volumes are .npy or .tif", argument="truth")
    volumes = np.asarray(READERS[path.suffix.lower()](path).images)
    if volumes.shape != shape:
        raise InputError(f"{path}: truth has shape {volumes.shape}, the volumes will be (t, z, y, x) = {shape}")
    if not np.isfinite(volumes).all():
        raise InputError(f"{path}: NaN or infinite voxels")
    return volumes.astype(np.float32)


def _read(path: Path) -> Raw:
    if path.is_dir():
        return read_folder(path, READERS)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            f"{path}: unknown kind of file; a tilt series is one of {', '.join(READERS)} or a folder", argument="path"
        )
    if not path.is_file():
        raise InputError(f"{path}: no such file", argument="path")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    return reader(path)


def _angles_of(path: Path, angles: str | Path | None, *, raw: Raw) -> tuple[np.ndarray, np.ndarray | None]:
    """Angles (t,) in degrees and times (t,) in seconds or None: as the user says, as the file says, as beside it."""
    if angles is not None:
        found, times = read_angles(angles)
        return found, raw.times_s if times is None else times
    beside = find_sidecar(path)
    if raw.angles_deg is not None:
        found = np.asarray(raw.angles_deg, dtype=np.float64)
        if not np.isfinite(found).all():
            raise InputError(
                f"{path}: not all tilt angles in the file are finite numbers; name a file of them", argument="angles"
            )
        return found, _times_beside(beside, found, raw=raw) if raw.times_s is None else raw.times_s
    if beside is None:
        raise InputError(f"{path}: no tilt angles in the file or beside it; name a file of them", argument="angles")
    raw.notes.append(f"angles from {beside.name}")
    found, times = read_angles(beside)
    return found, raw.times_s if times is None else times


def _times_beside(beside: Path | None, found: np.ndarray, *, raw: Raw) -> np.ndarray | None:
    """The times of the file beside a series that has angles only, if it speaks of the same angles."""
    if beside is None:
        return None
    try:
        angles, times = read_angles(beside)
    except InputError:
        return None
    if times is None or len(angles) != len(found) or np.abs(angles - found).max() > SAME_ANGLE_DEG:
        return None
    raw.notes.append(f"times from {beside.name}")
    return times
