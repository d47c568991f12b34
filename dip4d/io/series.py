"""Tilt series from files: MRC, TIFF and NumPy."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mrcfile
import numpy as np
import tifffile

from dip4d.errors import InputError
from dip4d.io.angles import find_sidecar, read_angles
from dip4d.tilt_series import TiltSeries

_ANGSTROM_PER_NM = 10
_FEI_RECORD, _FEI_RECORDS = 128, 1024  # bytes of the old FEI extended header, one record for each image


@dataclass
class _Raw:
    """What a file holds before any convention is imposed: images (t, rows, columns) as stored."""

    images: np.ndarray
    angles_deg: np.ndarray | None = None
    times_s: np.ndarray | None = None
    pixel_nm: float | None = None


def read_tilt_series(
    path: str | Path, angles: str | Path | None = None, tilt_axis: str = "y", pixel_nm: float | None = None
) -> TiltSeries:
    """Reads a tilt series and converts it to the conventions of `TiltSeries`, sorted by time.

    path: `.mrc .ali .st .rec .mrcs`, `.tif .tiff`, `.npy` or `.npz` (arrays `images`, optional `angles` in degrees,
        `times` in seconds, `pixel_nm`); images along the first axis.
    angles: an angle file; if None, the angles in the file's own header, then those of a file beside it.
    tilt_axis: the image axis, 'x' (columns) or 'y' (rows), along which the tilt axis lies.
    pixel_nm: the pixel size, where the file does not know it or is wrong.
    Raises InputError, naming the file and the remedy.
    """
    path = Path(path)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: unknown kind of file; a tilt series is one of {', '.join(_READERS)} (key data.path)")
    if not path.is_file():
        raise InputError(f"{path}: no such file (key data.path)")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty")
    raw = reader(path)
    images = np.asarray(raw.images)
    if images.ndim != 3 or len(images) < 2:
        raise InputError(f"{path}: a tilt series is a stack of images (t, rows, columns), found shape {images.shape}")
    if images.dtype.kind not in "uif":
        raise InputError(f"{path}: pixels must be real numbers, found {images.dtype}")

    found, times = _angles_of(path, angles, raw)
    for what, values in (("angles", found), ("times", times)):
        if values is not None and len(values) != len(images):
            raise InputError(
                f"{path}: {len(images)} images of {images.shape[1]} x {images.shape[2]} pixels, but {len(values)} "
                f"{what} in {angles or 'the file'}; give one for each image (key data.angles)"
            )
    if tilt_axis == "x":
        images = images.transpose(0, 2, 1)
    pixel_nm = raw.pixel_nm if pixel_nm is None else pixel_nm
    return TiltSeries(images, found, times, pixel_nm, source=str(path)).in_time_order()


def read_truth(path: str | Path, shape: tuple[int, int, int, int]) -> np.ndarray:
    """Truth volumes (t, z, y, x) of the given shape, from .npy or .tif; float32. Raises InputError."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file (key data.truth)")
    if path.suffix.lower() not in (".npy", ".tif", ".tiff"):
        raise InputError(f"{path}: truth volumes are .npy or .tif (key data.truth)")
    volumes = np.asarray(_READERS[path.suffix.lower()](path).images)
    if volumes.shape != shape:
        raise InputError(f"{path}: truth has shape {volumes.shape}, the volumes will be (t, z, y, x) = {shape}")
    if not np.isfinite(volumes).all():
        raise InputError(f"{path}: NaN or infinite voxels")
    return volumes.astype(np.float32)


def _angles_of(path: Path, angles: str | Path | None, raw: _Raw) -> tuple[np.ndarray, np.ndarray | None]:
    if angles is not None:
        found, times = read_angles(angles)
        return found, raw.times_s if times is None else times
    if raw.angles_deg is not None:
        return raw.angles_deg, raw.times_s
    beside = find_sidecar(path)
    if beside is None:
        raise InputError(f"{path}: no tilt angles in the file or beside it; name a file of them with data.angles=FILE")
    return read_angles(beside)


def _read_mrc(path: Path) -> _Raw:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # old FEI files lack the map ID and the machine stamp
            with mrcfile.open(path, permissive=True) as mrc:
                data, extended, voxel_nm = mrc.data, mrc.extended_header, float(mrc.voxel_size.x) / _ANGSTROM_PER_NM
                kind = bytes(mrc.header.exttyp)
                label = bytes(mrc.header.label[0])
    except Exception as error:
        raise InputError(f"{path}: not a readable MRC file ({error})") from None
    if data is None:
        raise InputError(f"{path}: not a readable MRC file (the header does not fit the {path.stat().st_size} bytes)")
    raw = _Raw(np.array(data), pixel_nm=voxel_nm if voxel_nm > 0 else None)
    if kind in (b"FEI1", b"FEI2"):
        raw.angles_deg = np.asarray(extended["Alpha tilt"][: len(data)], dtype=np.float64)
    elif b"Fei Company" in label and extended.nbytes >= _FEI_RECORD * _FEI_RECORDS:
        records = np.frombuffer(extended.tobytes(), "<f4").reshape(-1, _FEI_RECORD // 4)[: len(data)]
        raw.angles_deg = records[:, 0].astype(np.float64)
        raw.pixel_nm = float(records[0, 11]) * 1e9 or None  # metres; the main header of these files is 1 Angstrom
    return raw


def _read_tiff(path: Path) -> _Raw:
    try:
        with tifffile.TiffFile(path) as tif:
            raw = _Raw(tif.asarray().squeeze())
            if tif.is_ome:
                pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]
                pixels = (pixels[0] if isinstance(pixels, list) else pixels)["Pixels"]
                per_unit = {"nm": 1, "pm": 1e-3, "um": 1e3, "µm": 1e3, "Å": 0.1}.get(
                    pixels.get("PhysicalSizeXUnit", "µm")
                )
                if per_unit and "PhysicalSizeX" in pixels:
                    raw.pixel_nm = float(pixels["PhysicalSizeX"]) * per_unit
    except Exception as error:
        raise InputError(f"{path}: not a readable TIFF file ({error})") from None
    return raw


def _read_npy(path: Path) -> _Raw:
    try:
        return _Raw(np.load(path, allow_pickle=False))
    except Exception as error:
        raise InputError(f"{path}: not a readable .npy file ({error})") from None


def _read_npz(path: Path) -> _Raw:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if "images" not in arrays:
                raise InputError(f"{path}: holds no array named 'images', only {', '.join(arrays.files) or 'none'}")
            pixel = float(arrays["pixel_nm"]) if "pixel_nm" in arrays else None
            return _Raw(arrays["images"], *(arrays[k] if k in arrays else None for k in ("angles", "times")), pixel)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path}: not a readable .npz file ({error})") from None


_READERS: dict[str, Callable[[Path], _Raw]] = {
    **dict.fromkeys((".mrc", ".ali", ".st", ".rec", ".mrcs"), _read_mrc),
    **dict.fromkeys((".tif", ".tiff"), _read_tiff),
    ".npy": _read_npy,
    ".npz": _read_npz,
}
