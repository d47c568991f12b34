"""MRC files and what microscopes and programs put into their extended headers."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE, get_ext_header_dtype
from mrcfile.utils import data_dtype_from_header

from dip4d.errors import InputError
from dip4d.io.raw import ANGSTROM_PER_NM, SANE_PIXEL_NM, Raw, check_claim

_HEADER = 1024  # bytes
_FEI_RECORD, _FEI_RECORDS = 128, 1024  # bytes of the old FEI extended header, one record for each image
_SECONDS_PER_DAY = 86400
_SERIALEM_TILT = 1  # the flag of SerialEM's extended header that says: each record begins with 100 x the tilt
_IMOD, _IMOD_SIGNED = 1146047817, 1  # the stamp of IMOD, and its flag for bytes of mode 0 that are signed
_NEW = 20140  # the version of MRC from which bytes are signed
_STEEPEST = 180.0  # degrees that an unnamed extended header may give
_COMPRESSED = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open}


@dataclass
class _Layout:
    """Where in a file, unpacked if it was compressed, the images are.

    header: the main header. count: whole images in the file. planned: those that the header speaks of.
    """

    header: np.recarray
    count: int
    planned: int
    notes: list[str]


def read_mrc(path: Path) -> Raw:
    """Images of an MRC file; tilt angles from FEI, SerialEM and tomobase (JSON) extended headers.

    Compressed by gzip or bzip2, too. Of a series that was stopped the whole images are read. Raises InputError if the
    header does not describe the bytes of the file.
    """
    try:
        with _opened(path) as (file, packed):
            layout, extended, data = _read(file, path, packed=packed)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path}: not a readable MRC file ({_first_line(error)})") from None
    header = layout.header
    raw = Raw(_signed(data, header, notes=layout.notes), notes=layout.notes)
    if layout.count < layout.planned:
        raw.planned = layout.planned
    sampling, cell = (int(header.mx), int(header.my)), float(header.cella.x) / ANGSTROM_PER_NM
    if sampling[0] > 0 and cell > 0 and np.isfinite(cell):
        raw.pixel_nm = cell / sampling[0]
    if min(sampling) > 0 and sampling != (int(header.nx), int(header.ny)):
        raw.notes.append(
            f"the MRC header gives {header.nx} x {header.ny} pixels but samples {sampling[0]} x {sampling[1]}: "
            "check the shape and the pixel size"
        )
    try:
        _read_extended(raw, header, extended=extended)
    except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
        raise InputError(f"{path}: not a readable extended header ({_first_line(error)})") from None
    return raw


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, bool]]:
    """The file, unpacked if it is compressed, whatever it is called; and whether it was."""
    with path.open("rb") as file:
        start = file.read(_HEADER)
    unpacks = next((o for magic, o in _COMPRESSED.items() if start.startswith(magic)), None)
    packed = unpacks is not None and start[208:212] != b"MAP "
    with cast(Any, unpacks if packed else open)(path, "rb") as file:
        yield file, packed


def _read(file: Any, path: Path, *, packed: bool) -> tuple[_Layout, np.ndarray, np.ndarray]:
    """The layout, the extended header and the images (t, rows, columns), never more than the file has bytes for."""
    start = file.read(_HEADER)
    if len(start) < _HEADER:
        raise InputError(f"{path}: not a readable MRC file (too short for a header)")
    header = _header_of(start)
    shape, symmetry = tuple(int(n) for n in (header.nz, header.ny, header.nx)), int(header.nsymbt)
    if min(shape) < 1 or symmetry < 0:
        raise InputError(f"{path}: not a readable MRC file (the header gives the shape {shape})")
    dtype = data_dtype_from_header(header)
    per_image = dtype.itemsize * shape[1] * shape[2]
    stored = path.stat().st_size
    check_claim(path, float(symmetry) + float(per_image) * shape[0], stored=stored)
    if not packed and symmetry + per_image > stored:
        raise InputError(_does_not_fit(path, shape, found=stored, expected=_HEADER + symmetry + per_image * shape[0]))
    extended = np.frombuffer(file.read(symmetry), "u1")
    data = file.read(per_image * shape[0])
    rest = len(file.read(per_image)) if packed else stored - _HEADER - symmetry - len(data)
    layout = _Layout(header, len(data) // per_image, shape[0], [])
    _check_size(layout, path, shape=shape, sizes=(len(data), rest, per_image, symmetry))
    images = np.frombuffer(data, dtype, count=layout.count * shape[1] * shape[2])
    return layout, extended, images.reshape(layout.count, *shape[1:])


def _header_of(start: bytes) -> np.recarray:
    """The main header in the byte order in which its mode, or else the size of its images, is sane."""
    order = "<"
    for order in ("<", ">"):
        mode, columns = np.frombuffer(start, order + "i4", count=4)[[3, 0]]
        if 0 <= mode <= 127 and 0 < columns < 2**24:
            break
    else:
        order = "<"
    return np.frombuffer(start, HEADER_DTYPE.newbyteorder(order)).reshape(()).view(np.recarray)


def _check_size(layout: _Layout, path: Path, *, shape: tuple[int, ...], sizes: tuple[int, int, int, int]) -> None:
    """Notes what is missing or too much; raises InputError if it cannot be a series that was stopped."""
    found, rest, per_image, symmetry = sizes
    header = layout.header
    fits = (int(header.mx), int(header.my)) in ((shape[2], shape[1]), (0, 0))
    if rest:
        if not fits or (rest + found) % per_image == 0:
            total = _HEADER + symmetry + found + rest
            raise InputError(_does_not_fit(path, shape, found=total, expected=_HEADER + symmetry + found))
        layout.notes.append(f"{rest} bytes behind the last image were left out: check the shape")
    if layout.count < layout.planned:
        if layout.count < 2 or not fits:
            expected = _HEADER + symmetry + per_image * shape[0]
            raise InputError(_does_not_fit(path, shape, found=_HEADER + symmetry + found, expected=expected))
        layout.notes.append(
            f"the header speaks of {layout.planned} images, {layout.count} are whole in the file and were read: the "
            "series was stopped or the file was cut; check the shape"
        )


def _does_not_fit(path: Path, shape: tuple[int, ...], *, found: int, expected: int) -> str:
    return (
        f"{path}: not a readable MRC file: a header of {shape[0]} images of {shape[1]} x {shape[2]} pixels means "
        f"{expected} bytes, the file has {found}; it is damaged or was cut"
    )


def _signed(images: np.ndarray, header: np.recarray, *, notes: list[str]) -> np.ndarray:
    """Integers of modes 0 and 1 with or without a sign, as the stamp of IMOD, the largest value or the version say."""
    mode, low, high = int(header.mode), float(header.dmin), float(header.dmax)
    if mode not in (0, 1):
        return images
    stamp, flags = np.frombuffer(header.tobytes()[152:160], _order(header) + "i4")
    limit = 127 if mode == 0 else 32767
    known = np.isfinite([low, high]).all() and low < high
    if mode == 0 and stamp == _IMOD:
        signed = bool(flags & _IMOD_SIGNED)
    elif known and (low < 0 or high > limit):
        signed = low < 0
    elif mode == 1:
        signed = True
    else:
        seen = np.bincount(images.view("u1").ravel(), minlength=256)
        negative = seen[240:255].sum()  # -16 to -2: signed noise about 0 has them, unsigned bright pixels seldom
        signed = int(header.nversion) >= _NEW or negative >= max(seen[128:144].sum(), 0.1 * seen[:16].sum())
    if signed:
        return images
    notes.append(f"integers of mode {mode} are taken as unsigned")
    return images.view(images.dtype.str.replace("i", "u"))


def _read_extended(raw: Raw, header: np.recarray, *, extended: np.ndarray) -> None:
    """Angles, times and pixel size of the extended headers that are known, a record for each image."""
    count = raw.planned or len(raw.images)
    kind, label = bytes(header.exttyp), bytes(header.label[0])
    if kind in (b"FEI1", b"FEI2"):
        _read_fei(raw, header, extended=extended)
    elif kind == b"json":
        _read_json(raw, header, extended=extended)
    elif kind == b"SERI":
        raw.angles_deg = _serialem_tilts(header, extended, count=count)
    elif b"Fei Company" in label and extended.nbytes >= _FEI_RECORD * _FEI_RECORDS:
        raw.angles_deg, raw.pixel_nm = _old_fei(header, extended, count=count)
    else:
        _read_unnamed(raw, header, extended=extended)


def _order(header: np.recarray) -> str:
    return header.nx.dtype.byteorder.replace("=", "<").replace("|", "<")


def _read_fei(raw: Raw, header: np.recarray, *, extended: np.ndarray) -> None:
    """FEI1 and FEI2."""
    dtype = cast(np.dtype, get_ext_header_dtype(bytes(header.exttyp), _order(header)))
    count = raw.planned or len(raw.images)
    size = int(np.frombuffer(extended[:4].tobytes(), _order(header) + "i4")[0])  # of a record, as it says itself
    size = size if dtype.itemsize <= size <= extended.nbytes else dtype.itemsize
    if extended.nbytes < size * (count - 1) + dtype.itemsize:
        raise ValueError(f"{extended.nbytes} bytes for {count} images")
    parts = [extended[i * size : i * size + dtype.itemsize].tobytes() for i in range(count)]
    records = cast(Any, np.frombuffer(b"".join(parts), dtype))
    raw.angles_deg = np.asarray(records["Alpha tilt"], dtype=np.float64)
    stamps = np.asarray(records["Timestamp"], dtype=np.float64)  # days
    if np.isfinite(stamps).all() and (stamps > 0).all() and np.ptp(stamps) > 0:
        raw.times_s = (stamps - stamps.min()) * _SECONDS_PER_DAY
    raw.pixel_nm = _from_metres(records["Pixel size X"][0]) or raw.pixel_nm


def _from_metres(size: float) -> float | None:
    return float(size) * 1e9 if np.isfinite(size) and size > 0 else None


def _old_fei(header: np.recarray, extended: np.ndarray, *, count: int) -> tuple[np.ndarray, float | None]:
    """Degrees (t,), and the pixel size in nm: the main header of these files says 1 Angstrom, whatever the pixel."""
    records = np.frombuffer(extended[: _FEI_RECORD * count].tobytes(), _order(header) + "f4")
    records = records.reshape(-1, _FEI_RECORD // 4)
    return records[:, 0].astype(np.float64), _from_metres(records[0, 11])


def _serialem_tilts(header: np.recarray, extended: np.ndarray, *, count: int) -> np.ndarray | None:
    """Degrees, (t,). Two numbers of the main header say how long a record is and what lies in it (IMOD, mrc_format)."""
    record, flags = np.frombuffer(header.tobytes()[128:132], _order(header) + "i2")
    if not flags & _SERIALEM_TILT or record < 2 or extended.nbytes < int(record) * count:
        return None
    records = extended[: int(record) * count].reshape(count, record)
    return records[:, :2].copy().view(_order(header) + "i2")[:, 0] / 100


def _read_unnamed(raw: Raw, header: np.recarray, *, extended: np.ndarray) -> None:
    """An extended header that does not say whose it is: by the length of its records, if its angles are sane."""
    count = raw.planned or len(raw.images)
    if extended.nbytes >= _FEI_RECORD * _FEI_RECORDS and count <= _FEI_RECORDS:
        angles, pixel = _old_fei(header, extended, count=count)
        if _are_tilts(angles) and pixel is not None and SANE_PIXEL_NM[0] < pixel < SANE_PIXEL_NM[1]:
            raw.angles_deg, raw.pixel_nm = angles, pixel
            raw.notes.append("the extended header has no name, and is read as that of FEI")
            return
    record = int(np.frombuffer(header.tobytes()[128:130], _order(header) + "i2")[0])
    if record and record * count <= extended.nbytes < record * (count + 1) + _HEADER:
        angles = _serialem_tilts(header, extended, count=count)
        if angles is not None and _are_tilts(angles):
            raw.angles_deg = angles
            raw.notes.append("the extended header has no name, and is read as that of SerialEM")


def _are_tilts(angles: np.ndarray) -> bool:
    return bool(np.isfinite(angles).all() and np.abs(angles).max() <= _STEEPEST and np.ptp(angles) > 0)


def _read_json(raw: Raw, header: np.recarray, *, extended: np.ndarray) -> None:
    """tomobase: angles and times as JSON; its pixel size is in nm where MRC has Angstrom; older ones keep t last."""
    values = json.loads(extended.tobytes().decode("utf-8").rstrip("\0 "))
    if not isinstance(values, dict) or "angles" not in values:
        return
    width = raw.images.shape[-1]
    finish_tomobase(raw, values["angles"], times=values.get("times"))
    cell = float(header.cella.x)
    raw.pixel_nm = cell / width if np.isfinite(cell) and cell > 0 else None
    raw.notes.append("a JSON header with angles is tomobase's: its pixel size is taken as nm, not Angstrom")


def finish_tomobase(raw: Raw, angles: object, *, times: object) -> None:
    """Angles and times of a tomobase file, and its images with t first. Counts are judged by `read_tilt_series`."""
    raw.angles_deg = np.asarray(angles, dtype=np.float64).ravel()
    count = len(raw.angles_deg)
    if raw.images.ndim == 3 and raw.images.shape[0] != count and raw.images.shape[2] == count:
        raw.images = np.moveaxis(raw.images, 2, 0)
        raw.notes.append("the last axis has as many entries as there are angles, so it is taken as the images")
    if times is None:
        return
    times_s = np.asarray(times, dtype=np.float64).ravel()
    if len(times_s) == count + 1:  # tomobase's default, linspace(1, n, n + 1), has one too many and tells nothing
        raw.notes.append(f"{count + 1} times for {count} angles: left out")
    else:
        raw.times_s = times_s


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
