"""Tilt angles and times from the small text files that lie beside a tilt series."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dip4d.errors import InputError
from dip4d.io.raw import ANGSTROM_PER_NM
from dip4d.io.stamps import seconds_of
from dip4d.io.table import Table, counts_images, number_of, read_table, read_text

SIDECARS = (".tlt", ".rawtlt", ".csv", ".mdoc")
_WHAT = "one angle in degrees on each line"
_SECTION = re.compile(r"\[\s*(\w+)\s*=\s*(.*?)\s*\]")
_FIELD = re.compile(r"(\w+)\s*=\s*(.*?)\s*")
_LARGEST = 360.0  # degrees
_STEEPEST = 90.0  # degrees of a column that is not called angles, beside another
_REFUSED = "write a first line that names the columns, such as index,angle or angle,time"


@dataclass
class Angles:
    """What an angle file says of a series.

    angles_deg: (t,).
    times_s: (t,), or None.
    pixel_nm: None if unknown.
    notes: what was assumed, a sentence each.
    """

    angles_deg: np.ndarray
    times_s: np.ndarray | None = None
    pixel_nm: float | None = None
    notes: tuple[str, ...] = ()


def read_angles(path: str | Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Tilt angles in degrees (t,) and, where the file has them, times in seconds (t,); see `read_angle_file`."""
    found = read_angle_file(path)
    return found.angles_deg, found.times_s


def read_angle_file(path: str | Path) -> Angles:
    """All that an angle file says.

    `.mdoc`: TiltAngle, DateTime and PixelSpacing of every image, in the order of ZValue. Any other: a line for each
    image with its angle in degrees and, in a second column, its time; with a first line that names the columns, they
    may be others and in any order. Raises InputError, naming the file and the line, for anything else.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise InputError(f"{path}: no such angle file", argument="angles")
    found = _from_mdoc(path) if path.suffix.lower() == ".mdoc" else _from_table(path)
    if len(found.angles_deg) == 0:
        raise InputError(f"{path}: no angles found")
    check_degrees(found.angles_deg, path)
    return found


def check_degrees(angles_deg: np.ndarray, path: Path) -> None:
    """Raises InputError for what is no angle in degrees."""
    if np.abs(angles_deg).max() > _LARGEST:
        raise InputError(f"{path}: {angles_deg[np.abs(angles_deg).argmax()]:g} is not a tilt angle in degrees")


def sidecars_of(path: Path) -> list[Path]:
    """The angle files beside a tilt series, first those that come first in `SIDECARS`.

    They have its name with another ending, or with an ending added, in capitals or not; of a file that is compressed
    or has two endings, such as .ome.tif, that without both, too. Of a folder also what lies in it, but for a csv, which
    names its images.
    """
    stems = {path.name.lower(): 0}
    name = path
    while name.suffix and len(stems) < 3:
        name = name.with_suffix("")
        stems[name.name.lower()] = -len(stems)
    if not path.parent.is_dir():
        return []
    found = []
    for other in path.iterdir() if path.is_dir() else ():
        if (ending := other.suffix.lower()) in SIDECARS and ending != ".csv" and not other.name.startswith("."):
            found.append((False, SIDECARS.index(ending), other.name, other))
    for other in path.parent.iterdir():
        ending = other.suffix.lower()
        if ending in SIDECARS and other.stem.lower() in stems and other != path and other.is_file():
            found.append(((stems[other.stem.lower()] == 0), SIDECARS.index(ending), other.name, other))
    return [other for *_, other in sorted(found)]


def columns_of(table: Table, *, first: int) -> tuple[list[float], np.ndarray | None, list[str]]:
    """Angles in degrees, times in seconds or None, and notes of a table whose first `first` columns hold no numbers.

    By its header; without one the angle comes first, and then perhaps the time. Raises InputError, naming the line.
    """
    angle, time, date = (table.column(kind) for kind in ("angle", "time", "date"))
    width = max((len(cells) for _, cells in table.rows), default=0)
    if angle is None and (table.header or width <= first + 2):
        others = [c for c in range(first, width) if c not in (time, date)]
        angle = others[0] if others else None
        time = time if time is not None or table.header else (first + 1 if width > first + 1 else None)
        if len(others) > 1 and table.header:
            angle = None
    if angle is None:
        raise InputError(f"{table.path}: which of {width} columns holds the angles is not clear; {_REFUSED}")
    angles = [_angle(table, row, at=angle, first=first) for row in table.rows]
    if not table.header and width > first + 1:
        _check_columns(table, np.array(angles), first=first)
    if time is None and date is None:
        return angles, None, []
    wanted = [c for c in (date, time) if c is not None]
    stamps = [" ".join(cells[c] for c in wanted if c < len(cells)) for _, cells in table.rows]
    times, note = seconds_of(stamps, unit=table.seconds_per_unit(wanted[-1]) if table.header else 1.0)
    if times is None and note is not None and time is not None:
        number, _ = table.rows[int(re.findall(r"\d+", note)[0])]
        raise InputError(f"{table.path}, line {number}: {note.split(':')[0].replace('image', 'entry')}")
    return angles, times, [] if note is None else [f"{table.path.name}: {note}"]


def _angle(table: Table, row: tuple[int, list[str]], *, at: int, first: int) -> float:
    number, cells = row
    line = ",".join(cells[first : first + 6])[:60].encode("unicode_escape").decode()
    value = number_of(cells[at]) if at < len(cells) else None
    if value is None:
        raise InputError(f"{table.path}, line {number}: '{line}' is not an angle in degrees")
    if not np.isfinite(value):
        raise InputError(f"{table.path}, line {number}: '{line}' is not a finite number")
    value *= table.degrees_per_unit(at)
    if abs(value) > _LARGEST:
        raise InputError(f"{table.path}, line {number}: '{line}' is not a tilt angle in degrees")
    return value


def _check_columns(table: Table, angles: np.ndarray, *, first: int) -> None:
    """Raises InputError where columns without names may be others than angle and time, in this order."""
    second = [number_of(cells[first + 1]) if len(cells) > first + 1 else None for _, cells in table.rows]
    if counts_images(angles):
        raise InputError(f"{table.path}: the first numbers only count the images, {angles[0]:g}, ...; {_REFUSED}")
    if np.abs(angles).max() > _STEEPEST:
        raise InputError(f"{table.path}: {angles[np.abs(angles).argmax()]:g} may be an angle or a time; {_REFUSED}")
    if any(v is not None and v < 0 for v in second):
        raise InputError(f"{table.path}: the second column, below 0, is no time; {_REFUSED}")


def _from_table(path: Path) -> Angles:
    table = read_table(path, names=False, what=_WHAT)
    widths = {len(cells) for _, cells in table.rows}
    if not table.header and len(widths) > 1:
        wide = len(table.rows[0][1])
        number, cells = next((n, c) for n, c in table.rows if len(c) != wide)
        raise InputError(f"{path}, line {number}: found {len(cells)} numbers, expected {wide}")
    if not table.rows:
        return Angles(np.empty(0))
    angles, times, notes = columns_of(table, first=0)
    return Angles(np.array(angles), times, notes=tuple(notes))


def _from_mdoc(path: Path) -> Angles:
    """SerialEM's sections of an image, [ZValue = n]; where there are none, those of frames, [FrameSet = n]."""
    everywhere: dict[str, str] = {}
    sections: dict[str, list[tuple[str, dict[str, str]]]] = {}
    fields = everywhere
    for line in read_text(path, "SerialEM's description of a series").split("\n"):
        if section := _SECTION.fullmatch(line.strip()):
            fields = {}
            sections.setdefault(section[1], []).append((section[2], fields))
        elif field := _FIELD.fullmatch(line.strip()):
            fields.setdefault(field[1], field[2])
    images = sections.get("ZValue") or sections.get("FrameSet") or []
    if not images:
        raise InputError(f"{path}: not a readable .mdoc file: it has no section [ZValue = 0] of an image")
    numbers = [number_of(n) for n, _ in images]
    if None in numbers or len(set(numbers)) < len(numbers):
        numbers = list(range(len(images)))
    order = np.argsort(np.array(numbers, np.float64), kind="stable")
    entries = [images[i][1] for i in order]
    angles = [number_of(e.get("TiltAngle", "")) for e in entries]
    for i, angle in enumerate(angles):
        if angle is None or not np.isfinite(angle):
            raise InputError(f"{path}: not a readable .mdoc file: no TiltAngle for image {i}")
    times, note = seconds_of([e.get("DateTime") for e in entries])
    times = None if times is None else times - times.min()
    spacing = number_of(entries[0].get("PixelSpacing", everywhere.get("PixelSpacing", "")))
    pixel = spacing / ANGSTROM_PER_NM if spacing is not None and spacing > 0 else None
    notes = () if note is None else (f"{path.name}: {note}",)
    return Angles(np.array(angles, np.float64), times, pixel, notes)
