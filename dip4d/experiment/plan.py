"""What a run will take, said before its work begins: minutes, memory, disk; and what does not fit is refused."""

from __future__ import annotations

import copy
import dataclasses
import math
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dip4d import run_folder
from dip4d.alignment import align
from dip4d.alignment.row_profiles import jitter_px
from dip4d.config.schema import Config
from dip4d.conventional.baselines import FRAMES, JOINT_SLICES, JOINT_TRIALS, SLICES
from dip4d.conventional.methods import JOINT, METHODS
from dip4d.conventional.search import runs_of
from dip4d.conventional.series import device_for, seconds_of_iteration
from dip4d.errors import InputError
from dip4d.experiment.budget import Budget
from dip4d.experiment.callbacks import frames_to_score
from dip4d.experiment.inputs import outline, split_of, will_be_aligned
from dip4d.experiment.outputs import KEY_FRAMES
from dip4d.reconstruction.fit import LEAST_STEPS, check_series, ensemble_of_fit, images_in_a_batch, steps_of_fit
from dip4d.reconstruction.memory import BASE_GB, free_gb, gb_of_step
from dip4d.reconstruction.motion_test import expected_seconds
from dip4d.reconstruction.networks import NETWORKS
from dip4d.reconstruction.networks.free_form import MOTIONS
from dip4d.reconstruction.networks.rigid_motion import RigidMotion
from dip4d.reconstruction.warm_up import Pace, pace_of
from dip4d.tilt_series import TiltSeries

USUAL_ITERATIONS, USUAL_WINDOW = 75, 40  # of a conventional method, for want of better knowledge
JOINT_COST = 15  # of all frames at once: an iteration is 4 of SIRT of the whole series, and 4 times as many are needed
SCORING_SECONDS = 1.6e-7  # of a voxel against the truth, PSNR and SSIM, on one thread
NARROWEST_PX = 16  # narrower images are advised to nobody
MOVIES_OF_STTV = 8  # in memory, while it works on all frames at once
VOLUMES_IN_MEMORY = 9  # besides the maps of all positions, when the movie is drawn and its frames are kept for figures


@dataclass(frozen=True)
class Plan:
    """How long the parts of a run will take, and what it needs.

    seconds: of each part, by its name.
    steps: of the fit.
    pace: what was timed.
    iteration: seconds of one of SIRT of the whole series.
    memory_gb, disk_gb: what it needs; and what is free, None where the system does not say.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    steps: int = 0
    pace: Pace = Pace(0.0, 0.0, 0.0)
    iteration: float = 0.0
    memory_gb: tuple[float, float | None] = (0.0, None)
    disk_gb: tuple[float, float | None] = (0.0, None)

    def in_short(self) -> str:
        """Minutes, memory and disk in one line."""
        minutes = _rounded_up(sum(self.seconds.values()) / 60)
        memory, disk = self.memory_gb[0], self.disk_gb[0]
        return f"about {minutes} minutes on this machine, {memory:.1f} GB of memory and {disk:.2g} GB of disk"

    def describe(self) -> str:
        """A few aligned lines."""
        lines = [f"Plan, from a few timed steps of {self.pace.step:.2g} s:"]
        notes = {"fit": f"   {self.steps} steps"}
        for part, seconds in self.seconds.items():
            if seconds:
                lines.append(f"  {part:14s}{seconds / 60:8.1f} min{notes.get(part, '')}")
        lines.append(f"  {'in all':14s}{sum(self.seconds.values()) / 60:8.1f} min")
        for what, (needed, free) in (("memory", self.memory_gb), ("disk", self.disk_gb)):
            lines.append(f"  {what:14s}{needed:8.1f} GB " + (f"   of {free:.1f} free" if free is not None else ""))
        return "\n".join(lines)


def make_plan(
    config: Config,
    series: TiltSeries,
    *,
    folder: Path,
    methods: Sequence[str],
    with_truth: bool,
    done: tuple[int, float] = (0, 0.0),
) -> Plan:
    """Times a few steps of the run that is to come. Raises InputError for what the machine or the budget cannot hold.

    series: that will be fitted, or its `outline`.
    folder: of the run; nothing is written.
    methods: conventional ones to compare with.
    with_truth: whether volumes will be scored.
    done: steps and seconds of the fit in an earlier part of the run.
    """
    check_series(series)
    memory = gb_of_run(config, series, with_truth=with_truth), free_gb()
    disk = gb_of_files(config, series), _free_disk_gb(folder, config)
    _check_room(memory, disk, config=config, series=series)
    budget = Budget.of(config, len(methods))
    pace, steps = _pace(config, series), steps_of_fit(config.train, series.shape[1])
    if budget.fit is not None:
        if not done[0]:
            check_budget(config, series, pace=pace, steps=steps, budget=budget)
        steps = min(steps, done[0] + pace.steps_in(budget.fit.seconds - done[1]))
    iteration = seconds_of_iteration(series, device_of(config))
    frames, voxels = len(series.images), series.images[0].size * series.shape[2]
    scoring = SCORING_SECONDS * frames * voxels if with_truth else 0.0
    compare = sum(
        _comparison(name, series, config=config, iteration=iteration, with_truth=with_truth) for name in methods
    )
    most = budget.methods * (2 * budget.search_seconds + budget.scoring_seconds)
    seconds = {
        "alignment": 0.0 if done[0] else _alignment(config, series, budget=budget),
        "motion test": 0.0 if done[0] else _motion_test(config, series, budget=budget),
        "comparison": min(compare + scoring * len(methods), most),
        "fit": pace.fit(max(steps - done[0], 0)),
        "further fits": (budget.fits - 1) * pace.fit(steps),
        "writing": 3 * frames * pace.volume + min(scoring, budget.scoring_seconds),
    }
    return Plan(seconds, steps, pace, iteration, memory, disk)


def _pace(config: Config, series: TiltSeries, *, motion: RigidMotion | None = None) -> Pace:
    if motion is None and config.network.motion in MOTIONS and NETWORKS[config.network.name].follows_motion:
        motion = MOTIONS[config.network.motion](series.shape[2] / 2)
    return pace_of(series, split_of(config, series), settings=config, motion=copy.deepcopy(motion))


def check_motion(config: Config, series: TiltSeries, *, motion: RigidMotion, budget: Budget) -> Pace:
    """The pace of a fit with a motion that was found. Raises InputError if the budget cannot hold that."""
    pace = _pace(config, series, motion=motion)
    if budget.fit is not None:
        check_budget(config, series, pace=pace, steps=steps_of_fit(config.train, series.shape[1]), budget=budget)
    return pace


def check_budget(config: Config, series: TiltSeries, *, pace: Pace, steps: int, budget: Budget) -> None:
    """Raises InputError if the fit would have fewer than `LEAST_STEPS`, and says what would fit."""
    assert budget.fit is not None
    needed, held = min(LEAST_STEPS, steps), pace.steps_in(budget.fit.seconds)
    if held >= needed:
        return
    minutes = 1.05 * budget.minutes_for(pace.fit(needed))
    advice = [f"train.max_minutes={_rounded_up(minutes)}"]
    smaller = _smaller(config, series, share=held / needed, needed=needed, seconds=budget.fit.seconds)
    raise InputError(
        f"train.max_minutes={config.train.max_minutes:g} holds {held} steps of the fit, and with fewer than "
        f"{needed} it may be worse than SIRT: {' or '.join(advice + smaller)} would do"
    )


def _smaller(config: Config, series: TiltSeries, *, share: float, needed: int, seconds: float) -> list[str]:
    """The key that makes the images so small that the budget holds the fit, timed; none if nothing does."""
    width = series.shape[2]
    guess = max(2, math.ceil(max(share, 1e-4) ** -0.5))
    for k in range(guess, width // NARROWEST_PX + 1):
        if config.data.path:
            key, small = f"data.bin={k * config.data.bin}", series.binned(min(k, *series.shape[1:]))
        else:
            size = width // k // 8 * 8 or width // k
            key = f"simulate.size={size}"
            small = outline(dataclasses.replace(config, simulate=dataclasses.replace(config.simulate, size=size)))
        if _pace(config, small).steps_in(seconds) >= needed:
            return [key]
    return []


def _rounded_up(minutes: float) -> str:
    """Two digits of it, no less than it is."""
    unit = 10.0 ** (math.floor(math.log10(minutes)) - 1)
    return f"{math.ceil(minutes / unit) * unit:.2g}" if minutes < 100 else f"{math.ceil(minutes)}"


def gb_of_run(config: Config, series: TiltSeries, *, with_truth: bool) -> float:
    """About the peak of the memory of a run, GB: a step of its fit, the drawing of its volumes, or space-time TV."""
    t, z, _ = series.shape
    voxels = math.prod(series.slice_shape)
    positions, images = min(config.train.slices, z), min(config.train.rows or t, t)
    if config.network.motion in MOTIONS:
        positions, images = z, images_in_a_batch(config.train.slices, series)
    network = config.network
    step = gb_of_step(positions, images=images, voxels=voxels, channels=network.channels, materials=network.materials)
    volume = 4e-9 * z * voxels
    draw = volume * (network.rank * network.materials * ensemble_of_fit(config, z) + VOLUMES_IN_MEMORY)
    held = 4 * 4e-9 * series.images.size + (t * volume if with_truth else 0)
    all_frames = MOVIES_OF_STTV * t * volume if "sttv" in (config.compare.methods or ()) else 0
    return BASE_GB + held + max(step, draw, all_frames)


def gb_of_files(config: Config, series: TiltSeries) -> float:
    """About what a run writes, GB: a volume for every time, twice with an uncertainty."""
    frames, z, n = series.shape
    times = frames if config.output.times is None else len(config.output.times)
    return 4e-9 * times * z * n**2 * (2 if config.uncertainty.members else 1) + 0.01


def _check_room(
    memory: tuple[float, float | None],
    disk: tuple[float, float | None],
    *,
    config: Config,
    series: TiltSeries,
) -> None:
    """Raises InputError where there is too little memory, or too little room on the disk."""
    needed, free = memory
    if free is not None and needed > free:
        raise InputError(
            f"the run needs about {needed:.1f} GB of memory and {free:.1f} GB are free: {_less(config, series)}"
        )
    needed, free = disk
    if free is not None and needed > free:
        raise InputError(
            f"the run writes about {needed:.1f} GB and {free:.1f} GB are free in its folder: run.dir on another disk, "
            "fewer times with output.times, or smaller images with data.bin"
        )


def _less(config: Config, series: TiltSeries) -> str:
    """What makes a run need less memory."""
    size = "data.bin" if config.data.path else "simulate.size"
    slices, rows = config.train.slices, config.train.rows or len(series.images)
    fewer = [f"train.slices={slices // 2}"] if slices > 1 else []
    fewer += [f"train.rows={rows // 2}"] if rows > 1 else []
    return f"{', '.join(fewer)} or smaller images with {size}" if fewer else f"smaller images with {size}"


def _free_disk_gb(folder: Path, config: Config) -> float:
    """The room for the files of a run, with that of those that it will replace."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    files = [path for path in (folder / run_folder.VOLUMES, folder / run_folder.UNCERTAINTY) if path.exists()]
    freed = sum(path.stat().st_size for path in files) if config.run.overwrite else 0
    return 1e-9 * (shutil.disk_usage(there).free + freed)


def _alignment(config: Config, series: TiltSeries, *, budget: Budget) -> float:
    seen = split_of(config, series).seen
    jitter = jitter_px(seen(series)) if config.data.path else config.simulate.jitter
    return min(align.expected_seconds(series), budget.align_seconds) if will_be_aligned(jitter, config.align) else 0.0


def _motion_test(config: Config, series: TiltSeries, *, budget: Budget) -> float:
    limit = budget.motion_test
    expected = expected_seconds(series, settings=config, limited=limit is not None)
    return expected if limit is None else min(expected, 3 * limit.seconds)


def _comparison(name: str, series: TiltSeries, *, config: Config, iteration: float, with_truth: bool) -> float:
    """About how long a conventional method takes: the choice of its settings, its errors and its volumes."""
    algorithm, scope = METHODS[name]
    frames, z, _ = series.shape
    widths = [min(w, frames) / frames for w in config.compare.windows]
    searched = {"whole": 1.0, "window": FRAMES * sum(widths), "frozen": FRAMES, "joint": JOINT_COST * JOINT_TRIALS}
    drawn = len(frames_to_score(frames)) if with_truth else KEY_FRAMES
    part = min(USUAL_WINDOW, frames) / frames
    volumes = {"whole": 2.0, "window": (frames + drawn) * part, "frozen": drawn, "joint": 2 * JOINT_COST}[scope.name]
    search = 1.5 * runs_of(algorithm) * searched[scope.name] * min((JOINT_SLICES if scope is JOINT else SLICES) / z, 1)
    return USUAL_ITERATIONS * iteration * (search + volumes)


def device_of(config: Config) -> str:
    """Where the conventional methods are worked out."""
    return device_for(config.trainer.get("accelerator", "auto"))
