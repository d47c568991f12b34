"""The volumes of a run, small: one byte a voxel, binned; what its page and its movie show of every method."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dip4d.errors import InputError
from dip4d.indices import evenly
from dip4d.io.volumes import open_volumes, read_times_and_size
from dip4d.measures.image_quality import OURS, Frame
from dip4d.report.arrays import read_arrays, write_arrays
from dip4d.run_folder import PREVIEW, VOLUMES

VOXELS = 2**20  # of a volume, at most: 101^3, or 16 x 256 x 256
MOVIE_VOXELS = 50 * VOXELS  # of all volumes of a method, at most
WHITE, FINE = 255, 65535  # what the largest intensity is kept as, in the end and on the way
_BESIDE = ("sirt_window", "sirt_whole", "sirt_frozen")  # ours first; the first that there is
WITHOUT = "remove it: the page does without"
MEASURED, PREDICTED = "images_measured", "images_predicted"  # beside the methods


@dataclass(frozen=True)
class SmallMovie:
    """The volumes of a method, or images, at some times.

    volumes: (n, z, y, x), or images (n, z, s), uint8.
    times_s: (n,), seconds.
    vmax: the intensity that is kept as 255; 0 is 0, and so is less.
    binned: voxels along each edge that are one here.
    """

    volumes: np.ndarray
    times_s: np.ndarray
    vmax: float
    binned: int = 1

    def at(self, time_s: float) -> np.ndarray:
        """The volume (z, y, x), or image (z, s), that is nearest in time, uint8."""
        return self.volumes[int(np.abs(self.times_s - time_s).argmin())]


@dataclass(frozen=True)
class View:
    """How volumes are shown to begin with.

    level: the intensity of the surface, as a share of that which is white: half of what the specimen usually has.
    z: the densest slice.
    reach: half the edge of a picture that the surface fits into, however it is turned, voxels.
    """

    level: float
    z: int
    reach: float


def view_of(movie: SmallMovie, white: float) -> View:
    """How a movie is shown best. white: the intensity that is drawn white."""
    middle = movie.volumes[len(movie.volumes) // 2]
    inside = middle[middle > 0.1 * middle.max()]
    usual = float(np.median(inside)) if inside.size else 255.0
    level = min(max(round(0.5 * usual / 255 * movie.vmax / white, 3), 0.02), 0.98)
    half = (np.array(middle.shape) - 1) / 2
    places = [np.argwhere(v > 255 * level * white / movie.vmax) - half for v in movie.volumes[[0, -1]]]
    reach = max(float(np.linalg.norm(p, axis=1).max(initial=0)) for p in places)
    z = int(middle.sum((1, 2), dtype=np.int64).argmax())
    return View(level, z, 1.08 * reach if reach else float(np.linalg.norm(half)))


def side_by_side(names: Sequence[str]) -> list[str]:
    """Which of some methods stand side by side first: ours, a conventional one, the truth."""
    others = [n for n in names if n not in (OURS, "truth", MEASURED, PREDICTED)]
    conventional = next((n for n in _BESIDE if n in others), others[0] if others else None)
    return [n for n in (OURS, conventional, "truth") if n is not None and n in names]


def binning(shape: tuple[int, ...]) -> int:
    """How many voxels along each edge of a volume of this shape (z, y, x) become one."""
    return next(n for n in range(1, max(shape) + 1) if np.prod([-(-edge // n) for edge in shape]) <= VOXELS)


def frames_kept(frames: int, shape: tuple[int, ...]) -> list[int]:
    """Which of so many volumes of this shape (z, y, x) are kept: all, or as many as are not too large together."""
    edges = [-(-edge // binning(shape)) for edge in shape]
    return evenly(frames, min(frames, MOVIE_VOXELS // int(np.prod(edges))))


class Shrunk:
    """Volumes, or images, that are made small one by one as they pass.

    binned: voxels along each edge that become one.
    """

    def __init__(self, binned: int) -> None:
        self.binned = binned
        self._kept: list[tuple[np.ndarray, float]] = []
        self._times_s: list[float] = []

    def passing(self, frames: Iterable[Frame], times_s: Mapping[int, float]) -> Iterator[Frame]:
        """The same frames; those of the numbers in `times_s`, seconds, are kept, small, unless they are None."""
        for t, frame in enumerate(frames):
            if t in times_s and frame is not None:
                self.keep(frame, times_s[t])
            yield frame

    def keep(self, frame: np.ndarray, time_s: float) -> None:
        """Keeps one volume (z, y, x), or image (z, s), of this time, seconds."""
        small = _binned(frame, self.binned)
        vmax = max(float(small.max()), 1e-30)
        self._kept.append((np.rint(small.clip(0) * (FINE / vmax)).astype(np.uint16), vmax))
        self._times_s.append(time_s)

    def movie(self) -> SmallMovie | None:
        """All that was kept, in one grey scale; None if nothing was."""
        if not self._kept:
            return None
        vmax = max(top for _, top in self._kept)
        scaled = [np.rint(v * np.float32(WHITE / FINE * top / vmax)).astype(np.uint8) for v, top in self._kept]
        return SmallMovie(np.stack(scaled), np.array(self._times_s), vmax, self.binned)


def _binned(volume: np.ndarray, n: int) -> np.ndarray:
    """The mean over n voxels along each axis; over fewer at the end of an axis that n does not divide."""
    small = np.asarray(volume, np.float32)
    for axis, edge in enumerate(small.shape if n > 1 else ()):
        starts = np.arange(0, edge, n)
        counts = np.diff(np.append(starts, edge)).astype(np.float32)
        small = np.add.reduceat(small, starts, axis=axis) / np.expand_dims(
            counts, tuple(a for a in range(small.ndim) if a != axis)
        )
    return small


def small_movie(frames: Iterable[np.ndarray], times_s: Iterable[float], *, binned: int) -> SmallMovie | None:
    """Volumes (z, y, x), or images (z, s), of some times in seconds, made small; None if there are none."""
    shrunk = Shrunk(binned)
    for frame, time_s in zip(frames, times_s, strict=True):
        shrunk.keep(frame, float(time_s))
    return shrunk.movie()


def add_preview(run: Path, movies: Mapping[str, SmallMovie | None]) -> None:
    """Adds movies, by the names of their methods, to the preview.npz of a run; the file is whole at any moment."""
    arrays: dict[str, np.ndarray] = {}
    for name, movie in (read_preview(run) | dict(movies)).items():
        if movie is not None:
            arrays[name] = movie.volumes
            arrays |= {f"{name}/{key}": np.asarray(getattr(movie, key)) for key in ("times_s", "vmax", "binned")}
    write_arrays(run / PREVIEW, arrays)


def read_preview(run: Path) -> dict[str, SmallMovie]:
    """The movies in the preview.npz of a run, by the names of their methods; none if there is none.

    Raises InputError if a file is damaged.
    """
    path = run / PREVIEW
    if not path.exists():
        return {}
    arrays = read_arrays(path, remedy=WITHOUT)
    try:
        return {name: _movie_in(arrays, name) for name in arrays if "/" not in name}
    except KeyError as error:
        raise InputError(f"{path}: damaged, or not that of a run ({error} is missing); {WITHOUT}") from None


def _movie_in(arrays: Mapping[str, np.ndarray], name: str) -> SmallMovie:
    times_s, vmax, binned = (arrays[f"{name}/{key}"] for key in ("times_s", "vmax", "binned"))
    return SmallMovie(arrays[name], times_s, float(vmax), int(binned))


def movies_of(run: Path) -> dict[str, SmallMovie]:
    """What there is to look at of a run, by method: its preview, and ours from its volumes where that lacks it.

    Raises InputError if a file is damaged.
    """
    movies = read_preview(run)
    if OURS not in movies and (run / VOLUMES).exists():
        volumes, (times_s, _) = open_volumes(run / VOLUMES), read_times_and_size(run / VOLUMES)
        kept = frames_kept(len(volumes), volumes.shape[1:])
        ours = small_movie((volumes[t] for t in kept), times_s[kept], binned=binning(volumes.shape[1:]))
        movies |= {} if ours is None else {OURS: ours}
    return movies
