"""A file that is whole at any moment: written beside its place, and put there when all of it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Where to write a file, which then takes the place of that at `path`. If writing fails, `path` stays as it was."""
    partial = path.with_name(path.name + ".part")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())  # on the disk before it has its name, lest a power cut leave a name without content
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
