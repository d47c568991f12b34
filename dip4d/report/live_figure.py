"""The figure to look at while a fit runs: what it has found so far, and how far its error has come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from dip4d.report.style import OURS, line_of, new_figure, save_figure

_WIDTH, _HEIGHT = 9.4, 1.5  # inches, of the figure and of a line of slices
_FINEST = 192  # pixels of a slice that are drawn
_GAP = 0.04  # between two slices, of their width
_TOP = 2.0  # the errors are shown up to so many times the last one, or that of the SIRT


def draw_live(
    path: Path,
    slices: Mapping[str, np.ndarray | None],
    *,
    title: str,
    times_s: Sequence[float],
    z: int,
    errors: Mapping[int, float],
    to_beat: tuple[str, float] | None,
) -> None:
    """Draws the figure; at `path` lies the one before until this one is whole.

    path: of the PNG.
    slices: (t, Y, X) of each method, by its label, in one grey scale; None for what has nothing to show yet.
    title: of the figure.
    times_s: of the slices, seconds.
    z: where they are.
    errors: of the validation rows, by step, in the order of steps.
    to_beat: what a SIRT is called, and its error of them; None if there is none.
    """
    thinned = {name: None if s is None else _thinned(s) for name, s in slices.items()}
    figure = new_figure(_WIDTH, _HEIGHT * len(slices) + 3.2)
    *lines, below = figure.subplots(len(slices) + 1, 1, height_ratios=[_HEIGHT] * len(slices) + [2.3])
    vmax = _vmax(thinned)
    shape = next(s.shape for s in thinned.values() if s is not None)
    for axis, (name, shown) in zip(lines, thinned.items(), strict=True):
        _draw_slices(axis, shown, shape=shape, vmax=vmax)
        axis.set_ylabel(name.replace(", ", ",\n"), fontsize=8)
    lines[0].set_xticks(_middles(shape), [f"{t:g} s" for t in times_s], fontsize=8)
    lines[0].xaxis.tick_top()
    lines[-1].set_xlabel(f"(y, x) orthoslices at z = {z}, the densest", fontsize=8)
    _draw_errors(below, errors, to_beat=to_beat)
    figure.suptitle(title, fontsize=10)
    save_figure(figure, path)


def _thinned(slices: np.ndarray) -> np.ndarray:
    """Slices (t, Y, X) with no more pixels than the figure has."""
    step = -(-slices.shape[1] // _FINEST)
    return slices[:, ::step, ::step]


def _vmax(slices: Mapping[str, np.ndarray | None]) -> float:
    """The end of the grey scale: the maximum of the truth, or what few voxels exceed of anything shown."""
    if (truth := slices.get("truth")) is not None:
        return float(truth.max()) or 1.0
    return max(float(np.quantile(s, 0.999)) for s in slices.values() if s is not None) or 1.0


def _middles(shape: tuple[int, ...]) -> np.ndarray:
    """Where slices (t, Y, X) that stand side by side have their middles, pixels."""
    frames, _, columns = shape
    return np.arange(frames) * (columns + _gap(columns)) + (columns - 1) / 2


def _gap(columns: int) -> int:
    return max(1, round(_GAP * columns))


def _draw_slices(axis: Axes, slices: np.ndarray | None, *, shape: tuple[int, ...], vmax: float) -> None:
    """Slices side by side, in one picture, which is drawn faster than many; a frame for each where there are none."""
    shown = np.zeros(shape, np.float32) if slices is None else slices
    gap = np.full((shape[1], _gap(shape[2])), np.nan, np.float32)
    line = np.concatenate([part for one in shown for part in (gap, one)][1:], axis=1)
    axis.imshow(line, cmap="gray", vmin=0 if slices is not None else -3 * vmax, vmax=vmax, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    if slices is None:
        axis.text(
            0.5,
            0.5,
            "comes with the first validation",
            transform=axis.transAxes,
            ha="center",
            va="center",
            backgroundcolor="0.75",
        )


def _draw_errors(axis: Axes, errors: Mapping[int, float], *, to_beat: tuple[str, float] | None) -> None:
    """The errors against the step; the first ones, which are large, may lie above what is shown."""
    steps, values = list(errors), list(errors.values())
    axis.plot(steps, values, "o-", color=OURS, markersize=3, linewidth=1.5)
    shown = values[-1:]
    if to_beat is not None:
        (label, error), line = to_beat, line_of("sirt_whole")
        shown.append(error)
        axis.axhline(error, **line)
        place = {"xy": (1, error), "xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
        axis.annotate(f"{label}: {error:.4f}", xytext=(-4, 4), ha="right", fontsize=8, color=line["color"], **place)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if values:
        axis.set_xlim(0, 1.02 * steps[-1])
        axis.set_ylim(top=min(axis.get_ylim()[1], _TOP * max(shown)))
    else:
        axis.set(xticks=[], ylim=(0, _TOP * max(shown, default=0.5)))
    axis.set_xlabel("step")
    axis.set_title("Relative error of the validation rows", loc="left", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", alpha=0.3)
