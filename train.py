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
from collections.abc import Sequence
from pathlib import Path

import dip4d  # noqa: F401  # before torch: see there

# isort: split
import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import Logger
from torch import nn

from dip4d import callbacks, checks, io, resolution, run_folder, tracking, uncertainty
from dip4d.algorithms import evenly
from dip4d.config import Config, check_same_run, help_text, load_config, save_config
from dip4d.conventional import Conventional, brightest_voxel, noise, whole_series
from dip4d.data import TiltRows, choose_held_out, choose_held_out_images, rows_of
from dip4d.errors import InputError
from dip4d.loss import GemanMcClure, SquaredError
from dip4d.module import DIP4D, Schedule
from dip4d.networks import TDDIP, BoundedLowRank, Clock, Decoder, Dipster, VoxelMaps, octaves_of_z
from dip4d.physics import Microscope
from dip4d.refinement import PoseRefinement
from dip4d.report import draw_figures, print_table, read_metrics
from dip4d.shifts import Shifts, apply
from dip4d.simulate import simulate
from dip4d.tilt_series import TiltSeries

BUDGET_SHARE, BUDGET_TAIL = 0.78, 10  # the fit ends at this share of train.max_minutes, less seconds to finish all
SEARCH_SHARE = 0.1  # of train.max_minutes may go into the choice of the settings of one conventional method
SCORING_SHARE = 0.12  # of train.max_minutes may go into scoring one conventional method


def load_data(config: Config) -> tuple[TiltSeries, np.ndarray | None]:
    """The tilt series of the configuration, measured or simulated, and the truth where there is one."""
    series, truth = _measure(config) if config.data.path else _simulate(config)
    if config.data.exclude:
        series = series.without_images(config.data.exclude)
        truth = None if truth is None else np.delete(truth, config.data.exclude, axis=0)
    return series, truth


def _simulate(config: Config) -> tuple[TiltSeries, np.ndarray | None]:
    s = config.simulate
    series, truth = simulate(
        s.specimen, s.size, s.frames, s.scheme, s.dose, config.run.seed, s.max_angle, s.sweeps, s.depth, s.jitter
    )
    return _shifted(config, series), truth


def _shifted(config: Config, series: TiltSeries) -> TiltSeries:
    """The series as `align.shifts` says that its images lie."""
    return series if config.align.shifts is None else apply(series, Shifts.load(config.align.shifts))


def _measure(config: Config) -> tuple[TiltSeries, np.ndarray | None]:
    data = config.data
    series = io.read_tilt_series(data.path, data.angles, data.tilt_axis, data.pixel_nm)
    advice = checks.advice(series, data.exclude)
    if advice:
        print(f"warning: {advice}", flush=True)
    background = data.background
    if config.align.shifts is not None:  # what an image did not see is then filled with the background
        series, background = _shifted(config, series.without_background(background)), "none"
    if data.crop is not None:
        series = series.cropped(tuple(data.crop))
    series = series.binned(data.bin).without_background(background)
    t, z, s = series.shape
    truth = None if data.truth is None else io.read_truth(data.truth, (t, z, s, s))
    return series, truth


def build_network(config: Config, series: TiltSeries, seen: TiltSeries, brightest: float) -> nn.Module:
    """The network of the configuration, for a series of which it may see some images.

    brightest: intensity per voxel of the brightest material.
    """
    n = config.network
    _, depth, bins = series.shape
    shape = (bins, bins)
    octaves = octaves_of_z(depth, n.wavelength)
    match n.name:
        case "dipster":
            progress, angles = (torch.from_numpy(v) for v in (series.progress, np.deg2rad(series.angles_deg)))
            return Dipster(shape, depth, progress, angles, brightest)
        case "tddip":
            return TDDIP(shape, depth, brightest, octaves)
        case "voxels":
            maps: nn.Module = VoxelMaps(whole_series(seen, n.start_iterations), n.rank, brightest)
        case "dip":
            maps = Decoder(shape, n.rank, depth, n.windows if n.use_row else 0, n.channels, octaves)
    clock = Clock(torch.from_numpy(series.progress)) if n.clock else None
    return BoundedLowRank(maps, n.rank, n.damping, brightest, clock)


def build_module(config: Config, series: TiltSeries, began: float, unseen: Sequence[int] = ()) -> DIP4D:
    """Network, microscope and loss for a series, put together. unseen: images that must not influence them."""
    t, n = config.train, config.network
    bins = series.shape[2]
    seen = series.without_images(unseen)
    brightest, brightest_pixel = brightest_voxel(seen), float(seen.images.max())
    variance = 100 * (noise(seen) / brightest_pixel) ** 2  # in the units of the loss
    seconds = None
    if t.max_minutes is not None:
        budget = 60 * t.max_minutes
        seconds = max(BUDGET_SHARE * budget - BUDGET_TAIL, budget / 2)
        seconds /= 1 + uncertainty.SHARE * config.uncertainty.members + 2 * resolution.SHARE * config.compare.resolution
    return DIP4D(
        build_network(config, series, seen, brightest),
        Microscope((bins, bins), bins),
        {"squared": SquaredError, "geman_mcclure": GemanMcClure}[t.loss](brightest_pixel),
        Schedule(t.steps, seconds, began, constant=t.schedule == "constant"),
        t.learning_rate,
        n.windows if n.use_row and n.name == "dip" else 0,
        brightest,
        smoothness=t.smoothness * variance,
        steadiness=t.steadiness * variance,
        rows=t.rows,
        poses=PoseRefinement(series, config.align.along_z, config.align.tilt) if config.align.refine else None,
    )


def make_trainer(
    config: Config, callbacks: list[L.Callback], logger: Logger | bool, steps: int | None = None
) -> L.Trainer:
    """The Trainer of the configuration, for its number of steps or another; `trainer.*` keys win over these."""
    steps = steps or config.train.steps
    return L.Trainer(
        **{
            "max_steps": steps,
            "max_epochs": -1,
            "val_check_interval": min(100, steps),
            "check_val_every_n_epoch": None,
            "limit_val_batches": None if config.data.hold_out > 0 else 0,
            "num_sanity_val_steps": 0,
            "gradient_clip_val": 0.3,  # a few steps in a hundred are many times longer; without them 1 dB is gained
            "log_every_n_steps": min(10, steps),
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            "logger": logger,
            "callbacks": callbacks,
            **config.trainer,
        }
    )


def fit_members(config: Config, module: DIP4D, data: TiltRows) -> list[DIP4D]:
    """The members of `dip4d.uncertainty`: the fitted network, each time gone on with half of the rows."""
    members = []
    steps = max(1, round(uncertainty.SHARE * module.trainer.global_step))
    for k in range(config.uncertainty.members):
        seed = config.run.seed + 1 + k
        unseen = uncertainty.half_of_rows(data.held | data.unseen, seed) | data.unseen
        rows = TiltRows(data.series, data.held, config.train.slices, steps, seed, unseen)
        member = build_module(config, data.series, time.monotonic(), data.unseen_images)
        member.schedule = Schedule(steps, constant=config.train.schedule == "constant")
        member.load_state_dict(module.state_dict())
        make_trainer(config, [callbacks.ProgressLine()], logger=False, steps=steps).fit(member, rows)
        members.append(member)
    return members


def write_uncertainty(config: Config, folder: Path, module: DIP4D, data: TiltRows, truth: np.ndarray | None) -> None:
    """Fits the members, writes the standard deviation of every voxel, and how far the truth lies within it."""
    print(f"Fitting {config.uncertainty.members} members for the uncertainty", flush=True)
    members = fit_members(config, module, data)
    movies = lambda progress: [member.volumes(data, progress) for member in members]
    times_s = data.series.times_s if config.output.times is None else np.asarray(config.output.times)
    progress = torch.from_numpy(data.series.progress_at(times_s)).float()
    sigmas = uncertainty.spread(movies(progress))
    callbacks.write_movie(folder / run_folder.UNCERTAINTY, sigmas, data.series, times_s)
    if truth is not None:
        volumes = (v.numpy() for v in module.volumes(data, data.progress))
        shares = uncertainty.calibration(volumes, uncertainty.spread(movies(data.progress)), truth)
        run_folder.add_metrics(folder, {"uncertainty": shares})
        print(
            f"Of the voxels of the specimen {shares['within_1_sigma']:.0%} are within one standard deviation of the "
            f"truth and {shares['within_2_sigma']:.0%} within two"
        )


def fit_halves(config: Config, module: DIP4D, data: TiltRows) -> list[DIP4D]:
    """A network fitted to the even images and one to the odd ones, of those that the fit has seen.

    Each begins from weights of its own: going on from the fitted ones, which know both halves, they would agree too
    well. In `resolution.SHARE` of the steps, on all rows of their images, with the poses that the fit has found.
    """
    steps = max(1, round(resolution.SHARE * module.trainer.global_step))
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, hold_out=0.0))
    frames, depth, _ = data.series.shape
    seen = np.setdiff1d(np.arange(frames), data.unseen_images)
    networks = []
    for k, half in enumerate(resolution.odd_and_even(len(seen))):
        unseen = np.setdiff1d(np.arange(frames), seen[half]).tolist()
        mask, seed = rows_of(unseen, frames, depth), config.run.seed + 1 + k
        rows = TiltRows(data.series, torch.zeros_like(mask), config.train.slices, steps, seed, mask)
        torch.manual_seed(seed)
        network = build_module(config, data.series, time.monotonic(), unseen)
        network.schedule = Schedule(steps, constant=config.train.schedule == "constant")
        if module.poses is not None:
            network.poses.load_state_dict(module.poses.state_dict())
            network.poses.requires_grad_(False)
        make_trainer(config, [callbacks.ProgressLine()], logger=False, steps=steps).fit(network, rows)
        networks.append(network)
    return networks


def write_resolution(config: Config, folder: Path, module: DIP4D, data: TiltRows) -> None:
    """Fits the halves, and writes how far they agree: the mean Fourier shell correlation over the key frames."""
    print("Fitting the even and the odd images for the resolution", flush=True)
    progress = data.progress[evenly(len(data.progress), callbacks.KEY_FRAMES)]
    movies = [(v.numpy() for v in half.volumes(data, progress)) for half in fit_halves(config, module, data)]
    found = resolution.record(resolution.mean_correlation(*movies), data.series.pixel_nm)
    run_folder.add_metrics(folder, {"resolution": found})
    fixed, half_bit = (resolution.in_words(found, threshold) for threshold in ("fixed", "half_bit"))
    print(f"Resolution, from half of the images each: {fixed} at {resolution.FIXED}, {half_bit} at half a bit")


def save_shifts(config: Config, folder: Path, module: DIP4D) -> None:
    """The refined displacements, after those of `align.shifts`, in pixels of the file, of all its images."""
    found = module.poses.shifts().scaled(config.data.bin)
    excluded = sorted(set(config.data.exclude))
    frames = len(found) + len(excluded)
    kept = np.setdiff1d(np.arange(frames), excluded)
    z, s = np.zeros(frames), np.zeros(frames)
    z[kept], s[kept] = found.z, found.s
    before = Shifts.none(frames) if config.align.shifts is None else Shifts.load(config.align.shifts)
    before.plus(z, s).save(folder / run_folder.SHIFTS)
    print(
        f"displacements: {np.sqrt((z[kept] ** 2).mean()):.2f} px rms along z, {np.sqrt((s[kept] ** 2).mean()):.2f} "
        f"across; in {run_folder.SHIFTS}, for align.shifts"
    )


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
    if config.output.times is not None:
        series.progress_at(config.output.times)
    frames, depth, _ = series.shape
    share = 0.0 if config.align.refine else config.data.hold_out_images
    images = choose_held_out_images(frames, share, config.run.seed)
    unseen = rows_of(images, frames, depth)
    held_out = choose_held_out(frames, depth, config.data.hold_out, config.run.seed, images)
    data = TiltRows(series, held_out, config.train.slices, config.train.steps, config.run.seed, unseen)
    module = build_module(config, series, began, images)
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
    )
    checkpoint = folder / run_folder.CHECKPOINT
    try:
        trainer.fit(module, data, ckpt_path=checkpoint if config.run.resume and checkpoint.exists() else None)
    finally:
        if trainer.interrupted:
            print(f"\nInterrupted at step {trainer.global_step}; go on with: "
                  f"python train.py run.dir={folder} run.resume=true", flush=True)  # fmt: skip

    if trainer.is_global_zero:
        if module.poses is not None:
            save_shifts(config, folder, module)
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
        if trainer.global_step < config.train.steps:
            print(
                f"The time budget ended the fit before its {config.train.steps} steps; train.max_minutes gives it more."
            )
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
