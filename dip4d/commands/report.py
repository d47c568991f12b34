"""The tables and figures of saved runs.

Reads only what lies in the folders of the runs and writes to their `figures`; measures a run that was not. With --twin
the quantities get error bars.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from dip4d.errors import InputError

SUMMARY = "the table and the figures of saved runs"
ARGUMENTS = {"frames": "--frames", "z": "--z", "y": "--y"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="the folder of a finished run")
    add = parser.add_argument
    add("--frames", metavar="T", nargs="+", type=int, help="the images, from 0, whose volumes are shown")
    add("--z", metavar="Z", type=int, help="where the (y, x) orthoslices are, in voxels from 0; the densest")
    add("--y", metavar="Y", type=int, help="where the (z, x) orthoslices are; the middle")
    add("--cmap", metavar="NAME", default="gray", help="colour map of slices, of matplotlib (%(default)s)")
    add("--format", metavar="KIND", nargs="+", default=["png"], choices=("png", "pdf", "svg"), help="of the figures")
    add("--dpi", metavar="N", type=int, default=110, help="dots per inch of PNG figures (%(default)s)")
    add("--twin", action="store_true", help="error bars first, as by dip4d twin: takes longer than the fit")


def run(arguments: argparse.Namespace) -> None:
    """Raises InputError if a folder holds no finished run."""
    import matplotlib

    from dip4d.commands.twin import twin_of
    from dip4d.experiment.measures import measure_if_missing
    from dip4d.report.run_report import summarise
    from dip4d.report.style import Look

    a = arguments
    if a.cmap not in matplotlib.colormaps:
        raise InputError(f"--cmap={a.cmap}: matplotlib has no such colour map; gray, inferno and viridis are some")
    for name in ("z", "y", "dpi"):
        if (value := getattr(a, name)) is not None and value < (name == "dpi"):
            raise InputError(f"--{name}={value} is too small")
    if any(t < 0 for t in a.frames or ()):
        raise InputError(f"--frames {min(a.frames)}: images count from 0")
    frames = None if a.frames is None else tuple(a.frames)
    for run in a.runs:
        if a.twin:
            twin_of(run)
        measure_if_missing(run)
    drawn = summarise(a.runs, Look(frames, a.z, a.y, a.cmap, tuple(a.format), a.dpi))
    print("\n".join(f"  {path}" for path in drawn))
