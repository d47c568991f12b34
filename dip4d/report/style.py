"""What all figures share: how one is begun, and the colours that mean the same in all of them.

Figures are made without pyplot, so that drawing one in a notebook leaves the reader's own figures alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from mpl_toolkits.axes_grid1.anchored_artists import AnchoredSizeBar

from dip4d.conventional.methods import METHODS, label_of
from dip4d.whole_file import written_beside

OURS, INK, FAINT, KEPT_ASIDE = "#c1121f", "#34495e", "#b8c4cc", "#2a9d8f"
BEFORE, AFTER = "#9aa5b1", OURS
_UNKNOWN = {"color": "#6c757d", "linestyle": "-.", "linewidth": 1.2}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches."""
    return Figure(figsize=(width, height), layout="constrained")


@dataclass(frozen=True)
class Look:
    """How the figures of a run are drawn.

    frames: the images whose volumes are shown; those that the run kept for figures if None.
    z, y: through which the (y, x) and the (z, x) orthoslices are cut; the densest z and the middle if None.
    cmap: the colour map of matplotlib for slices; grey, as people know HAADF images.
    formats: of the files, each figure in all of them.
    dpi: dots per inch, of PNG.
    """

    frames: tuple[int, ...] | None = None
    z: int | None = None
    y: int | None = None
    cmap: str = "gray"
    formats: tuple[str, ...] = ("png",)
    dpi: int = 110


PLAIN = Look()


def save_figure(figure: Figure, path: Path, *, look: Look = PLAIN) -> list[Path]:
    """Writes a figure in every format of a look, beside `path`, a PNG; each file is whole at any moment.

    Drawn again of the same numbers it is the same file: no time of day stands in it.
    """
    paths = [path.with_suffix(f".{kind}") for kind in look.formats]
    timeless = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    with rc_context({"svg.hashsalt": path.stem}):
        for kind, file in zip(look.formats, paths, strict=True):
            with written_beside(file) as place:
                figure.savefig(place, dpi=look.dpi, format=kind, metadata=timeless.get(kind))
    return paths


def round_quarter(length: float) -> float:
    """The largest 1, 2 or 5 times a power of ten that is no more than a quarter of a length, for a scale bar."""
    power = 10 ** math.floor(math.log10(length / 4))
    return max(n * power for n in (1, 2, 5) if n * power <= length / 4)


def scale_bar(axis: Axes, shape: tuple[int, int], *, pixel_nm: float | None) -> None:
    """A bar of a round length, about a quarter of the width, below a picture (rows, columns)."""
    length, unit = (shape[1], "voxels") if pixel_nm is None else (shape[1] * pixel_nm, "nm")
    bar = round_quarter(length)
    size, thick = bar / (1 if pixel_nm is None else pixel_nm), max(shape[0] // 60, 1)
    label = f"{bar:g} {unit}"
    below = AnchoredSizeBar(
        axis.transData, size, label, "upper right", frameon=False, color=INK, size_vertical=thick, pad=0.0, sep=2,
        borderpad=0.0, bbox_to_anchor=(1, -0.04), bbox_transform=axis.transAxes, fontproperties=FontProperties(size=7),
    )  # fmt: skip
    axis.add_artist(below)


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
