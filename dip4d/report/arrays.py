"""Arrays that a run keeps for its figures and its page: .npz files, whole at any moment."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from dip4d.errors import InputError
from dip4d.whole_file import written_beside

WRITTEN_AGAIN = "remove it and go on with run.resume=true"


def read_arrays(path: Path, *, needed: tuple[str, ...] = (), remedy: str = WRITTEN_AGAIN) -> dict[str, np.ndarray]:
    """All arrays of a file, by name. Raises InputError, which says the remedy, if it is damaged or lacks one of those
    that are needed.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files}
        return {name: found[name] for name in needed} | found
    except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: damaged, or not that of a run ({type(error).__name__}); {remedy}") from None


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], *, compressed: bool = True) -> None:
    """Writes arrays by their names."""
    save: Callable[..., None] = np.savez_compressed if compressed else np.savez
    with written_beside(path) as place, place.open("wb") as file:
        save(file, **arrays)
