"""The table of the methods of a run, and the lines on how far to trust it."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from dip4d.measures.image_quality import NOISE, SCORES, at_frames, comparison_rows, scored_frames
from dip4d.measures.resolution import in_words
from dip4d.measures.verdict import Verdict
from dip4d.report.style import label

TABLE_WIDTH, SCORE_WIDTH = 96, 16  # columns of text, and as many more for each score
METHOD_WIDTH = 22  # a method in one line


def table_of(metrics: dict) -> tuple[list[str], list[list[str]]]:
    """The columns, and a row of cells for every method: scores, mean and worst, and errors of what was kept aside.

    A cell that has nothing to tell is "-"; a column of nothing else is left out.
    """
    rows = comparison_rows(metrics)
    columns = [c for c in rows[0] if any(r[c] is not None for r in rows)]
    digits = {f"{name} {which}": score.digits for name, score in SCORES.items() for which in ("mean", "worst")}
    told = lambda c, v: name_of_row(v, metrics) if c == "method" else f"{v:.{digits.get(c, 4)}f}"
    return columns, [["-" if row[c] is None else told(c, row[c]) for c in columns] for row in rows]


def print_table(metrics: dict, title: str = "") -> None:
    """The scores, mean and worst frame, and the errors of validation rows and test images, of every method."""
    columns, rows = table_of(metrics)
    table = Table(title=title, title_justify="left")
    table.add_column(columns[0], min_width=METHOD_WIDTH)
    for column in columns[1:]:
        table.add_column(column.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*row)
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


def name_of_row(row: str, metrics: dict) -> str:
    """The method of a row of `comparison_rows` in words, with its frames where they are not all."""
    if row == NOISE:
        return "the noise alone"
    name, _, at = row.partition(", ")
    scores = metrics["methods"].get(name, {})
    frames, every = len(scored_frames(scores)), max((len(scores.get(s, ())) for s in SCORES), default=0)
    some = at_frames(frames, scores) if 0 < frames < every else ""
    return label(name, metrics) + (f", {at}" if at else some)
