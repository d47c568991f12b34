"""Measured series: how well images that nothing saw are predicted, by ours and by SIRT and TV at their best.

    python benchmarks/measured.py [--only TEXT ...] [--again] [--quick] [--keys KEY=VALUE ...] [--data FOLDER]

--only   only cases whose name contains all these words; --again: run them although they are there already
--quick  images a quarter as large and few steps, only to see that it runs; nothing is kept
--keys   keys of the configuration, to try them; nothing is kept
--data   the folder of the series; by default that of DIP4D_REAL_DATA, or ../shared/data beside the repository

A needle at rest (NIST), six Au nanoparticles in liquid (EMAT) and one slice of a nanotube (CWI), as `SERIES` says. Of
each, single images are kept aside as in any run, and, in another run, gaps of five views. Ours has no keys but the file
and what is kept aside. Settings of the others are chosen by validation rows, as those of ours are. Results are kept in
results/measured.json, and the table in results/measured.md is made from it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import RESULTS, environment

# isort: split
import numpy as np

from dip4d.__main__ import main as dip4d_main
from dip4d.conventional.methods import label_of
from dip4d.io.series import read_tilt_series, write_tilt_series
from dip4d.measures.image_quality import ERRORS
from dip4d.run_folder import METRICS
from dip4d.tilt_series import TiltSeries

METHODS = ("sirt_whole", "sirt_window", "tv_whole", "tv_window", "sttv")
KEPT_ASIDE = {"images": (), "gaps": ("data.test_images=0.2", "data.test_images_in_a_row=5")}
QUICK = ("train.steps=30", "compare.iterations=15", "compare.windows=[20]", "network.motion=never")
OURS, NOISE = "dip", "noise alone"


@dataclass(frozen=True)
class Measured:
    """A measured series, and how it is made small enough for a CPU.

    file: in the folder of the series.
    bin: pixels along z and s that are averaged; along s alone of a single slice.
    together: consecutive images that are averaged, of a series of very many.
    tilt_axis, crop, background: as `data.tilt_axis`, `data.crop` and `data.background`.
    """

    file: str
    bin: int
    together: int = 1
    tilt_axis: str = "auto"
    crop: tuple[int, int, int, int] | None = None
    background: str | float = "auto"

    def read(self, folder: Path, *, coarser: int = 1) -> TiltSeries:
        """The series as it is reconstructed. coarser: so many times more pixels are averaged."""
        series = read_tilt_series(folder / self.file, tilt_axis=self.tilt_axis)
        series = series if self.crop is None else series.cropped(self.crop)
        series = averaged(series, self.together).without_background(self.background)
        return binned(series, self.bin * coarser)


SERIES = {
    "needle": Measured("nist_needle_aligned.hspy", bin=4),
    "particles": Measured("emat_liquid_N6.mrc", bin=3, tilt_axis="y", crop=(64, 160, 16, 240)),
    "nanotube": Measured("cwi_nanotube_sinogram.npy", bin=4, together=6, background=-0.00893),
}


def averaged(series: TiltSeries, together: int) -> TiltSeries:
    """The means of so many consecutive images, at their mean angles and times; what is left over is cut off."""
    count = len(series.images) // together
    mean = lambda values: values[: count * together].reshape(count, together, *values.shape[1:]).mean(1)
    if together == 1:
        return series
    images, angles, times = (mean(v) for v in (series.images, series.angles_deg, series.times_s))
    return dataclasses.replace(series, images=images, angles_deg=angles, times_s=times)


def binned(series: TiltSeries, k: int) -> TiltSeries:
    """As `TiltSeries.binned`; of a single slice along s alone."""
    t, z, s = series.shape
    if z > 1:
        return series.binned(k)
    images = series.images[..., : s // k * k].reshape(t, 1, s // k, k).mean(3)
    return dataclasses.replace(series, images=images, pixel_nm=series.pixel_nm and series.pixel_nm * k)


def run(series: TiltSeries, keys: list[str]) -> dict[str, Any]:
    """A whole run, with further keys; what is kept of it: the errors of every method, and those that noise makes."""
    with tempfile.TemporaryDirectory() as place:
        file, folder = Path(place) / "series.npz", Path(place) / "run"
        write_tilt_series(file, series)
        arguments = [
            f"data.path={file}",
            "data.background=none",
            f"compare.methods=[{','.join(METHODS)}]",
            "logger=csv",
        ]
        code = dip4d_main(["reconstruct", *arguments, f"run.dir={folder}", *keys])
        if code not in (0, 3):  # 3: the verdict is not good
            raise SystemExit(code)
        metrics = json.loads((folder / METRICS).read_text())
    return {
        "shape": list(series.shape),
        "errors": {words.words: metrics.get(key, {}) for key, words in ERRORS.items()},
        NOISE: {words.words: metrics.get("noise_floor", {}).get(key) for key, words in ERRORS.items()},
        "settings": {name: metrics["methods"].get(name, {}).get("settings", {}) for name in METHODS},
        "steps": metrics["steps"],
        "seconds": round(metrics["fit_seconds"], 1),
        "motion": metrics.get("motion"),
        "verdict": metrics.get("verdict", {}).get("level"),
    }


def table(cases: dict[str, dict[str, Any]]) -> str:
    """All cases in Markdown: the relative errors of ours and the others, and ours over the best of the others."""
    words = [kind.words for kind in ERRORS.values()]
    lines = ["| " + " | ".join(("series", "kept aside", "method", *words, "settings")) + " |"]
    lines.append("|---" * 3 + "|--:" * len(words) + "|---|")
    for name, case in cases.items():
        start = "| " + " | ".join(name.split()) + " | "
        for method in (OURS, *METHODS, NOISE):
            of = case[NOISE] if method == NOISE else {w: case["errors"][w].get(method) for w in words}
            label = {OURS: f"**DIP-4D** ({case['seconds']:.0f} s)", NOISE: NOISE}.get(method) or label_of(method)
            settings = {"steps": case["steps"]} if method == OURS else case["settings"].get(method, {})
            told = ", ".join(f"{k} {v:.3g}" for k, v in settings.items())
            lines.append(start + f"{label} | " + " | ".join(shown(of[w]) for w in words) + f" | {told} |")
        over = [ratio(case["errors"][w]) for w in words]
        lines.append(start + "ours over the best other | " + " | ".join(map(shown, over)) + " | |")
    return "\n".join(lines) + "\n"


def ratio(errors: dict[str, float | None]) -> float:
    """The error of ours over the least of the others; NaN where there is none."""
    ours, others = errors.get(OURS), [e for m, e in errors.items() if m in METHODS and e]
    return ours / min(others) if ours is not None and others else math.nan


def shown(value: float | None) -> str:
    return "" if value is None or np.isnan(value) else f"{value:.4f}"


def folder_of(given: Path | None) -> Path:
    """Where the series lie."""
    return given or Path(os.environ.get("DIP4D_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keys", nargs="*", default=[])
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    path = RESULTS / "measured.json"
    kept = json.loads(path.read_text())["cases"] if path.exists() else {}
    trial = arguments.quick or bool(arguments.keys)
    for name in [f"{series} {aside}" for series in SERIES for aside in KEPT_ASIDE]:
        series, aside = name.split()
        if not set(arguments.only) <= {series, aside} or (name in kept and not trial and not arguments.again):
            continue
        keys = [*KEPT_ASIDE[aside], *(QUICK if arguments.quick else ()), *arguments.keys]
        found = run(SERIES[series].read(folder_of(arguments.data), coarser=4 if arguments.quick else 1), keys)
        print(table({name: found}), flush=True)
        if not trial:
            kept[name] = found | environment()
            path.write_text(json.dumps({"cases": kept}, indent=1) + "\n")
            (RESULTS / "measured.md").write_text(table(kept))


if __name__ == "__main__":
    sys.exit(main())
