"""The figure of measures.csv: each quantity against time, with error bars and truth where there are."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from dip4d.report.measures_table import quantities_in, read_measures, title_of
from dip4d.report.style import INK, OURS, PLAIN, Look, new_figure, save_figure

COLUMNS = 3
LEAST_RANGE = 0.1  # of a quantity, on its axis: flat looks flat
AXES = {"z": "-", "y": "--", "x": ":"}


def draw_measures(table: Path, path: Path, *, look: Look = PLAIN) -> list[Path]:
    """Draws measures.csv, `table`."""
    columns = read_measures(table)
    panels = _panels(columns)
    rows = math.ceil(len(panels) / COLUMNS)
    figure = new_figure(4.2 * COLUMNS, 2.7 * rows)
    axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axis, names in zip(axes, panels, strict=False):
        _draw(axis, columns, names=names)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    axes[0].legend(frameon=False, fontsize=8)
    return save_figure(figure, path, look=look)


def _panels(columns: dict[str, np.ndarray]) -> list[list[str]]:
    """The names of the columns that are drawn together, for each panel: the three lengths are."""
    own = quantities_in(columns)
    lengths = [n for n in own if n.startswith("length_")]
    first = lengths[0] if lengths else None
    return [lengths if n == first else [n] for n in own if n == first or n not in lengths]


def _draw(axis: Axes, columns: dict[str, np.ndarray], *, names: list[str]) -> None:
    times = columns["time_s"]
    for name in names:
        style = AXES[name.split("_")[1]] if len(names) > 1 else "-"
        label = f"along {name.split('_')[1]}" if len(names) > 1 else "measured"
        values, sigma, truth = columns[name], columns.get(f"{name}_sigma"), columns.get(f"{name}_truth")
        if truth is not None:
            axis.plot(
                times, truth, color=INK, linewidth=1.2, linestyle=style, label="truth" if len(names) == 1 else None
            )
        axis.plot(times, values, color=OURS, linewidth=1.6, linestyle=style, label=label)
        if sigma is not None:
            for k, shade in ((2, 0.12), (1, 0.25)):
                known = f"{k} σ" if len(names) == 1 else None
                low, high = values - k * sigma, values + k * sigma
                axis.fill_between(times, low, high, color=OURS, alpha=shade, linewidth=0, label=known)
    low, high = axis.get_ylim()
    middle = (low + high) / 2
    half = max((high - low) / 2, LEAST_RANGE / 2 * abs(middle), 1e-9)
    if names == ["particles"]:
        half = max(half, 1.0)
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_ylim(middle - half, middle + half)
    axis.set_xlabel("time (s)")
    together = names[0] if len(names) == 1 else f"length_{names[0].split('_')[-1]}"
    axis.set_title(title_of(together), loc="left", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", alpha=0.3)
    if len(names) > 1:
        axis.legend(frameon=False, fontsize=8)
