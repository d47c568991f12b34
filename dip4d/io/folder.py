"""A folder of single images, with a csv that gives each its tilt angle, as one tilt series."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from dip4d.errors import InputError
from dip4d.io.raw import Raw


def read_folder(folder: Path, readers: Mapping[str, Callable[[Path], Raw]]) -> Raw:
    """Images of a folder, in the order of its .csv (file name, angle in degrees[, time in seconds]).

    Without a csv: all images in the order of their names, with the angles and times of their own metadata, where each
    has them. Raises InputError, naming the image or the line.
    """
    tables = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".csv")
    if len(tables) > 1:
        raise InputError(f"{folder}: holds {len(tables)} csv files; leave the one of file name, angle[, time]")
    images = sorted(p for p in folder.iterdir() if p.is_file() and p.suffix.lower() in readers)
    if not images:
        raise InputError(f"{folder}: a folder without images ({', '.join(readers)})")
    names, angles, times = _read_table(tables[0], folder) if tables else (images, None, None)
    single = [_read_one(path, readers) for path in names]
    for path, image in zip(names, single, strict=True):
        if image.images.shape != single[0].images.shape:
            raise InputError(f"{path}: {image.images.shape} pixels, but {names[0].name} has {single[0].images.shape}")
    raw = Raw(np.stack([image.images for image in single]), angles, times, single[0].pixel_nm)
    if tables:
        raw.notes.append(f"angles and order of the images from {tables[0].name}")
        left_out = len(set(images) - set(names))
        if left_out:
            raw.notes.append(f"{left_out} images of the folder are not in {tables[0].name} and were left out")
    else:
        raw.notes.append("images in the order of their names")
        raw.angles_deg, raw.times_s = (_together(single, k) for k in ("angles_deg", "times_s"))
        raw.times_s = None if raw.times_s is None else raw.times_s - raw.times_s.min()
    return raw


def _read_one(path: Path, readers: Mapping[str, Callable[[Path], Raw]]) -> Raw:
    raw = readers[path.suffix.lower()](path)
    raw.images = raw.images[0] if raw.images.ndim == 3 and len(raw.images) == 1 else raw.images
    if raw.images.ndim != 2:
        raise InputError(f"{path}: in a folder every file is one image, found shape {raw.images.shape}")
    return raw


def _together(single: list[Raw], name: str) -> np.ndarray | None:
    values = [getattr(image, name) for image in single]
    return None if any(v is None or len(v) != 1 for v in values) else np.concatenate(values)


def _read_table(table: Path, folder: Path) -> tuple[list[Path], np.ndarray, np.ndarray | None]:
    """File names, angles in degrees (t,) and times in seconds (t,) of a csv; a header line is optional."""
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{table}: not a text file; it must hold file name, angle[, time]") from None
    names: list[Path] = []
    numbers: list[list[float]] = []
    delimiter = ";" if ";" in text and "," not in text.split("\n")[0] else ","
    for line, cells in enumerate(csv.reader(text.splitlines(), delimiter=delimiter), start=1):
        cells = [c.strip() for c in cells]
        if not any(cells):
            continue
        if len(cells) not in (2, 3) or (numbers and len(cells) != len(numbers[0]) + 1):
            raise InputError(f"{table}, line {line}: expected file name, angle[, time], found {len(cells)} cells")
        try:
            values = [float(c) for c in cells[1:]]
        except ValueError:
            if not numbers and line == 1:  # the header
                continue
            raise InputError(f"{table}, line {line}: '{','.join(cells[1:])}' is not an angle in degrees") from None
        if not np.isfinite(values).all() or abs(values[0]) > 360:
            raise InputError(f"{table}, line {line}: '{cells[1]}' is not a tilt angle in degrees")
        if not (folder / cells[0]).is_file():
            raise InputError(f"{table}, line {line}: no image '{cells[0]}' in {folder}")
        if Path(cells[0]).suffix.lower() == ".csv" or folder / cells[0] in names:
            raise InputError(f"{table}, line {line}: '{cells[0]}' is named twice or is no image")
        names.append(folder / cells[0])
        numbers.append(values)
    if not numbers:
        raise InputError(f"{table}: names no images; each line must hold file name, angle[, time]")
    columns = np.array(numbers).T
    return names, columns[0], columns[1] if len(columns) == 2 else None
