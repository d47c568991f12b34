"""The figure of measures.csv: each quantity against time, with error bars and truth where there are."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from dip4d.errors import InputError
from dip4d.report.style import INK, OURS, PLAIN, Look, new_figure, save_figure

COLUMNS = 3
LEAST_RANGE = 0.1  # of a quantity, on its axis: flat looks flat
AXES = {"z": "-", "y": "--", "x": ":"}


def read_measures(path: Path) -> dict[str, np.ndarray]:
    """The columns of a measures.csv by their names, (t,) each. Raises InputError."""
    try:
        names = path.open(encoding="utf-8").readline().strip().split(",")
        rows = np.loadtxt(path, delimiter=",", skiprows=1, ndmin=2)
        return dict(zip(names, rows.T, strict=True))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a table of quantities ({error}); remove it, and report the run again") from None


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
    own = [n for n in columns if n != "time_s" and not n.endswith(("_sigma", "_truth")) and n[:9] != "particle_"]
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
    axis.set_title(_title(names), loc="left", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", alpha=0.3)
    if len(names) > 1:
        axis.legend(frameon=False, fontsize=8)


def _title(names: list[str]) -> str:
    """The name of a panel, with the unit: volume (nm³)."""
    name = names[0] if len(names) == 1 else f"length_{names[0].split('_')[-1]}"
    for unit, words in (("3", "³"), ("2", "²"), ("", "")):
        for length in ("nm", "px"):
            if name.endswith(f"_per_{length}"):
                return f"{_words(name.removesuffix(f'_per_{length}'))} (1/{length})"
            if name.endswith(f"_{length}{unit}"):
                return f"{_words(name.removesuffix(f'_{length}{unit}'))} ({length}{words})"
    return _words(name)


def _words(name: str) -> str:
    words = name.replace("_", " ")
    return f"amount of {words}" if words[:1].isupper() else words
