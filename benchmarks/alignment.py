"""How well series are aligned: python benchmarks/alignment.py [star] [matching] [network] [needle] [--out FOLDER] ...

star: simulated particles that change shape and composition, each image displaced at random, the tilt axis off the
middle, against the shifts that are known. matching: the same by projection matching alone, from shifts that are off at
random. network: what our own network makes of the star as it is displaced, aligned, refined during the fit, and never
displaced, in --steps steps each. needle: the raw NIST needle against the series as its owners aligned it, and
a figure of a cross-section to look at. Prints tables in Markdown.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import common  # noqa: F401  # first: it finds the package

# isort: split
import matplotlib
import numpy as np
import torch
from scipy import ndimage

import dip4d
from dip4d.alignment.align import align
from dip4d.alignment.coarse import coarse
from dip4d.alignment.projection_matching import match_projections
from dip4d.alignment.residual import sirt_residual
from dip4d.alignment.shifts import Shifts, apply
from dip4d.conventional.algorithms import sirt
from dip4d.indices import window
from dip4d.io import read_tilt_series
from dip4d.measures.image_quality import psnr
from dip4d.projector import Geometry, Projector
from dip4d.report.alignment_figure import draw_alignment
from dip4d.simulation.simulate import add_noise, simulate
from dip4d.tilt_geometry import remove_unobservable_shift
from dip4d.tilt_series import TiltSeries

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SIZE, FRAMES, PEAK_COUNTS, JITTER, AXIS = 48, 64, 500.0, 2.0, 3.0
PARTS = ("star", "matching", "network", "needle")
WIDTH, ITERATIONS = 32, 50  # of the windowed SIRT that scores the star


def displaced(clean: TiltSeries, shifts: Shifts, *, seed: int) -> TiltSeries:
    """What is seen when the images are displaced: shifted without noise, in a wide field, then exposed."""
    pad = 16
    wide = np.pad(clean.images, ((0, 0), (pad, pad), (pad, pad)))
    moved = [ndimage.shift(i, d) for i, d in zip(wide, zip(shifts.z, shifts.across, strict=True), strict=True)]
    images = np.clip(np.stack(moved)[:, pad:-pad, pad:-pad], 0, None).astype(np.float32)
    return dataclasses.replace(clean, images=add_noise(images, PEAK_COUNTS, seed=seed))


def errors(found: Shifts, true: Shifts, *, angles_deg: np.ndarray) -> tuple[float, float]:
    """Root mean square along z and s, pixels, up to the position of the specimen in space."""
    z, s = remove_unobservable_shift(found.z - true.z, found.across - true.across, angles_deg=angles_deg)
    return float(np.sqrt(np.mean(z**2))), float(np.sqrt(np.mean(s**2)))


def quality(series: TiltSeries, truth: np.ndarray) -> float:
    """Mean PSNR, dB, of every fourth frame by SIRT in a window of time."""
    frames, _, bins = series.shape
    angles = torch.from_numpy(np.deg2rad(series.angles_deg))
    rows = torch.from_numpy(series.images).permute(1, 0, 2)
    scores = []
    for t in range(0, frames, 4):
        around = window(t, frames, width=WIDTH)
        A = Projector(Geometry((bins, bins), bins, angles[around]))
        volume = sirt(A, rows[:, around].contiguous(), ITERATIONS).numpy()
        scores.append(psnr(volume, truth[t], data_range=float(truth.max())))
    return float(np.mean(scores))


def case(seed: int, scheme: str) -> tuple[TiltSeries, np.ndarray, Shifts]:
    """The star without noise, its truth, and how its images are to be displaced."""
    clean, truth = simulate("nanostar_alloying", SIZE, frames=FRAMES, scheme=scheme, peak_counts=0, seed=seed)
    rng = np.random.default_rng(seed + 100)
    return clean, truth, Shifts(rng.normal(0, JITTER, FRAMES), rng.normal(0, JITTER, FRAMES), AXIS)


def placed(found: Shifts, true: Shifts, *, angles_deg: np.ndarray) -> Shifts:
    """The shifts found, with what no alignment can know taken from the true ones: the truth stands where it was."""
    off_z, off_s = found.z - true.z, found.across - true.across
    rest_z, rest_s = remove_unobservable_shift(off_z, off_s, angles_deg=angles_deg)
    return Shifts(found.z - (off_z - rest_z), found.across - (off_s - rest_s), 0.0, found.rotation_deg)


def star(seed: int, scheme: str) -> str:
    """A line of the table."""
    clean, truth, true = case(seed, scheme)
    series, angles = displaced(clean, true, seed=seed), clean.angles_deg
    first, _ = coarse(series)
    began = time.monotonic()
    _, found, report = align(series, normalise=False)
    seconds = time.monotonic() - began
    still = dataclasses.replace(clean, images=add_noise(clean.images, PEAK_COUNTS, seed=seed))
    scores = [quality(s, truth) for s in (series, apply(series, placed(found, true, angles_deg=angles)), still)]
    columns = [e for s in (Shifts.none(FRAMES), first, found) for e in errors(s, true, angles_deg=angles)]
    return (
        f"| {scheme} {seed} | " + " | ".join(f"{a:.2f} / {b:.2f}" for a, b in zip(*[iter(columns)] * 2, strict=True))
        + f" | {found.rotation_deg:+.2f} | {report['window']} | "
        + " | ".join(f"{s:.2f}" for s in scores) + f" | {seconds:.0f} |"
    )  # fmt: skip


def matching(rms: float) -> str:
    """A line of the table: projection matching from shifts that are off by `rms` pixels."""
    clean, _ = simulate("nanostar_alloying", SIZE, frames=FRAMES, peak_counts=0, seed=0)
    rng = np.random.default_rng(5)
    true = Shifts(rng.normal(0, JITTER, FRAMES), rng.normal(0, JITTER, FRAMES), AXIS)
    start = true.plus(rng.normal(0, rms, FRAMES), rng.normal(0, rms, FRAMES))
    found = match_projections(displaced(clean, true, seed=0), start, width=WIDTH, rounds=20)
    cells = [
        f"{z:.2f} / {s:.2f}"
        for z, s in (errors(shifts, true, angles_deg=clean.angles_deg) for shifts in (start, found))
    ]
    return f"| {' | '.join(cells)} |"


def network(steps: int) -> Iterator[str]:
    """Lines of a table: PSNR of our own network, and what is wrong with the shifts."""
    clean, truth, true = case(0, "grs")
    angles, z = clean.angles_deg, slice(SIZE // 4, SIZE - SIZE // 4)
    series, still = (
        displaced(clean, true, seed=0),
        dataclasses.replace(clean, images=add_noise(clean.images, PEAK_COUNTS, seed=0)),
    )
    rough, _ = coarse(series)
    _, fine, _ = align(series, normalise=False)
    fits = {
        "displaced": (series, None, False),
        "coarse": (series, rough, False),
        "coarse, refined": (series, rough, True),
        "aligned": (series, fine, False),
        "aligned, refined": (series, fine, True),
        "never displaced": (still, None, False),
    }
    keys = {"automatic": False}
    for name, (images, found, refine) in fits.items():
        shifts = None if found is None else placed(found, true, angles_deg=angles)
        shown = (images if shifts is None else apply(images, shifts)).cropped((z.start, z.stop, 0, SIZE))
        movie = dip4d.reconstruct(
            shown, truth=truth[:, z], steps=steps, progress=False, align=keys | {"refine": refine}
        )
        shifts = Shifts.none(FRAMES) if shifts is None else shifts
        if movie.shifts is not None:
            shifts = shifts.plus(movie.shifts.z, movie.shifts.s)
        off = errors(shifts, true, angles_deg=angles) if images is series else (0.0, 0.0)
        scores = movie.metrics
        yield f"| {name} | {off[0]:.2f} / {off[1]:.2f} | {scores['psnr_mean']:.2f} | {scores['psnr_worst']:.2f} |"


def needle(data: Path, out: Path, binning: int) -> None:
    """Prints the residuals; draws the alignment and cross-sections of both series."""
    import h5py

    raw = read_tilt_series(data / "nist_needle_raw_fei.mrc", data / "nist_needle.rawtlt", tilt_axis="x")
    with h5py.File(data / "nist_needle_aligned.hspy") as file:
        images = file["Experiments/__unnamed__/data"][:].transpose(0, 2, 1)
    nist = TiltSeries(images, np.loadtxt(data / "nist_needle_aligned.rawtlt"))
    raw, nist = (s.without_background("auto").binned(binning) for s in (raw, nist))
    began = time.monotonic()
    aligned, shifts, report = align(raw, normalise=False, report=print)
    seconds = time.monotonic() - began
    rows = np.zeros(raw.shape[1], bool)
    rows[60 // binning : 195 // binning] = True  # the needle, without the ends that come and go
    print("\n| series | SIRT residual, 50 iterations |\n|---|---|")
    for name, series in (("raw", raw), ("aligned here", aligned), ("aligned by NIST", nist)):
        print(f"| {name} | {sirt_residual(series, rows=rows):.4f} |")
    print(f"axis turned {shifts.rotation_deg:+.2f} deg; windows of {report['window']}; {seconds:.0f} s")
    draw_alignment(raw, aligned, path=out / "needle_alignment.png", shifts=shifts, report=report)
    draw_sections({"raw": raw, "aligned here": aligned, "aligned by NIST": nist}, binning, out / "needle_sections.png")


def draw_sections(series: dict[str, TiltSeries], binning: int, path: Path) -> None:
    """Cross-sections of static SIRT reconstructions at a few z."""
    places = [z // binning for z in (50, 95, 112, 145, 170)]
    figure, axes = plt.subplots(len(series), len(places), figsize=(12, 7.5), layout="constrained")
    for line, (name, one) in zip(axes, series.items(), strict=True):
        bins = one.shape[2]
        A = Projector(Geometry((bins, bins), bins, torch.from_numpy(np.deg2rad(one.angles_deg))))
        x = sirt(A, torch.from_numpy(one.images[:, places].transpose(1, 0, 2).copy()), 50).numpy()
        for axis, z, section in zip(line, places, x, strict=True):
            middle, half = bins // 2, bins // 5
            cut = section[middle - half : middle + half, middle - half : middle + half]
            axis.imshow(cut, cmap="inferno", vmin=0, vmax=np.quantile(section, 0.999))
            axis.set(xticks=[], yticks=[], title=f"z = {z * binning}")
        line[0].set_ylabel(name)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(arguments: list[str]) -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", nargs="*", default=PARTS, help=", ".join(PARTS))
    p.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    p.add_argument("--out", type=Path, default=Path("."))
    p.add_argument("--bin", type=int, default=1, help="binning of the needle")
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--steps", type=int, default=800, help="of the fits of our own network")
    a = p.parse_args(arguments)
    if "star" in a.what:
        print("rms error along z / s in pixels, PSNR of windowed SIRT in dB")
        columns = ("series", "displaced", "coarse", "aligned", "rotation", "window")
        print(f"| {' | '.join((*columns, 'dB, displaced', 'dB, aligned', 'dB, never displaced', 's'))} |")
        print("|" + "---|" * 10)
        for scheme in ("grs", "pingpong"):
            for seed in range(a.seeds):
                print(star(seed, scheme), flush=True)
    if "matching" in a.what:
        print("\n| start | by projection matching alone |\n|---|---|")
        for rms in (0.5, 1.0, 2.0):
            print(matching(rms), flush=True)
    if "network" in a.what:
        lines = list(network(a.steps))
        print("\n| series | wrong with the shifts | dB, mean | worst frame |\n|---|---|---|---|", *lines, sep="\n")
    if "needle" in a.what:
        needle(a.data, a.out, a.bin)


if __name__ == "__main__":
    main(sys.argv[1:])
