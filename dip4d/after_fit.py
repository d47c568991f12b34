"""What follows a fit where it is asked for: refined shifts; uncertainty and resolution, which fit further networks."""

from __future__ import annotations

import copy
import dataclasses
import time
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from dip4d import callbacks, resolution, run_folder, uncertainty
from dip4d.algorithms import evenly
from dip4d.build import build_module, make_trainer
from dip4d.config import Config
from dip4d.data import TiltRows, rows_of
from dip4d.module import DIP4D, Schedule
from dip4d.networks import Moving, RigidMotion
from dip4d.shifts import Shifts
from dip4d.tilt_series import TiltSeries


def fit_members(config: Config, module: DIP4D, data: TiltRows) -> list[DIP4D]:
    """The members of `dip4d.uncertainty`: the fitted network, each time gone on with half of the rows."""
    members = []
    steps = max(1, round(uncertainty.SHARE * module.trainer.global_step))
    for k in range(config.uncertainty.members):
        seed = config.run.seed + 1 + k
        unseen = uncertainty.half_of_rows(data.held | data.unseen, seed) | data.unseen
        rows = TiltRows(data.series, data.held, config.train.slices, steps, seed, unseen, data.images)
        member = build_module(config, data.series, time.monotonic(), data.unseen_images, _motion(module))
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
        rows = TiltRows(data.series, torch.zeros_like(mask), config.train.slices, steps, seed, mask, data.images)
        torch.manual_seed(seed)
        network = build_module(config, data.series, time.monotonic(), unseen, _motion(module))
        network.schedule = Schedule(steps, constant=config.train.schedule == "constant")
        if module.poses is not None:
            network.poses.load_state_dict(module.poses.state_dict())
            network.poses.requires_grad_(False)
        make_trainer(config, [callbacks.ProgressLine()], logger=False, steps=steps).fit(network, rows)
        networks.append(network)
    return networks


def _motion(module: DIP4D) -> RigidMotion | None:
    """A copy of the motion that a fit has found, for another to start from; None if its specimen is at rest."""
    return copy.deepcopy(module.network.motion) if isinstance(module.network, Moving) else None


def write_resolution(config: Config, folder: Path, module: DIP4D, data: TiltRows) -> None:
    """Fits the halves, and writes how far they agree: the mean Fourier shell correlation over the key frames."""
    print("Fitting the even and the odd images for the resolution", flush=True)
    progress = data.progress[evenly(len(data.progress), callbacks.KEY_FRAMES)]
    movies = [(v.numpy() for v in half.volumes(data, progress)) for half in fit_halves(config, module, data)]
    found = resolution.record(resolution.mean_correlation(*movies), data.series.pixel_nm)
    run_folder.add_metrics(folder, {"resolution": found})
    fixed, half_bit = (resolution.in_words(found, threshold) for threshold in ("fixed", "half_bit"))
    print(f"Resolution, from half of the images each: {fixed} at {resolution.FIXED}, {half_bit} at half a bit")


def save_shifts(config: Config, folder: Path, found: Shifts) -> None:
    """The displacements found, after those of `align.shifts`, in pixels of the file, of all its images."""
    found = found.scaled(config.data.bin)
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


def save_motion(folder: Path, module: DIP4D, series: TiltSeries) -> None:
    """How the specimen moves as a whole, at the time of every image: motion.csv, and a line."""
    motion: RigidMotion = module.network.motion
    progress = torch.from_numpy(series.progress).float().to(module.device)
    with torch.no_grad():
        rotation, travel = (v.cpu().double().numpy() for v in motion(progress))
    turn = np.rad2deg(Rotation.from_matrix(rotation).as_rotvec())
    names = [f"{what}_{axis}_{unit}" for what, unit in (("turn", "deg"), ("travel", "px")) for axis in "xyz"]
    rows = np.column_stack([series.times_s, turn, travel])
    np.savetxt(folder / run_folder.MOTION, rows, "%.6g", ",", header=",".join(["time_s", *names]), comments="")
    turned, travelled = motion.between()
    found = {"turn_deg": turned, "travel_px": travelled.tolist()}
    run_folder.add_metrics(folder, {"motion": found})
    print(f"{motion.describe()}; in {run_folder.MOTION}, about the middle of the volume, at the time of every image")
