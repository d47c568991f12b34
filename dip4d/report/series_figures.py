"""Figures of a tilt series before anything is reconstructed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dip4d.measures.background import above_background
from dip4d.measures.suspects import Suspect
from dip4d.report.style import OURS, new_figure, save_figure
from dip4d.tilt_series import TiltSeries

_MONTAGE = 24  # images at most
_COLUMNS, _WIDTH = 6, 1.7  # and the width of one in inches


def draw_montage(series: TiltSeries, found: Sequence[Suspect], *, path: Path) -> Path:
    """Images spread evenly over the series, z downwards, s to the right, in one grey scale; suspects are marked."""
    frames = np.unique(np.linspace(0, len(series.images) - 1, _MONTAGE).round().astype(int))
    low, high = np.percentile(series.images[frames], [1, 99.8])
    _, z, s = series.shape
    lines = -(-len(frames) // _COLUMNS)
    height = min(max(_WIDTH * z / s, 0.4), 4)
    aspect = "equal" if height == _WIDTH * z / s else "auto"  # too flat or too tall is stretched
    figure = new_figure(_WIDTH * _COLUMNS + 0.3, (height + 0.3) * lines + 0.3)
    axes = figure.subplots(lines, _COLUMNS, squeeze=False)
    bad = {suspect.frame for suspect in found}
    for axis in axes.flat[len(frames) :]:
        axis.set_visible(False)
    for axis, frame in zip(axes.flat, frames, strict=False):
        axis.imshow(series.images[frame], cmap="gray", vmin=low, vmax=high, interpolation="nearest", aspect=aspect)
        colour = OURS if frame in bad else "black"
        title = f"{frame}: {series.angles_deg[frame]:.4g}°, {series.times_s[frame]:.5g} s"
        axis.set_title(title, fontsize=7, color=colour)
        axis.set(xticks=[], yticks=[])
    figure.supxlabel("s (across the tilt axis)", fontsize=8)
    figure.supylabel("z (along it)", fontsize=8)
    save_figure(figure, path)
    return path


def draw_sinogram(series: TiltSeries, found: Sequence[Suspect], *, path: Path) -> Path:
    """What should be sines, what should be straight lines, and what should be flat.

    Left: the sinogram of the brightest z, ordered by angle. Middle: the sums over s against time; along the right tilt
    axis they stay as they are. Right: the total intensity of every image above its background, suspects marked.
    """
    z = int(series.images.sum((0, 2), dtype=np.float64).argmax())
    order = np.argsort(series.angles_deg, kind="stable")
    figure = new_figure(13, 4)
    left, middle, right = figure.subplots(1, 3)
    left.imshow(series.images[order, z], cmap="gray", aspect="auto", interpolation="nearest")
    left.set(title=f"sinogram at z = {z}", xlabel="s (pixels)", ylabel="angle (degrees)")
    places = np.linspace(0, len(order) - 1, min(len(order), 7)).round().astype(int)
    left.set_yticks(places, [f"{series.angles_deg[order[p]]:.3g}" for p in places])
    middle.imshow(series.images.sum(2).T, cmap="gray", aspect="auto", interpolation="nearest")
    middle.set(title="sum of each row across the tilt axis", xlabel="image", ylabel="z (pixels)")
    total = above_background(series.images, series.shown).sum((1, 2), dtype=np.float64)
    right.plot(series.times_s, total, "-", color="#003049", linewidth=0.8)
    right.scatter(series.times_s, total, c=series.angles_deg, cmap="viridis", s=14, zorder=2)
    for suspect in found:
        point = series.times_s[suspect.frame], total[suspect.frame]
        right.annotate(str(suspect.frame), point, color=OURS, fontsize=9, xytext=(4, 4), textcoords="offset points")
        right.plot(*point, "o", color=OURS, markersize=8, fillstyle="none", zorder=3)
    right.set(title="total intensity (colour: angle)", xlabel="time (s)")
    right.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)
    return path
