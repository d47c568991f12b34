"""Damaged HDF5 and MATLAB files: their libraries crash or hang on some, so another process reads them first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from dip4d.errors import InputError
from dip4d.io.raw import optional

SECONDS = 30  # an intact file takes a fraction of a second
_READ_HDF5 = """
import sys, h5py
def look(item):
    list(item.attrs.values())
    if isinstance(item, h5py.Dataset):
        if item.external or item.is_virtual:
            sys.exit(7)
        claimed = item.dtype.itemsize * item.size
        if claimed > max(2**28, 1100 * item.id.get_storage_size()):
            sys.exit(8)
        if item.dtype.hasobject or item.size < 1e5:
            item[()]
        return
    for name in item:
        if isinstance(item.get(name, getlink=True), h5py.ExternalLink):
            sys.exit(7)
def read(name, item):
    look(item)
with h5py.File(sys.argv[1], "r") as file:
    look(file)
    file.visititems(read)
"""
_MEANT = {7: "refers to another file, which is not followed: copy all into one file",
          8: "its header speaks of far more pixels than the file holds; it is damaged or was cut"}  # fmt: skip
_READ_MAT = "import sys, scipy.io; scipy.io.loadmat(sys.argv[1])"


def check_hdf5(path: Path) -> None:
    """Reads all attributes, texts and small arrays of an HDF5 file in a process of its own.

    Raises InputError if that crashes or does not end, if it refers to other files, or if it claims far more pixels than
    it has. What h5py refuses in words is left to the reader.
    """
    optional("h5py", path)
    _check(path, "HDF5", program=_READ_HDF5)


def check_mat(path: Path) -> None:
    """Reads a MATLAB file of version 5 in a process of its own. Raises InputError if that crashes or does not end."""
    _check(path, ".mat", program=_READ_MAT)


def _check(path: Path, kind: str, *, program: str) -> None:
    try:
        code = subprocess.run([sys.executable, "-c", program, path], capture_output=True, timeout=SECONDS).returncode
    except subprocess.TimeoutExpired:
        code = -1
    if code in _MEANT:
        raise InputError(f"{path}: {_MEANT[code]}")
    if code < 0 or code > 2**16:  # a signal; on Windows, an exception of the system
        raise InputError(f"{path}: not a readable {kind} file (it is damaged: the library that reads it fails)")
