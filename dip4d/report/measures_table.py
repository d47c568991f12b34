"""measures.csv, read back: the quantities of a specimen against time, and their names in words."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from dip4d.errors import InputError


def read_measures(path: Path) -> dict[str, np.ndarray]:
    """The columns of a measures.csv by their names, (t,) each, NaN where nothing is told. Raises InputError."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, strict=True))
        names = rows[0] if rows else ()
        return {name: np.array([float(row[name]) if row[name] else math.nan for row in rows]) for name in names}
    except (OSError, ValueError, TypeError, csv.Error) as error:
        raise InputError(f"{path}: not a table of quantities ({error}); remove it, and report the run again") from None


def quantities_in(columns: dict[str, np.ndarray]) -> list[str]:
    """The columns that are quantities of the whole specimen: no times, error bars, truth, or single particles."""
    beside = ("_sigma", "_truth")
    return [n for n in columns if n not in ("frame", "time_s") and not n.endswith(beside) and n[:9] != "particle_"]


def title_of(name: str) -> str:
    """The name of a quantity, with the unit: volume (nm³)."""
    for unit, words in (("3", "³"), ("2", "²"), ("", "")):
        for length in ("nm", "px"):
            if name.endswith(f"_per_{length}"):
                return f"{_words(name.removesuffix(f'_per_{length}'))} (1/{length})"
            if name.endswith(f"_{length}{unit}"):
                return f"{_words(name.removesuffix(f'_{length}{unit}'))} ({length}{words})"
    return _words(name)


def _words(name: str) -> str:
    words = name.replace("_", " ")
    return f"amount of {words}" if words[:1].isupper() else words
