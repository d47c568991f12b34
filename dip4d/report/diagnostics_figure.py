"""What tells without truth how good a run is: residual of each image, mass against time, errors, resolution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator

from dip4d.measures.image_quality import ERRORS
from dip4d.measures.resolution import THRESHOLD, in_words
from dip4d.report.style import (
    FAINT,
    INK,
    KEPT_ASIDE,
    OURS,
    PLAIN,
    Look,
    label,
    line_of,
    names_of,
    new_figure,
    save_figure,
)


def draw_diagnostics(metrics: dict, path: Path, *, look: Look = PLAIN) -> list[Path]:
    """Draws the figure of a metrics.json."""
    panels = {"mass": _draw_mass, "errors": _draw_errors} | (
        {"resolution": _draw_resolution} if metrics.get("resolution") else {}
    )
    figure = new_figure(5 * len(panels), 7)
    axes = figure.subplot_mosaic([["residual"] * len(panels), list(panels)])
    for name, draw in ({"residual": _draw_residual} | panels).items():
        draw(axes[name], metrics)
        axes[name].spines[["top", "right"]].set_visible(False)
        axes[name].set_axisbelow(True)
        axes[name].grid(axis="x" if name == "errors" else "y", alpha=0.3)
    return save_figure(figure, path, look=look)


def _draw_residual(axis: Axes, metrics: dict) -> None:
    numbers, values = np.array(metrics["images"]), np.array(metrics["residual_per_image"], float)
    suspect, test = (np.isin(numbers, metrics[k]) for k in ("suspect_images", "unseen_images"))
    axis.vlines(numbers, 0, values, color=FAINT, linewidth=1)
    for chosen, colour, words in (
        (~(suspect | test), INK, "fitted"),
        (test & ~suspect, KEPT_ASIDE, "test images, not fitted"),
        (suspect, OURS, "does not fit the others"),
    ):
        if chosen.any():
            axis.plot(numbers[chosen], values[chosen], "o", color=colour, markersize=4.5, label=words, clip_on=False)
    for number, value in zip(numbers[suspect], values[suspect], strict=True):
        axis.annotate(str(number), (number, value), (0, 5), textcoords="offset points", ha="center", color=OURS)
    axis.set(xlabel="image", ylim=(0, 1.12 * np.nanmax(values)))
    axis.set_title("Residual of each image, relative to the rms of all", loc="left")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.margins(x=0.02)
    axis.legend(frameon=False, fontsize=8, ncols=3, loc="lower right", bbox_to_anchor=(1, 0.99))


def _draw_mass(axis: Axes, metrics: dict) -> None:
    mass, times = metrics["mass"], metrics["times_s"]
    usual = float(np.mean(mass["images"])) or 1.0
    axis.axhline(1, color=FAINT, linewidth=1)
    axis.plot(times, np.array(mass["images"]) / usual, ".", color=INK, markersize=5, label="images")
    axis.plot(times, np.array(mass["volumes"]) / usual, color=OURS, linewidth=2, label="volumes")
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, 0.9), max(high, 1.1))  # flat looks flat
    slope, scatter = (
        "-" if mass[k] is None else f"{round(100 * mass[k], 1) + 0:{f}} %"
        for k, f in (("slope", "+.1f"), ("scatter", ".1f"))
    )
    axis.set_xlabel("time (s)")
    axis.set_title(f"Total mass: {slope} over the series, scatter {scatter}", loc="left")
    axis.legend(frameon=False, fontsize=8)


def _draw_errors(axis: Axes, metrics: dict) -> None:
    """A group of bars for each method: validation rows, paler the test images, and these less their noise."""
    errors = {kind.words: metrics.get(key, {}) for key, kind in ERRORS.items()}
    errors = {what: of for what, of in errors.items() if any(v is not None for v in of.values())}
    names = [n for n in names_of(metrics) if any(of.get(n) is not None for of in errors.values())]
    height = 0.76 / max(len(errors), 2)
    for line, (what, of) in enumerate(errors.items()):
        offset, strength = (line - (len(errors) - 1) / 2) * height, (1.0, 0.45, 0.7)[line]
        for place, name in enumerate(names):
            if (value := of.get(name)) is not None:
                colour = 1 - strength * (1 - np.array(to_rgb(line_of(name)["color"])))
                axis.barh(place + offset, value, 0.9 * height, color=colour)
                axis.annotate(
                    f"{value:.3f}  {what}", (value, place + offset), (4, 0), textcoords="offset points", va="center",
                    fontsize=8,
                )  # fmt: skip
    axis.set_yticks(range(len(names)), [label(n, metrics).replace(", ", ",\n") for n in names])
    axis.invert_yaxis()
    axis.margins(x=0.4)
    if (floor := metrics.get("noise_floor", {}).get("held_out")) is not None:
        room = 0.1 * len(names)  # above the bars, for its label
        axis.set_ylim(top=-0.4 - room)
        axis.axvline(floor, linestyle="--", color=INK, linewidth=1, alpha=0.6, zorder=0.9)
        at = {"textcoords": "offset points", "va": "center", "fontsize": 8, "color": INK}
        axis.annotate("the noise alone", (floor, -0.4 - room / 2), (3, 0), **at)
    axis.set_title("Relative error of what was not fitted", loc="left")


def _draw_resolution(axis: Axes, metrics: dict) -> None:
    found = metrics["resolution"]
    frequency, correlation = found["frequency"], np.array(found["correlation"], float)
    axis.plot(frequency, correlation, "o-", color=OURS, linewidth=2, markersize=3)
    axis.axhline(THRESHOLD, linestyle="--", color=INK, linewidth=1.2, label=f"{THRESHOLD:g}: {in_words(found)}")
    hidden = np.isnan(correlation)
    if hidden.any():
        told = frequency[max(int(hidden.argmax()) - 1, 0)]
        axis.axvspan(told, frequency[-1], color=FAINT, alpha=0.4, label="hidden by the noise")
    if found["resolution"] is not None:
        axis.axvline(1 / found["resolution"], linestyle="--", color=INK, linewidth=0.8, alpha=0.5)
    axis.set(
        xlabel=f"spatial frequency (1/{found['unit'].removesuffix('s')})",
        xlim=(0, frequency[-1]),
        ylim=(min([0, *correlation[~hidden]]) - 0.05, 1.05),
    )
    axis.set_title("Correlation with rows that were not fitted", loc="left", fontsize=11)
    axis.legend(frameon=False, fontsize=8, loc="lower left")
