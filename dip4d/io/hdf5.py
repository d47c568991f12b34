"""Stacks of images in HDF5 files: tomobase's, Data Exchange, and the EMD of NCEM, which tomviz writes, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dip4d.errors import InputError
from dip4d.io.damaged import check_hdf5
from dip4d.io.raw import Raw, as_input_error, degrees_per, length_nm, optional

_H5_ANGLE = "alpha tilt (deg)"
_H5_TIMES = ("acquisition time (s)", "acquisition timee (s)")  # the second is how tomobase spells it
_NAMES = ("angle", "angles", "tilt", "tilt_angle", "tilt_angles", "alpha", "theta")  # of an axis without a unit


def read_h5(path: Path) -> Raw:
    """tomobase's HDF5 layout, Data Exchange, or an EMD of NCEM (`read_ncem`).

    Data Exchange (De Carlo et al., J. Synchrotron Rad. 21:1224, 2014), as tomopy has it: exchange/data (angles, y, x)
    and exchange/theta, degrees unless it says otherwise. tomobase: groups `image 0`, `image 1`, ... of HAADF, alpha
    tilt and acquisition time. Raises InputError.
    """
    check_hdf5(path)
    h5py = optional("h5py", path)
    with as_input_error(path, "HDF5"), h5py.File(path, "r") as file:
        if _ncem_group(file) is not None:
            raw = _from_ncem(file, path)
            if raw is None:
                raise InputError(f"{path}: an EMD of NCEM without an axis of tilt angles, in degrees or radians")
            return raw
        if "exchange/data" in file:
            return _from_data_exchange(file, path)
        count = sum(name.startswith("image ") for name in file)
        if not count:
            raise InputError(
                f"{path}: holds {', '.join(list(file)[:8]) or 'nothing'}; of HDF5 files three layouts are read: "
                "groups 'image 0', 'image 1', ... as tomobase writes them, Data Exchange, and EMD of NCEM or tomviz"
            )
        return _from_tomobase(file, path, count=count)


def read_ncem(path: Path) -> Raw | None:
    """An EMD of NCEM or tomviz (emd_group_type 1) with an axis of tilt angles; None for any other file.

    Angles and pixel size are those of its vectors dim1, dim2, dim3. Raises InputError.
    """
    h5py = optional("h5py", path)
    with as_input_error(path, "EMD"), h5py.File(path, "r") as file:
        return None if _ncem_group(file) is None else _from_ncem(file, path)


def _from_data_exchange(file: Any, path: Path) -> Raw:
    group = file["exchange"]
    raws = [name for name in ("data_white", "data_dark") if name in group and group[name].size]
    if raws:
        raise InputError(
            f"{path}: exchange/data goes with {' and '.join(raws)}: divide by the white images and take minus the "
            "logarithm (tomopy.normalize, tomopy.minus_log), and save the result without them"
        )
    if group["data"].ndim != 3:
        raise InputError(f"{path}: exchange/data has {group['data'].ndim} axes; a tilt series has (angles, y, x)")
    raw = Raw(np.asarray(group["data"][()]))
    if (theta := group.get("theta")) is not None:
        raw.angles_deg = (degrees_per(_text(theta, "units")) or 1.0) * np.asarray(theta[()], np.float64).ravel()
    return raw


def _from_tomobase(file: Any, path: Path, *, count: int) -> Raw:
    groups = [file.get(f"image {i}") for i in range(count)]
    if any(g is None for g in groups):
        raise InputError(
            f"{path}: no groups 'image 0' to 'image {count - 1}' without a gap, as tomobase writes them; "
            f"it holds {', '.join(list(file)[:8])}"
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


def _ncem_group(file: Any) -> Any:
    """The first group that says of itself that it is a data set of NCEM, with its data; None if none does."""
    found: list[Any] = []

    def look(_: str, item: Any) -> None:
        if not found and item.attrs.get("emd_group_type") is not None and "data" in item and hasattr(item, "keys"):
            found.append(item)

    file.visititems(look)
    return found[0] if found else None


def _from_ncem(file: Any, path: Path) -> Raw | None:
    group = _ncem_group(file)
    data = group["data"]
    if data.ndim != 3:
        raise InputError(f"{path}: an EMD of NCEM whose data has {data.ndim} axes; a tilt series has three")
    dims = [group.get(f"dim{i + 1}") for i in range(3)]
    tilted = [i for i, dim in enumerate(dims) if dim is not None and _degrees_per(dim) is not None]
    if len(tilted) != 1:
        return None
    t = tilted[0]
    across = [i for i in range(3) if i != t]
    names = [_text(dims[i], "name").lower() for i in across]
    if names == ["x", "y"] or (names != ["y", "x"] and t == 2):
        across = across[::-1]  # the first axis is x
    raw = Raw(np.asarray(data[()]).transpose(t, *across))
    angles, count = np.asarray(dims[t][()], np.float64).ravel(), len(raw.images)
    if len(angles) == 2 < count:
        angles = angles[0] + (angles[1] - angles[0]) * np.arange(count)
        raw.notes.append("angles from the first two that the file gives: nominal, evenly spaced")
    raw.angles_deg = (_degrees_per(dims[t]) or 1.0) * angles
    x = dims[across[-1]]
    if x is not None and x.size > 1 and x.dtype.kind in "uif":
        places = np.asarray(x[()], np.float64)
        raw.pixel_nm = length_nm((places[-1] - places[0]) / (len(places) - 1), _text(x, "units"))
    return raw


def _degrees_per(dim: Any) -> float | None:
    """Degrees in a unit of an axis; None if it is none of angles."""
    unit, name = _text(dim, "units"), _text(dim, "name").lower().replace(" ", "_")
    return None if dim.dtype.kind not in "uif" else degrees_per(unit) or (1.0 if not unit and name in _NAMES else None)


def _text(dim: Any, name: str) -> str:
    value = "" if dim is None else dim.attrs.get(name, "")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
