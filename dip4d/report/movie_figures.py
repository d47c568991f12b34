"""Figures of the movie itself: its surface over time, and what lies on one line against time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dip4d.errors import InputError
from dip4d.indices import evenly
from dip4d.io.volumes import open_volumes, read_times_and_size
from dip4d.report.pipeline_figure import SURFACE, shaded_alike
from dip4d.report.style import Look, new_figure, save_figure
from dip4d.run_folder import FIGURES, VOLUMES

SHOWN, WIDTH = 6, 1.9  # surfaces, and inches of each


def draw_movie(run: Path, metrics: dict, *, look: Look) -> list[Path]:
    """The surfaces and the kymographs of the movie of a run, into its figures; none where it has none."""
    try:
        volumes, (times_s, _) = open_volumes(run / VOLUMES), read_times_and_size(run / VOLUMES)
    except InputError:
        return []
    folder = run / FIGURES
    surfaces = _draw_surfaces(volumes, times_s, path=folder / "surfaces.png", look=look)
    return surfaces + _draw_kymographs(volumes, times_s, path=folder / "kymograph.png", look=look)


def _draw_surfaces(volumes: np.ndarray, times_s: np.ndarray, *, path: Path, look: Look) -> list[Path]:
    """The surface at a few times, all seen from the same side and in the same window."""
    asked = [t for t in look.frames or () if t < len(volumes)]
    frames = asked or evenly(len(volumes), SHOWN)
    pictures = shaded_alike([np.asarray(volumes[t]) for t in frames])
    rows, columns = pictures[0].shape
    figure = new_figure(WIDTH * len(frames), WIDTH * rows / columns + 0.7)
    for axis, t, picture in zip(figure.subplots(1, len(frames), squeeze=False)[0], frames, pictures, strict=True):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
        axis.set_title(f"{times_s[t]:g} s", fontsize=9)
        axis.axis("off")
    words = f"surface at {SURFACE:.0%} of the largest intensity of each volume; z, the tilt axis, upwards"
    figure.supxlabel(words, fontsize=8)
    return save_figure(figure, path, look=look)


def _draw_kymographs(volumes: np.ndarray, times_s: np.ndarray, *, path: Path, look: Look) -> list[Path]:
    """The intensity on a line along x, on one along y and on one along z, each through the densest place, with time."""
    place = np.unravel_index(int(np.asarray(volumes[len(volumes) // 2]).argmax()), volumes.shape[1:])
    z, y, x = (int(k) for k in place)
    lines = {
        f"along x, at z = {z}, y = {y}": volumes[:, z, y],
        f"along y, the beam at 0°, at z = {z}, x = {x}": volumes[:, z, :, x],
        f"along z, the tilt axis, at y = {y}, x = {x}": volumes[:, :, y, x],
    }
    vmax = max(float(v.max()) for v in lines.values()) or 1.0
    figure = new_figure(4.2 * len(lines), 3.2)
    axes = figure.subplots(1, len(lines))
    edges = _edges(times_s)
    for axis, (words, values) in zip(axes, lines.items(), strict=True):
        pixels = np.arange(values.shape[1] + 1) - 0.5
        drawn = axis.pcolormesh(edges, pixels, values.T, cmap=look.cmap, vmin=0, vmax=vmax, rasterized=True)
        axis.set_title(words, fontsize=9)
        axis.set_xlabel("time (s)")
        axis.set_ylabel("voxel")
    figure.colorbar(drawn, ax=axes, pad=0.01).set_label("intensity per voxel")
    return save_figure(figure, path, look=look)


def _edges(times_s: np.ndarray) -> np.ndarray:
    """The edges of columns with times in their middle."""
    if len(times_s) == 1:
        return times_s[0] + np.array([-0.5, 0.5])
    middles = (times_s[1:] + times_s[:-1]) / 2
    return np.array([2 * times_s[0] - middles[0], *middles, 2 * times_s[-1] - middles[-1]])
