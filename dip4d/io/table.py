"""Small tables of text: cells of numbers, with or without a header, however they are separated and encoded."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dip4d.errors import InputError
from dip4d.io.raw import degrees_per

MOST_BYTES = 2**23  # of a text file; SerialEM describes 10,000 images in less
MOST_LINES = 100_000  # of a table
_MINUS = str.maketrans("\u2212\u2013\u2010\ufe63\uff0d", "-----")
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+")
_FEWEST_LINES = 5  # that tell a column which counts the images
_SECONDS_PER = {"ms": 1e-3, "s": 1, "min": 60, "minute": 60, "minuten": 60, "h": 3600, "hour": 3600}
_WORDS = {  # what a header calls a column, the first that fits; some are not what they seem
    "none": r"expos|dwell|live|dose|axis|rotat|beta|shift",
    "angle": r"angle|tilt|alpha|theta|winkel|kipp|\bdeg|°|\brad(ian)?s?\b",
    "date": r"\bdate\b|datum",
    "time": r"time|zeit|temps|\bt\b|second|\bs\b|stamp|clock|\buhr",
    "name": r"file|name|datei|fichier|path|bild\b|image",
}


def read_text(path: Path, what: str) -> str:
    """A text file in UTF-8, UTF-16 or Latin-1. what: it must hold, for the InputError if it is no text or too long."""
    if (size := path.stat().st_size) > MOST_BYTES:
        raise InputError(f"{path}: {size / 2**20:.0f} MB are too many for {what}")
    raw = path.read_bytes()
    encodings = ["utf-8-sig", "latin-1"]
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encodings = ["utf-16"]
    elif raw[1::2].count(0) > 0.4 * len(raw):
        encodings = ["utf-16-le"]
    elif raw[::2].count(0) > 0.4 * len(raw):
        encodings = ["utf-16-be"]
    for encoding in encodings:
        try:
            text = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
        if "\0" not in text:
            return text.replace("\r\n", "\n").replace("\r", "\n")
    raise InputError(f"{path}: not a text file; it must hold {what}")


@dataclass
class Table:
    """header: what the columns are called, lower case; empty if there is none. rows: number of a line, its cells."""

    path: Path
    header: list[str]
    rows: list[tuple[int, list[str]]]

    def column(self, kind: str) -> int | None:
        """The number of the column that the header calls so: `angle`, `date`, `time` or `name`; None if none."""
        return next((i for i, name in enumerate(self.header) if _kind(name) == kind), None)

    def degrees_per_unit(self, column: int) -> float:
        """Of a column of angles: degrees, unless the header says radians."""
        return next((d for w in _words(self.header, column) if (d := degrees_per(w)) is not None), 1.0)

    def seconds_per_unit(self, column: int) -> float:
        """Of a column of times: seconds, unless the header names another unit."""
        words = _words(self.header, column)[1:]
        return next((_SECONDS_PER[w] for w in words if w in _SECONDS_PER), 1.0)


def read_table(path: Path, *, names: bool, what: str) -> Table:
    """The table of a text file; lines that begin with # are comments.

    names: whether the first column holds names of files, not numbers. Separated by semicolons, tabs, commas or blanks.
    Raises InputError, naming the line, for what cannot be told apart.
    """
    lines, text = [], read_text(path, what)
    if (count := text.count("\n")) > MOST_LINES:
        raise InputError(f"{path}: {count} lines are too many for {what}")
    for number, line in enumerate(text.split("\n"), start=1):
        line = _without_comment(line, names=names).strip()
        if line and line.strip(",;\t \"'"):
            lines.append((number, line))
    separator = _separator([line for _, line in lines], names=names)
    rows = [(number, _cells(line, separator)) for number, line in lines]
    if rows and not _is_data(rows[0][1], names=names) and len(rows[0][1]) == 1:
        rows[0] = rows[0][0], [c.strip() for c in re.split(r"[;,\t]", lines[0][1])]  # a header has marks of its own
    if separator == ",":
        rows = _with_decimal_commas(rows, path, names=names)
    start = next((i for i, (_, cells) in enumerate(rows) if _is_data(cells, names=names)), len(rows))
    heads = [[c.lower() for c in cells] for _, cells in rows[:start]]
    header = next((h for h in reversed(heads) if any(_kind(c) for c in h)), [])
    if separator is None and header:
        header = _with_blanks(header, columns=max((len(cells) for _, cells in rows[start:]), default=0))
    for number, cells in rows[start:]:
        if len(cells) > len(header) > 0:
            raise InputError(
                f"{path}, line {number}: {len(cells)} cells below the names of {len(header)} columns; where commas are "
                "decimal, write semicolons between the columns"
            )
    if heads and not header and start == len(rows):
        start = 0  # no line holds numbers: the first is to be named
    return Table(path, header, rows[start:])


def number_of(cell: str) -> float | None:
    """A number with a decimal point or comma, a sign of any kind and the sign of degrees; None if it is none."""
    cell = cell.translate(_MINUS).removesuffix("°").strip()
    cell = cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell
    try:
        value = float(cell)
    except ValueError:
        return None
    return None if "_" in cell else value


def _kind(name: str) -> str | None:
    kind = next((k for k, words in _WORDS.items() if re.search(words, name.replace("_", " "))), None)
    return None if kind == "none" else kind


def _words(header: list[str], column: int) -> list[str]:
    return re.findall(r"[^\W\d_]+|°", header[column]) if column < len(header) else []


def _without_comment(line: str, *, names: bool) -> str:
    begins = re.search(r"[,;\t]", line) if names else None  # a name may hold a #
    if line.lstrip().startswith("#"):
        return ""
    at = line.find("#", begins.end() if begins else 0) if begins or not names else -1
    return line if at < 0 else line[:at]


def _separator(lines: list[str], *, names: bool) -> str | None:
    """What stands between two cells: None for blanks."""
    if not lines:
        return ","
    for mark in (";", "\t"):
        if mark in lines[-1] and sum(mark in line for line in lines) > len(lines) / 2:
            return mark
    if sum("," in line for line in lines) <= len(lines) / 2:
        return "," if names and any("," in line for line in lines) else None
    blanks = [line.translate(_MINUS).split() for line in lines]
    apart = [b for b in blanks if len(b) > 1 and all(_is_plain(c) for c in b[int(names) :])]
    return None if len(apart) > len(lines) / 2 else ","


def _is_plain(cell: str) -> bool:
    """Whether a cell is a number or a clock, and no two of them."""
    return number_of(cell) is not None or re.fullmatch(r"[\d:TZ.+-]+", cell) is not None


def _cells(line: str, separator: str | None) -> list[str]:
    if separator is None:
        return line.split()
    cells = [c.strip() for c in next(csv.reader([line], delimiter=separator, skipinitialspace=True))]
    while len(cells) > 1 and not cells[-1]:
        cells.pop()
    return cells


def _with_blanks(header: list[str], *, columns: int) -> list[str]:
    """The names of columns, which may hold blanks: (rad) belongs to what stands before it, all words to one column."""
    if columns == 1:
        return [" ".join(header)]
    names = header[:1]
    for word in header[1:]:
        if len(header) > columns and word[:1] in "([":
            names[-1] += f" {word}"
        else:
            names.append(word)
    return names


def _is_data(cells: list[str], *, names: bool) -> bool:
    return any(number_of(c) is not None for c in cells[int(names) :])


def _with_decimal_commas(rows: list[tuple[int, list[str]]], path: Path, *, names: bool) -> list[tuple[int, list[str]]]:
    """The rows, with commas that are decimal put back into numbers. Raises InputError where that cannot be told."""
    first = int(names)
    data = [cells[first:] for _, cells in rows if _is_data(cells, names=names)]
    plain = [re.fullmatch(r"[+-]?\d+", c.translate(_MINUS)) is not None for cells in data for c in cells]
    if not data or not all(plain):
        return rows
    widest = max(map(len, data))
    if widest > 2 and any(re.fullmatch(r"0\d+", c) for cells in data for c in cells[1:]):
        raise InputError(
            f"{path}: commas separate and are decimal too; write decimal points, or semicolons between the columns"
        )
    heads = [len(cells) - first for _, cells in rows[:2] if any(_kind(c.lower()) for c in cells[first:])]
    if widest != 2 or 2 in heads or (1 not in heads and not _are_decimals(data, path)):
        return rows
    joined = lambda cells: [*cells[:first], ",".join(cells[first:])]
    return [(n, joined(cells) if _is_data(cells, names=names) else cells) for n, cells in rows]


def _are_decimals(data: list[list[str]], path: Path) -> bool:
    """Whether what stands behind the commas of lines such as -68,93 is decimals of the angle, not a time.

    No column of times repeats itself or writes 05, and most are in order or in even steps.
    """
    behind = [cells[1] for cells in data if len(cells) == 2]
    if any(c[:1] in "+-" for c in behind):
        return False
    zero = any(len(c) > 1 and c[0] == "0" for c in behind) or any(cells[0] == "-0" for cells in data)
    if zero:
        return True
    if len(behind) < len(data):
        return len(data) >= _FEWEST_LINES
    times = np.array([int(c) for c in behind])
    steps = np.diff(times)
    if np.ptp(times) == 0 or (len(set(behind)) < len(behind) and len(data) >= _FEWEST_LINES and (steps < 0).any()):
        return True
    distinct = len(set(behind)) == len(behind)
    if distinct and ((steps > 0).all() or np.ptp(np.diff(np.sort(times))) == 0):
        return False
    raise InputError(
        f"{path}: the commas may be decimal, or stand before times; write decimal points, or a first line 'angle,time'"
    )


def counts_images(values: np.ndarray) -> bool:
    """Whether the values only count: 0, 1, 2, ... or 1, 2, 3, ..."""
    counted = len(values) >= _FEWEST_LINES and values[0] in (0, 1)
    return bool(counted and (np.diff(values) == 1).all())
