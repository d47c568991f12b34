"""What a file holds before any convention is imposed, and the helpers that all readers share."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import ModuleType

import numpy as np

from dip4d.errors import InputError

_PIP_NAMES = {"rsciio": "rosettasciio", "imageio_ffmpeg": "imageio-ffmpeg"}  # where they differ from the module's
_NM_PER = {"m": 1e9, "mm": 1e6, "um": 1e3, "micrometer": 1e3, "nm": 1, "nanometer": 1, "a": 0.1, "angstrom": 0.1,
           "å": 0.1, "pm": 1e-3}  # fmt: skip
_DEG_PER = {"deg": 1, "degree": 1, "°": 1, "rad": 180 / np.pi, "radian": 180 / np.pi}


@dataclass
class Raw:
    """What a file holds, as stored.

    images: (t, rows, columns), or (rows, columns) of a single image.
    angles_deg, times_s: (t,); times count from any origin.
    pixel_nm: None if unknown.
    notes: what the reader assumed, a sentence each.
    shown: (t, rows), as `TiltSeries` has it, of a file that dip4d has aligned.
    """

    images: np.ndarray
    angles_deg: np.ndarray | None = None
    times_s: np.ndarray | None = None
    pixel_nm: float | None = None
    notes: list[str] = field(default_factory=list)
    shown: np.ndarray | None = None


def optional(module: str, path: str | Path) -> ModuleType:
    """A library that only some formats need. Raises InputError with the command that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = (error.name or module).split(".")[0]
        raise InputError(f"{path}: needs a package that is not installed: {how_to_install(missing)}") from None


def how_to_install(module: str) -> str:
    """The command that installs a module that only some formats need."""
    return f"pip install {_PIP_NAMES.get(module, module)}"


def length_nm(value: float, unit: str | None) -> float | None:
    """A length in nm; None where the unit is unknown or the value is no length."""
    per = _NM_PER.get(str(unit).strip().lower().replace("µ", "u").replace("μ", "u").replace("ångström", "angstrom"))
    value = abs(float(value))
    return value * per if per and np.isfinite(value) and value > 0 else None


def degrees_per(unit: str | None) -> float | None:
    """Degrees in one unit of an angle; None if it is not the unit of an angle."""
    return _DEG_PER.get(str(unit).strip().lower().removesuffix("s"))


def parse_time(stamp: str, forms: tuple[str, ...]) -> datetime | None:
    """A time stamp in the first of the forms (of `strptime`) that fits; None if none does."""
    for form in forms:
        try:
            return datetime.strptime(stamp.strip(), form)
        except ValueError:
            continue
    return None


@contextlib.contextmanager
def silent(name: str) -> Iterator[None]:
    """Keeps a library from logging what our own errors say in one line."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
