"""The memory of a fit: how much it needs, how much is free, and buffers that are kept from step to step.

Loads no torch.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

BASE_GB = 0.66  # of Python with torch, before there are data
# kept during a step: of all its rows, of these for each material after the first, and of all channels of its positions
ARRAYS_OF_ROWS, ARRAYS_OF_MATERIAL, ARRAYS_OF_CHANNELS = 2.4, 1.8, 6
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # parameters of mallopt, from malloc.h of the GNU C library
_TRIM_DEFAULT, _MMAP_DEFAULT = 128 * 1024, 65536


@cache
def _c_library() -> ctypes.CDLL | None:
    """The GNU C library; None where there is none (macOS, Windows, musl)."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


@contextmanager
def keep_buffers() -> Iterator[None]:
    """Inside, memory that is freed stays with the process, for the next buffer of its size.

    The allocator of the GNU C library gives large buffers back at once; the next step has to ask for them again, and
    the system clears every page: 16,600 page faults a step at 64^2, 1.3 million at 256^2, up to two thirds of the time.
    Afterwards all is given back. Changes no result.
    """
    library = _c_library()
    if library is None:
        yield
        return
    library.mallopt(_MMAP_MAX, 0)
    library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    try:
        yield
    finally:
        library.mallopt(_MMAP_MAX, _MMAP_DEFAULT)
        library.mallopt(_TRIM_THRESHOLD, _TRIM_DEFAULT)
        library.malloc_trim(0)


def gb_of_step(positions: int, *, images: int, voxels: int, channels: int, materials: int = 1) -> float:
    """About how much memory a step of the fit needs, GB, besides `BASE_GB`.

    positions: z in a step.
    images: rows of each of them.
    voxels: of an orthoslice.
    channels: of the decoder.
    materials: of the specimen.
    Measured, within 7 %: peaks of processes at 64^2, 128^2 and 256^2, 4 to 16 positions, 50 and 100 images, 1 to 3
    materials, on the CPU.
    """
    of_rows = ARRAYS_OF_ROWS + ARRAYS_OF_MATERIAL * (materials - 1)
    return 4e-9 * positions * voxels * (of_rows * images + ARRAYS_OF_CHANNELS * channels)


def free_gb() -> float | None:
    """The memory that a process may still take, GB, without swapping; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024e-9 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 1e-9  # macOS: what there is at all
    except (AttributeError, ValueError, OSError):
        return None
