"""Opens the volumes of a run in napari; without napari, says how to get it and what else there is to look at."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

SUMMARY = "look at the volumes of a run in napari"
ARGUMENTS: dict[str, str] = {}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="RUN", type=Path, help="the folder of a finished run")


def run(arguments: argparse.Namespace) -> None:
    """Blocks until napari is closed. Raises InputError if there is no finished run."""
    from dip4d.commands.export import volumes_of
    from dip4d.io.volumes import open_volumes, read_times_and_size

    source = volumes_of(arguments.folder)
    try:
        import napari
    except ImportError:
        print("napari is not installed; get it with: pip install 'napari[all]'")
        print(f"{source} opens in Fiji and ImageJ too (Image > Hyperstacks)")
        _list_figures(arguments.folder)
        return
    volumes = open_volumes(source)
    _, pixel_nm = read_times_and_size(source)
    viewer = napari.Viewer(title=str(arguments.folder), ndisplay=3)
    viewer.add_image(
        volumes,
        name="DIP-4D",
        scale=(1, *[pixel_nm or 1] * 3),
        colormap="inferno",
        contrast_limits=(0, float(volumes[len(volumes) // 2].max()) or 1.0),
        rendering="attenuated_mip",
    )
    viewer.dims.axis_labels = ("t", "z", "y", "x")
    napari.run()


def _list_figures(folder: Path) -> None:
    from dip4d.run_folder import FIGURES

    figures = sorted((folder / FIGURES).glob("*.png"))
    print("\n".join(["figures of the run:", *(f"  {f}" for f in figures)]) if figures else
          f"its figures: dip4d report {shlex.quote(str(folder))}")  # fmt: skip
