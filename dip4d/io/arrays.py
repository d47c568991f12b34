"""Stacks of images in NumPy and MATLAB files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import scipy.io

from dip4d.errors import InputError
from dip4d.io.damaged import check_hdf5, check_mat
from dip4d.io.mrc import finish_tomobase
from dip4d.io.raw import Raw, as_input_error, check_claim, optional

_HDF5 = b"\x89HDF\r\n\x1a\n"
_MAT_NAMES = ("series", "stack", "obj")


def read_npy(path: Path) -> Raw:
    """A NumPy array that fills the file to its end. Raises InputError."""
    with as_input_error(path, ".npy"), path.open("rb") as file:
        _check_npy(file, path, stored=path.stat().st_size)
        images = np.load(file, allow_pickle=False)
        if not isinstance(images, np.ndarray):
            raise InputError(f"{path}: not a readable .npy file (it is an .npz archive)")
        if file.read(1):
            raise InputError(f"{path}: not a readable .npy file (longer than its shape {images.shape} says)")
    return Raw(images)


def _check_npy(file: IO[bytes], path: Path, *, stored: int) -> None:
    """Raises InputError if the shape that a .npy begins with is beyond what it can hold; rewinds the file."""
    start = file.read(6)
    file.seek(0)
    if start != np.lib.format.MAGIC_PREFIX:
        return
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    check_claim(path, float(np.prod([float(n) for n in shape])) * dtype.itemsize, stored=stored)
    file.seek(0)


def read_npz(path: Path) -> Raw:
    """Arrays `images` and, where present, `angles` in degrees, `times` in seconds, `pixel_nm`, and `shown` (t, rows),
    False for rows of which an aligned image shows nothing. Raises InputError.
    """
    with as_input_error(path, ".npz"), np.load(path, allow_pickle=False) as arrays:
        if "images" not in arrays:
            raise InputError(f"{path}: holds no array named 'images', only {', '.join(arrays.files) or 'none'}")
        for entry in arrays.zip.infolist():
            with arrays.zip.open(entry) as file:
                _check_npy(file, path, stored=entry.compress_size)
        pixel = float(arrays["pixel_nm"]) if "pixel_nm" in arrays else None
        angles, times, shown = (arrays[k] if k in arrays else None for k in ("angles", "times", "shown"))
        axis = str(arrays["tilt_axis"]) if "tilt_axis" in arrays else None
        return Raw(arrays["images"], angles, times, pixel, shown=shown, tilt_axis="y" if shown is not None else axis)


def read_mat(path: Path) -> Raw:
    """tomobase's MATLAB layout: a struct `obj`, `series` or `stack` of data, angles, pixelsize in nm and times.

    The same names at the top level are read too, and version 7.3 (HDF5) where h5py is installed. Raises InputError.
    """
    with as_input_error(path, ".mat"):
        with path.open("rb") as file:
            is_hdf5 = _HDF5 in file.read(520)
        found = _mat_v73(path) if is_hdf5 else _mat_v5(path)
        if "data" not in found or "angles" not in found:
            raise InputError(
                f"{path}: no struct {' or '.join(_MAT_NAMES)} with data and angles; "
                f"it holds {', '.join(found) or 'nothing'}"
            )
        raw = Raw(np.asarray(found["data"]).squeeze())
        finish_tomobase(raw, found["angles"], times=found.get("times"))
        pixel = np.asarray(found.get("pixelsize", np.nan), dtype=np.float64).ravel()
        raw.pixel_nm = float(pixel[0]) if pixel.size and np.isfinite(pixel[0]) and pixel[0] > 0 else None
    return raw


def _mat_v5(path: Path) -> Mapping[str, Any]:
    check_mat(path)
    content = scipy.io.loadmat(path, simplify_cells=True)
    struct = next((content[n] for n in _MAT_NAMES if isinstance(content.get(n), dict)), content)
    return {k: v for k, v in struct.items() if not k.startswith("__")}


def _mat_v73(path: Path) -> Mapping[str, Any]:
    check_hdf5(path)
    h5py = optional("h5py", path)
    with h5py.File(path, "r") as file:
        struct = next((file[n] for n in _MAT_NAMES if isinstance(file.get(n), h5py.Group)), file)
        return {k: v[()].T for k, v in struct.items() if isinstance(v, h5py.Dataset)}  # MATLAB keeps columns first
