"""What the benchmarks share: timing side by side, and a record that says where it was measured."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
# before anything imports Triton; whoever imports a benchmark keeps what was set
os.environ["TRITON_INTERPRET"] = "1" if "--dry" in sys.argv else os.environ.get("TRITON_INTERPRET", "0")

import dip4d  # noqa: F401  # before torch

# isort: split
import torch

DRY = "--dry" in sys.argv  # only to see that it runs, on the CPU
RESULTS = Path(__file__).parent / "results"


def side_by_side(
    functions: dict[str, Callable[[], object]], repeats: int = 7, slowest: float = 60.0
) -> dict[str, float]:
    """Median milliseconds of each function; they take turns, so that a noisy machine is noisy for all of them.

    A function that is slower than `slowest` seconds in all is not repeated as often.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(repeats):
        for name, function in functions.items():
            if sum(times[name]) < slowest * 1e3:
                synchronise()
                began = time.perf_counter()
                function()
                synchronise()
                times[name].append(1e3 * (time.perf_counter() - began))
    return {name: sorted(t)[len(t) // 2] for name, t in times.items()}


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def show(title: str, milliseconds: dict[str, float], ours: str) -> None:
    """Prints each time and how many times slower than ours it is."""
    print(f"\n{title}")
    for name, t in milliseconds.items():
        print(f"  {name:38s} {t:10.2f} ms   {t / milliseconds[ours]:7.1f} x")


def environment() -> dict:
    """When and where something was measured, and with which versions."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    versions = {}
    for package in (
        "torch",
        "numpy",
        "numba",
        "triton",
        "astra-toolbox",
        "scipy",
        "scipy",
        "scikit-image",
        "lightning",
    ):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    record = {"date": date.today().isoformat(), "device": device, "threads": torch.get_num_threads()}
    return record | {"python": platform.python_version(), "versions": versions}


def save(name: str, results: dict) -> Path:
    """Writes the results with device and versions to benchmarks/results/<name>-<device>.json."""
    record = environment() | {"results": results}
    RESULTS.mkdir(exist_ok=True)
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    path = RESULTS / f"{name}-{kind}.json"
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"\nwritten to {path}")
    return path


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
