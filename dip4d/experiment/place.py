"""Where a run lies, whether it is new or goes on, and the configuration that it has there."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dip4d import run_folder
from dip4d.config.load import check_same_run, load_config
from dip4d.config.schema import Config, Run, Train
from dip4d.experiment.budget import Budget
from dip4d.reconstruction.fit import read_checkpoint

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where a run lies, and what it goes on from.

    folder: of the run.
    work: where it writes: its folder; of a finished run that goes on one inside, until all is there.
    checkpoint: to go on from; None for a new fit.
    saved: what that keeps.
    seconds: of the run so far, as its metrics say.
    """

    folder: Path
    work: Path
    checkpoint: Path | None = None
    saved: dict | None = None
    seconds: float = 0.0

    @property
    def done(self) -> tuple[int, float]:
        """Steps and seconds of the fit so far."""
        return (0, 0.0) if self.saved is None else (self.saved["global_step"], self.saved["seconds"])

    @property
    def fitted(self) -> bool:
        """Whether the fit had ended, and only its files are missing."""
        if self.checkpoint is None or self.saved is None:
            return False
        return self.saved["finished"] and self.checkpoint.parent == self.work

    def settings(self, config: Config) -> Config:
        """Those of the fit: without further steps where it had ended."""
        train = dataclasses.replace(config.train, steps=self.done[0])
        return dataclasses.replace(config, train=train) if self.fitted else config


def configured(arguments: Sequence[str]) -> tuple[Config | None, Place]:
    """The configuration, of a run to resume the one that it began with, None if there is nothing to do; and its place.

    Nothing is made yet.
    """
    config = load_config(arguments)
    if _is_requeued(config.run):
        arguments = [*arguments, "run.resume=true", "run.overwrite=false"]
        config = load_config(arguments)
    folder = run_folder.prepare(config.run, what=Path(config.data.path or config.simulate.specimen).stem)
    if not config.run.resume:
        return config, Place(folder, folder)
    if run_folder.is_complete(folder / run_folder.GOING_ON):  # it was interrupted while it replaced what was there
        run_folder.replace_with(folder, folder / run_folder.GOING_ON)
    before = run_folder.read_metrics(folder) if run_folder.is_complete(folder) else {}
    work = folder / run_folder.GOING_ON if before else folder
    saved = work if (work / run_folder.CONFIG).exists() else folder
    config = check_same_run(saved / run_folder.CONFIG, arguments)
    if before and saved == folder:
        had = load_config([str(folder / run_folder.CONFIG)]).train
        if not _has_more(config, had, metrics=before):
            _log.info(_nothing_to_resume(folder, had, steps=before["steps"]))
            return None, Place(folder, folder)
    checkpoint = next((c for at in (work, folder) if (c := at / run_folder.CHECKPOINT).exists()), None)
    if checkpoint is None:
        return config, Place(folder, work)
    so_far = run_folder.read_metrics(work) if (work / run_folder.METRICS).exists() else before
    return config, Place(folder, work, checkpoint, read_checkpoint(checkpoint), so_far.get("seconds", 0.0))


def _is_requeued(run: Run) -> bool:
    """Whether SLURM has put this job into the queue again, and it had begun a run."""
    restarted = os.environ.get("SLURM_RESTART_COUNT", "0") not in ("", "0")
    return restarted and run.dir is not None and (Path(run.dir) / run_folder.CONFIG).exists()


def _has_more(config: Config, had: Train, *, metrics: dict) -> bool:
    """Whether a finished run is given more steps, or more time, than it had."""
    now = config.train
    if (now.steps, now.max_minutes) == (had.steps, had.max_minutes):
        return False
    time_left = (limit := Budget.of(config).fit) is None or limit.seconds > metrics["fit_seconds"]
    steps_left = now.steps > metrics["steps"] if now.steps else metrics["ended"] != "steps"
    return time_left and steps_left


def _nothing_to_resume(folder: Path, had: Train, *, steps: int) -> str:
    minutes = f", or more than {had.max_minutes:g} minutes, train.max_minutes=M" if had.max_minutes else ""
    return (
        f"{folder} is finished; nothing to resume. To go on with its fit, give it more than its {steps} steps, "
        f"train.steps=N{minutes}"
    )
