"""Aligns the images of a tilt series, whether or not the specimen changes while it is taken.

Writes, into the folder of the file or into --out: NAME_aligned.npz (a tilt series for data.path), NAME_shifts.csv
(in pixels of the file, for align.shifts), NAME_alignment.json (what was found) and NAME_alignment.png (to look at
before trusting it).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dip4d.alignment.shifts import Shifts

WRITTEN = ("aligned.npz", "shifts.csv", "alignment.json", "alignment.png")
SUMMARY = "align the images, whether or not the specimen changes meanwhile"
ARGUMENTS = {
    "angles": "option --angles",
    "tilt_axis": "option --tilt-axis",
    "pixel_nm": "option --pixel-nm",
    "bin": "option --bin",
}


def add_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("file", metavar="FILE", help="the tilt series")
    p.add_argument("--angles", metavar="FILE", help="angle file, where the series lacks its own")
    p.add_argument(
        "--tilt-axis",
        choices=("x", "y", "auto"),
        default="auto",
        help="image axis along which the tilt axis lies; default: the one that the images speak for",
    )
    p.add_argument("--invert", action="store_true", help="of a bright field: the background less the image")
    p.add_argument("--pixel-nm", type=float, help="pixel size in nm, where the file does not know it")
    p.add_argument("--bin", type=int, default=1, help="whole-number binning before all else (default: 1)")
    p.add_argument("--background", default="auto", help="auto (of each image, from its border), none, or a number")
    p.add_argument("--window", type=int, help="images in a window of time; default: what predicts left-out images best")
    p.add_argument(
        "--rounds", type=int, default=10, help="of projection matching; 0: coarse alignment only (default: 10)"
    )
    p.add_argument("--no-normalise", action="store_true", help="leave the brightness of the images as it is")
    p.add_argument(
        "--rotation", type=float, metavar="DEG", help="of the tilt axis from z towards s; default: look for it"
    )
    p.add_argument("--out", metavar="FOLDER", type=Path, help="where to write; default: the folder of FILE")


def run(a: argparse.Namespace) -> None:
    """Aligns, writes and prints what was found. Raises InputError."""
    from dip4d.alignment.align import align
    from dip4d.alignment.shifts import on_full_images
    from dip4d.io import read_tilt_series, write_tilt_series
    from dip4d.measures.background import margin_of
    from dip4d.measures.contrast import contrast_advice
    from dip4d.report.alignment_figure import draw_alignment

    a.file = Path(a.file).expanduser()
    folder = Path(a.file).parent if a.out is None else a.out
    paths = {kind: folder / f"{Path(a.file).stem}_{kind}" for kind in WRITTEN}
    _check(a, paths.values())
    full = read_tilt_series(a.file, a.angles, tilt_axis=a.tilt_axis, pixel_nm=a.pixel_nm)
    full = full.inverted() if a.invert else full
    print(full.describe(), flush=True)
    if warning := contrast_advice(full, key="--invert"):
        print(f"warning: {warning}")
    series = full.binned(a.bin).without_background(_background(a.background))
    series = replace(series, margin=margin_of(series))
    tell = lambda line: print(line, flush=True)
    aligned, shifts, report = align(
        series,
        normalise=not a.no_normalise,
        rotation_deg=a.rotation,
        width=a.window,
        rounds=a.rounds,
        report=tell,
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_tilt_series(paths["aligned.npz"], aligned)
    on_full_images(shifts, full, k=a.bin).save(paths["shifts.csv"])
    paths["alignment.json"].write_text(json.dumps(report, indent=1))
    draw_alignment(series, aligned, path=paths["alignment.png"], shifts=shifts, report=report)
    print(f"{summary(shifts, report)}\nwrote {', '.join(map(str, paths.values()))}")


def _check(a: argparse.Namespace, paths: Iterable[Path]) -> None:
    from dip4d.errors import InputError

    there = [str(path) for path in paths if path.exists()]
    if there:
        raise InputError(f"{', '.join(there)}: there already; move it, or name another folder with --out")
    for name, value, least in (("bin", a.bin, 1), ("rounds", a.rounds, 0), ("window", a.window, 4)):
        if value is not None and value < least:
            raise InputError(f"--{name} {value} must be at least {least}")


def _background(text: str) -> str | float:
    from dip4d.errors import InputError

    if text in ("auto", "none"):
        return text
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--background {text} must be auto, none or a number") from None


def summary(shifts: Shifts, report: dict) -> str:
    """What was found, in a few lines."""
    lines = [
        f"shifts: {report['rms_z_px']:.2f} px rms along z, {report['rms_s_px']:.2f} across, "
        f"{report['largest_px']:.1f} at most; tilt axis {shifts.axis:+.2f} px, turned {shifts.rotation_deg:+.2f} deg",
        f"SIRT residual: {report['sirt_residual_before']:.4f} before, {report['sirt_residual_after']:.4f} after",
    ]
    if report["rotation"] == "not found":
        lines.append("the rotation of the tilt axis does not show in the centres of mass: give it with --rotation")
    if report.get("suspect_images"):
        lines.append(f"warning: images {report['suspect_images']} do not fit the others; look at them (data.exclude)")
    return "\n".join(lines)
