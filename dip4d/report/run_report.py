"""Tables and figures, made from the files of saved runs and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from dip4d.errors import InputError
from dip4d.measures.image_quality import NOISE, SCORES, at_frames, comparison_rows, scored_frames
from dip4d.measures.resolution import in_words
from dip4d.measures.verdict import Verdict
from dip4d.report.diagnostics_figure import draw_diagnostics
from dip4d.report.images_figure import draw_images
from dip4d.report.measures_figure import draw_measures
from dip4d.report.movie_figures import draw_movie
from dip4d.report.orthoslice_figure import draw_orthoslices
from dip4d.report.quality_figure import draw_quality
from dip4d.report.style import PLAIN, Look, label
from dip4d.run_folder import FIGURES, MEASURES, METRICS, read_metrics, resume_command

TABLE_WIDTH, SCORE_WIDTH = 96, 16  # columns of text, and as many more for each score


def print_table(metrics: dict, title: str = "") -> None:
    """The scores, mean and worst frame, and the errors of validation rows and test images, of every method."""
    rows = comparison_rows(metrics)
    columns = [c for c in rows[0] if any(r[c] is not None for r in rows)]
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column.replace("_", " "), justify="left" if column == "method" else "right")
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


def draw_figures(run: Path, look: Look = PLAIN) -> list[Path]:
    """Draws what the files of a run hold into its folder of figures; returns the paths. Raises InputError."""
    metrics = read_metrics(run)
    folder = run / FIGURES
    folder.mkdir(exist_ok=True)
    drawn = draw_orthoslices(run, metrics, look=look)
    if metrics["methods"].get("dip", {}).get("psnr"):
        drawn += draw_quality({"": metrics}, folder / "quality.png", look=look)
    if "residual_per_image" in metrics:
        drawn += draw_diagnostics(metrics, folder / "diagnostics.png", look=look)
    if (run / MEASURES).exists():
        drawn += draw_measures(run / MEASURES, folder / "measures.png", look=look)
    return drawn + draw_movie(run, metrics, look=look) + draw_images(run, metrics, look=look)


def summarise(runs: Sequence[Path], look: Look = PLAIN) -> list[Path]:
    """Prints the table and draws the figures of each run, and one figure of all when there are several.

    Raises InputError if there is no run, or if its files do not fit each other.
    """
    drawn = []
    for run in runs:
        try:
            metrics = read_metrics(run)
            print_table(metrics, title=str(run))
            print("\n".join(trust_lines(metrics)))
            drawn += draw_figures(run, look)
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
        drawn += draw_quality(scored, runs[-1] / FIGURES / "runs.png", look=look)
    return drawn
