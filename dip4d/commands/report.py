"""The tables, figures and pages of saved runs; on request a movie, and error bars.

Reads only what lies in the folders of the runs, and adds to it; measures a run that was not. With --paper and no RUN it
runs what is missing of the cases of the paper, and lays its claims beside what came of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from dip4d.errors import InputError

if TYPE_CHECKING:
    from dip4d.report.style import Look

SUMMARY = "the table, the figures and the page of saved runs"
ARGUMENTS = {name: f"option --{name}" for name in ("frames", "z", "y", "fps", "size")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("runs", metavar="RUN", nargs="*", type=Path, help="the folder of a finished run")
    add("--frames", metavar="T", nargs="+", type=int, help="the images, from 0, whose volumes are shown")
    add("--z", metavar="Z", type=int, help="where the (y, x) orthoslices are, in voxels from 0; the densest")
    add("--y", metavar="Y", type=int, help="where the (z, x) orthoslices are; the middle")
    add("--cmap", metavar="NAME", default="gray", help="colour map of slices, of matplotlib (%(default)s)")
    add("--format", metavar="KIND", nargs="+", default=["png"], choices=("png", "pdf", "svg"), help="of the figures")
    add("--dpi", metavar="N", type=int, default=110, help="dots per inch of PNG figures (%(default)s)")
    add("--twin", action="store_true", help="error bars first, as by dip4d twin: takes longer than the fit")
    add("--movie", action="store_true", help="draw figures/movie.mp4 too: it takes minutes")
    add("--fps", type=float, default=12, help="pictures of the movie in a second (12)")
    add("--size", default="1920x1080", metavar="WxH", help="of its pictures, pixels (1920x1080)")
    add("--paper", action="store_true", help="run the cases of the paper that are missing, and write paper.html")
    add("--quick", action="store_true", help="these smaller: 13 minutes of one core")
    add("--out", type=Path, help="folder of these runs and of that page (runs/paper, of quick ones runs/paper-quick)")


def run(arguments: argparse.Namespace) -> int:
    """The exit code: 1 if a run of the paper failed, else 0. Raises InputError if a folder holds no finished run, or
    for what cannot be drawn.
    """
    if arguments.paper:
        return _paper(arguments)
    if arguments.quick or arguments.out is not None:
        raise InputError("--quick and --out go with --paper")
    if not arguments.runs:
        raise InputError("name the folder of a finished run, or give --paper")
    _report(arguments)
    return 0


def _paper(a: argparse.Namespace) -> int:
    from dip4d.experiment.paper import make_paper

    if a.runs or a.movie or a.twin:
        raise InputError("--paper makes runs of its own: give no RUN with it, and --movie and --twin for these later")
    paths, whole = make_paper(a.out or Path("runs/paper-quick" if a.quick else "runs/paper"), quick=a.quick)
    print("\n".join(f"  {path}" for path in paths))
    return 0 if whole else 1


def _report(arguments: argparse.Namespace) -> None:
    from dip4d.commands.twin import twin_of
    from dip4d.experiment.measures import measure_if_stale
    from dip4d.report.movie import check_movie, write_mp4
    from dip4d.report.run_report import summarise

    look, size = _look(arguments), _size(arguments.size)
    if arguments.movie:
        check_movie(fps=arguments.fps, size=size)
    for run in arguments.runs:
        if arguments.twin:
            twin_of(run)
        measure_if_stale(run)
    drawn = summarise(arguments.runs, look)
    if arguments.movie:
        drawn += [write_mp4(path, fps=arguments.fps, size=size) for path in arguments.runs]
    print("\n".join(f"  {path}" for path in drawn))


def _look(a: argparse.Namespace) -> Look:
    """How figures are drawn. Raises InputError."""
    import matplotlib

    from dip4d.report.style import Look

    if a.cmap not in matplotlib.colormaps:
        raise InputError(f"--cmap={a.cmap}: matplotlib has no such colour map; gray, inferno and viridis are some")
    for name, least in (("z", 0), ("y", 0), ("dpi", 1)):
        if (value := getattr(a, name)) is not None and value < least:
            raise InputError(f"--{name}={value}: must be {least} or more")
    if min(a.frames or [0]) < 0:
        raise InputError(f"--frames {min(a.frames)}: images count from 0")
    return Look(None if a.frames is None else tuple(a.frames), a.z, a.y, a.cmap, tuple(a.format), a.dpi)


def _size(words: str) -> tuple[int, int]:
    """1920x1080 as (1920, 1080). Raises InputError."""
    parts = words.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise InputError(f"'{words}': write width and height as 1920x1080", argument="size")
    return int(parts[0]), int(parts[1])
