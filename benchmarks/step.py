"""What a step of the fit costs, part by part, and how much faster it is than that of another checkout.

    python benchmarks/step.py [--sizes 64 128 256] [--against FOLDER] [--threads 2] [--materials 2]

Of each size (size^2 slices, 100 images, 8 positions, one network of so many materials): wall and CPU milliseconds of a
step, page faults of a step, peak memory; and the share of each part. With --against, a checkout of the project at
another commit takes turns with this one, round by round in processes of their own, so that a noisy machine is noisy for
both; ratios are medians of rounds.
Writes results/step-<device>.json.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
FRAMES, POSITIONS, ROUNDS = 100, 8, 5
STEPS = {64: 30, 128: 10, 256: 4}  # timed, of each round


def module_and_rows(size: int, materials: int):
    """A fit of a random series, by default settings but for the materials: of this checkout, or of one before version
    0.2, which knew but one.
    """
    import numpy as np
    import torch

    rng = np.random.default_rng(0)
    grid = np.abs(np.arange(size) - (size - 1) / 2) < size / 4
    images = rng.poisson(200.0, (FRAMES, 2 * POSITIONS, size)).astype(np.float32) * grid
    torch.manual_seed(0)
    from dip4d.tilt_series import TiltSeries

    series = TiltSeries(images, (np.arange(1, FRAMES + 1) * 1.618 * 140) % 140 - 70)
    try:
        from dip4d.config.load import config_of
        from dip4d.reconstruction.fit import prepare
        from dip4d.reconstruction.split import choose_split
    except ImportError:
        assert materials == 1, "that checkout knows one material: --materials 1"
        build, config, data = (importlib.import_module(f"dip4d.{name}") for name in ("build", "config", "data"))
        held_out = data.choose_held_out(FRAMES, 2 * POSITIONS, 0.05, 0)
        module = build.build_module(config.Config(), series, time.monotonic())
        return module, build.build_rows(config.Config(), series, held_out)
    return prepare(
        series,
        choose_split(series, 0.05),
        settings=config_of(**{"network.materials": materials, "network.ensemble": 1}),
    )


def measure(size: int, steps: int, *, materials: int, profile: bool) -> dict[str, float]:
    """Milliseconds and page faults of a step, and with `profile` the milliseconds of its parts."""
    import torch

    module, data = module_and_rows(size, materials)
    optimizer = module.configure_optimizers()["optimizer"]
    module.log, module.optimizers = lambda *_, **__: None, lambda: optimizer
    module.schedule.start()
    try:
        from dip4d.reconstruction.memory import keep_buffers
    except ImportError:
        from contextlib import nullcontext as keep_buffers
    if hasattr(module, "show_once"):
        module.show_once(data)
    batches = [data.batch(list(range(k, k + POSITIONS))) for k in (0, POSITIONS)]

    def step(k: int) -> None:
        optimizer.zero_grad()
        loss = module.training_step(batches[k % 2], k)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 0.3)
        optimizer.step()
        module.averaged.update()

    with keep_buffers():
        for k in range(3):
            step(k)
        before, wall, cpu = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter(), time.process_time()
        for k in range(steps):
            step(k)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        after = resource.getrusage(resource.RUSAGE_SELF)
        parts = parts_of(step) if profile else {}
    faults = after.ru_minflt - before.ru_minflt
    found = {"wall_ms": 1e3 * wall / steps, "cpu_ms": 1e3 * cpu / steps, "page_faults": faults / steps}
    return found | {"peak_MiB": after.ru_maxrss / 1024} | parts


def parts_of(step) -> dict[str, dict[str, float]]:
    """CPU milliseconds of the operations of a step that cost most, by name."""
    import torch

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        step(0)
    events = sorted(profiler.key_averages(), key=lambda e: -e.self_cpu_time_total)[:14]
    return {"operations_ms": {e.key: round(e.self_cpu_time_total / 1e3, 2) for e in events}}


def in_process(checkout: Path, size: int, *, threads: int, materials: int, profile: bool = False) -> dict:
    """`measure` in a process of its own, of a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": str(threads)}
    words = [sys.executable, __file__, "--one", str(size), "--materials", str(materials)] + ["--profile"] * profile
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True, cwd=checkout)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=list(STEPS))
    parser.add_argument("--against", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--materials", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--profile", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.one:
        import dip4d  # noqa: F401  # before torch

        print(json.dumps(measure(a.one, STEPS.get(a.one, 4), materials=a.materials, profile=a.profile)))
        return
    sys.path.insert(0, str(HERE.parent))
    from common import save

    results: dict = {}
    for size in a.sizes:
        checkouts = {"this": HERE.parent} | ({"other": a.against.resolve()} if a.against else {})
        rounds: dict[str, list[dict]] = {name: [] for name in checkouts}
        for _ in range(a.rounds):
            for name, checkout in checkouts.items():
                rounds[name].append(in_process(checkout, size, threads=a.threads, materials=a.materials))
        middle = lambda name, key: sorted(r[key] for r in rounds[name])[len(rounds[name]) // 2]
        results[str(size)] = {n: {k: round(middle(n, k), 1) for k in rounds[n][0]} for n in checkouts}
        results[str(size)]["this"] |= in_process(
            HERE.parent, size, threads=a.threads, materials=a.materials, profile=True
        )
        print(f"\n{size}^2, {FRAMES} images, {POSITIONS} positions, {a.threads} threads, materials: {a.materials}")
        for name in checkouts:
            print(f"  {name:6s}", {k: v for k, v in results[str(size)][name].items() if k != "operations_ms"})
        if a.against:
            for key in ("wall_ms", "cpu_ms"):
                ratios = sorted(o[key] / t[key] for o, t in zip(rounds["other"], rounds["this"], strict=True))
                results[str(size)][f"ratio_{key}"] = round(ratios[len(ratios) // 2], 2)
                print(f"  other / this, {key}: {ratios[len(ratios) // 2]:.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
        print("  ", results[str(size)]["this"]["operations_ms"])
    save("step", results)


if __name__ == "__main__":
    main()
