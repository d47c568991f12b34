"""Error bars for a finished run: its movie is imaged as the specimen was, and reconstructed again.

Writes twin.json, and the error bars into measures.csv and figures/measures.png.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

SUMMARY = "error bars for the quantities of a run, its resolution in time and space, by a twin experiment"
ARGUMENTS: dict[str, str] = {}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="RUN", type=Path, help="the folder of a finished run")
    parser.add_argument("--refits", type=int, default=3, help="how often, each a fifth of the time of the fit; 3")
    parser.add_argument(
        "--no-resolution", action="store_true", help="leave out the resolution, which takes as long as the fit"
    )


def run(arguments: argparse.Namespace) -> None:
    """Raises InputError if there is no finished run."""
    from dip4d.report.measures_figure import draw_measures
    from dip4d.run_folder import FIGURES, MEASURES

    twin_of(arguments.folder, refits=arguments.refits, resolution=not arguments.no_resolution)
    (arguments.folder / FIGURES).mkdir(exist_ok=True)
    print(f"  {draw_measures(arguments.folder / MEASURES, arguments.folder / FIGURES / 'measures.png')}")


def twin_of(folder: Path, *, refits: int = 3, resolution: bool = True) -> None:
    """Does the twin experiment of a run, measures it again, and prints what was found. Raises InputError."""
    import torch

    from dip4d.experiment.measures import measure_if_stale
    from dip4d.experiment.quiet import quiet_lightning
    from dip4d.experiment.twin import twin
    from dip4d.reconstruction.progress_line import ProgressLine

    with quiet_lightning(), torch.random.fork_rng():
        told = twin(folder, refits=refits, marks=resolution, callbacks=[ProgressLine()])
    measure_if_stale(folder)
    print("\n".join(lines_of(told)))


def lines_of(told: dict[str, Any]) -> list[str]:
    """What a twin experiment has found, a line each."""
    lines = [f"{name.replace('_', ' ')}: standard deviation {_usual(told, name)}" for name in told["sigma"]]
    scores = told["psnr"]
    lines += [f"PSNR to expect: at most {sum(scores) / len(scores):.1f} dB; a twin is optimistic"]
    if (images := told.get("rise_images")) is not None:
        lines += [f"A sudden change is seen to rise within {images:.1f} images, {told['rise_s']:.3g} s (10 to 90 %)"]
    if (size := told.get("feature_px")) is not None:
        nm = "" if told["feature_nm"] is None else f", {told['feature_nm']:.3g} nm"
        finer = " or less" if told["feature_or_finer"] else ""
        lines += [f"Of a feature {size:.1f} voxels{nm}{finer} wide half of the intensity is seen"]
    return lines


def _usual(told: dict[str, Any], name: str) -> str:
    from dip4d.experiment.measures import is_relative

    values = told["sigma"][name]
    mean = sum(values) / len(values)
    return f"{100 * mean:.1f} %" if is_relative(name) else f"{mean:.3f}"
