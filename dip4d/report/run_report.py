"""Tables and figures, made from the files of saved runs and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import MaxNLocator
from rich.console import Console
from rich.table import Table

from dip4d.errors import InputError
from dip4d.measures.image_quality import ERRORS, NOISE, SCORES, at_frames, comparison_rows, scored_frames
from dip4d.measures.resolution import THRESHOLD, in_words
from dip4d.measures.verdict import Verdict
from dip4d.report.orthoslices import read_orthoslices
from dip4d.report.style import FAINT, INK, KEPT_ASIDE, OURS, label, line_of, names_of, new_figure, save_figure
from dip4d.run_folder import FIGURES, METRICS, read_metrics, resume_command

TABLE_WIDTH, SCORE_WIDTH = 96, 16  # columns of text, and as many more for each score


def print_table(metrics: dict, title: str = "") -> None:
    """The scores, mean and worst frame, and the errors of validation rows and test images, of every method."""
    rows = comparison_rows(metrics)
    columns = [c for c in rows[0] if any(r[c] is not None for r in rows)]
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column == "method" else "right")
    digits = {f"{name} {which}": score.digits for name, score in SCORES.items() for which in ("mean", "worst")}
    for row in rows:
        cells = [f"{row[c]:.{digits.get(c, 4)}f}" if isinstance(row[c], float) else str(row[c] or "-") for c in columns]
        table.add_row(
            *(_method(c, metrics) if column == "method" else c for column, c in zip(columns, cells, strict=True))
        )
    Console(width=TABLE_WIDTH + SCORE_WIDTH * len(SCORES)).print(table)


def trust_lines(metrics: dict) -> list[str]:
    """How far to trust a run: its resolution and its verdict, where it has them, a line each."""
    lines = []
    if found := metrics.get("resolution"):
        told = in_words(found)
        lines.append(f"Resolution: {told}, from rows that were not fitted; what the missing wedge hides it cannot know")
    if verdict := Verdict.of(metrics):
        lines.append(f"Verdict: {verdict}")
    return lines


def _method(row: str, metrics: dict) -> str:
    """The name of a row of `comparison_rows` in words, with its frames where they are not all."""
    if row == NOISE:
        return "the noise alone"
    name, _, at = row.partition(", ")
    scores = metrics["methods"].get(name, {})
    frames, every = len(scored_frames(scores)), max((len(scores.get(s, ())) for s in SCORES), default=0)
    some = at_frames(frames, scores) if 0 < frames < every else ""
    return label(name, metrics) + (f", {at}" if at else some)


def draw_figures(run: Path) -> list[Path]:
    """Draws what the files of a run hold into its folder of figures; returns the paths."""
    metrics = read_metrics(run)
    folder = run / FIGURES
    folder.mkdir(exist_ok=True)
    drawn = _draw_orthoslices(run, metrics, folder=folder)
    if metrics["methods"].get("dip", {}).get("psnr"):
        drawn.append(draw_quality({"": metrics}, folder / "quality.png"))
    if "residual_per_image" in metrics:
        drawn.append(draw_diagnostics(metrics, folder / "diagnostics.png"))
    return drawn


def draw_diagnostics(metrics: dict, path: Path) -> Path:
    """What tells without truth how good a run is: residual of each image, mass against time, errors, resolution."""
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
    save_figure(figure, path, dpi=130)
    return path


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
        "-" if mass[k] is None else f"{100 * mass[k]:{f}} %" for k, f in (("slope", "+.1f"), ("scatter", ".1f"))
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
        axis.axvline(floor, linestyle="--", color=INK, linewidth=1, alpha=0.6, zorder=0.9)
        axis.annotate("the noise alone", (floor, -0.44), (3, 0), textcoords="offset points", fontsize=8, color=INK)
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


def draw_quality(runs: dict[str, dict], path: Path) -> Path:
    """The scores against time for every method of every run; runs: name -> metrics."""
    figure = new_figure(5.5 * len(SCORES), 4)
    axes = figure.subplots(1, len(SCORES), squeeze=False)[0]
    for i, (run, metrics) in enumerate(runs.items()):
        for name, scores in metrics["methods"].items():
            for axis, score in zip(axes, SCORES, strict=True):
                values = scores.get(score, [])
                points = [(t, v) for t, v in zip(metrics["times_s"], values, strict=False) if v is not None]
                if points:
                    text = label(name, metrics) + (f" ({run})" if run else "")
                    axis.plot(*zip(*points, strict=True), label=text, alpha=0.5 ** (i / 2), **line_of(name))
    for axis, score in zip(axes, SCORES.values(), strict=True):
        axis.set(xlabel="time (s)", title=score.label)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=8)
    save_figure(figure, path, dpi=130)
    return path


def _draw_orthoslices(run: Path, metrics: dict, *, folder: Path) -> list[Path]:
    """Orthoslices over time, a figure for each plane: a row for each method, a column for each frame, one grey scale.

    The scale is that of the truth where there is one, else of ours.
    """
    slices = read_orthoslices(run)
    frames = slices.pop("frames")
    names = [n for n in names_of(metrics) if f"{n}_yx" in slices]
    vmax = float(slices["truth_yx" if "truth" in names else "dip_yx"].max()) or 1.0
    times_s = [metrics["times_s"][frame] for frame in frames]
    return [
        _draw_plane(
            {label(n, metrics): slices[f"{n}_{plane}"] for n in names},
            folder / f"orthoslices_{plane}.png",
            axes_names=plane,
            times_s=times_s,
            vmax=vmax,
        )
        for plane in ("yx", "zx")
    ]


def _draw_plane(
    slices: dict[str, np.ndarray],
    path: Path,
    *,
    axes_names: str,
    times_s: Sequence[float],
    vmax: float,
) -> Path:
    """slices: (frames, rows, columns) of each method, by its label."""
    rows, columns = next(iter(slices.values())).shape[1:]
    width = 1.5
    figure = new_figure(width * len(times_s) + 0.4, width * len(slices) * rows / columns + 0.4)
    axes = figure.subplots(len(slices), len(times_s), squeeze=False)
    for line, (name, pictures) in zip(axes, slices.items(), strict=True):
        for axis, picture in zip(line, pictures, strict=True):
            axis.imshow(picture, cmap="inferno", vmin=0, vmax=vmax, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        line[0].set_ylabel(name.replace(", ", ",\n"), fontsize=8)
    for axis, time_s in zip(axes[0], times_s, strict=True):
        axis.set_title(f"{time_s:g} s", fontsize=8)
    figure.supxlabel(f"({', '.join(axes_names)}) orthoslices", fontsize=8)
    save_figure(figure, path, dpi=110)
    return path


def summarise(runs: Sequence[Path]) -> list[Path]:
    """Prints the table and draws the figures of each run, and one figure of all when there are several.

    Raises InputError if there is no run, or if its files do not fit each other.
    """
    drawn = []
    for run in runs:
        try:
            metrics = read_metrics(run)
            print_table(metrics, title=str(run))
            print("\n".join(trust_lines(metrics)))
            drawn += draw_figures(run)
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{run / METRICS}: not the numbers of a whole run ({type(error).__name__}: {error}); "
                f"write them anew with {resume_command(run)}"
            ) from None
    scored = {run.name: read_metrics(run) for run in runs}
    scored = {name: m for name, m in scored.items() if m["methods"].get("dip", {}).get("psnr")}
    if len(scored) > 1:
        drawn.append(draw_quality(scored, runs[-1] / FIGURES / "runs.png"))
    return drawn
