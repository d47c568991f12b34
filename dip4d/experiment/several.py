"""A fit shared out among several devices, each with a process of its own.

The first process does all that a run does. Lightning starts the others with the same command when the fit begins; they
read what the first hands over, and take part in the fit and in nothing else.
"""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from dip4d.config.load import load_config
from dip4d.config.schema import Config
from dip4d.conventional.series import SeriesStatistics
from dip4d.errors import InputError
from dip4d.experiment.callbacks import Checkpoints
from dip4d.reconstruction.fit import Fit, fit
from dip4d.reconstruction.networks.free_form import motion_with
from dip4d.reconstruction.networks.rigid_motion import RigidMotion
from dip4d.reconstruction.split import Split
from dip4d.run_folder import CONFIG
from dip4d.tilt_series import TiltSeries
from dip4d.whole_file import written_beside

HANDED_OVER = "handed_over.pt"  # in the folder of a run, while its fit is shared out
_PLACE = "DIP4D_HANDED_OVER"  # in the environment of the other processes: where that is


def wanted(config: Config) -> bool:
    """Whether a configuration asks for several devices. Raises InputError for what they cannot do."""
    devices = config.trainer.get("devices", 1)
    count = len(devices) if isinstance(devices, list) else devices
    if count in (1, "1"):
        return False
    if config.train.max_minutes is not None:
        raise InputError(f"trainer.devices={devices} keeps no time: give train.steps=N instead of train.max_minutes")
    if isinstance(count, int) and config.train.slices < count:
        raise InputError(f"trainer.devices={devices} needs train.slices={count} or more, to share out")
    if "LOCAL_RANK" in os.environ or config.trainer.get("num_nodes", 1) != 1:
        raise InputError("start one process on one machine, without torchrun: it starts one for each device itself")
    return True


def fit_shared(
    folder: Path,
    series: TiltSeries,
    *,
    split: Split,
    settings: Config,
    statistics: SeriesStatistics,
    motion: RigidMotion | None,
    checkpoint: Path | None,
    **others: Any,
) -> Fit:
    """A `fit` in which other processes take part; its arguments, and `folder`, that of the run."""
    arrays = {name: value for name, value in vars(series).items() if isinstance(value, np.ndarray)}
    handed = {
        "arrays": {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()},
        "margin": series.margin,
        "validation_rows": split.validation_rows.contiguous(),
        "hidden_rows": split.hidden_rows.contiguous(),
        "test_images": [int(t) for t in split.test_images],
        "statistics": dataclasses.asdict(statistics),
        "motion": None if motion is None else motion.state_dict(),
        "steps": settings.train.steps,
        "checkpoint": None if checkpoint is None else str(checkpoint.absolute()),
    }
    with written_beside(folder / HANDED_OVER) as place:
        torch.save(handed, place)
    os.environ[_PLACE] = str(folder.absolute())
    try:
        keys = {"settings": settings, "statistics": statistics, "motion": motion, "checkpoint": checkpoint}
        return fit(series, split, **keys, **others)
    finally:
        del os.environ[_PLACE]
        (folder / HANDED_OVER).unlink(missing_ok=True)


def follows() -> bool:
    """Whether this is one of the other processes."""
    return _PLACE in os.environ and os.environ.get("LOCAL_RANK", "0") != "0"


def follow() -> Path:
    """Takes part in the fit of the first process; returns the folder of its run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process hears it, too, and decides
    folder = Path(os.environ[_PLACE])
    config = load_config([str(folder / CONFIG)])
    handed = torch.load(folder / HANDED_OVER, weights_only=True)
    arrays = {name: value.numpy() for name, value in handed["arrays"].items()}
    series = TiltSeries(**arrays, margin=handed["margin"])
    motion = None if handed["motion"] is None else motion_with(handed["motion"], series.shape[2] / 2)
    L.seed_everything(config.run.seed, verbose=False)
    train = dataclasses.replace(config.train, steps=handed["steps"])
    fit(
        series,
        Split(handed["validation_rows"], handed["hidden_rows"], tuple(handed["test_images"])),
        settings=dataclasses.replace(config, train=train),
        statistics=SeriesStatistics(**handed["statistics"]),
        motion=motion,
        callbacks=[Checkpoints(folder, config.train.checkpoint_seconds)],
        checkpoint=None if handed["checkpoint"] is None else Path(handed["checkpoint"]),
    )
    return folder
