"""Volume-time series on disk: OME-TIFF, written and read frame by frame."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import tifffile

from dip4d.errors import InputError
from dip4d.whole_file import written_beside

CLASSIC_BYTES = 2**32 - 2**20  # that a TIFF can hold, a BigTIFF more
BYTES_OF_A_PLANE = 512  # of what is said of each, at most


def write_volumes(
    path: Path,
    frames: Iterable[np.ndarray],
    *,
    shape: tuple[int, int, int, int],
    times_s: np.ndarray,
    pixel_nm: float | None = None,
) -> None:
    """Writes volumes (t, z, y, x), float32, as one OME-TIFF that Fiji and napari open as a hyperstack.

    path: the file; it appears under its name only when it is whole.
    frames: T arrays (z, y, x), taken one at a time, so that never more than one is in memory.
    shape: (t, z, y, x).
    times_s: (t,), seconds, in the metadata of every plane.
    pixel_nm: the voxel size, nm; None if unknown.
    A file is a BigTIFF, which plain ImageJ cannot open, only where it has to be.
    """
    t, z, _, _ = shape
    metadata: dict = {
        "axes": "TZYX",
        "Plane": {"DeltaT": [float(s) for s in times_s for _ in range(z)], "DeltaTUnit": ["s"] * (t * z)},
    }
    if pixel_nm is not None:
        metadata |= {f"PhysicalSize{a}": float(pixel_nm) for a in "XYZ"}
        metadata |= {f"PhysicalSize{a}Unit": "nm" for a in "XYZ"}
    big = 4 * math.prod(shape) + BYTES_OF_A_PLANE * t * z > CLASSIC_BYTES
    planes = (np.ascontiguousarray(plane, dtype=np.float32) for frame in frames for plane in frame)
    with written_beside(path) as place, tifffile.TiffWriter(place, ome=True, bigtiff=big) as tif:
        tif.write(planes, shape=shape, dtype=np.float32, photometric="minisblack", metadata=metadata)


def read_times_and_size(path: Path) -> tuple[np.ndarray, float | None]:
    """Times in seconds (t,) and voxel size in nm, or None, of a file by `write_volumes`. Raises InputError."""
    with _as_input_error(path):
        pixels = _pixels(path)
        planes = pixels["Plane"] if isinstance(pixels["Plane"], list) else [pixels["Plane"]]
        times = np.array([float(plane["DeltaT"]) for plane in planes]).reshape(_shape(pixels)[:2])[:, 0]
        size = pixels.get("PhysicalSizeX")
        return times, None if size is None else float(size)


def open_volumes(path: Path) -> np.ndarray:
    """The volumes (t, z, y, x) of a file by `write_volumes`, mapped, not loaded. Raises InputError."""
    with _as_input_error(path):
        return tifffile.memmap(path, mode="r").reshape(_shape(_pixels(path)))  # it leaves out axes of length 1


@contextmanager
def _as_input_error(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise InputError(f"{path}: not a volume file of a run ({error})") from None


def _pixels(path: Path) -> dict[str, Any]:
    """What an OME-TIFF says of its pixels."""
    with tifffile.TiffFile(path) as tif:
        return tifffile.xml2dict(cast(str, tif.ome_metadata))["OME"]["Image"]["Pixels"]  # None raises, too


def _shape(pixels: dict[str, Any]) -> tuple[int, ...]:
    """(t, z, y, x)."""
    return tuple(int(pixels[f"Size{axis}"]) for axis in "TZYX")
