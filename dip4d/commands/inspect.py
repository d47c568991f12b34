"""Says what a tilt series file holds and how it was understood, and draws a montage and a sinogram."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dip4d.measures.suspects import Suspect
    from dip4d.tilt_series import TiltSeries

SUMMARY = "what a file holds: images, tilt axis, angles, times, and what was assumed"
ARGUMENTS = {name: f"option --{name.replace('_', '-')}" for name in ("angles", "tilt_axis", "pixel_nm")}

_WIDEST_PX = 256  # images beyond that are better binned first
_A_LINE = 10  # numbers of one line of the list of intensities
_MOST_LISTED = 200  # images of which that list is printed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="a tilt series, or a folder of images with a csv")
    parser.add_argument("--angles", type=Path, help="angle file, where the series lacks its own")
    parser.add_argument("--invert", action="store_true", help="of a bright field: the background less the image")
    parser.add_argument("--tilt-axis", choices=("x", "y", "auto"), help="the image axis along which the tilt axis lies")
    parser.add_argument("--pixel-nm", type=float, help="pixel size in nm, where the file does not know it")
    parser.add_argument("--quick", action="store_true", help="do not time what a run needs, which takes some seconds")
    parser.add_argument("--out", type=Path, default=Path(), help="folder for the figures; by default this one")


def run(arguments: argparse.Namespace) -> None:
    """Prints what was understood and writes two figures, under names that are free. Raises InputError."""
    from dip4d.errors import InputError
    from dip4d.io import read_tilt_series
    from dip4d.measures.background import border_advice, margin_of
    from dip4d.measures.contrast import blank_advice, contrast_advice
    from dip4d.measures.suspects import suspects_advice, suspects_or_why
    from dip4d.run_folder import reconstruct_command

    if arguments.pixel_nm is not None and not arguments.pixel_nm > 0:
        raise InputError(f"--pixel-nm={arguments.pixel_nm} must be above 0")
    if arguments.out.exists() and not arguments.out.is_dir():
        raise InputError(f"--out={arguments.out} is a file, not a folder")
    asked = arguments.tilt_axis or "auto"
    read = read_tilt_series(arguments.file, arguments.angles, tilt_axis=asked, pixel_nm=arguments.pixel_nm)
    dark = contrast_advice(read, key="data.invert=true")
    invert = arguments.invert or dark is not None
    series = read.inverted() if invert else read
    found, why = suspects_or_why(series)

    print("\n".join(_lines(read, arguments)))
    print("\n".join(_intensity_lines(series)))
    named = suspects_advice(series, key="data.exclude") if found else None
    none = "none: no image is blank, shifted or of the wrong brightness"
    print(f"  suspects    {named or (f'cannot be told: {why}' if why else none)}")
    bare = series.without_background("auto")
    print(_jitter_line(bare))
    warnings = [dark if not arguments.invert else None, blank_advice(series)]
    warnings += [border_advice(series, key="data.background")]
    if margin := margin_of(bare):
        print(f"  cut off     across the tilt axis: reconstructed {margin} px farther at each side (data.margin_px)")
    for warning in filter(None, warnings):
        print(f"  warning     {warning}")
    for note in series.notes or ("nothing",):
        print(f"  assumed     {note}")
    for path in _draw(series, found, folder=arguments.out):
        print(f"  figure      {path}", flush=True)
    keys = _keys(arguments, read, invert=invert)
    if not arguments.quick:
        print(f"  needs       {_needs(keys, series)}")
    print(f"  next        {' '.join([reconstruct_command(), *map(shlex.quote, keys)])}")


def _lines(series: TiltSeries, arguments: argparse.Namespace) -> list[str]:
    import numpy as np

    t, z, s = series.shape
    from dip4d.measures.tilt_axis import CERTAIN, likely_tilt_axis

    upright = series.tilt_axis == "y"
    images = series.images if upright else series.images.transpose(0, 2, 1)
    looks, confidence = likely_tilt_axis(images, series.angles_deg)
    certain = confidence >= CERTAIN
    rows, columns = (z, s) if upright else (s, z)
    different = len(np.unique(np.round(series.angles_deg, 3)))
    scheme = "one sweep" if series.one_sweep else "several sweeps, or scattered"
    repeated = "" if different == t else f", {different} different"
    gaps = np.diff(series.times_s)
    even = (
        "evenly" if np.ptp(gaps) <= 1e-3 * max(abs(gaps.mean()), 1e-12) else f"{gaps.min():.4g} to {gaps.max():.4g} s"
    )
    asked = "as you say" if arguments.tilt_axis in ("x", "y") else ("by itself" if certain else "by default")
    return [
        str(arguments.file),
        f"  images      {t} of {rows} x {columns} pixels (rows x columns)",
        f"  axes        (t, z, s) = ({t}, {z}, {s}): time, along the tilt axis, across it",
        f"  tilt axis   along image {series.tilt_axis} ({asked}); the images speak for {looks}, confidence "
        f"{confidence:.2f}" + ("" if certain else ", not certain: look at the figures"),
        f"  angles      {series.angles_deg.min():g} to {series.angles_deg.max():g} deg, {scheme}{repeated}",
        f"  times       {series.times_s.min():g} to {series.times_s.max():g} s, apart: {even}",
        f"  pixel       {'unknown' if series.pixel_nm is None else f'{series.pixel_nm:.4g} nm'}",
        f"  intensity   {series.images.min():.5g} to {series.images.max():.5g}, mean {series.images.mean():.5g}",
    ]


def _intensity_lines(series: TiltSeries) -> list[str]:
    """The total intensity of every image above its background, relative to their mean; of long series the extremes."""
    from dip4d.measures.background import above_background

    total = above_background(series.images, series.shown).sum((1, 2), dtype="float64")
    mean = total.mean()
    relative = total / mean if mean else total
    about = f"  total       {mean:.5g} in an image on the mean, above its background; relative to it"
    if len(total) > _MOST_LISTED:
        low, high = relative.argmin(), relative.argmax()
        return [f"{about} {relative[low]:.3f} (image {low}) to {relative[high]:.3f} (image {high})"]
    lines = [f"{about}, of each image:"]
    for start in range(0, len(total), _A_LINE):
        cells = " ".join(f"{r:6.3f}" for r in relative[start : start + _A_LINE])
        lines.append(f"    {start:4d}      {cells}")
    return lines


def _jitter_line(series: TiltSeries) -> str:
    """How far images, less their background, jump along the tilt axis from one to the next; what becomes of it."""
    from dip4d.alignment.row_profiles import JITTER_TO_ALIGN_PX, jitter_px

    size = jitter_px(series)
    advice = "a run will align them; better, align them first and look: dip4d align"
    return f"  jitter      {size:.2f} px along the tilt axis" + (f": {advice}" if size >= JITTER_TO_ALIGN_PX else "")


def _needs(keys: list[str], series: TiltSeries) -> str:
    """The minutes and GB of the run with these keys, a few steps of which are timed; or why there can be none."""
    from dip4d.config.load import load_config
    from dip4d.conventional.methods import methods_of
    from dip4d.errors import InputError
    from dip4d.experiment.inputs import as_fitted
    from dip4d.experiment.plan import make_plan
    from dip4d.experiment.quiet import quiet_lightning
    from dip4d.measures.background import margin_of

    try:
        config = load_config(keys)
        methods = methods_of(config.compare.methods, with_truth=False)
        with quiet_lightning():
            fitted = as_fitted(config, series)
            fitted = replace(fitted, margin=margin_of(fitted))
            plan = make_plan(config, fitted, folder=Path(), methods=methods, with_truth=False)
    except InputError as error:
        return f"cannot be told: {error}"
    return plan.in_short()


def _keys(arguments: argparse.Namespace, series: TiltSeries, *, invert: bool) -> list[str]:
    """The keys that reconstruct a series as it was understood."""
    _, z, s = series.shape
    crop = _without_zeros(series)
    words = [f"data.path={arguments.file}"]
    words += [f"data.angles={arguments.angles}"] if arguments.angles else []
    words += [f"data.tilt_axis={series.tilt_axis}"]
    words += [f"data.pixel_nm={arguments.pixel_nm:g}"] if arguments.pixel_nm else []
    words += ["data.invert=true"] if invert else []
    words += [f"data.crop=[{','.join(map(str, crop))}]"] if crop != (0, z, 0, s) else []
    bins = -(-max(crop[1] - crop[0], crop[3] - crop[2]) // _WIDEST_PX)
    words += [f"data.bin={bins}"] if 1 < bins <= min(z, s) else []
    words += ["network.change=never"] if series.one_sweep else []
    return words


def _without_zeros(series: TiltSeries) -> tuple[int, int, int, int]:
    """The window (z0, z1, s0, s1) outside of which all images are 0; all of it where nothing else is."""
    import numpy as np

    there = (series.images != 0).any(0)
    z, s = (np.flatnonzero(there.any(axis)) for axis in (1, 0))
    if not z.size:
        return 0, series.shape[1], 0, series.shape[2]
    return int(z[0]), int(z[-1]) + 1, int(s[0]), int(s[-1]) + 1


def _draw(series: TiltSeries, found: list[Suspect], *, folder: Path) -> list[Path]:
    """The montage and the sinogram, under names that nothing has yet."""
    from dip4d.report import series_figures

    folder.mkdir(parents=True, exist_ok=True)
    stem = Path(series.source).expanduser().resolve().stem
    return [
        series_figures.draw_montage(series, found, path=free_path(folder / f"{stem}-montage.png")),
        series_figures.draw_sinogram(series, found, path=free_path(folder / f"{stem}-sinogram.png")),
    ]


def free_path(path: Path) -> Path:
    """The path, or the first of path-2, path-3, ... at which there is nothing yet."""
    number = 2
    free = path
    while free.exists():
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
    return free
