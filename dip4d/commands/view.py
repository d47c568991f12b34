"""Opens the volumes of a run in napari; without napari, says how to get it and what else there is to look at."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

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
    times_s, pixel_nm = read_times_and_size(source)
    viewer = napari.Viewer(title=str(arguments.folder), ndisplay=3)
    for name, path in _layers(arguments.folder).items():
        volumes = open_volumes(path)
        viewer.add_image(
            volumes if len(volumes) > 1 else volumes[0],
            name=name,
            scale=_scale(times_s, pixel_nm)[0 if len(volumes) > 1 else 1 :],
            units=("s", *["nm" if pixel_nm else "pixel"] * 3)[0 if len(volumes) > 1 else 1 :],
            colormap="gray",
            contrast_limits=(0, float(volumes[len(volumes) // 2].max()) or 1.0),
            rendering="attenuated_mip",
            visible=name == "DIP-4D",
        )
    viewer.dims.axis_labels = ("t", "z", "y", "x")
    viewer.scale_bar.visible = True
    napari.run()


def _layers(folder: Path) -> dict[str, Path]:
    """The files of volumes and images of a run, by the names of their layers; ours first."""
    from dip4d.conventional.methods import label_of
    from dip4d.run_folder import UNCERTAINTY, VOLUMES, saved_volumes

    files = {"DIP-4D": folder / VOLUMES, "standard deviation": folder / UNCERTAINTY}
    names = {"series": "images (z, s)"}
    files |= {names.get(name, label_of(name)): path for name, path in saved_volumes(folder).items()}
    return {name: path for name, path in files.items() if path.is_file()}


def _scale(times_s: np.ndarray, pixel_nm: float | None) -> tuple[float, ...]:
    """Of t, z, y and x: the mean step in seconds, and the size of a voxel in nm, or 1."""
    span = float(times_s[-1] - times_s[0])
    return (span / (len(times_s) - 1) if len(times_s) > 1 and span > 0 else 1.0, *[pixel_nm or 1.0] * 3)


def _list_figures(folder: Path) -> None:
    from dip4d.run_folder import FIGURES

    figures = sorted((folder / FIGURES).glob("*.png"))
    print("\n".join(["figures of the run:", *(f"  {f}" for f in figures)]) if figures else
          f"its figures: dip4d report {shlex.quote(str(folder))}")  # fmt: skip
