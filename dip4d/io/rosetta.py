"""Files of Gatan, FEI and HyperSpy, through the library RosettaSciIO, an optional extra."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dip4d.errors import InputError
from dip4d.io.damaged import check_hdf5
from dip4d.io.hdf5 import read_ncem
from dip4d.io.raw import Raw, degrees_per, length_nm, optional, parse_time, reason_of, silent

READERS = {".dm3": "digitalmicrograph", ".dm4": "digitalmicrograph", ".emd": "emd", ".ser": "tia", ".hspy": "hspy"}
_DM_TAGS = ("ImageList", "TagGroup0", "ImageTags")
_DM_TIMES = ("%m/%d/%Y, %H:%M:%S", "%m/%d/%Y, %I:%M:%S %p", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %I:%M:%S %p")
_FILETIME = 1e-7  # seconds in one tick of Windows


def read_rosetta(path: Path) -> Raw:
    """Images with the tilt angles, times and pixel size of the file's own metadata.

    `.dm3 .dm4`: tags of the tomography plug-in or of the stage. `.emd`: stage and time of every frame (Velox), or the
    axis of angles (NCEM, tomviz). `.ser`: times. `.hspy`: stage tilts. An image axis in degrees counts as tilt angles
    in all. Raises InputError.
    """
    suffix = path.suffix.lower()
    optional("rsciio", path)
    if suffix in (".emd", ".hspy"):
        check_hdf5(path)
    if suffix == ".emd" and (raw := read_ncem(path)) is not None:
        return raw
    reader = optional(f"rsciio.{READERS[suffix]}", path).file_reader
    options = {"select_type": "images"} if suffix == ".emd" and _velox_images(path) else {}
    try:
        with warnings.catch_warnings(), silent("rsciio"):
            warnings.simplefilter("ignore")
            signals = reader(str(path), **options)
        signal, number, notes = _choose(signals, path)
        raw = _images(signal, notes)
        _METADATA.get(suffix, _from_stage)(raw, signal, path=path, number=number)
        if raw.angles_deg is None or np.ptp(raw.angles_deg) == 0:  # a stage that was not read says 0
            _from_axis(raw, signal)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path}: not a readable {suffix} file ({reason_of(error)})") from None
    return raw


def _choose(signals: list[dict], path: Path) -> tuple[dict, int, list[str]]:
    """The signal that holds real images, its place among all, and what was assumed: stacks first, then HAADF."""

    def rank(item: tuple[int, dict]) -> tuple:
        title = str(_walk(item[1]["metadata"], "General", "title") or "")
        return -np.ndim(item[1]["data"]), "haadf" not in title.lower(), item[0]

    images = [(i, s) for i, s in enumerate(signals) if np.ndim(s["data"]) in (2, 3) and s["data"].dtype.kind in "uif"]
    if not images:
        found = ", ".join(f"{s['data'].dtype} {s['data'].shape}" for s in signals) or "nothing"
        raise InputError(f"{path}: holds no stack of grey images, only {found}")
    number, signal = min(images, key=rank)
    title = _walk(signal["metadata"], "General", "title") or "untitled"
    notes = [] if len(images) == 1 else [f"of {len(images)} signals in the file the one called '{title}' is taken"]
    return signal, number, notes


def _images(signal: Mapping[str, Any], notes: list[str]) -> Raw:
    """The stack (t, rows, columns) or the image (rows, columns) of a signal, with its pixel size."""
    images = np.asarray(signal["data"])
    axes = list(signal["axes"])
    if len(axes) != images.ndim or any(int(a["size"]) != n for a, n in zip(axes, images.shape, strict=True)):
        raise ValueError(f"its axes do not fit its data of shape {images.shape}")
    raw = Raw(images, notes=notes)
    height, width = (length_nm(a.get("scale", 0), a.get("units")) for a in axes[-2:])  # of a pixel
    raw.pixel_nm = width
    if height is not None and width is not None and not np.isclose(height, width, rtol=0.01):
        raw.notes.append(f"pixels are not square ({width:.4g} x {height:.4g} nm): the first is taken for both")
    return raw


def _from_axis(raw: Raw, signal: Mapping[str, Any], **_: Any) -> None:
    """Tilt angles from the calibration of the axis along which the images are stacked."""
    if raw.images.ndim != 3:
        return
    axis = signal["axes"][0]
    degrees = degrees_per(axis.get("units"))
    if degrees is not None:
        if axis.get("axis") is not None:
            raw.angles_deg = degrees * np.asarray(axis["axis"], dtype=np.float64)
            return
        raw.angles_deg = degrees * (float(axis["offset"]) + float(axis["scale"]) * np.arange(len(raw.images)))
        raw.notes.append("angles from the calibration of the stack's axis: nominal, evenly spaced")


def _from_stage(raw: Raw, signal: Mapping[str, Any], **_: Any) -> None:
    """Tilt angles from etspy's record or from the stage; FEI pads theirs with zeros behind the last image."""
    tilts = _walk(signal["metadata"], "Tomography", "_sig_tilts", "data")
    if tilts is None:
        tilts = _walk(signal["metadata"], "Acquisition_instrument", "TEM", "Stage", "tilt_alpha")
    tilts = np.asarray([] if tilts is None else tilts, dtype=np.float64).ravel()
    count = 1 if raw.images.ndim == 2 else len(raw.images)
    if len(tilts) == count or (len(tilts) > count > 1 and not tilts[count:].any()):
        raw.angles_deg = tilts[:count]


def _from_dm(raw: Raw, signal: Mapping[str, Any], **_: Any) -> None:
    """Tilts and times of Gatan's tomography plug-in; for a single image those of the stage and of the clock."""
    tags = _walk(signal["original_metadata"], *_DM_TAGS) or {}
    if raw.images.ndim == 2:
        angle = _walk(tags, "Microscope Info", "Stage Position", "Stage Alpha")
        ticks = _walk(tags, "DataBar", "Acquisition Time (OS)")
        raw.angles_deg = None if angle is None else np.array([float(angle)])
        raw.times_s = None if ticks is None else np.array([float(ticks) * _FILETIME])
        return
    record = _walk(tags, "Tomography", "Tracking data", "Online tracking data") or {}
    entries = sorted(record.values(), key=lambda e: e.get("Index in series", 0))
    if len(entries) != len(raw.images) or any("stage angle (degree)" not in e for e in entries):
        return
    raw.angles_deg = np.array([float(e["stage angle (degree)"]) for e in entries])
    stamps = (str(_walk(tags, "Tomography", f"Acquisition {k}")) for k in ("start", "finish"))
    began, ended = (parse_time(stamp, _DM_TIMES) for stamp in stamps)
    if began is not None and ended is not None and ended > began:
        turn = np.array([float(e.get("Acquisition index", i)) for i, e in enumerate(entries)])
        raw.times_s = turn * (ended - began).total_seconds() / len(entries)
        raw.notes.append("the file knows when the series began and ended: times are spread evenly between")


def _from_ser(raw: Raw, signal: Mapping[str, Any], **_: Any) -> None:
    """TIA notes the second in which every image was taken, but no angle. Every image has a header of its own."""
    header = _walk(signal["original_metadata"], "ser_header_parameters") or {}
    for name, size in zip(("ArraySizeY", "ArraySizeX"), raw.images.shape[-2:], strict=True):
        if not np.all(np.asarray(header.get(name, size)) == size):
            raise ValueError("its images differ in size")
    times = header.get("Time")
    times = np.asarray([] if times is None else times, dtype=np.float64).ravel()
    if raw.images.ndim == 3 and len(times) == len(raw.images) and np.ptp(times) > 0:
        raw.times_s = times - times.min()
        raw.notes.append("the times of a .ser file are whole seconds")


def _velox_images(path: Path) -> list[str] | None:
    """The names of the images of a Velox file; None for what is no such file."""
    h5py = optional("h5py", path)
    try:
        with h5py.File(path, "r") as file:
            images = file.get("Data/Image")
            return None if images is None else list(images)
    except Exception:
        return None


def _from_emd(raw: Raw, signal: Mapping[str, Any], *, path: Path, number: int) -> None:
    """Velox keeps one JSON record for each frame: the stage's tilt in radians and the time in seconds."""
    names = _velox_images(path)
    if names is None:
        return
    with optional("h5py", path).File(path, "r") as file:
        columns = file[f"Data/Image/{names[number]}/Metadata"][()]
    count = 1 if raw.images.ndim == 2 else len(raw.images)
    if columns.ndim != 2 or columns.shape[1] != count:
        return
    frames = [json.loads(columns[:, i].tobytes().rstrip(b"\0")) for i in range(count)]
    tilts = [_walk(f, "Stage", "AlphaTilt") for f in frames]
    times = [_walk(f, "Acquisition", "AcquisitionStartDatetime", "DateTime") for f in frames]
    if None not in tilts:
        raw.angles_deg = np.rad2deg(np.array(tilts, dtype=np.float64))
    if None not in times and (count == 1 or len(set(times)) > 1):
        stamps = np.array(times, dtype=np.float64)
        raw.times_s = stamps if count == 1 else stamps - stamps.min()


def _walk(tree: Any, *path: str) -> Any:
    """What lies at a path of nested mappings; None where it ends early."""
    for name in path:
        tree = tree.get(name) if hasattr(tree, "get") else None
    return tree


_METADATA: dict[str, Callable[..., None]] = {
    ".dm3": _from_dm,
    ".dm4": _from_dm,
    ".emd": _from_emd,
    ".ser": _from_ser,
}
