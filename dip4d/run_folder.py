"""The folder of a run: what lies where in it, and that nothing in it is lost."""

from __future__ import annotations

import json
import os
import shutil
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dip4d.errors import InputError
from dip4d.whole_file import written_beside

if TYPE_CHECKING:
    from dip4d.config.schema import Run

CONFIG = "config.yaml"
CHECKPOINT = "checkpoint.ckpt"
VOLUMES = "volumes.ome.tif"
UNCERTAINTY = "uncertainty.ome.tif"
SHIFTS = "shifts.csv"
MOTION = "motion.csv"
METRICS = "metrics.json"
ORTHOSLICES = "orthoslices.npz"
FIGURES = "figures"
LIVE = "live.png"  # among the figures
TRACKING = "tracking"
GOING_ON = "going_on"  # what a finished run that goes on writes, until it is whole
OUTPUTS = (CONFIG, CHECKPOINT, VOLUMES, UNCERTAINTY, SHIFTS, MOTION, METRICS, ORTHOSLICES, FIGURES, TRACKING, GOING_ON)


def reconstruct_command() -> str:
    """How whoever runs this program would run a reconstruction, for hints that can be pasted."""
    programs = {"train.py": "python train.py", "__main__.py": "python -m dip4d reconstruct"}
    return programs.get(Path(sys.argv[0]).name, "dip4d reconstruct")


def prepare(run: Run, what: str) -> Path:
    """The folder for a run, not yet made: run.dir, or one named after the time and `what` is reconstructed.

    Raises InputError if it holds a run already and neither run.resume nor run.overwrite is set, or if there is
    nothing to resume.
    """
    path = Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{what}" if run.dir is None else Path(run.dir)
    if path.exists() and not path.is_dir():
        raise InputError(f"run.dir={path} is a file, not a folder")
    held = _held(path)
    if run.resume and CONFIG not in held:
        raise InputError(f"run.dir={path} holds no run to resume")
    if held and not (run.resume or run.overwrite):
        raise InputError(
            f"run.dir={path} already holds a run ({', '.join(held)}); go on with run.resume=true, "
            "replace it with run.overwrite=true, or name another folder"
        )
    return path


def create(path: Path, run: Run) -> Path:
    """Makes the folder. With run.overwrite what a run wrote there is removed; nothing else ever is."""
    if run.overwrite:
        for name in _held(path):
            shutil.rmtree(path / name) if (path / name).is_dir() else (path / name).unlink()
    path.mkdir(parents=True, exist_ok=True)
    return path


def replace_with(path: Path, newer: Path) -> None:
    """Puts the files of `newer`, a folder inside a run, in the place of those of the run, and removes it.

    Its configuration last: while it is there, the run can be resumed.
    """
    files = [file for file in newer.rglob("*") if file.is_file()]
    for file in sorted(files, key=lambda file: file.name == CONFIG):
        place = path / file.relative_to(newer)
        place.parent.mkdir(exist_ok=True)
        os.replace(file, place)
    shutil.rmtree(newer)


def add_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Adds to the metrics.json of a run, to its tables entry by entry; the file is whole at any moment.

    Raises ValueError for NaN, infinity.
    """
    file = path / METRICS
    before = json.loads(file.read_text()) if file.exists() else {}
    for key, value in metrics.items():
        there = before.get(key)
        before[key] = there | value if isinstance(there, dict) and isinstance(value, dict) else value
    with written_beside(file) as place:
        place.write_text(json.dumps(before, indent=1, allow_nan=False))


def read_metrics(path: Path) -> dict[str, Any]:
    """metrics.json of a run. Raises InputError if it is missing or broken."""
    try:
        return json.loads((path / METRICS).read_text())
    except OSError:
        raise InputError(f"{path}: no {METRICS}; is it the folder of a finished run?") from None
    except ValueError as error:
        raise InputError(f"{path / METRICS}: not readable ({error})") from None


def _held(path: Path) -> list[str]:
    return [name for name in OUTPUTS if (path / name).exists()]
