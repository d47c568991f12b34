"""Writes the volumes of a run in the format of another program, into RUN/export unless --out says where."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "the volumes of a run for another program: MRC, TIFF, OME-Zarr, NumPy, a movie"

ARGUMENTS = {"out": "option --out"}
_NAMES = {"mrc": "mrc", "tiff": "tiff", "zarr": "volumes.ome.zarr", "npy": "npy", "mp4": "orthoslices.mp4"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="RUN", type=Path, help="the folder of a finished run")
    parser.add_argument(
        "--format",
        required=True,
        choices=_NAMES,
        help="mrc: a .rec for each frame; tiff: an OME-TIFF for each frame; zarr: one OME-Zarr (t, z, y, x); "
        "npy: one array and its axes in .json; mp4: a movie of the three middle orthoslices",
    )
    parser.add_argument(
        "--axes",
        default="tilt-z",
        choices=("tilt-z", "beam-z"),
        help="tilt-z: z along the tilt axis, as everywhere here; beam-z: z along the beam, y against the tilt axis, "
        "for programs that expect that",
    )
    parser.add_argument("--out", type=Path, help="where to write; there must be nothing yet")


def run(arguments: argparse.Namespace) -> None:
    """Raises InputError if there is no finished run, or if something lies where the export would go."""
    from dip4d.io.export import export_volumes
    from dip4d.io.volumes import open_volumes, read_times_and_size

    source = volumes_of(arguments.folder)
    times_s, pixel_nm = read_times_and_size(source)
    out = arguments.out or arguments.folder / "export" / _NAMES[arguments.format]
    volumes = open_volumes(source)
    if arguments.axes == "beam-z":
        volumes = volumes.transpose(0, 2, 1, 3)[:, :, ::-1]  # turned about x, not mirrored
    written = export_volumes(volumes, out, kind=arguments.format, times_s=times_s, pixel_nm=pixel_nm)
    size = "of unknown size" if pixel_nm is None else f"of {pixel_nm:.4g} nm"
    print(f"{written}: {len(times_s)} volumes (z, y, x), voxels {size}, {times_s[0]:g} to {times_s[-1]:g} s")


def volumes_of(folder: Path) -> Path:
    """The volume file of a run. Raises InputError."""
    from dip4d.errors import InputError
    from dip4d.run_folder import VOLUMES

    path = folder / VOLUMES
    if not path.is_file():
        raise InputError(f"{folder}: no {VOLUMES}; is it the folder of a finished run?")
    return path
