"""Orthoslices over time: a row for each method, a column for each frame, one grey scale for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dip4d.errors import InputError
from dip4d.io.volumes import open_volumes
from dip4d.measures.image_quality import OURS
from dip4d.report.orthoslices import read_orthoslices
from dip4d.report.style import Look, label, names_of, new_figure, save_figure, scale_bar
from dip4d.run_folder import FIGURES, VOLUMES, saved_volumes

WIDTH, FLATTEST = 1.5, 0.34  # inches of a picture, and its least height
AXES = {"y": "y, the beam at 0°, downwards", "z": "z, the tilt axis, downwards"}


@dataclass(frozen=True)
class Slices:
    """Orthoslices of some methods at the same times.

    pictures: (t, rows, columns) of each method, by its label.
    plane: the names of the axes, yx or zx.
    place: where the plane is, in words.
    times_s: seconds.
    vmax: intensity per voxel that is drawn white, in all of them.
    pixel_nm: the voxel size, nm; None if unknown.
    """

    pictures: dict[str, np.ndarray]
    plane: str
    place: str
    times_s: Sequence[float]
    vmax: float
    pixel_nm: float | None = None


def draw_orthoslices(run: Path, metrics: dict, *, look: Look) -> list[Path]:
    """A figure for each plane, into the figures of a run.

    The scale is that of the truth where there is one, else of ours. With frames, z or y of a look, of ours and of what
    output.save has kept. Raises InputError.
    """
    folder = run / FIGURES
    asked = (look.frames, look.z, look.y) != (None, None, None)
    drawn = _asked_for(run, metrics, look=look) if asked else _kept(run, metrics)
    ending = "_asked" if asked else ""
    return [p for s in drawn for p in draw_slices(s, folder / f"orthoslices_{s.plane}{ending}.png", look=look)]


def _kept(run: Path, metrics: dict) -> list[Slices]:
    """Those that the run kept for figures."""
    slices = read_orthoslices(run)
    frames = slices.pop("frames")
    names = [n for n in names_of(metrics) if f"{n}_yx" in slices]
    vmax = float(slices["truth_yx" if "truth" in names else f"{OURS}_yx"].max()) or 1.0
    times_s = [metrics["times_s"][frame] for frame in frames]
    places = {"yx": "through the densest z", "zx": "through the middle"}
    of = lambda plane: {label(n, metrics): slices[f"{n}_{plane}"] for n in names}
    return [Slices(of(plane), plane, words, times_s, vmax, metrics.get("pixel_nm")) for plane, words in places.items()]


def _asked_for(run: Path, metrics: dict, *, look: Look) -> list[Slices]:
    volumes = open_volumes(run / VOLUMES)
    frames = list(look.frames or read_orthoslices(run)["frames"])
    sizes = {"frames": (max(frames), len(volumes)), "z": (look.z, volumes.shape[1]), "y": (look.y, volumes.shape[2])}
    for what, (number, count) in sizes.items():
        if number is not None and number >= count:
            raise InputError(f"{run}: there is no {what} {number}, they are 0 to {count - 1}", argument=what)
    z = int(volumes[len(volumes) // 2].sum((1, 2)).argmax()) if look.z is None else look.z
    y = volumes.shape[2] // 2 if look.y is None else look.y
    movies = {OURS: volumes} | _saved(run, like=volumes)
    names = [n for n in names_of(metrics) if n in movies]
    of = lambda movie, t: np.asarray(movie[t if len(movie) > 1 else 0])  # one volume stands for all times
    shown = {label(n, metrics): [of(movies[n], t) for t in frames] for n in names}
    white = movies["truth" if "truth" in names else OURS]
    times_s, vmax = [metrics["times_s"][t] for t in frames], max(float(of(white, t).max()) for t in frames) or 1.0
    cut = lambda through: {name: np.stack([through(v) for v in of_each]) for name, of_each in shown.items()}
    return [
        Slices(cut(lambda v: v[z]), "yx", f"at z = {z}", times_s, vmax, metrics.get("pixel_nm")),
        Slices(cut(lambda v: v[:, y]), "zx", f"at y = {y}", times_s, vmax, metrics.get("pixel_nm")),
    ]


def _saved(run: Path, *, like: np.ndarray) -> dict[str, np.ndarray]:
    """What output.save has kept of methods and truth, by name: volumes (t, z, y, x), or one of all times."""
    movies = {name: open_volumes(path) for name, path in saved_volumes(run).items()}
    alike = lambda movie: movie.shape[1:] == like.shape[1:] and len(movie) in (1, len(like))
    return {name: movie for name, movie in movies.items() if alike(movie)}


def draw_slices(slices: Slices, path: Path, *, look: Look) -> list[Path]:
    """Draws them; one scale bar, one colour bar."""
    rows, columns = next(iter(slices.pictures.values())).shape[1:]
    height = min(max(WIDTH * rows / columns, FLATTEST), 3 * WIDTH)
    figure = new_figure(WIDTH * len(slices.times_s) + 2.0, height * len(slices.pictures) + 0.8)
    axes = figure.subplots(len(slices.pictures), len(slices.times_s), squeeze=False)
    for line, (name, pictures) in zip(axes, slices.pictures.items(), strict=True):
        for axis, picture in zip(line, pictures, strict=True):
            drawn = axis.imshow(picture, cmap=look.cmap, vmin=0, vmax=slices.vmax, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name.replace(", ", ",\n"), fontsize=8, rotation=0, ha="right", va="center")
    for axis, time_s in zip(axes[0], slices.times_s, strict=True):
        axis.set_title(f"{time_s:g} s", fontsize=8)
    scale_bar(axes[-1, -1], (rows, columns), pixel_nm=slices.pixel_nm)
    bar = figure.colorbar(drawn, ax=axes, shrink=min(1.0, 2 / figure.get_figheight()), aspect=15, pad=0.01)
    bar.set_label("intensity per voxel", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    first, second = slices.plane
    words = f"({first}, {second}) orthoslices {slices.place}: {AXES[first]}; {second} to the right"
    figure.supxlabel(words, fontsize=8)
    return save_figure(figure, path, look=look)
