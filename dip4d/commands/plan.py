"""Advice for the next acquisition: the same specimen with fewer images, less dose, a smaller tilt range, one sweep.

The movie of a run, or a simulated specimen, is imaged in each way and reconstructed: a table, and a sentence.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dip4d.errors import InputError
from dip4d.run_folder import PLAN

if TYPE_CHECKING:
    from dip4d.experiment.advice import Acquisition, Found, Source

SUMMARY = "what another acquisition of the same specimen would tell: fewer images, less dose, one sweep"
ARGUMENTS: dict[str, str] = {}
ORDERS = {"grs": "golden-ratio scanning", "incremental": "one sweep", "pingpong": "several sweeps"}
STILL, STILL_PERCENT = 1.5, 2.0  # times the error of the series as taken, or so many percent: as good


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "what",
        metavar="RUN",
        nargs="+",
        help="a finished run; or specimen=NAME and further keys, such as simulate.size=40",
    )
    add("--images", metavar="N", nargs="+", type=int, default=[], help="how many images")
    add("--dose", metavar="X", nargs="+", type=float, default=[], help="of each image, times that of the known series")
    add("--tilt", metavar="DEG", nargs="+", type=float, default=[], help="the largest angle")
    add("--order", metavar="NAME", nargs="+", default=[], choices=ORDERS, help=f"of the angles: {', '.join(ORDERS)}")
    add("--csv", metavar="FILE", type=Path, help="where the table goes; plan.csv of the run")


def run(arguments: argparse.Namespace) -> None:
    """Raises InputError for what cannot be planned."""
    import torch

    from dip4d.experiment.advice import acquisitions_of, expected_seconds, what_would_be_found
    from dip4d.experiment.quiet import quiet_lightning
    from dip4d.reconstruction.progress_line import ProgressLine

    table = _table_file(arguments.csv, arguments.what)
    with quiet_lightning(), torch.random.fork_rng():
        source = source_of(arguments.what)
        acquisitions = acquisitions_of(
            source.taken,
            images=arguments.images,
            doses=arguments.dose,
            max_angles=arguments.tilt,
            orders=arguments.order,
        )
        minutes = expected_seconds(source, acquisitions) / 60
        print(f"{len(acquisitions)} acquisitions, a fit of {source.steps} steps each: about {minutes:.0f} minutes")
        found = []
        for result in what_would_be_found(source, acquisitions, callbacks=[ProgressLine()]):
            found.append(result)
            print(f"  {name_of(result.acquisition, source)}: {_errors(result)}", flush=True)
            if table is not None:
                _write(table, found)
    _print(found, source)
    print(advice(found, source) + ("" if table is None else f"\n  {table}"))


def source_of(what: Sequence[str]) -> Source:
    """The run, or the simulated specimen, that words on the command line name. Raises InputError."""
    from dip4d.config.load import load_config
    from dip4d.experiment.advice import RunSource, SpecimenSource

    if "=" not in what[0]:
        if len(what) > 1:
            raise InputError(f"{what[1]}: give one run, or keys of a simulation such as specimen=nanostar")
        return RunSource(Path(what[0]))
    config = load_config([f"simulate.{word}" if word.startswith("specimen=") else word for word in what])
    if config.data.path is not None:
        raise InputError("data.path: reconstruct the series first, then plan from its run")
    return SpecimenSource(config)


def _table_file(given: Path | None, what: Sequence[str]) -> Path | None:
    """Where the table goes; None for nowhere. Raises InputError for a file that is there and no such table."""
    if given is None:
        return None if "=" in what[0] else Path(what[0]) / PLAN
    if given.exists():
        raise InputError(f"--csv {given}: is there already; name another file")
    return given


def name_of(acquisition: Acquisition, source: Source) -> str:
    """An acquisition in words, by what differs from the known one."""
    a, taken = acquisition, source.taken
    if a == taken:
        return "as taken"
    parts = [f"{a.images} images"] if a.images != taken.images else []
    if a.dose != taken.dose:
        counts = "" if source.counts is None else f", {float(f'{a.dose * source.counts:.3g}'):g} counts"
        parts += [f"{a.dose:g} times the dose{counts}"]
    parts += [f"tilts up to {a.max_angle:g} degrees"] if a.max_angle != taken.max_angle else []
    return ", ".join([*parts, *([ORDERS[a.order]] if a.order else [])])


def advice(found: Sequence[Found], source: Source) -> str:
    """One sentence: what would still do, and what would not, by the error of the volume."""
    known, *others = found
    if not math.isfinite(known.errors["volume"]):
        return "The volume is not known from the series as it was taken: there is nothing to compare with."
    limit = max(STILL * known.errors["volume"], STILL_PERCENT / 100)
    told = lambda f: f"{name_of(f.acquisition, source)} ({100 * f.errors['volume']:.2g} %)"
    good = [told(f) for f in others if f.errors["volume"] <= limit]
    bad = [told(f) for f in others if not f.errors["volume"] <= limit]
    words = [f"The volume is known to {100 * known.errors['volume']:.2g} % from the series as it was taken"]
    words += [f"to {100 * limit:.2g} % or better it would still be with: {'; '.join(good)}"] if good else []
    words += [f"it would not with: {'; '.join(bad)}"] if bad else []
    return "; ".join(words) + "."


def _errors(found: Found) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_told(found, name)}" for name in found.errors)


def _told(found: Found, name: str) -> str:
    """The error of a quantity, in percent of it where it is relative."""
    from dip4d.experiment.measures import is_relative

    value = found.errors[name]
    return f"{100 * value:.1f} %" if is_relative(name) else f"{value:.3f}"


def _print(found: Sequence[Found], source: Source) -> None:
    from rich.console import Console
    from rich.table import Table

    names = list(found[0].errors)
    table = Table()
    table.add_column("acquisition")
    for name in (*names, "PSNR"):
        table.add_column(name.replace("_", " "), justify="right")
    for f in found:
        table.add_row(name_of(f.acquisition, source), *(_told(f, n) for n in names), f"{f.psnr:.1f} dB")
    Console(width=110).print(table)


def _write(path: Path, found: Sequence[Found]) -> None:
    from dip4d.whole_file import written_beside

    names = list(found[0].errors)
    lines = [",".join(["images", "dose", "max_angle_deg", "order", *names, "psnr_db"])]
    for f in found:
        a = f.acquisition
        numbers = [*(f"{f.errors[n]:.5g}" for n in names), f"{f.psnr:.3f}"]
        lines.append(",".join([str(a.images), f"{a.dose:g}", f"{a.max_angle:g}", a.order or "as taken", *numbers]))
    with written_beside(path) as place:
        place.write_text("\n".join(lines) + "\n")
