"""Tilt angles and times from the small text files that lie beside a tilt series."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from dip4d.errors import InputError
from dip4d.io.raw import parse_time, silent

SIDECARS = (".tlt", ".rawtlt", ".csv", ".mdoc")
_MDOC_TIMES = ("%d-%b-%y  %H:%M:%S", "%d-%b-%Y  %H:%M:%S", "%Y-%b-%d  %H:%M:%S", "%Y-%m-%d %H:%M:%S")


def read_angles(path: str | Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Tilt angles in degrees (t,) and, where the file has them, times in seconds (t,) from the first image.

    `.tlt`, `.rawtlt`, `.txt`: one angle a line. `.csv`: angle[,time in seconds], a header line is optional.
    `.mdoc`: TiltAngle and DateTime of every image, in the order of ZValue.
    Raises InputError, naming the file and the line, for anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such angle file", argument="angles")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file; an angle file has one angle in degrees on each line") from None
    suffix = path.suffix.lower()
    if suffix == ".mdoc":
        angles, times = _from_mdoc(path)
    else:
        angles, times = _from_lines(path, text, columns=2 if suffix == ".csv" else 1)
    if len(angles) == 0:
        raise InputError(f"{path}: no angles found")
    if np.abs(angles).max() > 360:
        raise InputError(f"{path}: {angles[np.abs(angles).argmax()]:g} is not a tilt angle in degrees")
    return angles, times


def find_sidecar(path: Path) -> Path | None:
    """The angle file beside a tilt series: the same name with another ending, or with an ending added."""
    candidates = [path.with_suffix(s) for s in SIDECARS] + [path.with_name(path.name + s) for s in SIDECARS]
    return next((c for c in candidates if c.is_file()), None)


def _from_lines(path: Path, text: str, *, columns: int) -> tuple[np.ndarray, np.ndarray | None]:
    rows: list[list[float]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.split("#")[0].strip()
        cells = [c for c in re.split(r"[,;\s]+", line) if c]
        if not cells:
            continue
        try:
            values = [float(c) for c in cells]
        except ValueError:
            if not rows and columns == 2:  # the header of a csv
                continue
            raise InputError(f"{path}, line {number}: '{line}' is not an angle in degrees") from None
        if len(values) > columns or (rows and len(values) != len(rows[0])):
            raise InputError(
                f"{path}, line {number}: found {len(values)} numbers, expected {len(rows[0]) if rows else columns}"
            )
        if not np.isfinite(values).all():
            raise InputError(f"{path}, line {number}: '{line}' is not a finite number")
        rows.append(values)
    if not rows:
        return np.empty(0), None
    table = np.array(rows)
    return table[:, 0], table[:, 1] if table.shape[1] == 2 else None


def _from_mdoc(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    import mdocfile  # with pandas, slow to import

    try:
        with silent("mdocfile"):  # it warns of the fields that it does not know
            table = mdocfile.read(path)
        table = table.sort_values("ZValue", kind="stable")
        angles = table["TiltAngle"].to_numpy(np.float64)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: not a readable .mdoc file with a TiltAngle for every image ({reason})") from None
    if not np.isfinite(angles).all():
        raise InputError(f"{path}: no TiltAngle for image {int(np.flatnonzero(~np.isfinite(angles))[0])}")
    stamps = [parse_time(str(s), _MDOC_TIMES) for s in table["DateTime"]] if "DateTime" in table else []
    times = [s for s in stamps if s is not None]
    if len(times) < len(angles):
        return angles, None
    return angles, np.array([(s - min(times)).total_seconds() for s in times])
