"""MRC files and what microscopes and programs put into their extended headers."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import cast

import mrcfile
import numpy as np
from mrcfile.utils import data_dtype_from_header

from dip4d.errors import InputError
from dip4d.io.raw import Raw

ANGSTROM_PER_NM = 10
_FEI_RECORD, _FEI_RECORDS = 128, 1024  # bytes of the old FEI extended header, one record for each image
_SECONDS_PER_DAY = 86400
_SERIALEM_TILT = 1  # the flag of SerialEM's extended header that says: each record begins with 100 x the tilt


def read_mrc(path: Path) -> Raw:
    """Images of an MRC file; tilt angles from FEI, SerialEM and tomobase (JSON) extended headers.

    Raises InputError if the header does not describe exactly the bytes of the file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # old FEI files lack the map ID and the machine stamp
            with mrcfile.open(path, permissive=True, header_only=True) as mrc:
                _check_size(cast(np.recarray, mrc.header), path)  # None is that of a closed file
            with mrcfile.open(path, permissive=True) as mrc:
                data, header, extended = mrc.data, cast(np.recarray, mrc.header), cast(np.ndarray, mrc.extended_header)
                records = mrc.indexed_extended_header if bytes(header.exttyp) in (b"FEI1", b"FEI2") else None
                raw = Raw(np.array(data))
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path}: not a readable MRC file ({_first_line(error)})") from None
    if data is None:
        raise InputError(f"{path}: not a readable MRC file (the header does not fit the {path.stat().st_size} bytes)")
    sampling, cell = (int(header.mx), int(header.my)), float(header.cella.x) / ANGSTROM_PER_NM
    if sampling[0] > 0 and cell > 0 and np.isfinite(cell):
        raw.pixel_nm = cell / sampling[0]
    if min(sampling) > 0 and sampling != (int(header.nx), int(header.ny)):
        raw.notes.append(
            f"the MRC header gives {header.nx} x {header.ny} pixels but samples {sampling[0]} x {sampling[1]}: "
            "check the shape and the pixel size"
        )
    try:
        if records is None:
            _read_extended(raw, header, extended=extended)
        else:
            _read_fei(raw, records)
    except (ValueError, KeyError, TypeError, IndexError, OverflowError) as error:
        raise InputError(f"{path}: not a readable extended header ({_first_line(error)})") from None
    return raw


def _check_size(header: np.recarray, path: Path) -> None:
    size, symmetry = path.stat().st_size, int(header.nsymbt)
    shape = tuple(int(n) for n in (header.nz, header.ny, header.nx))
    if min(shape) < 1 or symmetry < 0:
        raise InputError(f"{path}: not a readable MRC file (the header gives the shape {shape})")
    expected = 1024 + symmetry + data_dtype_from_header(header).itemsize * shape[0] * shape[1] * shape[2]
    if size != expected:
        raise InputError(
            f"{path}: not a readable MRC file: a header of {shape[0]} images of {shape[1]} x {shape[2]} pixels means "
            f"{expected} bytes, the file has {size}; it is damaged or was cut"
        )


def _read_fei(raw: Raw, records: np.ndarray) -> None:
    """Angles, times and pixel size of the extended headers FEI1 and FEI2, a record for each image."""
    raw.angles_deg = np.asarray(records["Alpha tilt"], dtype=np.float64)
    stamps = np.asarray(records["Timestamp"], dtype=np.float64)  # days
    if np.isfinite(stamps).all() and (stamps > 0).all() and np.ptp(stamps) > 0:
        raw.times_s = (stamps - stamps.min()) * _SECONDS_PER_DAY
    _pixel_in_metres(raw, records["Pixel size X"][0])


def _pixel_in_metres(raw: Raw, size: float) -> None:
    if np.isfinite(size) and size > 0:
        raw.pixel_nm = float(size) * 1e9


def _read_extended(raw: Raw, header: np.recarray, *, extended: np.ndarray) -> None:
    """Angles, times and pixel size of the other extended headers that are known."""
    count = 1 if raw.images.ndim == 2 else len(raw.images)
    kind, label = bytes(header.exttyp), bytes(header.label[0])
    if b"Fei Company" in label and extended.nbytes >= _FEI_RECORD * _FEI_RECORDS:
        records = np.frombuffer(extended.tobytes(), "<f4").reshape(-1, _FEI_RECORD // 4)[:count]
        raw.angles_deg = records[:, 0].astype(np.float64)
        raw.pixel_nm = None  # the main header of these files says 1 Angstrom, whatever the pixel
        _pixel_in_metres(raw, records[0, 11])
    elif kind == b"SERI":
        raw.angles_deg = _serialem_tilts(header, extended, count=count)
    elif kind == b"json":
        _read_json(raw, header, extended=extended)


def _serialem_tilts(header: np.recarray, extended: np.ndarray, *, count: int) -> np.ndarray | None:
    """Degrees, (t,). Two numbers of the main header say how long a record is and what lies in it (IMOD, mrc_format)."""
    order = header.nx.dtype.byteorder.replace("=", "<").replace("|", "<")
    record, flags = np.frombuffer(header.tobytes()[128:132], order + "i2")
    if not flags & _SERIALEM_TILT or record < 2 or extended.nbytes < int(record) * count:
        return None
    records = np.frombuffer(extended.tobytes()[: int(record) * count], "u1").reshape(count, record)
    return records[:, :2].copy().view(order + "i2")[:, 0] / 100


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
