"""Tables and figures, made from the files of saved runs and from nothing else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from rich.console import Console
from rich.table import Table

from dip4d.errors import InputError
from dip4d.metrics import HELD_OUT, comparison_rows
from dip4d.resolution import FIXED, in_words
from dip4d.run_folder import FIGURES, METRICS, ORTHOSLICES

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.colors import to_rgb

_SCOPES = {"frozen": ("frozen frames", "-"), "window": ("sliding window", "--"), "whole": ("whole series", ":")}
_COLOURS = {"sirt": "#003049", "fbp": "#2a9d8f", "em": "#e09f3e", "tv": "#7b2cbf"}
_OURS, _INK, _FAINT = "#c1121f", "#34495e", "#b8c4cc"
LABELS = {"truth": "truth", "dip": "DIP-4D"} | {
    f"{algorithm}_{scope}": f"{algorithm.upper()}, {words}"
    for algorithm in _COLOURS
    for scope, (words, _) in _SCOPES.items()
}


def _style(name: str) -> dict:
    """Colour and line of a method in plots: the colour tells the algorithm, the line what it is given."""
    if name == "dip":
        return {"color": _OURS, "linestyle": "-", "linewidth": 2}
    algorithm, scope = name.split("_")
    return {"color": _COLOURS[algorithm], "linestyle": _SCOPES[scope][1], "linewidth": 1.2}


def read_metrics(run: Path) -> dict:
    """metrics.json of a run. Raises InputError if it is missing or broken."""
    try:
        return json.loads((run / METRICS).read_text())
    except OSError:
        raise InputError(f"{run}: no {METRICS}; is it the folder of a finished run?") from None
    except ValueError as error:
        raise InputError(f"{run / METRICS}: not readable ({error})") from None


def print_table(metrics: dict, title: str = "") -> None:
    """PSNR and SSIM, mean and worst frame, and errors of held-out rows and images, of every method."""
    rows = comparison_rows(metrics)
    columns = [c for c in rows[0] if any(r[c] is not None for r in rows)]
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column == "method" else "right")
    digits = {"psnr mean": 2, "psnr worst": 2}
    for row in rows:
        cells = [f"{row[c]:.{digits.get(c, 4)}f}" if isinstance(row[c], float) else str(row[c] or "-") for c in columns]
        table.add_row(
            *(LABELS.get(c, c) if column == "method" else c for column, c in zip(columns, cells, strict=True))
        )
    Console(width=110).print(table)


def draw_figures(run: Path) -> list[Path]:
    """Draws what the files of a run hold into its folder of figures; returns the paths."""
    metrics = read_metrics(run)
    folder = run / FIGURES
    folder.mkdir(exist_ok=True)
    drawn = _draw_orthoslices(run / ORTHOSLICES, metrics, folder)
    if metrics["methods"].get("dip", {}).get("psnr"):
        drawn.append(draw_quality({"": metrics}, folder / "quality.png"))
    if "residual_per_image" in metrics:
        drawn.append(draw_trust(metrics, folder / "trust.png"))
    return drawn


def draw_trust(metrics: dict, path: Path) -> Path:
    """What tells without truth how good a run is: residual of each image, mass against time, held-out errors, and the
    Fourier shell correlation where it was measured.
    """
    panels = {"mass": _draw_mass, "errors": _draw_held_out} | ({"fsc": _draw_fsc} if "resolution" in metrics else {})
    figure, axes = plt.subplot_mosaic(
        [["residual"] * len(panels), list(panels)], figsize=(5 * len(panels), 7), layout="constrained"
    )
    for name, draw in ({"residual": _draw_residual} | panels).items():
        draw(axes[name], metrics)
        axes[name].spines[["top", "right"]].set_visible(False)
        axes[name].set_axisbelow(True)
        axes[name].grid(axis="x" if name == "errors" else "y", alpha=0.3)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


def _draw_residual(axis: plt.Axes, metrics: dict) -> None:
    numbers, values = np.array(metrics["images"]), np.array(metrics["residual_per_image"], float)
    suspect, unseen = (np.isin(numbers, metrics[k]) for k in ("suspect_images", "unseen_images"))
    axis.vlines(numbers, 0, values, color=_FAINT, linewidth=1)
    for chosen, colour, label in (
        (~(suspect | unseen), _INK, "fitted"),
        (unseen & ~suspect, _COLOURS["fbp"], "held out"),
        (suspect, _OURS, "does not fit the others"),
    ):
        if chosen.any():
            axis.plot(numbers[chosen], values[chosen], "o", color=colour, markersize=4.5, label=label, clip_on=False)
    for number, value in zip(numbers[suspect], values[suspect], strict=True):
        axis.annotate(str(number), (number, value), (0, 5), textcoords="offset points", ha="center", color=_OURS)
    axis.set(xlabel="image", ylim=(0, 1.12 * np.nanmax(values)))
    axis.set_title("Residual of each image, relative to the rms of all", loc="left")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.margins(x=0.02)
    axis.legend(frameon=False, fontsize=8, ncols=3, loc="lower right", bbox_to_anchor=(1, 0.99))


def _draw_mass(axis: plt.Axes, metrics: dict) -> None:
    mass, times = metrics["mass"], metrics["times_s"]
    usual = float(np.mean(mass["images"])) or 1.0
    axis.axhline(1, color=_FAINT, linewidth=1)
    axis.plot(times, np.array(mass["images"]) / usual, ".", color=_INK, markersize=5, label="images")
    axis.plot(times, np.array(mass["volumes"]) / usual, color=_OURS, linewidth=2, label="volumes")
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, 0.9), max(high, 1.1))  # flat looks flat
    slope, scatter = (
        "-" if mass[k] is None else f"{100 * mass[k]:{f}} %" for k, f in (("slope", "+.1f"), ("scatter", ".1f"))
    )
    axis.set_xlabel("time (s)")
    axis.set_title(f"Total mass: {slope} over the series, scatter {scatter}", loc="left")
    axis.legend(frameon=False, fontsize=8)


def _draw_held_out(axis: plt.Axes, metrics: dict) -> None:
    """A group of bars for each method: held-out rows, paler the whole images, and these less their noise."""
    errors = {what: metrics.get(key, {}) for key, what in HELD_OUT.items()}
    errors = {what: of for what, of in errors.items() if any(v is not None for v in of.values())}
    names = [n for n in LABELS if any(of.get(n) is not None for of in errors.values())]
    height = 0.76 / max(len(errors), 2)
    for line, (what, of) in enumerate(errors.items()):
        offset, strength = (line - (len(errors) - 1) / 2) * height, (1.0, 0.45, 0.7)[line]
        for place, name in enumerate(names):
            if (value := of.get(name)) is not None:
                colour = 1 - strength * (1 - np.array(to_rgb(_style(name)["color"])))
                axis.barh(place + offset, value, 0.9 * height, color=colour)
                axis.annotate(
                    f"{value:.3f}  {what}", (value, place + offset), (4, 0), textcoords="offset points", va="center",
                    fontsize=8,
                )  # fmt: skip
    axis.set_yticks(range(len(names)), [LABELS[n].replace(", ", ",\n") for n in names])
    axis.invert_yaxis()
    axis.margins(x=0.4)
    axis.set_title("Relative error of what was held out", loc="left")


def _draw_fsc(axis: plt.Axes, metrics: dict) -> None:
    found = metrics["resolution"]
    frequency, fixed = found["frequency"], [FIXED] * len(found["frequency"])
    axis.plot(frequency, found["correlation"], color=_OURS, linewidth=2)
    for key, name, level, line in (
        ("fixed", f"{FIXED:g}", fixed, "--"),
        ("half_bit", "half-bit", found["half_bit_curve"], ":"),
    ):
        axis.plot(frequency, level, line, color=_INK, linewidth=1.2, label=f"{name}: {in_words(found, key)}")
        if found[key] is not None:
            axis.axvline(1 / found[key], linestyle=line, color=_INK, linewidth=0.8, alpha=0.5)
    axis.set(
        xlabel=f"spatial frequency (1/{found['unit'].removesuffix('s')})",
        xlim=(0, frequency[-1]),
        ylim=(min(0, *found["correlation"]) - 0.05, 1.05),
    )
    axis.set_title("Fourier shell correlation, even and odd images", loc="left", fontsize=11)
    axis.legend(frameon=False, fontsize=8, loc="lower left")


def draw_quality(runs: dict[str, dict], path: Path) -> Path:
    """PSNR and SSIM against time for every method of every run; runs: label -> metrics."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for i, (label, metrics) in enumerate(runs.items()):
        for name, scores in metrics["methods"].items():
            for axis, score in zip(axes, ("psnr", "ssim"), strict=True):
                values = scores.get(score, [])
                points = [(t, v) for t, v in zip(metrics["times_s"], values, strict=False) if v is not None]
                if points:
                    text = LABELS[name] + (f" ({label})" if label else "")
                    axis.plot(*zip(*points, strict=True), label=text, alpha=0.5 ** (i / 2), **_style(name))
    for axis, title in zip(axes, ("PSNR (dB)", "SSIM"), strict=True):
        axis.set(xlabel="time (s)", title=title)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


def _draw_orthoslices(source: Path, metrics: dict, folder: Path) -> list[Path]:
    """Orthoslices over time, a figure for each plane: a row for each method, a column for each frame, one grey scale.

    The scale is that of the truth where there is one, else of ours.
    """
    try:
        with np.load(source) as arrays:
            slices = {k: arrays[k] for k in arrays.files}
    except (OSError, ValueError) as error:
        raise InputError(f"{source}: not readable ({error})") from None
    frames = slices.pop("frames")
    names = [n for n in LABELS if f"{n}_yx" in slices]
    brightest = float(slices["truth_yx" if "truth" in names else "dip_yx"].max()) or 1.0
    return [
        _draw_plane(plane, {n: slices[f"{n}_{plane}"] for n in names}, frames, metrics["times_s"], brightest, folder)
        for plane in ("yx", "zx")
    ]


def _draw_plane(
    plane: str,
    slices: dict[str, np.ndarray],
    frames: np.ndarray,
    times_s: Sequence[float],
    brightest: float,
    folder: Path,
) -> Path:
    rows, columns = next(iter(slices.values())).shape[1:]
    width = 1.5
    figure, axes = plt.subplots(
        len(slices),
        len(frames),
        figsize=(width * len(frames) + 0.4, width * len(slices) * rows / columns + 0.4),
        squeeze=False,
        layout="constrained",
    )
    for line, (name, pictures) in zip(axes, slices.items(), strict=True):
        for axis, picture in zip(line, pictures, strict=True):
            axis.imshow(picture, cmap="inferno", vmin=0, vmax=brightest, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(LABELS[name].replace(", ", ",\n"), fontsize=8)
    for axis, frame in zip(axes[0], frames, strict=True):
        axis.set_title(f"{times_s[frame]:g} s", fontsize=8)
    figure.supxlabel(f"({plane[0]}, {plane[1]}) orthoslices", fontsize=8)
    path = folder / f"orthoslices_{plane}.png"
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def summarise(runs: Sequence[Path]) -> list[Path]:
    """Prints the table and draws the figures of each run, and one figure of all when there are several."""
    drawn = []
    for run in runs:
        print_table(read_metrics(run), title=str(run))
        drawn += draw_figures(run)
    scored = {run.name: read_metrics(run) for run in runs}
    scored = {name: m for name, m in scored.items() if m["methods"].get("dip", {}).get("psnr")}
    if len(scored) > 1:
        drawn.append(draw_quality(scored, runs[-1] / FIGURES / "runs.png"))
    return drawn
