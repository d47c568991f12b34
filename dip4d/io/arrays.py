"""Stacks of images in TIFF, NumPy, MATLAB and HDF5 files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import tifffile

from dip4d.errors import InputError
from dip4d.io.damaged import check_hdf5, check_mat
from dip4d.io.mrc import finish_tomobase
from dip4d.io.raw import Raw, length_nm, optional, silent

_HDF5 = b"\x89HDF\r\n\x1a\n"
_MAT_NAMES = ("series", "stack", "obj")
_H5_ANGLE = "alpha tilt (deg)"
_H5_TIMES = ("acquisition time (s)", "acquisition timee (s)")  # the second is how tomobase spells it


@contextlib.contextmanager
def _as_input_error(path: Path, kind: str) -> Iterator[None]:
    """Whatever a library raises for a broken file becomes an InputError of one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: not a readable {kind} file ({reason})") from None


def read_tiff(path: Path) -> Raw:
    """All pages of a TIFF file; the pixel size where it is an OME-TIFF. Raises InputError."""
    with _as_input_error(path, "TIFF"), silent("tifffile"), tifffile.TiffFile(path) as tif:
        pages, stated = len(tif.pages), tif.series[0].shape
        if any(_is_short(page) for page in tif.pages):
            raise InputError(f"{path}: not a readable TIFF file (its pixels do not fit the shape {stated})")
        raw = Raw(tif.asarray().squeeze())
        if len(tif.series) > 1:
            raise InputError(f"{path}: holds {len(tif.series)} stacks of different shapes; a tilt series is one stack")
        if tif.ome_metadata is not None:
            raw.pixel_nm = _ome_pixel_nm(tif.ome_metadata)
        is_rgb = tif.pages.first.photometric == tifffile.PHOTOMETRIC.RGB
    if raw.images.ndim > 2 and raw.images.shape[-1] in (3, 4) and is_rgb:
        raise InputError(f"{path}: colour images of shape {stated}; a tilt series is grey")
    if raw.images.ndim == 2 and pages > 1:
        raise InputError(f"{path}: {pages} pages, but only one could be read; the file is damaged or was cut")
    return raw


def _is_short(page: tifffile.TiffPage | tifffile.TiffFrame) -> bool:
    """Whether a page keeps more or fewer bytes than its shape says; only where they are not compressed."""
    like = page.keyframe
    assert like is not None
    plain = like.compression == tifffile.COMPRESSION.NONE and not like.is_tiled
    return plain and sum(page.databytecounts) != like.nbytes


def _ome_pixel_nm(ome: str) -> float | None:
    image = tifffile.xml2dict(ome)["OME"]["Image"]
    pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
    if "PhysicalSizeX" not in pixels:
        return None
    return length_nm(pixels["PhysicalSizeX"], pixels.get("PhysicalSizeXUnit", "µm"))


def read_npy(path: Path) -> Raw:
    """A NumPy array that fills the file to its end. Raises InputError."""
    with _as_input_error(path, ".npy"), path.open("rb") as file:
        images = np.load(file, allow_pickle=False)
        if not isinstance(images, np.ndarray):
            raise InputError(f"{path}: not a readable .npy file (it is an .npz archive)")
        if file.read(1):
            raise InputError(f"{path}: not a readable .npy file (longer than its shape {images.shape} says)")
    return Raw(images)


def read_npz(path: Path) -> Raw:
    """Arrays `images` and, where present, `angles` in degrees, `times` in seconds, `pixel_nm`, and `shown` (t, rows),
    False for rows of which an aligned image shows nothing. Raises InputError.
    """
    with _as_input_error(path, ".npz"), np.load(path, allow_pickle=False) as arrays:
        if "images" not in arrays:
            raise InputError(f"{path}: holds no array named 'images', only {', '.join(arrays.files) or 'none'}")
        pixel = float(arrays["pixel_nm"]) if "pixel_nm" in arrays else None
        angles, times, shown = (arrays[k] if k in arrays else None for k in ("angles", "times", "shown"))
        return Raw(arrays["images"], angles, times, pixel, shown=shown)


def read_mat(path: Path) -> Raw:
    """tomobase's MATLAB layout: a struct `obj`, `series` or `stack` of data, angles, pixelsize in nm and times.

    The same names at the top level are read too, and version 7.3 (HDF5) where h5py is installed. Raises InputError.
    """
    with _as_input_error(path, ".mat"):
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


def read_h5(path: Path) -> Raw:
    """tomobase's HDF5 layout: groups `image 0`, `image 1`, ... of HAADF, alpha tilt and acquisition time.

    Raises InputError.
    """
    check_hdf5(path)
    h5py = optional("h5py", path)
    with _as_input_error(path, "HDF5"), h5py.File(path, "r") as file:
        count = sum(name.startswith("image ") for name in file)
        groups = [file.get(f"image {i}") for i in range(count)]
        if not groups or any(g is None for g in groups):
            raise InputError(
                f"{path}: no groups 'image 0' to 'image {max(count - 1, 0)}' without a gap, "
                f"as tomobase writes them; it holds {', '.join(list(file)[:8]) or 'nothing'}"
            )
        for i, group in enumerate(groups):
            if "HAADF" not in group or _H5_ANGLE not in group:
                raise InputError(f"{path}: 'image {i}' lacks 'HAADF' or '{_H5_ANGLE}'")
        shapes = {group["HAADF"].shape for group in groups}
        if len(shapes) > 1:
            raise InputError(f"{path}: images of different shapes, {' and '.join(map(str, sorted(shapes)))}")
        images = np.stack([group["HAADF"][()] for group in groups])
        angles = np.array([float(np.asarray(group[_H5_ANGLE]).item()) for group in groups])
        stamps = [next((g[n] for n in _H5_TIMES if n in g), None) for g in groups]
        times = None if any(s is None for s in stamps) else np.array([float(np.asarray(s).item()) for s in stamps])
    return Raw(images, angles, times)
