"""The curves of a page: scores, residuals, mass and quantities against time, as plain lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dip4d.measures.image_quality import OURS, SCORES
from dip4d.report.measures_table import quantities_in, read_measures, title_of
from dip4d.report.style import INK, label, line_of
from dip4d.report.style import OURS as OUR_COLOUR
from dip4d.run_folder import MEASURES

_DASHES = {"-": "", "--": "6 4", ":": "2 3", "-.": "6 3 2 3"}
_OF_RUNS = (OUR_COLOUR, "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9")  # Okabe and Ito, but for the first


def charts_of(runs: Mapping[str, tuple[Path, dict]]) -> list[dict[str, Any]]:
    """The charts of a run, or of several: a title, and lines of points (s, value) or (s, value, error).

    runs: folder and metrics.json of each, by its name.
    Raises InputError if a table of quantities is damaged.
    """
    of_each = [_charts_of_run(path, metrics) for path, metrics in runs.values()]
    if len(runs) == 1:
        return [{"title": title, "lines": lines} for title, lines in of_each[0].items()]
    titles = dict.fromkeys(title for charts in of_each for title in charts)
    return [{"title": t, "lines": _ours_of_each(t, dict(zip(runs, of_each, strict=True)))} for t in titles]


def _ours_of_each(title: str, runs: Mapping[str, dict[str, list[dict]]]) -> list[dict]:
    """Our line of a chart, of each run that has it, named after the run."""
    found = []
    for i, (name, charts) in enumerate(runs.items()):
        mine = [line for line in charts.get(title, ()) if line["ours"]]
        look = {"label": name, "colour": _OF_RUNS[i % len(_OF_RUNS)], "ours": i == 0}
        found += [line | look for line in mine]
    return found


def _charts_of_run(path: Path, metrics: dict) -> dict[str, list[dict]]:
    """The lines of a run, by the titles of their charts."""
    times = metrics.get("times_s", [])
    charts = {}
    for name, score in SCORES.items():
        of = {n: scores[name] for n, scores in metrics["methods"].items() if scores.get(name)}
        charts[score.label] = [_line(times, values, look=look_of(n, metrics)) for n, values in of.items()]
    charts |= _quantities(path / MEASURES)
    if "residual_per_image" in metrics:
        look = {"label": "misfit of each image over that of all", "colour": OUR_COLOUR, "ours": True, "dots": True}
        charts["Residual"] = [_line(times, metrics["residual_per_image"], look=look)]
    if mass := metrics.get("mass"):
        usual = sum(mass["images"]) / max(len(mass["images"]), 1) or 1.0
        volumes = {"label": "volumes", "colour": OUR_COLOUR, "ours": True}
        images = {"label": "images", "colour": INK, "ours": False, "dots": True}
        parts = ((mass["images"], images), (mass["volumes"], volumes))
        charts["Mass, over its mean"] = [_line(times, [v / usual for v in values], look=look) for values, look in parts]
    return {title: lines for title, lines in charts.items() if any(line["points"] for line in lines)}


def look_of(name: str, metrics: dict) -> dict[str, Any]:
    """How the line of a method looks, and what it is called."""
    style = line_of(name)
    return {
        "label": label(name, metrics),
        "colour": style["color"],
        "dash": _DASHES[style["linestyle"]],
        "ours": name == OURS,
    }


def _line(times: Iterable[float | None], values: Iterable[float | None], *, look: dict[str, Any]) -> dict[str, Any]:
    points = [[t, v] for t, v in zip(times, values, strict=False) if t is not None and v is not None]
    return look | {"points": points}


def _quantities(path: Path) -> dict[str, list[dict]]:
    """The quantities of a measures.csv: ours with its error, and the truth where it is known; none without the file."""
    if not path.exists():
        return {}
    known = lambda values: [None if np.isnan(v) else float(v) for v in values]
    table = read_measures(path)
    columns = {name: known(values) for name, values in table.items()}
    capital = lambda words: words[:1].upper() + words[1:]
    return {capital(title_of(name)): _quantity(columns, name) for name in quantities_in(table)}


def _quantity(columns: Mapping[str, list[float | None]], name: str) -> list[dict]:
    times, errors = columns["time_s"], columns.get(f"{name}_sigma", [])
    ours = _line(times, columns[name], look={"label": "DIP-4D", "colour": OUR_COLOUR, "ours": True})
    if len([e for e in errors if e is not None]) == len(ours["points"]) == len(times):
        ours["points"] = [[*point, e] for point, e in zip(ours["points"], errors, strict=True)]
    truth = _line(
        times, columns.get(f"{name}_truth", []), look={"label": "truth", "colour": INK, "ours": False, "dash": "2 3"}
    )
    return [truth, ours] if truth["points"] else [ours]
