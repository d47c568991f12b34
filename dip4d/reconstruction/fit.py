"""The one recipe for a fit: a series, what of it may be seen, and the settings, to a fitted network."""

from __future__ import annotations

import dataclasses
import math
import os
import pickle
import shlex
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import lightning as L
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import SIGTERMException

from dip4d.config.schema import Config, Train
from dip4d.conventional.series import SeriesStatistics, statistics_of
from dip4d.errors import InputError, TerminatedError
from dip4d.measures.contrast import blank_advice
from dip4d.reconstruction.data import TiltRows
from dip4d.reconstruction.forward_model import Microscope
from dip4d.reconstruction.losses import LOSSES
from dip4d.reconstruction.memory import keep_buffers
from dip4d.reconstruction.module import CHECKPOINT_FORMAT, DIP4D, Ended
from dip4d.reconstruction.networks import NETWORKS, Problem
from dip4d.reconstruction.networks.ensemble import ensemble_in
from dip4d.reconstruction.networks.rigid_motion import RigidMotion
from dip4d.reconstruction.pose_refinement import PoseRefinement
from dip4d.reconstruction.schedule import FitTime, Schedule
from dip4d.reconstruction.split import Split
from dip4d.reconstruction.stay import StaysOnDevice
from dip4d.run_folder import CONFIG, reconstruct_command
from dip4d.tilt_series import TiltSeries

FEWEST_STEPS, PASSES_OVER_ROWS = 2000, 250  # steps of a fit by default: so often is every row shown, if that is more
ENSEMBLE = 2  # networks side by side, where each is shown every row as often as one would be
LEAST_STEPS = 200  # with fewer a fit may be worse than SIRT: measured in docs/experiments-log.md
FEWEST_IMAGES = 8  # of a batch of whole images, where there are so many
FEWEST_IMAGES_OF_SERIES, NARROWEST_PX = 3, 2
INTENSITIES = 1e-33, 1e33  # of single precision, with room for sums and squares of errors
STEPS_BETWEEN_VALIDATIONS = 100
ONE_DEVICE = {"devices": 1, "strategy": "auto", "num_nodes": 1}  # keys of the Trainer, for what is not shared out
_KEPT = {"format", "state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "global_step", "seconds",
         "worse", "cycle", "finished", "ended", "validated", "best", "averaged"}  # fmt: skip
GRADIENT_CLIP = 0.3  # a few steps in a hundred are many times longer; without them 1 dB is gained


@dataclass
class Fit:
    """A network that is to be fitted, or has been: `module` has the weights, `data` the rows, `trainer` the steps."""

    module: DIP4D
    data: TiltRows
    trainer: L.Trainer

    @property
    def steps(self) -> int:
        """How many steps were done."""
        return self.trainer.global_step

    @property
    def parameters(self) -> int:
        """How many numbers are fitted."""
        return sum(p.numel() for p in self.module.parameters())

    @property
    def ended(self) -> Ended:
        """What ended it: its steps, its time, validation rows whose error rose, or whoever watched."""
        return self.module.ended


def fit(
    series: TiltSeries,
    split: Split,
    *,
    settings: Config,
    statistics: SeriesStatistics | None = None,
    motion: RigidMotion | None = None,
    budget: FitTime | None = None,
    callbacks: Sequence[L.Callback] = (),
    logger: Logger | bool = False,
    begin: Callable[[DIP4D], None] | None = None,
    checkpoint: Path | None = None,
) -> Fit:
    """Fits a network to a series.

    series: less its background, and aligned.
    split: which rows are fitted, and which are kept aside.
    settings: the network, the training, the alignment and the Trainer are those of this configuration; so is the seed.
    statistics: of the series less its test images; worked out here if None.
    motion: of the specimen as a whole, to start from; None if it is at rest.
    budget: the time of the fit; None for no limit.
    callbacks: of the Trainer. They change no weight.
    logger: of the Trainer.
    begin: called with the module before its first step, to give it other weights, say.
    checkpoint: of an interrupted fit, to go on from.
    """
    saved = {} if checkpoint is None else read_checkpoint(checkpoint)["state_dict"]
    if saved:
        settings = with_ensemble(settings, ensemble_in(saved))
    module, data = prepare(series, split, settings=settings, statistics=statistics, motion=motion, budget=budget)
    if begin is not None:
        begin(module)
    trainer = make_trainer(settings, data, callbacks=callbacks, logger=logger)
    if checkpoint is not None:
        check_weights(module, saved, checkpoint=checkpoint)
    with keep_buffers():
        run_fit(trainer, module, data=data, checkpoint=checkpoint)
    return Fit(module, data, trainer)


def run_fit(trainer: L.Trainer, module: DIP4D, *, data: TiltRows, checkpoint: Path | None = None) -> None:
    """`Trainer.fit`, from a checkpoint of which nothing but weights, numbers and words is read.

    Raises KeyboardInterrupt and TerminatedError, where Lightning would leave the program.
    """
    try:
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as left:
        if isinstance(left, SIGTERMException):
            raise TerminatedError from None
        raise KeyboardInterrupt from None


def read_checkpoint(path: Path) -> dict:
    """What a checkpoint keeps of a fit, on the CPU: weights, numbers and words, nothing that could run.

    Raises InputError for one that is damaged, of an earlier version, or another program's.
    """
    repeat = f"{reconstruct_command()} {shlex.quote(str(path.with_name(CONFIG)))}"
    again = f"begin again with run.overwrite=true, or repeat the run: {repeat}"
    try:
        with zipfile.ZipFile(path) as parts:
            damaged = parts.testzip()  # torch itself does not look
        saved = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(f"{path}: holds more than weights, numbers and words, and was not read; {again}") from None
    except Exception as error:  # whatever a damaged file makes of its reader
        raise InputError(f"{path}: damaged, or no checkpoint ({type(error).__name__}); {again}") from None
    if damaged:
        raise InputError(f"{path}: damaged ({damaged}); {again}")
    if not isinstance(saved, dict) or not saved.keys() >= _KEPT:
        raise InputError(f"{path}: not the checkpoint of a fit; {again}")
    if saved["format"] != CHECKPOINT_FORMAT:
        raise InputError(f"{path}: of another version, whose fits cannot go on; {again}")
    return saved


def check_weights(module: DIP4D, saved: dict, *, checkpoint: Path) -> None:
    """Raises InputError if the state_dict saved in a checkpoint is of another network, or of another series."""
    shapes = lambda state: {name: tuple(getattr(value, "shape", ())) for name, value in state.items()}
    if shapes(saved) != shapes(module.state_dict()):
        raise InputError(
            f"{checkpoint}: its weights are those of another network or of another series than {CONFIG} says; "
            "begin again with run.overwrite=true"
        )


def prepare(
    series: TiltSeries,
    split: Split,
    *,
    settings: Config,
    statistics: SeriesStatistics | None = None,
    motion: RigidMotion | None = None,
    budget: FitTime | None = None,
) -> tuple[DIP4D, TiltRows]:
    """The module and the rows of a `fit`, before its first step; the arguments are those of `fit`."""
    _, n_z, bins = series.shape
    n, t = with_ensemble(settings, ensemble_of_fit(settings, n_z)).network, settings.train
    seen = split.seen(series)
    if statistics is None:
        statistics = statistics_of(seen, n.intensity_bound)
    network = NETWORKS[n.name].build(Problem(n, series, seen, statistics.intensity_bound, motion))
    variance = 100 * (statistics.noise / statistics.peak_intensity) ** 2  # in the units of the loss
    align = settings.align
    module = DIP4D(
        network,
        Microscope(series.slice_shape, bins),
        loss=LOSSES[t.loss](statistics),
        schedule=Schedule(steps_of_fit(t, n_z), budget, constant=t.schedule == "constant"),
        learning_rate=t.learning_rate,
        intensity_bound=statistics.intensity_bound,
        tv_space=t.tv_space * variance,
        tv_time=t.tv_time * variance,
        tv_z=t.tv_z * variance,
        rows=t.rows,
        poses=PoseRefinement(series, along_z=align.along_z, tilt=align.tilt) if align.refine else None,
        ema_decay=t.ema_decay,
    )
    images = images_in_a_batch(t.slices, series) if network.draws_whole_specimen else None
    steps = module.schedule.steps
    data = TiltRows(series, split, slices=t.slices, steps=steps, seed=settings.run.seed, images=images)
    return module, data


def check_series(series: TiltSeries) -> None:
    """Raises InputError for a series, less its background, that nothing can be reconstructed from."""
    frames, n_z, bins = series.shape
    peak, what = float(series.images.max()), series.source or "the series"
    if frames < FEWEST_IMAGES_OF_SERIES:
        raise InputError(f"{what}: {frames} images are too few, it takes {FEWEST_IMAGES_OF_SERIES} or more")
    if bins < NARROWEST_PX:
        raise InputError(
            f"{what}: images of {n_z} x {bins} pixels are too narrow to reconstruct from; is it the right axis?",
            argument="tilt_axis",
        )
    if blank := blank_advice(series):
        raise InputError(f"{what}: {blank}")
    if not peak > 0:
        raise InputError(
            f"{what}: no pixel is brighter than the background: the images are blank, all alike, or inverted"
        )
    if not INTENSITIES[0] < peak < INTENSITIES[1]:
        raise InputError(f"{what}: intensities up to {peak:g} are beyond what can be computed; scale them")


def steps_of_fit(train: Train, n_z: int) -> int:
    """Optimizer steps for a series with so many positions z."""
    return train.steps or max(FEWEST_STEPS, math.ceil(PASSES_OVER_ROWS * n_z / train.slices))


def ensemble_of_fit(settings: Config, n_z: int) -> int:
    """How many networks a fit of so many positions z has, of a specimen at rest: two where its steps suffice."""
    t = settings.train
    passes = steps_of_fit(t, n_z) * min(t.slices, n_z) / n_z
    enough = t.max_minutes is None and passes >= ENSEMBLE * PASSES_OVER_ROWS
    return settings.network.ensemble or (ENSEMBLE if enough else 1)


def with_ensemble(settings: Config, count: int) -> Config:
    """The settings, for so many networks: those of another fit, from whose weights one goes on."""
    return dataclasses.replace(settings, network=dataclasses.replace(settings.network, ensemble=count))


def images_in_a_batch(slices: int, series: TiltSeries) -> int:
    """How many whole images have about as many rows as `slices` positions z with all their times."""
    frames, n_z, _ = series.shape
    return min(frames, max(FEWEST_IMAGES, round(slices * frames / n_z)))


def make_trainer(
    settings: Config,
    data: TiltRows,
    *,
    callbacks: Sequence[L.Callback] = (),
    logger: Logger | bool = False,
) -> L.Trainer:
    """The Trainer of the configuration, for the rows of a fit; `trainer.*` keys win over what is set here.

    Raises InputError for keys that Lightning refuses.
    """
    keys = {
        "max_steps": data.steps,
        "max_epochs": -1,
        "val_check_interval": min(STEPS_BETWEEN_VALIDATIONS, data.steps),
        "check_val_every_n_epoch": None,
        "limit_val_batches": None if data.validation.numel() else 0,
        "num_sanity_val_steps": 0,
        "gradient_clip_val": GRADIENT_CLIP,
        "log_every_n_steps": min(10, data.steps),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "devices": 1,  # else Lightning takes all that there are, in as many processes
        "use_distributed_sampler": False,  # the rows are shared out by `StepSampler`
        "plugins": [LightningEnvironment()],  # under SLURM, too: requeueing is that of `Checkpoints`
        "default_root_dir": os.devnull,  # nothing is written there, and no other program's checkpoint is found
        "logger": logger,
        "callbacks": [StaysOnDevice(), *callbacks],
        **settings.trainer,
    }
    try:
        return L.Trainer(**keys)
    except Exception as error:  # of many kinds
        given = ", ".join(f"trainer.{name}={value}" for name, value in settings.trainer.items())
        raise InputError(f"{given or 'trainer'}: {' '.join(str(error).split())}") from None
