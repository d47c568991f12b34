"""How good is the movie? Every specimen, scheme, dose and rival, frame by frame, against the truth.

    python benchmarks/quality.py [--quick | --small | --standard | --full | --hard | --camera] [--only TEXT ...]

--quick     one specimen of each kind, ours and the cheap rivals: under 20 minutes on 2 cores
--small     the whole matrix, 48 x 48 x 24 voxels, 60 frames, 2 minutes a fit
--standard  64^3 voxels, 100 frames, 10 minutes a fit: four specimens, ours beside its closest rivals
--full      128^3 voxels, 100 frames, 5 minutes a fit, and the noise-free nanocage at 100^3: for a GPU
--hard      sharp specimens of other kinds, of the size of --small, with seeds of their own and no clock. Those of the
            families B, which nothing is tuned on; --families A: those for development
--camera    two specimens through a camera with each of its faults, and with all of them
--list      says what would be computed; --draw: only the table and the figure
--only      only cases whose name contains all these words; --again: compute them although they are there already

What is computed is kept in results/quality-<size>.json, case by case, and not computed again. At the end, or at once
with --draw, the table and the figure are made from it. Of a part with a time, all networks get it; settings were
found on seeds 1 to 3, the seeds here are others. Conventional methods run at their best settings against the truth.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from common import RESULTS, environment

# isort: split
import lightning as L
import numpy as np
import torch

import dip4d
from dip4d.config.load import load_config
from dip4d.config.schema import Config
from dip4d.conventional.baselines import Conventional
from dip4d.experiment.inputs import align_if_jittery
from dip4d.indices import evenly
from dip4d.measures.image_quality import all_scores, psnr
from dip4d.measures.time_rank import time_rank
from dip4d.reconstruction.data import TiltRows
from dip4d.reconstruction.module import DIP4D
from dip4d.reconstruction.split import choose_split
from dip4d.simulation.hard_specimens import FAMILIES, HARD
from dip4d.tilt_series import TiltSeries

MAIN = ("nanostar", "alloying", "nanostar_alloying")
ALL = (*MAIN, "nanocage", "sintering", "drift", "event", "growth")
SPECIMENS = (*ALL, "static", *HARD)  # in the order of tables
NETWORKS = ("dip", "voxels", "voxels_matched", "tddip", "dipster")
CONVENTIONAL = ("sirt_whole", "sirt_window", "sirt_frozen", "tv_window", "tv_frozen", "sttv")
METHODS = (*NETWORKS, *CONVENTIONAL)
COLOURS = ("#c1121f", "#2a9d8f", "#1b6b62", "#7b2cbf", "#e09f3e", "#adb5bd", "#669bbc", "#003049", "#6a994e", "#386641",
           "#9c6644")  # fmt: skip
MATCHED = "_matched"  # of a network with the rank and the time warp of ours; and smooth along z as along y and x
AS_OURS = {f"network.{name}": getattr(Config().network, name) for name in ("rank", "damping", "time_warp")}
AS_OURS["train.tv_z"] = load_config(["network=voxels"]).train.tv_space
RIVALS = ("sirt_frozen", "tv_frozen", "tv_window", "sttv", "voxels_matched", "voxels")
SEEDS = (11, 12, 13)
HARD_SEEDS = {"A": (21, 22), "B": (31, 32)}
CAMERAS: dict[str, dict[str, float]] = {  # faults of a realistic strength
    "readout": {"readout": 0.01},
    "background": {"background": 0.1, "gradient": 0.05},
    "gain": {"gain_drift": 0.03},
    "blur": {"tilt_blur_px": 1.0},
    "saturation": {"saturation": 0.1},
    "hot": {"hot_pixels": 0.001},
}
CAMERAS["all"] = {name: strength for faults in CAMERAS.values() for name, strength in faults.items()}
BEGINNING = 0.05  # of the frames, in which many specimens change fastest
LOOKS, LOOKED_AT = 8, 12  # how often the quality is measured during a fit, and on how many frames
PAUSE = 15.0  # seconds between two looks at a fit that no clock ends


@dataclass(frozen=True)
class Size:
    """How large the cases of a part are: voxels across and along the axis, images, seconds of a fit (None: each network
    has the steps that it needs); what conventional methods try, and settings of the fits.
    """

    size: int
    n_z: int
    frames: int
    seconds: float | None
    windows: tuple[int, ...] = tuple(Config().compare.windows)
    iterations: int = Config().compare.iterations
    settings: dict[str, Any] = field(default_factory=dict)


SIZES = {
    "small": Size(48, 24, 60, 120, (5, 10, 20, 30, 40)),
    "hard": Size(48, 24, 60, None, (5, 10, 20, 30, 40)),
    "standard": Size(64, 64, 100, 480),
    "full": Size(128, 128, 100, 300),
    "cage": Size(100, 100, 100, 600),
}


@dataclass(frozen=True)
class Case:
    """One reconstruction of one tilt series."""

    size: str
    specimen: str
    method: str
    scheme: str = "grs"
    peak_counts: float = 500
    jitter: float = 0
    seed: int = SEEDS[0]
    camera: str = ""  # of `CAMERAS`; a perfect one if empty

    @property
    def name(self) -> str:
        data = f"{self.scheme} counts{self.peak_counts:g} jitter{self.jitter:g} seed{self.seed}"
        data += f" camera:{self.camera}" if self.camera else ""
        return f"{self.size} {self.specimen} {data} {self.method}"

    @property
    def series(self) -> Case:
        """The same for all reconstructions of one tilt series."""
        return replace(self, method="")


def hard_cases(family: str) -> list[Case]:
    """Ours and its rivals on the specimens of a family of `dip4d.simulation.hard_specimens`."""
    return [
        Case("hard", specimen, method, seed=seed)
        for seed in HARD_SEEDS[family]
        for methods in (("dip", "sirt_frozen"), RIVALS[1:])
        for specimen in FAMILIES[family]
        for method in methods
    ]


def cases(part: str, family: str = "B") -> list[Case]:
    """The cases of a part of the benchmark, the most telling first. family: of the part hard."""
    if part == "hard":
        return hard_cases(family)
    if part == "camera":
        specimens = ("nanostar_alloying", "nanocage")
        return [Case("small", s, "dip", camera=camera) for camera in CAMERAS for s in specimens]
    if part == "quick":
        return [
            Case("small", s, m) for s in ("nanostar_alloying",) for m in (*CONVENTIONAL[:3], "dip", "voxels", "dipster")
        ]
    if part == "full":
        return [Case("full", s, m) for s in MAIN[2:] for m in ("sirt_frozen", "dip", "dipster")] + [
            Case("cage", "nanocage", m, peak_counts=0) for m in ("sirt_frozen", "dip", "voxels", "dipster")
        ]
    if part == "standard":
        specimens = (*MAIN, "nanocage")
        return [
            Case("standard", s, m, seed=seed)
            for seed in SEEDS[:2]
            for s in specimens
            for m in ("sirt_frozen", "dip", "tv_frozen", "voxels", "dipster", "sttv")
        ]
    base = [Case("small", s, m) for s in ALL for m in ("sirt_frozen", "dip")]
    base += [Case("small", s, m) for s in ALL for m in ("dipster", "voxels")]
    base += [Case("small", "static", m) for m in ("dip", "dipster", "sirt_window")]
    changed = (
        {"scheme": "pingpong"}, {"scheme": "incremental"}, {"peak_counts": 0}, {"peak_counts": 1000},
        {"peak_counts": 200}, {"jitter": 1}
    )  # fmt: skip
    for specimen in ("nanostar_alloying", "nanocage"):
        base += [
            replace(Case("small", specimen, m), **change)
            for change in changed
            for m in ("sirt_frozen", "sirt_window", "dip")
        ]
    others = ("tv_frozen", "sttv", "voxels_matched", "sirt_window", "sirt_whole", "tddip", "tv_window")
    others = [Case("small", s, m) for m in others for s in ALL]
    return base + others + [replace(c, seed=seed) for seed in SEEDS[1:] for c in base[: 2 * len(ALL)]]


class Looks(L.Callback):
    """Measures the quality now and then during a fit, off its clock, on evenly spread frames, and at its end."""

    def __init__(self, truth: np.ndarray, seconds: float | None) -> None:
        self.truth, self.next, self.pause = truth, 0.0, seconds / LOOKS if seconds else PAUSE
        self.frames = evenly(len(truth), LOOKED_AT)
        self.curve: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: L.Trainer, module: DIP4D, *_) -> None:
        if module.schedule.elapsed() >= self.next + self.pause:
            with module.averaged.used():
                self.look(trainer, module)

    def on_fit_end(self, trainer: L.Trainer, module: DIP4D) -> None:  # by now the module has chosen its weights
        self.look(trainer, module)

    def look(self, trainer: L.Trainer, module: DIP4D) -> None:
        began, training = time.monotonic(), module.training
        self.next = module.schedule.elapsed()
        module.eval()
        data: TiltRows = trainer.datamodule
        volumes = (volume.numpy() for volume in module.volumes(data, data.tau[self.frames]))
        self.curve.append(
            {
                "seconds": round(self.next, 1),
                "step": trainer.global_step,
                "psnr": round(mean_psnr(volumes, self.truth, frames=self.frames), 3),
                "validation_error": round(module.validation_error(data), 5),
            }
        )
        module.train(training)
        module.schedule.pause(time.monotonic() - began)


def mean_psnr(volumes: Iterable[np.ndarray], truth: np.ndarray, *, frames: list[int]) -> float:
    """Of volumes (z, y, x) at some frames of the truth (t, z, y, x), dB."""
    data_range = float(truth.max())
    return float(
        np.mean([psnr(v, true, data_range=data_range) for v, true in zip(volumes, truth[frames], strict=True)])
    )


def fitted(case: Case, series: TiltSeries, truth: np.ndarray) -> tuple[dict, Iterator[np.ndarray]]:
    """What is kept of a fit, and its volumes."""
    size = SIZES[case.size]
    looks = Looks(truth, size.seconds)
    movie = dip4d.reconstruct(
        series,
        max_minutes=size.seconds and size.seconds / 60,
        progress=False,
        callbacks=[looks],
        network=case.method.removesuffix(MATCHED),
        run={"seed": case.seed},
        data={"test_images": 0},
        **size.settings,
        **(AS_OURS if case.method.endswith(MATCHED) else {}),
    )
    last, parameters = looks.curve[-1], movie.metrics["parameters"]
    kept = {"curve": looks.curve, "seconds": last["seconds"], "steps": last["step"], "parameters": parameters}
    return kept, movie.frames()


def conventional(case: Case, series: TiltSeries, truth: np.ndarray) -> tuple[dict, Iterator[np.ndarray]]:
    """What is kept of a conventional reconstruction at its best settings against the truth, and its volumes."""
    size = SIZES[case.size]
    series, _ = align_if_jittery(series, Config().align)
    at_work = Conventional(
        series,
        choose_split(series, Config().data.validation_rows, seed=case.seed).validation_rows,
        truth=truth,
        iterations=size.iterations,
        windows=size.windows,
        peak_counts=case.peak_counts,
        seed=case.seed,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
    baseline = at_work.baseline(case.method)
    kept = {"settings": baseline.settings, "validation_error": baseline.validation_error}
    return kept, map(baseline.volume, range(len(truth)))


def compute(case: Case) -> dict:
    """Runs a case; returns its scores, as they are kept."""
    size = SIZES[case.size]
    series, truth = dip4d.simulate(
        case.specimen,
        size.size,
        n_z=size.n_z,
        frames=size.frames,
        scheme=case.scheme,
        peak_counts=case.peak_counts,
        jitter=case.jitter,
        seed=case.seed,
        camera=CAMERAS.get(case.camera, {}),
    )
    series = series.without_background("auto") if case.camera else series
    began = time.monotonic()
    kept, volumes = (fitted if case.method in NETWORKS else conventional)(case, series, truth)
    scores = all_scores(volumes, truth)
    kept.setdefault("seconds", time.monotonic() - began)
    kept["time_rank"] = time_rank(truth)
    return kept | {name: [round(v, 5) for v in values] for name, values in scores.items()}


def read(size: str) -> dict[str, dict]:
    path = RESULTS / f"quality-{size}.json"
    return json.loads(path.read_text())["cases"] if path.exists() else {}


def keep(case: Case, result: dict) -> None:
    """Adds a result to the file of its size; the file is whole at any moment."""
    path = RESULTS / f"quality-{case.size}.json"
    kept = read(case.size) | {case.name: asdict(case) | environment() | result}
    partial = path.with_suffix(".part")
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in sorted(kept.items()))
    partial.write_text('{"cases": {\n' + lines + "\n}}\n")
    partial.replace(path)


def summary(result: dict, frozen: dict | None, tv_frozen: dict | None = None) -> dict[str, float]:
    """The numbers of one result: over the frames the mean, the worst, the spread; beside frozen-frame SIRT and TV."""
    mean = lambda name: float(np.mean(result[name]))
    still = sum(result["change_of_truth"]) == 0
    row = {
        "PSNR": mean("psnr"),
        "worst": min(result["psnr"]),
        "SSIM": mean("ssim"),
        "Dice": mean("dice"),
        "mass %": 100 * mean("mass"),
        "spread %": 100 * float(np.std(result["mass"])),
        "change": math.nan if still else sum(result["change"]) / sum(result["change_of_truth"]),
        "still dB": mean("stillness") if still else math.nan,
        "lost dB": lost_by_stopping(result),
        "seconds": result["seconds"],
        "near": mean("psnr_near") if "psnr_near" in result else math.nan,
        "first 5 %": float(np.mean(result["psnr"][: max(1, round(BEGINNING * len(result["psnr"])))])),
        "steps": result.get("steps", result.get("settings", {}).get("iterations", math.nan)),
        "rank": result.get("time_rank", math.nan),
    }
    if tv_frozen:
        row["over TV frozen"] = float(np.mean(np.subtract(result["psnr"], tv_frozen["psnr"])))
    if frozen:
        gap = np.subtract(result["psnr"], frozen["psnr"])
        row |= {"over frozen": float(gap.mean()), "worst gap": float(gap.min()), "below": int((gap < 0).sum())}
    return row


def lost_by_stopping(result: dict) -> float:
    """How much better, in dB, the best moment of the fit was than the one that validation rows chose."""
    curve = result.get("curve")
    return max(c["psnr"] for c in curve) - curve[-1]["psnr"] if curve else math.nan


def table(results: dict[str, dict]) -> str:
    """All results as a table in Markdown, those of one tilt series together, seeds averaged."""
    columns = ("PSNR", "near", "worst", "SSIM", "Dice", "mass %", "spread %", "change", "still dB", "lost dB",
               "over frozen", "over TV frozen", "worst gap", "below", "seconds", "steps")  # fmt: skip
    groups: dict[tuple, list[dict[str, float]]] = {}
    for result in results.values():
        case = case_of(result)
        key = (case.specimen, case.scheme, case.peak_counts, case.jitter, case.camera, case.method)
        groups.setdefault(key, []).append(beside_frozen(result, results))
    order = lambda k: (k[1] != "grs", k[2] != 500, k[3:5], SPECIMENS.index(k[0]), k[1:5], METHODS.index(k[5]))
    lines = head("specimen", "data", "method", columns=columns)
    for key in sorted(groups, key=order):
        specimen, scheme, counts, jitter, camera, method = key
        data = f"{scheme}, {counts:g} counts" + (f", jitter {jitter:g} px" if jitter else "")
        data += f", camera: {camera}" if camera else ""
        lines.append(line(specimen, data, method, rows=groups[key], columns=columns))
    return "\n".join(lines) + "\n"


def hard_table(results: dict[str, dict]) -> str:
    """The results on hard specimens as a table in Markdown, a part for each family, with the means over its specimens.

    The mean of a method is only there if it has been run on all specimens of the family.
    """
    columns = ("PSNR", "near", "first 5 %", "worst", "change", "mass %", "over frozen", "over TV frozen", "below",
               "seconds", "steps", "rank")  # fmt: skip
    groups: dict[tuple[str, str], list[dict[str, float]]] = {}
    for result in results.values():
        groups.setdefault((result["specimen"], result["method"]), []).append(beside_frozen(result, results))
    lines = []
    for family, specimens in FAMILIES.items():
        there = [(s, m) for s in specimens for m in METHODS if (s, m) in groups]
        if not there:
            continue
        lines += ["", f"**Family {family}**", "", *head("specimen", "method", columns=columns)]
        lines += [line(s, m, rows=groups[s, m], columns=columns) for s, m in there]
        for m in METHODS:
            if all((s, m) in groups for s in specimens):
                lines.append(line("mean", m, rows=[row for s in specimens for row in groups[s, m]], columns=columns))
    return "\n".join(lines[1:]) + "\n"


def beside_frozen(result: dict, results: dict[str, dict]) -> dict[str, float]:
    """The `summary` of a result, beside those of frozen frames of the same series."""
    of = lambda method: results.get(case_of(result | {"method": method}).name)
    return summary(result, of("sirt_frozen"), of("tv_frozen"))


def head(*names: str, columns: tuple[str, ...]) -> list[str]:
    """The two first lines of a table in Markdown."""
    return [
        "| " + " | ".join((*names, "seeds", *columns)) + " |",
        "|---" * len(names) + "|--:" * (len(columns) + 1) + "|",
    ]


def line(*names: str, rows: list[dict[str, float]], columns: tuple[str, ...]) -> str:
    """A line of a table in Markdown: of several summaries the mean, or the worst where the column is one."""
    cells = []
    for column in columns:
        values = [row[column] for row in rows if column in row and not math.isnan(row[column])]
        worst = {"worst": min, "worst gap": min, "below": max}.get(column, np.mean)
        digits = {"SSIM": 4, "Dice": 4, "below": 0, "seconds": 0, "steps": 0, "rank": 0}.get(column, 2)
        cells.append(f"{worst(values):.{digits}f}" if values else "")
    return "| " + " | ".join((*names, str(len(rows)), *cells)) + " |"


def case_of(result: dict) -> Case:
    return Case(**{f.name: result[f.name] for f in fields(Case) if f.name in result})


def draw(size: str, results: dict[str, dict]) -> Path:
    """For each specimen, frame by frame and against the time of the fit: ours beside the others. PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plain = ("grs", 500, 0, "")
    base = [r for r in results.values() if (r["scheme"], r["peak_counts"], r["jitter"], r.get("camera", "")) == plain]
    specimens = [s for s in SPECIMENS if s != "static" and any(r["specimen"] == s for r in base)]
    colours = dict(zip(METHODS, COLOURS, strict=True))
    figure, axes = plt.subplots(2, len(specimens), figsize=(2.9 * len(specimens) + 1, 6), squeeze=False, sharey="col")
    for column, specimen in zip(axes.T, specimens, strict=True):
        for r in sorted((r for r in base if r["specimen"] == specimen), key=lambda r: METHODS.index(r["method"])):
            first = r["seed"] == min(q["seed"] for q in base if q["specimen"] == specimen)
            look = {
                "color": colours[r["method"]],
                "alpha": 1 if first else 0.35,
                "lw": 2 if r["method"] == "dip" else 1.2,
            }
            column[0].plot(r["psnr"], label=r["method"] if first else None, **look)
            if "curve" in r:
                column[1].plot([c["seconds"] for c in r["curve"]], [c["psnr"] for c in r["curve"]], **look)
            elif first:
                column[1].axhline(np.mean(r["psnr"]), ls=":", **look)
        column[0].set(title=specimen, xlabel="frame")
        column[1].set(xlabel="seconds of the fit")
    axes[0, 0].set_ylabel("PSNR of the frame, dB")
    axes[1, 0].set_ylabel("mean PSNR, dB")
    handles = {label: h for ax in axes[0] for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    figure.set_layout_engine("constrained")
    path = RESULTS / f"quality-{size}.png"
    figure.savefig(path, dpi=110)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_mutually_exclusive_group()
    for part in ("quick", "small", "standard", "full", "hard", "camera"):
        parts.add_argument(f"--{part}", action="store_const", const=part, dest="part")
    parser.add_argument("--families", choices=FAMILIES, default="B")
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--draw", action="store_true")
    arguments = parser.parse_args()
    todo = cases(arguments.part or "quick", *([arguments.families] if arguments.part == "hard" else []))
    todo = [c for c in todo if all(word in c.name.split() for word in arguments.only)]
    done = {name for size in SIZES for name in read(size)}
    if not arguments.again:
        todo = [c for c in todo if c.name not in done]
    if arguments.list:
        print("\n".join(c.name for c in todo))
        return
    for i, case in enumerate([] if arguments.draw else todo):
        print(f"[{i + 1}/{len(todo)}] {case.name}", end="  ", flush=True)
        result = compute(case)
        keep(case, result)
        print(
            f"{np.mean(result['psnr']):.2f} dB (worst {min(result['psnr']):.2f}), SSIM {np.mean(result['ssim']):.4f}, "
            f"{result['seconds']:.0f} s, time rank {result['time_rank']}",
            flush=True,
        )
    for size in SIZES:
        if results := read(size):
            (RESULTS / f"quality-{size}.md").write_text((hard_table if size == "hard" else table)(results))
            print(f"{RESULTS / f'quality-{size}.md'}\n{draw(size, results)}")


if __name__ == "__main__":
    sys.exit(main())
