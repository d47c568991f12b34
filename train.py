"""One tilt series in, one volume for every image out.

    python train.py [config.yaml ...] [key=value ...]

Without arguments: simulates a dynamic nanoparticle and reconstructs it. Later arguments win over earlier ones.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
import time
import warnings
from pathlib import Path

import dip4d  # noqa: F401  # before torch: see there

# isort: split
import lightning as L
import numpy as np
import torch

from dip4d import callbacks, run_folder, tracking
from dip4d.after_fit import save_motion, save_shifts, write_resolution, write_uncertainty
from dip4d.build import build_module, build_rows, load_data, make_trainer, without_jumps
from dip4d.config import check_same_run, help_text, load_config, save_config
from dip4d.conventional import Conventional
from dip4d.data import choose_held_out, choose_held_out_images, rows_of
from dip4d.errors import InputError
from dip4d.pilot import find_motion, motion_of
from dip4d.report import draw_figures, print_table, read_metrics

SEARCH_SHARE = 0.1  # of train.max_minutes may go into the choice of the settings of one conventional method
SCORING_SHARE = 0.12  # of train.max_minutes may go into scoring one conventional method


def run_experiment(arguments: list[str]) -> Path:
    """The whole run; returns its folder. Raises InputError before any work if something does not fit."""
    began = time.monotonic() - time.process_time()  # the imports count too
    config = load_config(arguments)
    folder = run_folder.prepare(config.run, what=Path(config.data.path or config.simulate.specimen).stem)
    if config.run.resume:
        config = check_same_run(folder / run_folder.CONFIG, arguments)
        if (folder / run_folder.METRICS).exists():
            print(f"{folder} is finished; nothing to resume")
            return folder
    torch.set_float32_matmul_precision("high")
    L.seed_everything(config.run.seed, verbose=False)

    series, truth = load_data(config)
    print(series.describe(config.data.tilt_axis), flush=True)
    series, shifts = without_jumps(config, series)
    if config.output.times is not None:
        series.progress_at(config.output.times)
    frames, depth, _ = series.shape
    share = 0.0 if config.align.refine else config.data.hold_out_images
    images = choose_held_out_images(series.views, share, config.run.seed, config.data.hold_out_in_a_row)
    unseen = rows_of(images, frames, depth)
    held_out = choose_held_out(frames, depth, config.data.hold_out, config.run.seed, images)
    conventional = Conventional(
        series,
        held_out,
        truth,
        config.compare.iterations,
        config.compare.windows,
        dose=config.simulate.dose if config.data.path is None else 0.0,
        seed=config.run.seed,
        seconds=SEARCH_SHARE * 60 * (config.train.max_minutes or np.inf),
        device="cuda" if torch.cuda.is_available() and config.trainer.get("accelerator", "auto") != "cpu" else "cpu",
        unseen=unseen,
    )

    folder = run_folder.create(folder, config.run)
    save_config(config, folder / run_folder.CONFIG)
    logger = tracking.make_logger(
        config.logger, folder / run_folder.TRACKING, dataclasses.asdict(config), name=folder.name
    )
    checkpoint = folder / run_folder.CHECKPOINT
    checkpoint = checkpoint if config.run.resume and checkpoint.exists() else None
    motion = find_motion(config, series, held_out, images) if checkpoint is None else motion_of(checkpoint, series)
    if motion is not None:
        print(f"{motion.describe()}: its motion is fitted apart from its change", flush=True)
    data = build_rows(config, series, held_out, unseen, motion)
    module = build_module(config, series, began, images, motion)
    scoring = np.inf if config.train.max_minutes is None else SCORING_SHARE * 60 * config.train.max_minutes
    trainer = make_trainer(
        config,
        [
            callbacks.ProgressLine(),
            callbacks.Checkpoints(folder, config.train.checkpoint_seconds),
            callbacks.Volumes(folder, config.output.times),
            callbacks.Pictures(),
            callbacks.Comparison(folder, conventional, config.compare.methods, truth, began, scoring),
            callbacks.Trust(folder, config.data.exclude),
        ],
        logger,
        data.steps,
    )
    try:
        trainer.fit(module, data, ckpt_path=checkpoint)
    finally:
        if trainer.interrupted:
            print(f"\nInterrupted at step {trainer.global_step}; go on with: "
                  f"python train.py run.dir={folder} run.resume=true", flush=True)  # fmt: skip

    if trainer.is_global_zero:
        shifts = shifts if module.poses is None else module.poses.shifts()
        if shifts is not None:
            save_shifts(config, folder, shifts)
        if motion is not None:
            save_motion(folder, module, series)
        if config.uncertainty.members:
            write_uncertainty(config, folder, module, data, truth)
        if config.compare.resolution:
            write_resolution(config, folder, module, data)
        metrics = read_metrics(folder)
        print_table(metrics)
        figures = draw_figures(folder)
        print(f"{metrics['steps']} steps, {metrics['seconds'] / 60:.1f} minutes. In {folder}:")
        print(f"  {run_folder.VOLUMES}: one volume for every image; open it in Fiji or napari")
        if config.uncertainty.members:
            print(f"  {run_folder.UNCERTAINTY}: the standard deviation of every voxel")
        print("\n".join(f"  {figure.relative_to(folder)}" for figure in figures))
        print(f"  {tracking.hint(logger)}")
        early = f"The fit ended before its {data.steps} steps"
        if trainer.global_step < data.steps and module.schedule.progress(trainer.global_step) < 1:
            print(f"{early}: the error of held-out rows rose, noise was being fitted.")
        elif trainer.global_step < data.steps:
            print(f"{early}, at its time budget; train.max_minutes gives it more.")
    return folder


def main(arguments: list[str]) -> int:
    if {"-h", "--help"} & set(arguments):
        print(f"{__doc__.strip()}\n\nKeys, with their defaults:\n\n{help_text()}")
        return 0
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for chatter in (
        ".*does not have many workers.*",
        ".*IterableDataset.*",
        ".*resuming from a checkpoint.*",
        ".*isinstance.*LeafSpec.*",
    ):
        warnings.filterwarnings("ignore", chatter)
    try:
        run_experiment(arguments)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
