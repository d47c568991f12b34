"""The cases of the paper, simulated and measured: those without a result are run, each in a process of its own."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dip4d.config.load import check_same_run
from dip4d.errors import InputError
from dip4d.experiment.signals import Handlers
from dip4d.report.paper_claims import PaperRun, findings
from dip4d.report.paper_page import lines_of, write_paper
from dip4d.run_folder import CONFIG, SHIFTS, is_complete

PACKAGE = Path(__file__).parents[2]  # the folder that holds the package
DATA_FOLDER = "DIP4D_REAL_DATA"  # in the environment: where measured series are looked for first
PLACES = ("data", "../shared/data")  # and then
ENDED_WELL = (0, 3)  # exit codes: of a run, and of one whose verdict says that it is not usable
_SHORT = ("compare.windows=[20,40]", "compare.iterations=150")
_SMALL = ("simulate.size=48", "simulate.frames=60", "network.motion=never", "train.steps=1500", *_SHORT)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Case:
    """A case of the paper.

    name: of the folder of its run.
    title: in words.
    keys: of its configuration.
    quick: further keys, of a quick run.
    changes: what of the specimen does: shape, composition.
    files: the names that its measured series goes by; none: it is simulated.
    source: how that is got.
    placed: whether a run before it finds where the images lie.
    """

    name: str
    title: str
    keys: tuple[str, ...]
    quick: tuple[str, ...] = _SMALL
    changes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    source: str = ""
    placed: bool = False


CASES = (
    Case("shape", "Shape", ("simulate.specimen=nanostar",), changes=("shape",)),
    Case("composition", "Composition", ("simulate.specimen=alloying",), changes=("composition",)),
    Case("both", "Both", ("simulate.specimen=nanostar_alloying",), changes=("shape", "composition")),
    Case(
        "needle",
        "Needle",
        ("data.tilt_axis=x", "data.bin=4", "train.max_minutes=12"),  # as configs/needle.yaml
        quick=("data.bin=6", "train.steps=600", *_SHORT),
        files=("needle_aligned.hspy", "nist_needle_aligned.hspy"),
        source="dip4d example needle",
    ),
    Case(
        "liquid",
        "Au in liquid",
        (  # as configs/emat_liquid.yaml
            "data.tilt_axis=y", "data.crop=[64,160,16,240]", "data.bin=3", "data.test_images=0.2",
            "data.test_images_in_a_row=5", "network.change=never", "network.motion=never",
            "network.intensity_bound=9.5", "train.steps=800", "train.max_minutes=12",
        ),
        quick=("data.bin=6", "network.intensity_bound=19", "train.steps=400", *_SHORT),
        files=("emat_liquid_N6.mrc",),
        source="series N6 of github.com/ajinkyakadu/LiquidET_NatComm2024, and its angles as emat_liquid_N6.rawtlt",
        placed=True,
    ),
)  # fmt: skip


def make_paper(folder: Path, *, quick: bool = False) -> tuple[list[Path], bool]:
    """Runs the cases that have no result in a folder, goes on with those that were interrupted, and writes the page.

    folder: of the page, and of the runs, a folder each; it is made.
    quick: smaller and shorter runs.
    Returns the paths of the page and of its table, and whether no run failed; a case without its file is none.
    """
    problems, failed = dict[str, str | None](), False
    folder.mkdir(parents=True, exist_ok=True)  # what forbids it is said before any work
    try:
        for case in CASES:
            problem, whole = _made(case, folder, quick=quick)
            problems[case.name], failed = problem, failed or not whole
            if problem:
                _log.warning(f"{case.title}: no result: {problem}")
    finally:
        left = {c.name: _as_it_lies(folder / c.name) for c in CASES if c.name not in problems}  # where it was stopped
        why = left | problems
        runs = [PaperRun(c.name, c.title, folder / c.name, bool(c.files), c.changes, why[c.name]) for c in CASES]
        found = findings(runs)
        paths = write_paper(found, runs, folder=folder, quick=quick)
        _log.info("\n".join(lines_of(found)))
    return paths, not failed


def _made(case: Case, folder: Path, *, quick: bool) -> tuple[str | None, bool]:
    """Makes what is missing of a case. Returns why there is no result, None if there is, and whether no run failed."""
    run, keys = folder / case.name, case.keys + (case.quick if quick else ())
    try:
        if case.files and not is_complete(run):
            path = _file(case)
            if path is None:
                return f"there is no {case.files[0]} in {' or '.join(_places())}; get it with: {case.source}", True
            keys += (f"data.path={path}",)
            if case.placed:
                before = folder / f"{case.name}_displacements"
                _run(before, [*keys, "align.refine=true"], title=f"{case.title}: displacements of its images")
                keys += (f"align.shifts={before / SHIFTS}",)
        _run(run, keys, title=case.title)
    except InputError as error:
        return str(error), False
    return None, True


def _as_it_lies(run: Path) -> str | None:
    """Why the folder of a run has no result; None if it has."""
    try:
        if is_complete(run):
            return None
        return "interrupted; the same command goes on with it" if (run / CONFIG).exists() else "not run yet"
    except InputError as error:
        return str(error)


def _places() -> list[str]:
    return [*filter(None, [os.environ.get(DATA_FOLDER)]), *PLACES]


def _file(case: Case) -> Path | None:
    """The file of a measured case; None if there is none."""
    return next((p for place in _places() for name in case.files if (p := Path(place) / name).exists()), None)


def _run(run: Path, keys: Sequence[str], *, title: str) -> None:
    """Makes a run, or goes on with it; one with a result is left alone. Raises InputError if it comes to none."""
    resume = (run / CONFIG).exists()
    if resume:
        try:
            check_same_run(run / CONFIG, keys)
        except InputError as error:
            raise InputError(f"{run} holds a run of other settings: {error}; name another folder with --out") from None
    if is_complete(run):
        _log.info(f"{title}: {run} has its result")
        return
    _log.info(f"{title}: {'goes on' if resume else 'begins'}, in {run}")
    arguments = [*keys, "logger=csv", f"run.dir={run}", *(["run.resume=true"] if resume else [])]
    code, said = _in_own_process(arguments)
    if code not in ENDED_WELL or not is_complete(run):
        raise InputError(said.removeprefix("error: ") or f"the run ended with exit code {code}")


def _in_own_process(arguments: Sequence[str]) -> tuple[int, str]:
    """A reconstruction, whose time and memory are its own; its exit code, and its last line of errors.

    Ctrl-C is for the run, which knows what to do; when it has ended, nothing more is run.
    """
    stopped, handlers = [], Handlers()
    paths = [str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", "dip4d", "reconstruct", *arguments]
    said = ""
    handlers.set(signal.SIGINT, lambda: stopped.append(True))
    try:
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, encoding="utf-8", errors="replace", env=environment
        ) as run:
            try:
                for line in run.stderr or ():
                    sys.stderr.write(line)
                    said = line.strip() or said
            except BaseException:  # SIGTERM: the run writes a checkpoint
                run.terminate()
                raise
    finally:
        handlers.restore()
    if stopped:
        raise KeyboardInterrupt
    return run.returncode, said
