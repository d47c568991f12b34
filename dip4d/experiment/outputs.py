"""The files of a run besides its figures: volumes, orthoslices, shifts, motion, uncertainty."""

from __future__ import annotations

import collections
import logging
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from dip4d import run_folder
from dip4d.alignment.shifts import Shifts
from dip4d.config.schema import Config
from dip4d.conventional.series import SeriesStatistics
from dip4d.experiment.inputs import Inputs
from dip4d.experiment.scores import Images, change_of, diagnostics_of, geometry_of, mass_of
from dip4d.indices import evenly
from dip4d.io import write_volumes
from dip4d.measures.consistency import AtBound, weighed
from dip4d.measures.image_quality import Frame, scored
from dip4d.measures.poses import PoseStep, pose_step, poses_off
from dip4d.reconstruction.data import TiltRows
from dip4d.reconstruction.fit import Fit
from dip4d.reconstruction.module import DIP4D
from dip4d.reconstruction.refits import fit_members
from dip4d.reconstruction.uncertainty import calibration, scale_of, spread
from dip4d.report.arrays import write_arrays
from dip4d.report.orthoslices import orthoslices, read_orthoslices
from dip4d.report.preview import (
    MEASURED,
    PREDICTED,
    Shrunk,
    SmallMovie,
    add_preview,
    binning,
    frames_kept,
    small_movie,
)
from dip4d.tilt_series import TiltSeries
from dip4d.whole_file import written_beside

KEY_FRAMES = 6  # frames shown in figures
IMAGES_SHOWN, FINEST_SHOWN = 4, 256  # images beside their prediction, and pixels of each at most

_log = logging.getLogger(__name__)


def movie(
    module: DIP4D,
    data: TiltRows,
    *,
    times_s: Sequence[float] | np.ndarray | None = None,
) -> Iterator[np.ndarray]:
    """Draws the volumes (z, y, x), one after the other, at some times in seconds, or of every image if None."""
    tau = data.tau if times_s is None else torch.from_numpy(data.series.tau_at(times_s)).float()
    return (volume.numpy() for volume in module.volumes(data, tau))


def write_movie(path: Path, frames: Iterable[np.ndarray], *, series: TiltSeries, times_s: np.ndarray) -> None:
    """Writes the volumes (z, y, x) of a series at some times, seconds."""
    _, n_z, bins = series.shape
    write_volumes(path, frames, shape=(len(times_s), n_z, bins, bins), times_s=times_s, pixel_nm=series.pixel_nm)


def saved_path(folder: Path, name: str) -> Path:
    """Where something lies that output.save asks for; its folder is made."""
    path = folder / run_folder.SAVED / f"{name}.ome.tif"
    path.parent.mkdir(exist_ok=True)
    return path


def save_inputs(folder: Path, inputs: Inputs, *, wanted: Collection[str]) -> None:
    """Writes the truth and the images as fitted (t, 1, z, s), with their angles beside them, as far as wanted."""
    series = inputs.series
    if "truth" in wanted and inputs.truth is not None:
        write_movie(saved_path(folder, "truth"), inputs.truth, series=series, times_s=series.times_s)
    if "series" in wanted:
        (t, n_z, bins), path = series.shape, saved_path(folder, "series")
        images = series.images[:, None]
        write_volumes(path, images, shape=(t, 1, n_z, bins), times_s=series.times_s, pixel_nm=series.pixel_nm)
        with written_beside(path.with_name("series.rawtlt")) as place:
            np.savetxt(place, series.angles_deg, "%.4f")


def movie_is_written(folder: Path) -> bool:
    """Whether a run has its volumes, and all that is learned of them: the diagnostics are written last."""
    files = (run_folder.METRICS, run_folder.VOLUMES, run_folder.ORTHOSLICES)
    there = all((folder / name).exists() for name in files)
    return there and "residual_per_image" in run_folder.read_metrics(folder)


def kept(frames: Iterable[Frame], wanted: Collection[int], *, into: list[np.ndarray]) -> Iterator[Frame]:
    """The same frames; those of the wanted numbers are kept as they pass."""
    for t, frame in enumerate(frames):
        if t in wanted and frame is not None:
            into.append(frame)
        yield frame


def exhaust(frames: Iterable) -> None:
    """Draws all frames, for what happens to them on their way."""
    collections.deque(frames, maxlen=0)


class Watched:
    """What is learned of a movie as its frames pass, drawn once: scores, masses, errors, and the frames of figures.

    module: that draws it.
    data: the rows that it was fitted to.
    truth: (t, z, y, x), or None.
    seconds: about how long scoring may take.
    """

    def __init__(
        self,
        module: DIP4D,
        data: TiltRows,
        *,
        truth: np.ndarray | None = None,
        seconds: float = math.inf,
    ) -> None:
        self.module, self.data, self.series, self.truth, self.seconds = module, data, data.series, truth, seconds
        self.scores: dict[str, list[float | None]] = {}
        self.masses: list[float] = []
        self.shown: list[np.ndarray] = []
        self._small = Shrunk(binning(_volume_shape(self.series)))
        self._images: list[tuple[np.ndarray, np.ndarray]] = []
        self._steps: list[PoseStep | None] = []
        self._bound = None if (bound := module.network.learned_bound()) is None else AtBound(bound)

    def frames(self) -> Iterator[np.ndarray]:
        """Draws the volumes (z, y, x), one for each image of the series."""
        keys = key_frames(len(self.series.images))
        frames = self._projected(self.module.whole_volumes(self.data, self.data.tau))
        frames = frames if self._bound is None else self._bound.counted(frames)
        frames = weighed(kept(frames, keys, into=self.shown), into=self.masses)
        frames = self._small.passing(frames, times_kept(self.series))
        return frames if self.truth is None else scored(frames, self.truth, into=self.scores, seconds=self.seconds)

    def _projected(self, volumes: Iterable[torch.Tensor]) -> Iterator[np.ndarray]:
        for t, whole in enumerate(volumes):
            image = partial(self.module.image, self.data, t, volume=whole)
            (predicted, measured), (before, after) = image(), (image(turn_deg=turn)[0] for turn in (-0.5, 0.5))
            self._images.append((predicted.numpy(), measured.numpy()))
            self._steps.append(pose_step(*self._images[-1][::-1], per_degree=(after - before).numpy()))
            yield self.series.field(whole).numpy()

    @property
    def images(self) -> Images:
        """The images that its volumes predict, and the measured ones."""
        predicted, measured = map(np.stack, zip(*self._images, strict=True))
        return Images(predicted, measured)

    @property
    def facts(self) -> dict[str, Any]:
        """What its volumes and the images tell of mass, change, geometry and bound, for a metrics.json."""
        mass = mass_of(self.series, self.masses)
        geometry = geometry_of(self.series) | poses_off(self._steps)
        facts = {"mass": mass, "change": change_of(self.shown), "geometry": geometry}
        if self._bound is not None:
            grown = self._bound.bound / self.module.intensity_bound
            facts["bound"] = {"learned": self._bound.bound, "grown": grown, "share": self._bound.share}
        return facts

    def write(self, folder: Path, *, excluded: Sequence[int] = ()) -> dict[str, Any]:
        """Adds it to the orthoslices.npz and the metrics.json of a run; returns the diagnostics in the latter.

        excluded: images left out before; images are named as `data.exclude` counts them.
        """
        images, keys = self.series.images, key_frames(len(self.series.images))
        slices = orthoslices("dip", self.shown, images=images)
        if self.truth is not None:
            slices |= orthoslices("truth", list(self.truth[keys]), images=images)
        add_orthoslices(folder, slices, frames=keys)
        save_images(folder, self.images, test=self.data.split.test_images)
        add_preview(folder, self._preview())
        diagnostics = diagnostics_of(self.images, self.data, excluded=excluded)
        run_folder.add_metrics(folder, {"methods": {"dip": self.scores}} | self.facts | diagnostics)
        return diagnostics

    def _preview(self) -> dict[str, SmallMovie | None]:
        """The movie, the truth and the images, small."""
        times_s, binned = times_kept(self.series), self._small.binned
        images = {MEASURED: self.images.measured, PREDICTED: self.images.predicted}
        movies = {"dip": self._small.movie()}
        if self.truth is not None:
            movies["truth"] = small_movie((self.truth[t] for t in times_s), times_s.values(), binned=binned)
        return movies | {n: small_movie(v, self.series.times_s, binned=binned) for n, v in images.items()}


def _volume_shape(series: TiltSeries) -> tuple[int, int, int]:
    """(z, y, x) of the volumes of a series."""
    _, n_z, bins = series.shape
    return n_z, bins, bins


def times_kept(series: TiltSeries) -> dict[int, float]:
    """The times, seconds, of the images whose volumes are kept small, by their numbers."""
    return {t: float(series.times_s[t]) for t in frames_kept(len(series.images), _volume_shape(series))}


def key_frames(frames: int) -> list[int]:
    """The frames of so many that figures show."""
    return evenly(frames, KEY_FRAMES)


@torch.no_grad()
def key_slices(module: DIP4D, data: TiltRows, *, z: int) -> np.ndarray:
    """The orthoslices (t, y, x) at z of the frames that figures show, as a network draws them now."""
    batch, tau = data.batch([z]).to(module.device), data.tau[key_frames(len(data.tau))]
    slices = module(batch.z, batch.rows, tau=tau.to(module.device)[None])[0]
    return data.series.field(slices).float().cpu().numpy()


def add_orthoslices(folder: Path, slices: dict[str, np.ndarray], *, frames: Sequence[int]) -> None:
    """Adds to the orthoslices.npz of a run; the file is whole at any moment. frames: the numbers of those shown."""
    before = read_orthoslices(folder) if (folder / run_folder.ORTHOSLICES).exists() else {}
    write_arrays(folder / run_folder.ORTHOSLICES, before | {"frames": np.array(frames)} | slices, compressed=False)


def save_images(folder: Path, images: Images, *, test: Sequence[int]) -> None:
    """Test images, or where there are none the middle one, as measured and as predicted, for a figure: images.npz."""
    from skimage.measure import block_reduce  # slow to import

    frames = list(test)[:IMAGES_SHOWN] or [len(images.measured) // 2]
    k = max(1, -(-max(images.measured.shape[1:]) // FINEST_SHOWN))
    blocks: Any = (1, k, k)  # its type says less than it takes
    small = lambda v: block_reduce(v[frames].astype(np.float32), blocks, np.mean)
    arrays = {"frames": np.array(frames), "unseen": np.isin(frames, list(test))}
    arrays |= {"measured": small(images.measured), "predicted": small(images.predicted)}
    write_arrays(folder / run_folder.IMAGES, arrays)


def output_times(config: Config, series: TiltSeries) -> np.ndarray:
    """The times in seconds whose volumes are written."""
    return series.times_s if config.output.times is None else np.asarray(config.output.times)


def write_uncertainty(
    folder: Path,
    done: Fit,
    *,
    config: Config,
    statistics: SeriesStatistics,
    truth: np.ndarray | None,
    callbacks: Sequence[L.Callback] = (),
) -> None:
    """Fits the members, writes the standard deviation of every voxel, and how far the truth lies within it."""
    data, members = done.data, config.uncertainty.members
    _log.info(f"Fitting {members} members for the uncertainty")
    fits = fit_members(done, config, members=members, statistics=statistics, callbacks=callbacks)
    times_s = output_times(config, data.series)
    tau = torch.from_numpy(data.series.tau_at(times_s)).float()
    floor = run_folder.read_metrics(folder)["noise_floor"]["held_out"]
    sigmas = sigmas_of(done, fits, noise_floor=floor)
    write_movie(folder / run_folder.UNCERTAINTY, sigmas(tau), series=data.series, times_s=times_s)
    if truth is not None:
        shares = calibration(movie(done.module, data), sigmas(data.tau), truth=truth)
        run_folder.add_metrics(folder, {"uncertainty": shares})
        _log.info(
            f"Of the voxels of the specimen {shares['within_1_sigma']:.0%} are within one standard deviation of the "
            f"truth and {shares['within_2_sigma']:.0%} within two"
        )


def sigmas_of(
    done: Fit,
    members: Sequence[Fit],
    *,
    noise_floor: float | None,
) -> Callable[[torch.Tensor], Iterator[np.ndarray]]:
    """A function of times tau (T,) that yields the standard deviation (z, y, x) of every voxel at each.

    done: the fit.
    members: as by `fit_members`.
    noise_floor: of the validation rows, as by `dip4d.experiment.scores.floors_of`.
    """
    data, scale = done.data, scale_of(noise_floor)
    movies = lambda tau: [member.module.volumes(data, tau) for member in members]
    return lambda tau: spread(done.module.volumes(data, tau), movies(tau), scale=scale)


def save_shifts(folder: Path, found: Shifts, *, config: Config) -> None:
    """The displacements found, after those of `align.shifts`, in pixels of the file, of all its images."""
    found = found.scaled(config.data.bin)
    excluded = sorted(set(config.data.exclude))
    frames = len(found) + len(excluded)
    left = np.setdiff1d(np.arange(frames), excluded)
    z, s = np.zeros(frames), np.zeros(frames)
    z[left], s[left] = found.z, found.s
    before = Shifts.none(frames) if config.align.shifts is None else Shifts.load(config.align.shifts)
    with written_beside(folder / run_folder.SHIFTS) as place:
        before.plus(z, s).save(place)
    _log.info(
        f"displacements: {np.sqrt((z[left] ** 2).mean()):.2f} px rms along z, {np.sqrt((s[left] ** 2).mean()):.2f} "
        f"across; in {run_folder.SHIFTS}, for align.shifts"
    )


def save_motion(folder: Path, done: Fit) -> None:
    """How the specimen moves, at the time of every image: motion.csv, and a line; none if it is at rest."""
    motion, data = done.module.network.learned_motion(), done.data
    if motion is None:
        return
    tau = data.tau.to(done.module.device)
    with torch.no_grad():
        rotation, travel = (v.cpu().double().numpy() for v in motion(tau))
    turn = np.rad2deg(Rotation.from_matrix(rotation).as_rotvec())
    names = [f"{what}_{axis}_{unit}" for what, unit in (("turn", "deg"), ("travel", "px")) for axis in "xyz"]
    columns, found = [data.series.times_s, turn, travel], {}
    if (bent := motion.bent(tau)) is not None:
        names, found = [*names, "bend_px"], {"bend_px": float(bent.max())}
        columns.append(bent.cpu().numpy())
    header = ",".join(["time_s", *names])
    with written_beside(folder / run_folder.MOTION) as place:
        np.savetxt(place, np.column_stack(columns), "%.6g", ",", header=header, comments="")
    turned, travelled = motion.between()
    run_folder.add_metrics(folder, {"motion": {"turn_deg": turned, "travel_px": travelled.tolist()} | found})
    _log.info(
        f"{motion.describe()}; in {run_folder.MOTION}, about the middle of the volume, at the time of every image"
    )
