"""The pipeline in one picture, drawn from a series and its movie: row, network, orthoslice, projection, volumes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from dip4d.report.style import INK, OURS
from dip4d.report.surface import surface_picture

WIDTH, HEIGHT = 12.0, 4.3  # inches; positions below are in parts of them
SURFACE = 0.35  # of the largest intensity: where the surface is drawn
VIEW_DEG, EDGE = 25.0, 360  # how far it is turned about z, and the edge of its picture, pixels


def draw_pipeline(
    images: np.ndarray,
    volumes: np.ndarray,
    *,
    angles_deg: np.ndarray,
    times_s: Sequence[float] | np.ndarray,
    projected: np.ndarray,
    path: Path,
    t: int,
    z: int,
) -> Path:
    """Draws how one row of a tilt image becomes an orthoslice, and how orthoslices become a movie.

    images: (t, z, s), the tilt series.
    volumes: (t, z, y, x), its reconstruction.
    angles_deg: (t,), tilt angles, degrees.
    times_s: (t,), seconds.
    projected: (s,), the orthoslice (z, t) summed along the beam.
    path: the file; its ending says the format.
    t, z: the image and the row that are followed.
    """
    figure = Figure(figsize=(WIDTH, HEIGHT))
    _draw_series(figure, images, t=t, z=z)
    _draw_row(_axes(figure, (0.225, 0.60, 0.115, 0.20)), images[t, z])
    _draw_network(figure)
    _draw_slice(_axes(figure, (0.545, 0.42, 0.125, 0.36)), volumes[t, z], angle_deg=angles_deg[t])
    _draw_comparison(_axes(figure, (0.535, 0.09, 0.145, 0.17)), images[t, z], projected=projected)
    frames = [0, len(volumes) // 4, len(volumes) - 1]
    for place, picture in enumerate(shaded_alike([volumes[frame] for frame in frames])):
        axes = _axes(figure, (0.728 + 0.093 * place, 0.40, 0.090, 0.40))
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
        axes.set_title(f"{times_s[frames[place]]:g} s", fontsize=9, color=INK, pad=2)
        axes.axis("off")
    _draw_words(figure, images=images, volumes=volumes, t=t, angle_deg=angles_deg[t])
    figure.savefig(path, dpi=150)
    return path


def shaded_alike(volumes: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Pictures (rows, columns), 0..1, of the surfaces of some volumes (z, y, x), from one side, in the same window."""
    surface = lambda v: surface_picture(
        v, SURFACE * float(v.max()), turn_deg=VIEW_DEG, reach=0.5 * float(np.linalg.norm(v.shape)), edge=EDGE
    )
    return _cropped([np.nan_to_num(surface(v), nan=1.0) for v in volumes])


def _cropped(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Pictures (rows, columns) on white, all cut to the same window around what they show, and a little more."""
    drawn = np.any(np.stack(pictures) < 1, axis=0)
    windows = []
    for axis in (1, 0):
        there = np.flatnonzero(drawn.any(axis=axis))
        first, last = (there[0], there[-1]) if there.size else (0, drawn.shape[1 - axis] - 1)
        windows.append(slice(max(first - 2, 0), last + 3))
    return [picture[tuple(windows)] for picture in pictures]


def _axes(figure: Figure, place: tuple[float, float, float, float]) -> Axes:
    """Axes without ticks at (left, bottom, width, height)."""
    axes = figure.add_axes(place)
    axes.set(xticks=[], yticks=[])
    return axes


def _draw_series(figure: Figure, images: np.ndarray, *, t: int, z: int) -> None:
    """Three images of the series behind each other, the followed one in front with its row marked."""
    others = [(t + 2 * step) % len(images) for step in (2, 1)]
    for layer, frame in enumerate([*others, t]):
        axes = _axes(figure, (0.065 - 0.022 * layer, 0.47 - 0.07 * layer, 0.125, 0.36))
        axes.imshow(images[frame], cmap="gray", aspect="auto", vmin=0, vmax=float(images.max()))
        axes.spines[:].set(color="white", linewidth=1.5)
        if layer == 2:
            axes.axhspan(z - 0.9, z + 0.9, color=OURS, alpha=0.75, linewidth=0)
            axes.set_ylabel("z (tilt axis)", fontsize=8, color=INK)
            axes.set_xlabel("s", fontsize=8, color=INK)


def _draw_row(axes: Axes, row: np.ndarray) -> None:
    axes.fill_between(np.arange(row.size), row, color=OURS, alpha=0.18, linewidth=0)
    axes.plot(row, color=OURS, linewidth=1.2)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.margins(x=0)
    axes.set_xlabel("row z of image t", fontsize=9, color=INK)


def _draw_network(figure: Figure) -> None:
    box = FancyBboxPatch(
        (0.385, 0.50), 0.105, 0.26, boxstyle="round,pad=0.008", facecolor="#edf1f4", edgecolor=INK,
        transform=figure.transFigure, linewidth=1.2, mutation_aspect=WIDTH / HEIGHT,
    )  # fmt: skip
    figure.add_artist(box)
    figure.text(0.4375, 0.66, "deep image\nprior", ha="center", va="center", fontsize=11, color=INK, weight="bold")
    figure.text(0.4375, 0.555, "untrained network", ha="center", va="center", fontsize=8, color=INK)


def _draw_slice(axes: Axes, orthoslice: np.ndarray, *, angle_deg: float) -> None:
    """The orthoslice, y upwards, and the direction of the beam."""
    axes.imshow(orthoslice, cmap="gray", origin="lower", vmin=0)
    middle, reach = (orthoslice.shape[0] - 1) / 2, 0.46 * orthoslice.shape[0]
    along = np.array([-np.sin(np.deg2rad(angle_deg)), np.cos(np.deg2rad(angle_deg))]) * reach  # where s is constant
    axes.annotate("", middle - along, middle + along, arrowprops={"arrowstyle": "-|>", "color": OURS, "linewidth": 1.3})
    axes.set_xlabel("x", fontsize=8, color=INK, labelpad=1)
    axes.set_ylabel("y (beam at 0°)", fontsize=8, color=INK, labelpad=1)


def _draw_comparison(axes: Axes, measured: np.ndarray, *, projected: np.ndarray) -> None:
    axes.plot(measured, ".", color=INK, markersize=3, label="measured")
    axes.plot(projected, color=OURS, linewidth=1.4, label="projected")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7, loc="upper right", borderpad=0, handlelength=1.2)
    axes.set_ylim(top=1.45 * float(max(measured.max(), projected.max())))


def _draw_words(figure: Figure, *, images: np.ndarray, volumes: np.ndarray, t: int, angle_deg: float) -> None:
    """Headings, and the arrows between the parts."""
    for x, heading in (
        (0.105, f"one tilt series: {len(images)} images"),
        (0.607, "orthoslice (z, t)"),
        (0.868, f"movie: {len(volumes)} volumes"),
    ):
        figure.text(x, 0.93, heading, ha="center", fontsize=12, color=INK, weight="bold")
    figure.text(0.085, 0.14, f"image t, tilted by {angle_deg:.0f}°", ha="center", fontsize=9, color=INK)
    figure.text(0.2825, 0.40, "(z, t)", ha="center", fontsize=13, color=OURS, weight="bold")
    figure.text(0.868, 0.345, "all z stacked, at any time", ha="center", fontsize=9, color=INK)
    figure.text(0.607, 0.30, "summed along the beam at t", ha="center", fontsize=8, color=INK)
    figure.text(0.39, 0.115, "compared with the row: the network learns", ha="center", fontsize=9, color=INK)
    for start, end, bend in (
        ((0.195, 0.66), (0.222, 0.66), 0),
        ((0.345, 0.66), (0.375, 0.66), 0),
        ((0.31, 0.43), (0.378, 0.545), 0.2),
        ((0.50, 0.63), (0.537, 0.63), 0),
        ((0.68, 0.60), (0.728, 0.60), 0),
        ((0.532, 0.165), (0.4375, 0.475), -0.35),
    ):
        style = {"arrowstyle": "-|>", "mutation_scale": 13, "color": INK, "linewidth": 1.4}
        curve = f"arc3,rad={bend}"
        figure.add_artist(FancyArrowPatch(start, end, transform=figure.transFigure, connectionstyle=curve, **style))
