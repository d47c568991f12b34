"""Tables and figures, made from the files of saved runs and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dip4d.errors import InputError
from dip4d.report.diagnostics_figure import draw_diagnostics
from dip4d.report.images_figure import draw_images
from dip4d.report.measures_figure import draw_measures
from dip4d.report.movie_figures import draw_movie
from dip4d.report.orthoslice_figure import draw_orthoslices
from dip4d.report.pipeline_figure import draw_pipeline
from dip4d.report.quality_figure import draw_quality
from dip4d.report.run_page import write_comparison, write_page
from dip4d.report.style import PLAIN, Look
from dip4d.report.tables import print_table, trust_lines
from dip4d.report.uncertainty_figure import draw_uncertainty
from dip4d.run_folder import FIGURES, MEASURES, METRICS, RUNS_PAGE, read_metrics, resume_command


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
    for draw in (draw_movie, draw_images, draw_uncertainty, draw_pipeline):
        drawn += draw(run, metrics, look=look)
    return drawn


def summarise(runs: Sequence[Path], look: Look = PLAIN) -> list[Path]:
    """Prints the table, draws the figures and writes the page of each run; of several, one figure and one page of all.

    Raises InputError if there is no run, or if its files do not fit each other.
    """
    drawn = []
    for run in runs:
        try:
            metrics = read_metrics(run)
            print_table(metrics, title=str(run))
            print("\n".join(trust_lines(metrics)))
            drawn += [*draw_figures(run, look), write_page(run)]
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
    if len(runs) > 1:
        drawn.append(write_comparison(runs, runs[-1] / RUNS_PAGE))
    return drawn
