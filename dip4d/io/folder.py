"""A folder of single images, with a csv that gives each its tilt angle, as one tilt series."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from dip4d.errors import InputError
from dip4d.io.angles import columns_of
from dip4d.io.raw import Raw
from dip4d.io.table import Table, read_table

_SIGNED = re.compile(r"(?<![\d.])[+-]?\d+(?:\.\d+)?(?![\d.])")
_STEEPEST = 90.0  # degrees that a name may mean


def read_folder(folder: Path, readers: Mapping[str, Callable[[Path], Raw]]) -> Raw:
    """Images of a folder, in the order of its .csv (file name, angle in degrees[, time]).

    Without a csv: all images of the kind of which there are most, in the order of the numbers in their names, with the
    angles and times of their own metadata, where each has them, or the angles in their names. Raises InputError,
    naming the image or the line.
    """
    seen = [p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")]
    tables = sorted(p for p in seen if p.suffix.lower() == ".csv")
    if len(tables) > 1:
        raise InputError(f"{folder}: holds {len(tables)} csv files; leave the one of file name, angle[, time]")
    images = sorted((p for p in seen if p.suffix.lower() in readers), key=natural)
    if not images:
        raise InputError(f"{folder}: a folder without images ({', '.join(readers)})")
    if tables:
        return _by_table(tables[0], folder, images=images, readers=readers)
    kinds = Counter(p.suffix.lower() for p in images)
    kind = kinds.most_common(1)[0][0]
    chosen = [p for p in images if p.suffix.lower() == kind]
    named = angles_in_names([p.stem for p in chosen])
    if named is not None and named[1]:
        chosen = [chosen[i] for i in np.argsort(named[0], kind="stable")]
        named = np.sort(named[0]), True
    raw = _stacked(chosen, readers)
    raw.notes.append(f"images in the order of the {'angles' if named and named[1] else 'numbers'} in their names")
    if len(chosen) < len(images):
        raw.notes.append(f"{len(images) - len(chosen)} images that are not {kind} were left out")
    if raw.angles_deg is None and named is not None:
        raw.angles_deg = named[0]
        raw.notes.append(f"angles from the names of the images, such as {named[0][0]:g} from {chosen[0].name}")
    return raw


def natural(path: Path) -> list[tuple[bool, int | str]]:
    """A key that sorts names by the numbers in them: image_2 before image_10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(not part.isdecimal(), int(part) if part.isdecimal() else part) for part in parts if part]


def angles_in_names(stems: list[str]) -> tuple[np.ndarray, bool] | None:
    """Tilt angles in degrees (t,) from names such as ts_-15.0: the one number in each that has a sign in some.

    And whether the names differ in nothing else. None where no number, or more than one, may be the angle.
    """
    numbers = [_SIGNED.findall(stem) for stem in stems]
    if len(stems) < 3 or len({len(n) for n in numbers}) > 1:
        return None
    found, differ = [], 0
    for column in zip(*numbers, strict=True):
        values = np.array([float(text) for text in column])
        signs = {text[0] if text[0] in "+-" else "" for text in column}
        differ += len(set(values)) > 1
        if len(signs) > 1 and np.abs(values).max() <= _STEEPEST and len(set(values)) > len(values) / 2:
            found.append(values)
    return (found[0], differ == 1) if len(found) == 1 else None


def _by_table(table: Path, folder: Path, *, images: list[Path], readers: Mapping[str, Callable[[Path], Raw]]) -> Raw:
    names, angles, times, notes = _read_table(table, folder)
    raw = _stacked(names, readers)
    raw.angles_deg, raw.times_s = angles, times
    raw.notes += [f"angles and order of the images from {table.name}", *notes]
    left_out = len(set(images) - set(names))
    if left_out:
        raw.notes.append(f"{left_out} images of the folder are not in {table.name} and were left out")
    return raw


def _stacked(paths: list[Path], readers: Mapping[str, Callable[[Path], Raw]]) -> Raw:
    """The images of files, each with one, as a stack, with angles and times where all have them."""
    single = [_read_one(path, readers) for path in paths]
    for path, image in zip(paths, single, strict=True):
        if image.images.shape != single[0].images.shape:
            raise InputError(
                f"{path}: {image.images.shape} pixels, but {paths[0].name} has {single[0].images.shape}; a csv in the "
                "folder names the images that belong together"
            )
    notes = Counter(note for image in single for note in image.notes)
    raw = Raw(np.stack([image.images for image in single]), None, None, single[0].pixel_nm, notes=list(notes))
    raw.angles_deg, raw.times_s = (_together(single, k) for k in ("angles_deg", "times_s"))
    raw.times_s = None if raw.times_s is None else raw.times_s - raw.times_s.min()
    return raw


def _read_one(path: Path, readers: Mapping[str, Callable[[Path], Raw]]) -> Raw:
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: no kind of image that is read ({', '.join(readers)})")
    raw = reader(path)
    while raw.images.ndim > 2 and len(raw.images) == 1:
        raw.images = raw.images[0]
    if raw.images.ndim != 2:
        raise InputError(f"{path}: in a folder every file is one image, found shape {raw.images.shape}")
    return raw


def _together(single: list[Raw], name: str) -> np.ndarray | None:
    values = [getattr(image, name) for image in single]
    return None if any(v is None or len(v) != 1 for v in values) else np.concatenate(values)


def _read_table(path: Path, folder: Path) -> tuple[list[Path], np.ndarray, np.ndarray | None, list[str]]:
    """File names, angles in degrees (t,), times in seconds (t,) and notes of a csv; a header line is optional."""
    table = read_table(path, names=True, what="file name, angle[, time]")
    if not table.rows:
        raise InputError(f"{path}: names no images; each line must hold file name, angle[, time]")
    width = len(table.rows[0][1])
    for line, cells in table.rows:
        if len(cells) < 2 or (not table.header and (len(cells) > 3 or len(cells) != width)):
            more = "; where commas are decimal, write semicolons between the columns" if len(cells) > 3 else ""
            raise InputError(f"{path}, line {line}: expected file name, angle[, time], found {len(cells)} cells{more}")
    at = _column_of_names(table, folder)
    angles, times, notes = columns_of(table, first=1)
    files = {p.name: p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")}
    names: list[Path] = []
    for line, cells in table.rows:
        name = re.split(r"[\\/]", cells[at])[-1]
        alike = [p for p in files.values() if p.stem == name and p != path]
        below = folder / cells[at]
        image = below if below.is_file() else files.get(name) or (alike[0] if len(alike) == 1 else None)
        if image is None:
            raise InputError(f"{path}, line {line}: no image '{cells[at]}' in {folder}")
        if image.suffix.lower() == ".csv" or image in names:
            raise InputError(f"{path}, line {line}: '{cells[at]}' is named twice or is no image")
        names.append(image)
    return names, np.array(angles), times, notes


def _column_of_names(table: Table, folder: Path) -> int:
    """The column that holds names of files of the folder: the one that the header calls so, else the first."""
    named = table.column("name")
    return 0 if named is None or named >= len(table.rows[0][1]) else named
