"""The scores of every method against time, of a run or of several."""

from __future__ import annotations

import math
from pathlib import Path

from dip4d.measures.image_quality import SCORES
from dip4d.report.style import FAINT, PLAIN, Look, label, line_of, new_figure, save_figure

BEGINNING = 0.05  # of the frames, marked: there every method that looks along time has least to go by


def draw_quality(runs: dict[str, dict], path: Path, *, look: Look = PLAIN) -> list[Path]:
    """Draws a panel for each of `SCORES`. runs: name -> metrics."""
    figure = new_figure(4.6 * len(SCORES), 4)
    axes = figure.subplots(1, len(SCORES), squeeze=False)[0]
    for i, (run, metrics) in enumerate(runs.items()):
        for name, scores in metrics["methods"].items():
            for axis, score in zip(axes, SCORES, strict=True):
                values = scores.get(score, [])
                points = [(t, v) for t, v in zip(metrics["times_s"], values, strict=False) if v is not None]
                if points:
                    text = label(name, metrics) + (f" ({run})" if run else "")
                    axis.plot(*zip(*points, strict=True), label=text, alpha=0.5 ** (i / 2), **line_of(name))
    times_s = next(iter(runs.values()))["times_s"]
    last = times_s[max(0, math.ceil(BEGINNING * len(times_s)) - 1)]
    for axis, score in zip(axes, SCORES.values(), strict=True):
        if axis.lines:
            axis.axvspan(times_s[0], last, color=FAINT, alpha=0.35, linewidth=0, label="first 5 % of the frames")
        axis.set(xlabel="time (s)", title=score.label)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False, fontsize=8)
    return save_figure(figure, path, look=look)
