"""How good is the movie? Every specimen, scheme, dose and rival, frame by frame, against the truth.

    python benchmarks/quality.py [--quick | --small | --standard | --full | --hard | --camera] [--only TEXT ...]

--quick     one specimen of each kind, ours and the cheap rivals: under 20 minutes on 2 cores
--small     the whole matrix, 48 x 48 x 24 voxels, 60 frames, 2 minutes for a fit of the other networks
--standard  64^3 voxels, 100 frames, 8 minutes: four specimens, ours beside its closest rivals
--full      128^3 voxels, 100 frames, 5 minutes a fit, and the noise-free nanocage at 100^3: for a GPU
--hard      sharp specimens of other kinds, of the size of --small, with seeds of their own and no clock. Those of the
            families B, which nothing is tuned on; --families A: those for development
--camera    two specimens through a camera with each of its faults, and with all of them
--list      says what would be computed; --draw: only the table and the figure
--only      only cases whose name contains all these words; --again: compute them although they are there already

What is computed is kept in results/quality-<size>.json, case by case, and not computed again. At the end, or at once
with --draw, the table and the figure are made from it. Ours takes the steps that it needs, by no clock; the other
networks get the time of the part. Settings were found on seeds 1 to 3, the seeds here are others. Conventional methods
run at their best settings against the truth.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace

from common import RESULTS, environment
from quality_cases import CAMERAS, NETWORKS, SIZES, Case, cases
from quality_tables import draw, hard_table, table

# isort: split
import lightning as L
import numpy as np
import torch
from filelock import FileLock

import dip4d
from dip4d.config.load import load_config
from dip4d.config.schema import Config
from dip4d.conventional.baselines import Conventional
from dip4d.experiment.inputs import align_if_jittery
from dip4d.indices import evenly
from dip4d.measures.background import margin_of
from dip4d.measures.image_quality import all_scores, psnr
from dip4d.measures.time_rank import time_rank
from dip4d.reconstruction.data import TiltRows
from dip4d.reconstruction.module import DIP4D
from dip4d.reconstruction.split import choose_split
from dip4d.simulation.hard_specimens import FAMILIES
from dip4d.simulation.simulate import frozen_images
from dip4d.tilt_series import TiltSeries

MATCHED = "_matched"  # of a network with the rank and the time warp of ours; and smooth along z as along y and x
AS_OURS = {f"network.{name}": getattr(Config().network, name) for name in ("rank", "damping", "time_warp")}
AS_OURS["train.tv_z"] = load_config(["network=voxels"]).train.tv_space
LOOKS, LOOKED_AT = 8, 12  # how often the quality is measured during a fit, and on how many frames
PAUSE = 15.0  # seconds between two looks at a fit that no clock ends


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
    """What is kept of a fit, and its volumes. Ours has the steps that it needs: no clock decides what it comes to."""
    size = SIZES[case.size]
    seconds = None if case.method == "dip" else size.seconds
    looks = Looks(truth, seconds)
    movie = dip4d.reconstruct(
        series,
        max_minutes=seconds and seconds / 60,
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
    series, _ = align_if_jittery(replace(series, margin=margin_of(series)), Config().align)
    at_work = Conventional(
        series,
        choose_split(series, Config().data.validation_rows, seed=case.seed).validation_rows,
        truth=truth,
        frozen=frozen_images(case.specimen, size.size, n_z=size.n_z, frames=size.frames, seed=case.seed),
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
    """Adds a result to the file of its size; the file is whole at any moment, and several may add to it."""
    path = RESULTS / f"quality-{case.size}.json"
    with FileLock(path.with_suffix(".lock")):
        kept = read(case.size) | {case.name: asdict(case) | environment() | result}
        partial = path.with_suffix(".part")
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in sorted(kept.items()))
        partial.write_text('{"cases": {\n' + lines + "\n}}\n")
        partial.replace(path)


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
            draw(RESULTS / f"quality-{size}.png", results)
            print(f"{RESULTS / f'quality-{size}.md'}\n{RESULTS / f'quality-{size}.png'}")


if __name__ == "__main__":
    sys.exit(main())
