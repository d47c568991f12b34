"""How sure each voxel is: orthoslices over time above their standard deviation, and with a truth above their error."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dip4d.indices import evenly
from dip4d.io.volumes import open_volumes, read_times_and_size
from dip4d.measures.image_quality import OURS
from dip4d.report.preview import WHITE, read_preview
from dip4d.report.style import Look, label, new_figure, save_figure, scale_bar
from dip4d.run_folder import FIGURES, UNCERTAINTY, VOLUMES

SHOWN, WIDTH, FLATTEST = 6, 1.5, 0.34  # times; inches of a picture, and its least height
UNSURE = "inferno"  # the colour map of what is no intensity of the specimen
WHITE_PERCENT = 99.5  # of the voxels shown: the rest is white, so that a single voxel does not darken all others


def draw_uncertainty(run: Path, metrics: dict, *, look: Look) -> list[Path]:
    """A column for each time, through the densest z, into the figures of a run; none where it has no uncertainty.

    Raises InputError if a file is damaged.
    """
    if not (run / UNCERTAINTY).exists():
        return []
    volumes, sigmas = open_volumes(run / VOLUMES), open_volumes(run / UNCERTAINTY)
    times_s, pixel_nm = read_times_and_size(run / UNCERTAINTY)
    frames = list(look.frames or evenly(len(volumes), SHOWN))
    z = int(volumes[len(volumes) // 2].sum((1, 2)).argmax()) if look.z is None else look.z
    ours, sigma = (np.stack([v[t, z] for t in frames]) for v in (volumes, sigmas))
    white = float(np.percentile(sigma, WHITE_PERCENT)) or 1.0
    unsure = {"cmap": UNSURE, "vmin": 0.0, "vmax": white}
    lines = {
        label(OURS, metrics): (ours, {"cmap": look.cmap, "vmin": 0.0, "vmax": float(ours.max()) or 1.0}),
        "standard\ndeviation": (sigma, unsure),
    }
    truth = _truth(run, times_s[frames], shape=volumes.shape[1:])
    if truth is not None:
        lines["distance from\nthe truth"] = (np.abs(ours - truth[:, z]), unsure)
    rows, columns = ours.shape[1:]
    height = min(max(WIDTH * rows / columns, FLATTEST), 3 * WIDTH)
    figure = new_figure(WIDTH * len(frames) + 2.2, height * len(lines) + 1.0)
    axes = figure.subplots(len(lines), len(frames), squeeze=False)
    for line, (name, (pictures, how)) in zip(axes, lines.items(), strict=True):
        for axis, picture in zip(line, pictures, strict=True):
            drawn = axis.imshow(picture, interpolation="nearest", **how)
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center")
        figure.colorbar(drawn, ax=line, pad=0.01, aspect=10).ax.tick_params(labelsize=7)
    for axis, time_s in zip(axes[0], times_s[frames], strict=True):
        axis.set_title(f"{time_s:g} s", fontsize=8)
    scale_bar(axes[-1, -1], (rows, columns), pixel_nm=pixel_nm)
    figure.supxlabel(_words(metrics, z), fontsize=8)
    return save_figure(figure, run / FIGURES / "uncertainty.png", look=look)


def _truth(run: Path, times_s: np.ndarray, *, shape: tuple[int, ...]) -> np.ndarray | None:
    """The truth (t, z, y, x) at some times, if the run has kept it in its full size."""
    movie = read_preview(run).get("truth")
    if movie is None or movie.volumes.shape[1:] != shape or not np.isin(times_s, movie.times_s).all():
        return None
    return np.stack([movie.at(time_s) for time_s in times_s]) * (movie.vmax / WHITE)


def _words(metrics: dict, z: int) -> str:
    words = f"intensity per voxel, (y, x) orthoslices at z = {z}: y, the beam at 0°, downwards; x to the right"
    if shares := metrics.get("uncertainty"):
        one, two = shares["within_1_sigma"], shares["within_2_sigma"]
        words += (
            f"\n{100 * one:.0f} % of the voxels of the specimen lie within one standard deviation of the truth and "
            f"{100 * two:.0f} % within two; of normal errors 68 and 95 % would"
        )
    return words
