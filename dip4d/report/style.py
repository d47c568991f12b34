"""What all figures share: how one is begun, and the colours that mean the same in all of them.

Figures are made without pyplot, so that drawing one in a notebook leaves the reader's own figures alone.
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from dip4d.conventional.methods import METHODS, label_of
from dip4d.whole_file import written_beside

OURS, INK, FAINT, KEPT_ASIDE = "#c1121f", "#34495e", "#b8c4cc", "#2a9d8f"
BEFORE, AFTER = "#9aa5b1", OURS
_UNKNOWN = {"color": "#6c757d", "linestyle": "-.", "linewidth": 1.2}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches."""
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path: Path, *, dpi: int) -> None:
    """Writes a figure as PNG; the file is whole at any moment."""
    with written_beside(path) as place:
        figure.savefig(place, dpi=dpi, format="png")


def names_of(metrics: dict) -> list[str]:
    """The methods of a metrics.json in the order of figures: truth, the network, the conventional ones as `METHODS`."""
    known = ["truth", "dip", *METHODS]
    there = {"truth", *metrics["methods"], *metrics.get("held_out", {})}
    return [n for n in known if n in there] + sorted(there - set(known))


def label(name: str, metrics: dict) -> str:
    """A method in words; the network by the label that the run gave it; whether the time for a search was too short."""
    if name == "dip":
        return metrics.get("network", {}).get("label", "DIP-4D")
    cut_short = metrics["methods"].get(name, {}).get("search_cut_short", False)
    return label_of(name) + (", search cut short" if cut_short else "")


def line_of(name: str) -> dict:
    """Colour and line of a method in plots: the colour tells the algorithm, the line what it is given."""
    if name == "dip":
        return {"color": OURS, "linestyle": "-", "linewidth": 2}
    if name not in METHODS:
        return _UNKNOWN
    algorithm, scope = METHODS[name]
    return {"color": algorithm.colour, "linestyle": scope.line, "linewidth": 1.2}
