"""One run, from its configuration to its folder."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import Logger

from dip4d import run_folder
from dip4d.alignment.shifts import Shifts
from dip4d.config.load import check_same_run, load_config, save_config
from dip4d.config.schema import Config
from dip4d.conventional.baselines import Conventional
from dip4d.conventional.methods import methods_of
from dip4d.conventional.series import SeriesStatistics, statistics_of
from dip4d.experiment import callbacks, outputs, tracking
from dip4d.experiment.budget import Budget
from dip4d.experiment.inputs import Inputs, load_inputs
from dip4d.experiment.live_picture import LivePicture
from dip4d.reconstruction.fit import Fit, fit
from dip4d.reconstruction.motion_test import find_motion, motion_of
from dip4d.reconstruction.networks import NETWORKS
from dip4d.reconstruction.networks.rigid_motion import RigidMotion
from dip4d.reconstruction.progress_line import ProgressLine
from dip4d.reconstruction.split import Split, choose_split
from dip4d.report.run_report import draw_figures, print_table

ENDED = {
    "time": ", at its time budget; train.max_minutes gives it more.",
    "validation": ": the error of validation rows rose, noise was being fitted.",
    "hand": ": you stopped it, and what it had found is kept.",
}
_log = logging.getLogger(__name__)


def run_experiment(arguments: Sequence[str]) -> Path:
    """The whole run; returns its folder. Raises InputError before any work if something does not fit."""
    began = time.monotonic() - time.process_time()  # the imports count too
    config, folder = _configured(arguments)
    if config.run.resume and (folder / run_folder.METRICS).exists():
        _log.info(f"{folder} is finished; nothing to resume")
        return folder
    torch.set_float32_matmul_precision("high")
    L.seed_everything(config.run.seed, verbose=False)
    inputs = load_inputs(config)
    methods = methods_of(config.compare.methods, with_truth=inputs.truth is not None)
    budget = Budget.of(config, len(methods))
    split = split_of(config, inputs)
    statistics = statistics_of(split.seen(inputs.series), config.network.intensity_bound)
    conventional = conventional_of(config, inputs, split=split, statistics=statistics, budget=budget)

    run_folder.create(folder, config.run)
    save_config(config, folder / run_folder.CONFIG)
    keys = dataclasses.asdict(config)
    logger = tracking.make_logger(config.logger, folder / run_folder.TRACKING, config=keys, name=folder.name)
    checkpoint = _checkpoint_of(config, folder)
    live = _live_picture(config, folder, inputs=inputs, split=split, budget=budget)
    done = fit(
        inputs.series,
        split,
        settings=config,
        statistics=statistics,
        motion=_motion(config, inputs, split=split, budget=budget, checkpoint=checkpoint),
        budget=budget.fit,
        callbacks=_callbacks(
            config, folder, live=live, conventional=conventional, methods=methods, truth=inputs.truth, budget=budget
        ),
        logger=logger,
        checkpoint=checkpoint,
    )
    if done.trainer.is_global_zero:
        run_folder.add_metrics(folder, facts_of(done, inputs, config=config, seconds=time.monotonic() - began))
        _write_what_else(folder, done, config=config, inputs=inputs, statistics=statistics)
        _say_what_came(folder, done, config=config, logger=logger)
    return folder


def _configured(arguments: Sequence[str]) -> tuple[Config, Path]:
    """The configuration, of a run to resume the one that it began with, and the folder of the run, not yet made."""
    config = load_config(arguments)
    folder = run_folder.prepare(config.run, what=Path(config.data.path or config.simulate.specimen).stem)
    return check_same_run(folder / run_folder.CONFIG, arguments) if config.run.resume else config, folder


def split_of(config: Config, inputs: Inputs) -> Split:
    """What of the series is kept aside. With align.refine no image: it has to be seen to be placed."""
    data = config.data
    return choose_split(
        inputs.series,
        data.validation_rows,
        test_images=0.0 if config.align.refine else data.test_images,
        in_a_row=data.test_images_in_a_row,
        seed=config.run.seed,
    )


def conventional_of(
    config: Config,
    inputs: Inputs,
    *,
    split: Split,
    statistics: SeriesStatistics,
    budget: Budget,
) -> Conventional:
    """The conventional reconstructions of the same series, which know as much as the fit."""
    cpu = config.trainer.get("accelerator", "auto") == "cpu" or not torch.cuda.is_available()
    return Conventional(
        inputs.series,
        split.validation_rows,
        test_rows=split.hidden_rows,
        truth=inputs.truth,
        iterations=config.compare.iterations,
        windows=config.compare.windows,
        peak_counts=config.simulate.peak_counts if config.data.path is None else 0.0,
        seed=config.run.seed,
        seconds=budget.search_seconds,
        device="cpu" if cpu else "cuda",
        statistics=statistics,
    )


def _checkpoint_of(config: Config, folder: Path) -> Path | None:
    """That of the interrupted run to go on with; None for a new fit."""
    checkpoint = folder / run_folder.CHECKPOINT
    return checkpoint if config.run.resume and checkpoint.exists() else None


def _motion(
    config: Config,
    inputs: Inputs,
    *,
    split: Split,
    budget: Budget,
    checkpoint: Path | None,
) -> RigidMotion | None:
    """The motion of the specimen as a whole, to start from; None if it is at rest."""
    if checkpoint is not None:
        motion = motion_of(checkpoint, inputs.series)
    else:
        motion = find_motion(inputs.series, split, settings=config, budget=budget.motion_test)
    if motion is not None:
        _log.info(f"{motion.describe()}: its motion is fitted apart from its change")
    return motion


def _live_picture(config: Config, folder: Path, *, inputs: Inputs, split: Split, budget: Budget) -> LivePicture:
    """What to look at while the run fits, with its first picture drawn."""
    label, seconds = NETWORKS[config.network.name].label, budget.first_look_seconds
    live = LivePicture(folder, inputs.series, split=split, truth=inputs.truth, label=label, seconds=seconds)
    live.begin()
    return live


def _callbacks(
    config: Config,
    folder: Path,
    *,
    live: LivePicture,
    conventional: Conventional,
    methods: Sequence[str],
    truth: np.ndarray | None,
    budget: Budget,
) -> list[L.Callback]:
    return [
        ProgressLine(),
        callbacks.StopByHand(),
        callbacks.Checkpoints(folder, config.train.checkpoint_seconds),
        callbacks.Pictures(truth),
        callbacks.Movie(folder, truth=truth, times_s=config.output.times),
        callbacks.Diagnostics(folder, config.data.exclude),
        live,
        callbacks.Comparison(folder, conventional, methods=methods, truth=truth, seconds=budget.scoring_seconds),
        callbacks.Results(folder),
    ]


def facts_of(done: Fit, inputs: Inputs, *, config: Config, seconds: float) -> dict:
    """What a metrics.json says of the run itself, which took so many seconds in all."""
    name, truth = config.network.name, inputs.truth
    return {
        "network": {"name": name, "label": NETWORKS[name].label},
        "steps": done.steps,
        "ended": done.ended,
        "fit_seconds": done.module.schedule.elapsed(),
        "seconds": seconds,
        "parameters": done.parameters,
        "data_range": None if truth is None else float(truth.max()),
        "times_s": inputs.series.times_s.tolist(),
        "pixel_nm": inputs.series.pixel_nm,
    }


def shifts_of(done: Fit, inputs: Inputs) -> Shifts | None:
    """Where the images were found to lie: by the fit itself, or by the alignment before it; None if by neither."""
    return inputs.shifts if done.module.poses is None else done.module.poses.shifts()


def _write_what_else(
    folder: Path,
    done: Fit,
    *,
    config: Config,
    inputs: Inputs,
    statistics: SeriesStatistics,
) -> None:
    """Shifts and motion where they were found, uncertainty and resolution where they are asked for."""
    shifts = shifts_of(done, inputs)
    if shifts is not None:
        outputs.save_shifts(folder, shifts, config=config)
    outputs.save_motion(folder, done)
    if config.uncertainty.members:
        outputs.write_uncertainty(
            folder, done, config=config, statistics=statistics, truth=inputs.truth, callbacks=[ProgressLine()]
        )
    if config.compare.resolution:
        outputs.write_resolution(folder, done, config=config, callbacks=[ProgressLine()])


def _say_what_came(folder: Path, done: Fit, *, config: Config, logger: Logger) -> None:
    """Prints the table and what to open, and draws the figures."""
    metrics = run_folder.read_metrics(folder)
    print_table(metrics)
    figures = draw_figures(folder)
    lines = [f"{metrics['steps']} steps, {metrics['seconds'] / 60:.1f} minutes. In {folder}:"]
    lines += [f"  {run_folder.VOLUMES}: one volume for every image; open it in Fiji or napari"]
    if config.uncertainty.members:
        lines += [f"  {run_folder.UNCERTAINTY}: the standard deviation of every voxel"]
    live = folder / run_folder.FIGURES / run_folder.LIVE
    lines += [f"  {figure.relative_to(folder)}" for figure in [*figures, live] if figure.exists()]
    lines += [f"  {tracking.hint(logger)}"]
    if done.ended != "steps":
        lines += [f"The fit ended before its {done.data.steps} steps{ENDED[done.ended]}"]
    _log.info("\n".join(lines))
