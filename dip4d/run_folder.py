"""The folder of a run: what lies where in it, and that nothing in it is lost."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

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
IMAGES = "images.npz"
PREVIEW = "preview.npz"
MEASURES = "measures.csv"  # the quantities of the specimen at every image
PROFILES = "profiles.csv"
TWIN = "twin.json"
PLAN = "plan.csv"
PAGE = "report.html"
RUNS_PAGE = "runs.html"  # of several, in the folder of the last
SAVED = "saved"  # what output.save asks for
FIGURES = "figures"
LIVE = "live.png"  # among the figures
MOVIE = "movie.mp4"  # among the figures
TRACKING = "tracking"
GOING_ON = "going_on"  # what a finished run that goes on writes, until it is whole
LOCK = "run.lock"  # while a run writes; left behind by one that died
COMPLETE = "complete"  # in metrics.json, written last: nothing is missing
RESULTS = (
    CHECKPOINT, VOLUMES, UNCERTAINTY, SHIFTS, MOTION, METRICS, ORTHOSLICES, IMAGES, PREVIEW, MEASURES, PROFILES,
    TWIN, PLAN,
)  # fmt: skip
OUTPUTS = (CONFIG, *RESULTS, PAGE, RUNS_PAGE, SAVED, FIGURES, TRACKING, GOING_ON)


_AGAIN = "remove it and go on with run.resume=true: it is written again"


def saved_volumes(run: Path) -> dict[str, Path]:
    """The files of what output.save has kept, by name."""
    return {path.name.removesuffix(".ome.tif"): path for path in sorted((run / SAVED).glob("*.ome.tif"))}


def reconstruct_command() -> str:
    """How whoever runs this program would run a reconstruction, for hints that can be pasted."""
    programs = {"train.py": "python train.py", "__main__.py": "python -m dip4d reconstruct"}
    return programs.get(Path(sys.argv[0]).name, "dip4d reconstruct")


def resume_command(path: Path) -> str:
    """How to go on with the run in a folder, to be pasted."""
    return f"{reconstruct_command()} {shlex.quote(f'run.dir={path}')} run.resume=true"


def prepare(run: Run, what: str) -> Path:
    """The folder for a run, not yet made: run.dir, or one named after the time and `what` is reconstructed.

    Raises InputError if it holds a run already and neither run.resume nor run.overwrite is set, if there is nothing to
    resume, or if nothing can be written there.
    """
    path = Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}-{what}" if run.dir is None else Path(run.dir)
    there = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not there.is_dir():
        raise InputError(f"run.dir={path}: {there} is a file, not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"run.dir={path}: nothing can be written in {there}; name another folder with run.dir")
    held = _held(path)
    if run.resume and CONFIG not in held:
        raise InputError(f"run.dir={path} holds no run to resume")
    if held and not (run.resume or run.overwrite or _died_early(path)):
        raise InputError(
            f"run.dir={path} already holds a run ({', '.join(held)}); go on with run.resume=true, "
            "replace it with run.overwrite=true, or name another folder"
        )
    return path


@contextmanager
def in_use(path: Path, run: Run) -> Iterator[None]:
    """Inside, no other run writes to the folder, which is made. Raises InputError if one does.

    With run.overwrite what a run wrote there is removed, and so is what one left that died before its fit; nothing else
    ever is. The system frees the lock of a process that dies.
    """
    path.mkdir(parents=True, exist_ok=True)
    try:
        early = _died_early(path)
        lock = FileLock(path / LOCK)
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(f"another run is writing to run.dir={path}; wait for it, or name another folder") from None
    except NotImplementedError:  # a file system without locks
        lock = None
    try:
        if run.overwrite or (early and not run.resume):
            for name in _held(path):
                shutil.rmtree(path / name) if (path / name).is_dir() else (path / name).unlink()
        yield
    finally:
        if lock is not None:
            lock.release()
        if not _died_early(path):
            (path / LOCK).unlink(missing_ok=True)


def replace_with(path: Path, newer: Path) -> None:
    """Puts the files of `newer`, a folder inside a run, in the place of those of the run, and removes it.

    Its metrics last: while they are there, it can be called again.
    """
    files = [file for file in newer.rglob("*") if file.is_file()]
    for file in sorted(files, key=lambda file: file.name == METRICS):
        place = path / file.relative_to(newer)
        place.parent.mkdir(exist_ok=True)
        os.replace(file, place)
    shutil.rmtree(newer)


def forget_results(path: Path) -> None:
    """Removes what would be written anew from a folder whose checkpoint is gone; the checkpoint itself stays."""
    for name in RESULTS:
        if name != CHECKPOINT:
            (path / name).unlink(missing_ok=True)


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
    """metrics.json of a run. Raises InputError if it is missing or broken, or another program's."""
    try:
        metrics = json.loads((path / METRICS).read_text(encoding="utf-8"))
    except OSError:
        raise InputError(f"{path}: no {METRICS}; is it the folder of a finished run?") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path / METRICS}: damaged ({error}); {_AGAIN}") from None
    if not isinstance(metrics, dict) or not isinstance(metrics.get("methods"), dict):
        raise InputError(f"{path / METRICS}: not that of a run: it has no methods; {_AGAIN}")
    return metrics


def is_complete(path: Path) -> bool:
    """Whether nothing is missing of the run in a folder. Raises InputError for damaged metrics."""
    return (path / METRICS).exists() and read_metrics(path).get(COMPLETE) is True


def _held(path: Path) -> list[str]:
    return [name for name in OUTPUTS if (path / name).exists()]


def _died_early(path: Path) -> bool:
    """Whether a run wrote here, as its lock tells, that had no result yet."""
    return (path / LOCK).exists() and not any((path / name).exists() for name in (*RESULTS, GOING_ON))
