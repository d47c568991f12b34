"""How soon is it good? Quality against seconds: ours, conventional reconstruction, and other groups' networks.

    python benchmarks/time_to_quality.py [--specimen NAME] [--size 64] [--seed 11] [--only NAME ...] [--draw]

A network is measured now and then during its fit, off its clock; ours takes the steps of its default, the others as
long as ours took, times `MORE_TIME`. A conventional method is measured after 1, 2, 5, 10 ... iterations, at the window
and the weight that are best against the truth; its seconds are those of all frames. Seconds are those of the clock, and
of the CPU (of all threads) beside them, which a busy machine changes less. What comes before a fit (a motion test) and
the choice of the settings of a conventional method are not counted.
Adds to results/time_to_quality-<size>.json, and draws the figure; prints when each passes frozen SIRT at its best.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from common import RESULTS, environment

# isort: split
import lightning as L
import numpy as np
import quality
import torch

import dip4d
from dip4d.config.schema import Config
from dip4d.conventional.baselines import Conventional
from dip4d.conventional.methods import METHODS, label_of
from dip4d.conventional.series import operator_and_rows
from dip4d.indices import evenly, window
from dip4d.measures.background import margin_of
from dip4d.reconstruction.module import DIP4D
from dip4d.reconstruction.networks import NETWORKS
from dip4d.simulation.simulate import frozen_images
from dip4d.tilt_series import TiltSeries

OURS, RIVALS = "dip", ("voxels", "tddip", "dipster")
CONVENTIONAL = ("sirt_window", "sirt_frozen", "tv_window", "tv_frozen")
BAR = "sirt_frozen"
MORE_TIME = 2.0  # the other networks may take so many times as long as ours
LOOKS = (25, *range(50, 401, 50), 500, 600, 800, 1000, 1200, 1400, 1600, 2000, 2500, 3000, 4000, 6000, 8000)
ITERATIONS = (1, 2, 5, 10, 20, 30, 50, 80, 120, 200, 300, 500)


class Looks(quality.Looks):
    """Measures the quality after some steps and at the end, off the clock; seconds of the CPU, too."""

    def __init__(self, truth: np.ndarray) -> None:
        super().__init__(truth, math.inf)
        self._cpu, self._left = 0.0, list(LOOKS)

    def on_train_batch_end(self, trainer: L.Trainer, module: DIP4D, *_) -> None:
        if trainer.global_step == 1:
            self._cpu = time.process_time()  # the first step compiles, as the clock of the fit knows
        if self._left and trainer.global_step >= self._left[0]:
            self._left.pop(0)
            with module.averaged.used():
                self.look(trainer, module)

    def look(self, trainer: L.Trainer, module: DIP4D) -> None:
        cpu = time.process_time()
        super().look(trainer, module)
        self.curve[-1]["cpu_seconds"] = cpu - self._cpu
        self._cpu += time.process_time() - cpu


def of_network(name: str, series: TiltSeries, truth: np.ndarray, *, seed: int, minutes: float | None) -> list[dict]:
    """The curve of a fit of the default settings, ended after some minutes if they are given."""
    looks = Looks(truth)
    dip4d.reconstruct(
        series,
        max_minutes=minutes,
        progress=False,
        callbacks=[looks],
        network=name,
        **{"run.seed": seed, "data.test_images": 0.0},
    )
    return looks.curve


def of_conventional(name: str, series: TiltSeries, truth: np.ndarray, *, case: argparse.Namespace) -> list[dict]:
    """The curve of a conventional method over its iterations, at the window and the weight that are best."""
    algorithm, scope = METHODS[name]
    frames, n_z, _ = series.shape
    unseen, windows = torch.zeros(n_z, frames, dtype=torch.bool), Config().compare.windows
    at_work = Conventional(
        series,
        unseen,
        truth=truth,
        frozen=frozen_images(case.specimen, case.size, n_z=case.n_z, frames=case.frames, seed=case.seed),
        iterations=ITERATIONS[-1],
        windows=windows,
        peak_counts=case.counts,
        seed=case.seed,
    )
    found, steps = at_work.baseline(name), algorithm.steps
    if "weight" in found.settings:
        steps = partial(steps, weight=found.settings["weight"])
    shown = evenly(frames, quality.LOOKED_AT)
    if scope.name == "frozen":
        problems = [steps(*at_work.frozen_series(t)) for t in shown]
    else:
        parts = (series.images_at(window(t, frames, width=int(found.settings["window"]))) for t in shown)
        problems = [steps(*operator_and_rows(part)) for part in parts]
    curve, began, cpu, share = [], time.monotonic(), time.process_time(), frames / len(shown)
    for iteration in range(1, ITERATIONS[-1] + 1):
        volumes = [next(problem) for problem in problems]
        if iteration in ITERATIONS:
            seconds, cpu_seconds = share * (time.monotonic() - began), share * (time.process_time() - cpu)
            value = quality.mean_psnr((series.field(v).numpy() for v in volumes), truth, frames=shown)
            curve.append({"seconds": seconds, "cpu_seconds": cpu_seconds, "step": iteration, "psnr": value})
    return curve


def passes(curve: list[dict], bar: float) -> dict | None:
    """The first point of a curve that is at or above a bar, dB; None if there is none."""
    return next((point for point in curve if point["psnr"] >= bar), None)


def compute(a: argparse.Namespace) -> dict[str, list[dict]]:
    """All curves, or those of the methods asked for, one after the other; those computed before are kept."""
    series, truth = dip4d.simulate(a.specimen, a.size, n_z=a.n_z, frames=a.frames, peak_counts=a.counts, seed=a.seed)
    series = replace(series, margin=margin_of(series))
    path, key, kept = results_of(a.size), key_of(a), known(a.size)
    curves = kept.get(key, {}).get("curves", {})
    for name in a.only or (OURS, *CONVENTIONAL, *RIVALS):
        if name in CONVENTIONAL:
            curves[name] = of_conventional(name, series, truth, case=a)
        else:
            minutes = None if name == OURS else MORE_TIME * curves[OURS][-1]["seconds"] / 60
            curves[name] = of_network(name, series, truth, seed=a.seed, minutes=minutes)
        print(f"{name}: {curves[name][-1]['psnr']:.2f} dB after {curves[name][-1]['seconds']:.0f} s", flush=True)
        size = {"size": a.size, "n_z": a.n_z or a.size, "frames": a.frames, "counts": a.counts}
        kept[key] = environment() | size | {"curves": curves}
        path.write_text(json.dumps(kept, indent=1) + "\n")
    return curves


def results_of(size: int) -> Path:
    return RESULTS / f"time_to_quality-{size}.json"


def key_of(a: argparse.Namespace) -> str:
    return f"{a.specimen} seed{a.seed}"


def known(size: int) -> dict[str, dict]:
    """What was computed before, by `key_of`."""
    path = results_of(size)
    return json.loads(path.read_text()) if path.exists() else {}


def computed_before(a: argparse.Namespace) -> dict[str, list[dict]]:
    """The curves, without any work."""
    kept, key = known(a.size), key_of(a)
    if key not in kept:
        there = ", ".join(kept) or "nothing"
        raise SystemExit(f"{results_of(a.size)}: has no {key}, only {there}; --seed and --specimen choose")
    return kept[key]["curves"]


def draw(curves: dict[str, list[dict]], title: str, path: Path) -> None:
    """PSNR against seconds of the clock; a ring where each passes the best of frozen SIRT."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    bar = max(point["psnr"] for point in curves[BAR])
    figure, axes = plt.subplots(figsize=(8.4, 4.4), layout="constrained")
    for name, curve in curves.items():
        label = label_of(name) if name in METHODS else NETWORKS[name].label
        style = {"lw": 2.4, "color": "#c1121f", "zorder": 5} if name == OURS else {"lw": 1.3}
        x, y = zip(*((p["seconds"], p["psnr"]) for p in curve), strict=True)
        (line,) = axes.plot(x, y, "--" if name in METHODS else "-", label=label, **style)
        if point := passes(curve, bar):
            axes.plot(point["seconds"], point["psnr"], "o", mfc="none", ms=9, color=line.get_color(), zorder=6)
    axes.axhline(bar, color="grey", lw=0.8)
    axes.text(0.01, bar, " the best of frozen SIRT", transform=axes.get_yaxis_transform(), va="bottom", color="grey")
    axes.set(xscale="log", xlabel="seconds", ylabel="PSNR, mean over the frames (dB)", title=title)
    axes.set_ylim(bottom=bar - 20)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=120)
    print(f"written to {path}")


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--specimen", default="nanostar_alloying")
    p.add_argument("--size", type=int, default=64, help="voxels across (default: 64)")
    p.add_argument("--n_z", type=int, help="positions along the tilt axis (default: as many)")
    p.add_argument("--frames", type=int, default=100, help="images (default: 100)")
    p.add_argument("--counts", type=float, default=500, help="at the brightest pixel (default: 500)")
    p.add_argument("--seed", type=int, default=11, help="of particle and noise (default: 11)")
    p.add_argument("--only", nargs="*", default=[], help="methods")
    p.add_argument("--draw", action="store_true", help="only the figure, of what was computed before")
    a = p.parse_args()
    curves = computed_before(a) if a.draw else compute(a)
    if BAR in curves:
        bar = max(point["psnr"] for point in curves[BAR])
        for name, curve in curves.items():
            point, best = passes(curve, bar), max(p["psnr"] for p in curve)
            when = f"passes it after {point['seconds']:.0f} s ({point['cpu_seconds']:.0f} of the CPU)" if point else ""
            print(f"{name:13s} at best {best:5.2f} dB, frozen SIRT {bar:.2f}  {when}")
        draw(curves, f"{a.specimen}, {a.size} voxels across, {a.frames} images", results_of(a.size).with_suffix(".png"))


if __name__ == "__main__":
    main()
