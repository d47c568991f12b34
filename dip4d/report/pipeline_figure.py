"""The pipeline in one picture, drawn from the files of a run: row, network, orthoslice, projection, volumes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from dip4d.measures.image_quality import OURS as DIP
from dip4d.report.preview import MEASURED, PREDICTED, WHITE, SmallMovie, read_preview
from dip4d.report.style import INK, OURS, PLAIN, Look, label, save_figure, scale_bar
from dip4d.report.surface import surface_picture
from dip4d.run_folder import FIGURES

WIDTH, HEIGHT = 12.0, 4.3  # inches; positions below are in parts of them
SURFACE = 0.35  # of the largest intensity: where the surface is drawn
LETTERS = 13  # of the name of a network, in a line
VIEW_DEG, EDGE = 25.0, 360  # how far it is turned about z, and the edge of its picture, pixels


def draw_pipeline(run: Path, metrics: dict, *, look: Look = PLAIN) -> list[Path]:
    """How one row of a tilt image became an orthoslice, and how orthoslices became a movie, into the figures of a run.

    None where the run has kept no small volumes and images. The beam is drawn where its angles are in metrics.json.
    Raises InputError if a file is damaged.
    """
    movies = read_preview(run)
    if not {DIP, MEASURED, PREDICTED} <= movies.keys():
        return []
    measured, predicted, volumes = (movies[name] for name in (MEASURED, PREDICTED, DIP))
    unseen = np.flatnonzero(np.isin(metrics.get("images", []), metrics.get("unseen_images", [])))
    t = _to_follow(measured.times_s, drawn_s=volumes.times_s, unseen=unseen)
    z = int(measured.volumes[t].sum(1, dtype=np.int64).argmax())
    row, projected = (m.volumes[t, z] * (m.vmax / WHITE) for m in (measured, predicted))
    angle_deg = metrics["angles_deg"][t] if "angles_deg" in metrics else None
    pixel_nm = metrics.get("pixel_nm") and metrics["pixel_nm"] * volumes.binned

    figure = Figure(figsize=(WIDTH, HEIGHT))
    _draw_series(figure, measured.volumes, t=t, z=z)
    _draw_row(_axes(figure, (0.225, 0.60, 0.115, 0.20)), row)
    _draw_network(figure, metrics)
    orthoslice = volumes.at(measured.times_s[t])[z]
    _draw_slice(_axes(figure, (0.545, 0.42, 0.125, 0.36)), orthoslice, angle_deg=angle_deg, pixel_nm=pixel_nm)
    _draw_comparison(_axes(figure, (0.535, 0.09, 0.145, 0.17)), row, projected=projected)
    _draw_volumes(figure, volumes)
    _draw_words(figure, count=len(measured.volumes), angle_deg=angle_deg)
    return save_figure(figure, run / FIGURES / "pipeline.png", look=look)


def _to_follow(times_s: np.ndarray, *, drawn_s: np.ndarray, unseen: Collection[int]) -> int:
    """The image that is followed: one that was fitted and whose volume was kept, about a fifth into the series."""
    fitted = [t for t in range(len(times_s)) if t not in unseen]
    return min([t for t in fitted if times_s[t] in drawn_s] or fitted, key=lambda t: abs(t - len(times_s) // 5))


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
    half = max(0.9, images.shape[1] / 70)  # of the mark, rows
    for layer, frame in enumerate([*others, t]):
        axes = _axes(figure, (0.065 - 0.022 * layer, 0.47 - 0.07 * layer, 0.125, 0.36))
        axes.imshow(images[frame], cmap="gray", vmin=0, vmax=float(images.max()))
        axes.spines[:].set(color="white", linewidth=1.5)
        if layer == 2:
            axes.axhspan(z - half, z + half, color=OURS, alpha=0.75, linewidth=0)
            axes.set_ylabel("z (tilt axis)", fontsize=8, color=INK)
            axes.set_xlabel("s", fontsize=8, color=INK)


def _draw_row(axes: Axes, row: np.ndarray) -> None:
    axes.fill_between(np.arange(row.size), row, color=OURS, alpha=0.18, linewidth=0)
    axes.plot(row, color=OURS, linewidth=1.2)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.margins(x=0)
    axes.set_xlabel("row z of image t", fontsize=9, color=INK)


def _draw_network(figure: Figure, metrics: dict) -> None:
    ours = metrics.get("network", {}).get("name", DIP) == DIP
    name = "deep image\nprior" if ours else fill(label(DIP, metrics), LETTERS)
    what = "untrained network" if ours else "fitted to this series"
    box = FancyBboxPatch(
        (0.385, 0.50), 0.105, 0.26, boxstyle="round,pad=0.008", facecolor="#edf1f4", edgecolor=INK,
        transform=figure.transFigure, linewidth=1.2, mutation_aspect=WIDTH / HEIGHT,
    )  # fmt: skip
    figure.add_artist(box)
    figure.text(0.4375, 0.66, name, ha="center", va="center", fontsize=11, color=INK, weight="bold")
    figure.text(0.4375, 0.555, what, ha="center", va="center", fontsize=8, color=INK)


def _draw_slice(axes: Axes, orthoslice: np.ndarray, *, angle_deg: float | None, pixel_nm: float | None) -> None:
    """The orthoslice, y upwards, and the direction of the beam, where it is known."""
    axes.imshow(orthoslice, cmap="gray", origin="lower", vmin=0)
    scale_bar(axes, orthoslice.shape, pixel_nm=pixel_nm)
    if angle_deg is not None:
        middle, reach = (orthoslice.shape[0] - 1) / 2, 0.46 * orthoslice.shape[0]
        along = np.array([-np.sin(np.deg2rad(angle_deg)), np.cos(np.deg2rad(angle_deg))]) * reach  # where s is constant
        arrow = {"arrowstyle": "-|>", "color": OURS, "linewidth": 1.3}
        axes.annotate("", middle - along, middle + along, arrowprops=arrow)
    axes.set_xlabel("x", fontsize=8, color=INK, labelpad=1)
    axes.set_ylabel("y (beam at 0°)", fontsize=8, color=INK, labelpad=1)


def _draw_comparison(axes: Axes, measured: np.ndarray, *, projected: np.ndarray) -> None:
    axes.plot(measured, ".", color=INK, markersize=3, label="measured")
    axes.plot(projected, color=OURS, linewidth=1.4, label="projected")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(frameon=False, fontsize=7, loc="upper right", borderpad=0, handlelength=1.2)
    axes.set_ylim(top=1.8 * float(max(measured.max(), projected.max())))


def _draw_volumes(figure: Figure, volumes: SmallMovie) -> None:
    """The surface at three times, from one side."""
    frames = [0, len(volumes.volumes) // 4, -1]
    for place, picture in enumerate(shaded_alike([volumes.volumes[frame] for frame in frames])):
        axes = _axes(figure, (0.728 + 0.090 * place, 0.40, 0.087, 0.40))
        axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
        axes.set_title(f"{volumes.times_s[frames[place]]:g} s", fontsize=9, color=INK, pad=2)
        axes.axis("off")


def _draw_words(figure: Figure, *, count: int, angle_deg: float | None) -> None:
    """Headings, of so many images, and the arrows between the parts."""
    for x, heading in (
        (0.105, f"one tilt series: {count} images"),
        (0.607, "orthoslice (z, t)"),
        (0.868, f"movie: {count} volumes"),
    ):
        figure.text(x, 0.93, heading, ha="center", fontsize=12, color=INK, weight="bold")
    tilted = "" if angle_deg is None else f", tilted by {angle_deg:.0f}°"
    figure.text(0.085, 0.14, f"image t{tilted}", ha="center", fontsize=9, color=INK)
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
