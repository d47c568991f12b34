"""The tables and figures of saved runs.

Reads only what lies in the folders of the runs and writes to their `figures`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "the table and the figures of saved runs"
ARGUMENTS: dict[str, str] = {}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="the folder of a finished run")


def run(arguments: argparse.Namespace) -> None:
    """Raises InputError if a folder holds no finished run."""
    from dip4d.report.run_report import summarise

    drawn = summarise(arguments.runs)
    print("\n".join(f"  {path}" for path in drawn))
