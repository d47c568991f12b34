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

_PIP_NAMES = {
    "PIL": "pillow",
    "rsciio": "rosettasciio",
    "imageio_ffmpeg": "imageio-ffmpeg",
}  # where they differ from the module's
ANGSTROM_PER_NM = 10
SANE_PIXEL_NM = 1e-3, 1e6  # 1 pm to 1 mm
_NM_PER = {"m": 1e9, "cm": 1e7, "mm": 1e6, "um": 1e3, "micrometer": 1e3, "micron": 1e3, "nm": 1, "n_m": 1,
           "nanometer": 1, "a": 0.1, "angstrom": 0.1, "å": 0.1, "pm": 1e-3}  # fmt: skip
_CLAIMED, _INFLATED = 2**28, 1100  # bytes that are taken at their word; what a compressed byte may become
_DEG_PER = {"deg": 1, "degree": 1, "°": 1, "rad": 180 / np.pi, "radian": 180 / np.pi}


@dataclass
class Raw:
    """What a file holds, as stored.

    images: (t, rows, columns), or (rows, columns) of a single image.
    angles_deg, times_s: (t,); times count from any origin.
    pixel_nm: None if unknown.
    notes: what the reader assumed, a sentence each.
    shown: (t, rows), as `TiltSeries` has it, of a file that dip4d has aligned.
    planned: the number of images that the header speaks of, where there are fewer.
    tilt_axis: the image axis along which the tilt axis lies, where the file says so.
    """

    images: np.ndarray
    angles_deg: np.ndarray | None = None
    times_s: np.ndarray | None = None
    pixel_nm: float | None = None
    notes: list[str] = field(default_factory=list)
    shown: np.ndarray | None = None
    planned: int | None = None
    tilt_axis: str | None = None


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
    name = str(unit).strip().strip("[]").lower().replace("\\u00b5", "u").replace("µ", "u").replace("μ", "u")
    per = _NM_PER.get(name := name.replace("ångström", "angstrom"), _NM_PER.get(name.removesuffix("s")))
    value = abs(float(value))
    return value * per if per and np.isfinite(value) and value > 0 else None


def check_claim(path: Path, claimed: float, *, stored: float) -> None:
    """Raises InputError for a file of `stored` bytes whose header claims far more: they would fill the memory."""
    if claimed > _CLAIMED and claimed > _INFLATED * stored:
        raise InputError(
            f"{path}: its header speaks of {claimed / 1e9:.3g} GB of pixels, the file holds {stored / 1e3:.3g} kB of "
            "them; it is damaged or was cut"
        )


def degrees_per(unit: str | None) -> float | None:
    """Degrees in one unit of an angle; None if it is not the unit of an angle."""
    return _DEG_PER.get(str(unit).strip().strip("[]").lower().removesuffix("s"))


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


@contextlib.contextmanager
def as_input_error(path: Path, kind: str) -> Iterator[None]:
    """Whatever a library raises for a broken file of a kind becomes an InputError of one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{path}: not a readable {kind} file ({reason_of(error)})") from None


def reason_of(error: Exception) -> str:
    """The first line of what a library says, as plain characters."""
    line = (str(error).splitlines() or [type(error).__name__])[0]
    return "".join(c if c.isprintable() else "?" for c in line)[:300]
