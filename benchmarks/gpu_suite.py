"""Everything that only a GPU can show, in one call of under nine minutes.

    python benchmarks/gpu_suite.py [--parts NAME ...] [--budget 8.5] [--dry]

projector  the Triton projector and its gradients of angle and shift against the float64 reference, on every dtype
kernels    rows, total variation and normalisation made by kernels, and their gradients, against float64
fit        a step on the GPU against one on the CPU, also recorded as a CUDA graph and in bfloat16; a whole short fit
speed      of the projector: share of the memory roofline, beside a plain grid_sample, flat and steep views apart
sirt       256^3 x 100 angles, beside ASTRA's SIRT3D_CUDA where it is installed
step       milliseconds, launches, waits and memory of a step at 64^2, 128^2 and 256^2: recorded, launched, plain torch
train64, train128, train256, nanocage
           a whole run of that size and 100 images, and its scores; the nanocage has 100^3 voxels and no noise

All of them by default, as long as the budget lasts, in minutes; what it does not reach, name in another call. A part
that fails costs only itself. --dry runs the parts on the CPU, tiny, kernels in Triton's interpreter: do they run at
all? Adds each part to benchmarks/results/gpu_suite-<device>.json as it ends; with --dry writes nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from common import DRY, RESULTS, environment, show, side_by_side  # first: it sets up OpenMP and Triton

# isort: split
import numpy as np
import torch

from dip4d.commands.reconstruct import NOT_USABLE
from dip4d.config.load import config_of
from dip4d.conventional.algorithms import sirt as reconstructed_by_sirt
from dip4d.projector import Geometry, Projector, reference
from dip4d.reconstruction import factors as factors_module
from dip4d.reconstruction import modulation
from dip4d.reconstruction.factors import Factors
from dip4d.reconstruction.fit import fit as whole_fit
from dip4d.reconstruction.fit import prepare
from dip4d.reconstruction.networks.free_form import MOTIONS
from dip4d.reconstruction.split import choose_split
from dip4d.reconstruction.step_graph import StepGraph
from dip4d.reconstruction.variation import drawn, total_variation
from dip4d.tilt_series import TiltSeries

DEVICE = "cpu" if DRY else "cuda"
DTYPES = (torch.float32,) if DRY else (torch.float32, torch.bfloat16, torch.float16)
KINDS = {
    "at rest": {}, "moving": {"motion": "rigid"}, "bending": {"motion": "free_form"},
    "refined": {"align.refine": True, "align.tilt": True},
}  # fmt: skip
HALF_WIDTH = 16.0  # of the motions
FRAMES, POSITIONS = (6, 2) if DRY else (100, 8)


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm() / b.norm().clamp(min=1e-30))


def drawing(seed: int = 0) -> Callable[..., torch.Tensor]:
    """``draw(*size)``: signed Gaussian numbers on the device."""
    generator = torch.Generator().manual_seed(seed)
    return lambda *size: torch.randn(size, generator=generator).to(DEVICE)


def projector() -> dict:
    """Relative differences from the reference, and of <A x, y> from <x, A^T y>."""
    from dip4d.projector import cuda

    sizes = (((256, 256), 256, 64, 1), ((512, 500), 530, 4, 3), ((128, 128), 128, 3, 100))
    found = {}
    for shape, bins, batch, n in (((20, 33), 29, 2, 3),) if DRY else sizes:
        draw = drawing()
        angles, shift = draw(batch, n).double() * 2, draw(batch, n).double()
        x, y = draw(batch, *shape), draw(batch, n, bins)
        for dtype in DTYPES:
            x_, y_ = x.to(dtype), y.to(dtype)  # the rounding of the input is not ours
            Ax, Aty = cuda.forward(x_, angles, shift, bins), cuda.adjoint(y_, angles, shift, shape)
            pairs = zip(
                cuda.geometry_gradient(x_, y_, angles, shift),
                reference.geometry_gradient(x_.double(), y_.double(), angles, shift),
                strict=True,
            )
            gap = ((Ax.double() * y_.double()).sum() - (x_.double() * Aty.double()).sum()).abs()
            of_angle, of_shift = (relative(*pair) for pair in pairs)
            found[f"{batch} x {shape}, {n} angles, {str(dtype)[6:]}"] = {
                "forward": relative(Ax, reference.forward(x_.double(), angles, shift, bins)),
                "adjoint": relative(Aty, reference.adjoint(y_.double(), angles, shift, shape)),
                "of angle": of_angle,
                "of shift": of_shift,
                "adjointness": float(gap / Ax.norm() / y.norm()),
            }
    return found


def kernels() -> dict:
    """Relative differences from plain torch in float64, of results and of all gradients."""
    from dip4d.reconstruction import factors_cuda
    from dip4d.reconstruction.modulation_cuda import Normalised

    draw, found = drawing(), {}
    batch, n, maps, size = (1, 3, 3, 20) if DRY else (8, 100, 10, 128)
    angles, shift = 2 * draw(batch, n), draw(batch, n)
    for dtype in DTYPES:
        leaves = [v.requires_grad_() for v in (draw(batch, n, maps), draw(batch, maps, size, size).to(dtype))]
        leaves.append(torch.tensor(1.7, device=DEVICE, requires_grad=True))
        exact = [v.detach().double().requires_grad_() for v in leaves]
        given, slices = Factors(*leaves, offset=-2.0), drawn(Factors(*exact, offset=-2.0))
        by_torch = Projector(Geometry((size, size), size, angles.double().view(-1, 1), shift.double().view(-1, 1)))
        pairs = {
            "rows": (
                factors_cuda.project(given, angles, shift=shift, bins=size),
                by_torch(slices.flatten(0, 1)).view(batch, n, size),
            ),
            "variation": (torch.stack(total_variation(given, 4)), torch.stack(total_variation(slices, 4))),
        }
        for name, (got, want) in pairs.items():
            found[f"{name}, {str(dtype)[6:]}"] = differences((got, leaves), (want, exact), draw=draw)
        x = (3 * draw(batch, 32, size, size) + 2).to(dtype).contiguous(memory_format=torch.channels_last)
        leaves = [v.requires_grad_() for v in (x, draw(32), draw(32), draw(batch, 32), draw(batch, 32))]
        exact = [v.detach().double().requires_grad_() for v in leaves]
        names = dict(zip(("bias", "gain", "offset"), exact[2:], strict=True))
        got = Normalised.apply(*leaves, 8, modulation.EPS)
        want = modulation.normalised_modulated_silu(*exact[:2], **names, groups=8)
        found[f"normalisation, {str(dtype)[6:]}"] = differences((got, leaves), (want, exact), draw=draw)
    return found


def differences(*sides: tuple[torch.Tensor, list[torch.Tensor]], draw: Callable) -> list[float]:
    """Relative, of two results and of their gradients by some leaves."""
    weights = draw(*sides[0][0].shape)
    of = [torch.autograd.grad((result * weights).sum(), leaves, retain_graph=True) for result, leaves in sides]
    return [relative(sides[0][0], sides[1][0]), *(relative(*pair) for pair in zip(*of, strict=True))]


def prepared(size: int, kind: str = "at rest", **keys):
    """The module of a fit of a random series, its rows and two batches, on the device."""
    keys, motion = {k: v for k, v in (KINDS[kind] | keys).items() if k != "motion"}, KINDS[kind].get("motion")
    rng = np.random.default_rng(0)
    grid = np.abs(np.arange(size) - (size - 1) / 2) < size / 4
    images = rng.poisson(200.0, (FRAMES, size if motion else 2 * POSITIONS, size)).astype(np.float32) * grid
    series = TiltSeries(images, (np.arange(1, FRAMES + 1) * 1.618 * 140) % 140 - 70)
    torch.manual_seed(0)
    settings = config_of(**{"train.slices": POSITIONS, "train.steps": 20, "trainer.accelerator": "auto"} | keys)
    start = None if motion is None else MOTIONS[motion](HALF_WIDTH)
    module, data = prepare(series, choose_split(series, 0.05), settings=settings, motion=start)
    module = module.to(DEVICE)
    data.move(torch.device(DEVICE))
    module.show_once(data)
    if data.images is None:
        return module, [data.batch(range(k, k + POSITIONS)) for k in (0, POSITIONS)]
    return module, [data.batch_of_images(range(k, k + data.images)) for k in (0, FRAMES - data.images)]


def loss_and_gradient(module, loss: Callable, batch) -> tuple[torch.Tensor, torch.Tensor]:
    module.zero_grad()
    value = loss(batch, batch.rows)
    value.backward()
    return value.detach().cpu(), torch.cat([p.grad.flatten() for p in module.parameters() if p.grad is not None]).cpu()


def fit() -> dict:
    """Relative differences of loss and gradient from those of the CPU; a short fit of each kind and precision."""
    found: dict = {}
    size = 16 if DRY else 64
    for kind in KINDS:
        module, (batch, other) = prepared(size, kind)
        graph = StepGraph(module)
        with torch.autocast(DEVICE, torch.bfloat16):
            in_bfloat16 = loss_and_gradient(module, module.loss_of, batch)
        ways = {"launched": loss_and_gradient(module, module.loss_of, batch), "bfloat16": in_bfloat16}
        if not DRY:
            loss_and_gradient(module, graph, other)
            ways["recorded"] = loss_and_gradient(module, graph, batch)
            found[f"{kind}, is recorded"] = graph._graph is not None
        module, batch = module.cpu(), batch.to(torch.device("cpu"))
        exact = loss_and_gradient(module, module.loss_of, batch)
        for way, pair in ways.items():
            found[f"{kind}, {way}"] = [relative(*p) for p in zip(pair, exact, strict=True)]
    for kind in KINDS:
        for precision in ("32-true", "bf16-mixed"):
            found[f"{kind}, whole fit, {precision}"] = short_fit(size, kind, precision)
    return found


def short_fit(size: int, kind: str, precision: str) -> dict:
    """Seconds and relative error of a fit by Lightning, and where its network is afterwards."""
    from dip4d.simulation.simulate import simulate

    steps, motion = (3 if DRY else 300), KINDS[kind].get("motion")
    series, _ = simulate("nanostar_alloying", size, frames=FRAMES, scheme="grs", peak_counts=500, seed=0)
    keys = {k: v for k, v in KINDS[kind].items() if k != "motion"} | {"train.steps": steps}
    settings = config_of(**keys, **{"trainer.precision": precision, "trainer.accelerator": "cpu" if DRY else "gpu"})
    torch.manual_seed(0)
    start, began = None if motion is None else MOTIONS[motion](HALF_WIDTH), time.monotonic()
    done = whole_fit(series, choose_split(series, 0.05), settings=settings, motion=start)
    seconds = time.monotonic() - began
    error = done.module.validation_error(done.data)
    return {"seconds": seconds, "validation_error": error, "device": str(done.module.device)}


def speed() -> dict:
    """Milliseconds and share of the memory roofline, B = 1024, N = 256, one own angle each."""
    batch, size = (2, 16) if DRY else (1024, 256)
    bandwidth = measured_bandwidth()
    found: dict = {"bandwidth GB/s": bandwidth / 1e9}
    generator = torch.Generator().manual_seed(0)
    for views, low, high in (("all", -70, 70), ("flat", -45, 45), ("steep", 45, 90)):
        angles = torch.deg2rad(torch.rand(batch, 1, generator=generator) * (high - low) + low)
        A = Projector(Geometry((size, size), size, angles.double().to(DEVICE)))
        x = torch.rand(batch, size, size, device=DEVICE)
        y = A(x)
        grid = rotated_grid(angles[:, 0].to(DEVICE), size)
        by_torch = lambda x, grid: torch.nn.functional.grid_sample(x[:, None], grid, align_corners=False).sum(2)
        functions = {
            "forward": lambda: A(x),
            "adjoint": lambda: A.T(y),
            "grid_sample forward": lambda: by_torch(x, grid),
        }
        times = side_by_side(functions, 3 if DRY else 30)
        floor = 1e3 * (x.numel() + y.numel()) * 4 / bandwidth
        found[views] = times | {f"roofline {d}": floor / times[d] for d in ("forward", "adjoint")}
        show(f"{batch} slices of {size}^2, {views} views", times, "forward")
    return found


def measured_bandwidth() -> float:
    """Bytes a second that a copy of 1 GiB moves, read and written."""
    source, target = (torch.empty(2**20 if DRY else 2**28, device=DEVICE) for _ in range(2))
    milliseconds = side_by_side({"copy": lambda: target.copy_(source)}, 20)["copy"]
    return 2 * source.numel() * 4 / milliseconds * 1e3


def rotated_grid(angles: torch.Tensor, size: int) -> torch.Tensor:
    """Where grid_sample must look to turn slices (B, S, Y): the usual way to project in plain torch."""
    cos, sin, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    turn = torch.stack([torch.stack([cos, -sin, zero], -1), torch.stack([sin, cos, zero], -1)], 1)
    return torch.nn.functional.affine_grid(turn, (len(angles), 1, size, size), align_corners=False)


def sirt() -> dict:
    """SIRT of 256^3 x 100 angles, 100 iterations, beside ASTRA's."""
    size, n, iterations = (16, 5, 2) if DRY else (256, 100, 100)
    angles = torch.linspace(-1, 1, n, dtype=torch.float64) * math.radians(70)
    A = Projector(Geometry((size, size), size, angles.to(DEVICE)))
    rows = A(torch.rand(size, size, size, device=DEVICE))
    functions = {"ours": lambda: reconstructed_by_sirt(A, rows, iterations)}
    try:
        import astra
        from sirt import by_astra_cuda

        if astra.use_cuda():
            host = rows.cpu().numpy()
            functions["ASTRA SIRT3D_CUDA"] = lambda: by_astra_cuda(host, angles.numpy(), size, iterations)
    except ImportError:
        print("  (ASTRA is not installed: nothing to compare with)")
    times = side_by_side(functions, 3)
    show(f"SIRT, {size}^3 x {n} angles, {iterations} iterations", times, "ours")
    return times


def step() -> dict:
    """Milliseconds, launches, waits and memory of a step, as it is and without what was made for the GPU."""
    found = {}
    for size in (16,) if DRY else (64, 128, 256):
        for way in ("recorded", "launched", "plain torch", "recorded, bfloat16"):
            if not (DRY and "recorded" in way):
                found[f"{size}, {way}"] = one_step(size, way)
                print(f"  {size}, {way}: {found[f'{size}, {way}']}")
    return found


def one_step(size: int, way: str) -> dict:
    """Of the default network, `POSITIONS` positions and `FRAMES` images."""
    serves = factors_module.triton_serves
    if way == "plain torch":
        factors_module.triton_serves = modulation.triton_serves = lambda x: False
    try:
        module, batches = prepared(size)
        loss = StepGraph(module) if "recorded" in way else module.loss_of
        optimizer = module.configure_optimizers()["optimizer"]

        def step(k: int = 0) -> None:
            optimizer.zero_grad()
            with torch.autocast(DEVICE, torch.bfloat16, enabled="bfloat16" in way):
                value = loss(batches[k % 2], batches[k % 2].rows)
            value.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 0.3)
            optimizer.step()
            module.averaged.update()

        for k in range(4):
            step(k)
        if not DRY:
            torch.cuda.reset_peak_memory_stats()
        found = {"ms": side_by_side({"step": step}, 3 if DRY else 30)["step"]} | calls_of(step)
        peak = 0 if DRY else torch.cuda.max_memory_allocated()
        return found | {"peak MiB": peak / 2**20}
    finally:
        factors_module.triton_serves = modulation.triton_serves = serves


def calls_of(step: Callable) -> dict[str, int]:
    """How often a step launches something, and how often it waits for the GPU."""
    kinds = [torch.profiler.ProfilerActivity.CPU] + ([] if DRY else [torch.profiler.ProfilerActivity.CUDA])
    with torch.profiler.profile(activities=kinds) as profiler:
        step()
    counts = {e.key: e.count for e in profiler.key_averages()}
    having = lambda *words: sum(n for name, n in counts.items() if any(w in name for w in words))
    return {
        "launches": having("LaunchKernel", "GraphLaunch"),
        "copies": having("cudaMemcpy"),
        "waits": having("StreamSynchronize", "EventSynchronize") + counts.get("cudaMemcpy", 0),
        "numbers asked for": counts.get("aten::_local_scalar_dense", 0),  # Adam's counts on the CPU among them
    }


def run(minutes: float, **simulate: object) -> dict:
    """A whole run within a time; its scores."""
    keys = {"size": 16, "frames": 12} if DRY else simulate
    arguments = [f"simulate.{k}={v}" for k, v in keys.items()] + ["logger=csv", "compare.methods=[sirt_whole]"]
    arguments += ["train.steps=10", "trainer.accelerator=cpu"] if DRY else [f"train.max_minutes={minutes}"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        words = [sys.executable, Path(__file__).parents[1] / "train.py", *arguments, f"run.dir={path}"]
        code = subprocess.run(words, timeout=60 * minutes + 120).returncode
        if code not in (0, NOT_USABLE):
            raise RuntimeError(f"train.py ended with exit code {code}")
        metrics = json.loads((path / "metrics.json").read_text())
    found = {k: metrics[k] for k in ("steps", "fit_seconds", "seconds", "held_out")}
    for name, scores in metrics["methods"].items():
        for score in ("psnr", "ssim"):
            values = [v for v in scores[score] if v is not None]
            found[f"{name} {score}"] = {"mean": sum(values) / len(values), "worst": min(values), "first": values[0]}
    return found


PARTS: dict[str, Callable[[], dict]] = {
    "projector": projector,
    "kernels": kernels,
    "fit": fit,
    "speed": speed,
    "sirt": sirt,
    "step": step,
    "train64": lambda: run(1, size=64),
    "train128": lambda: run(2, size=128),
    "train256": lambda: run(4, size=256),
    "nanocage": lambda: run(4, specimen="nanocage", size=100, peak_counts=0),
}
MINUTES = {"train64": 1.5, "train128": 2.5, "train256": 5.0, "nanocage": 5.0}  # a part takes; others half of one


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="*", choices=list(PARTS), default=list(PARTS)[: 7 if DRY else None])
    parser.add_argument("--budget", type=float, default=8.5)
    parser.add_argument("--dry", action="store_true")
    options = parser.parse_args()
    if not DRY and not torch.cuda.is_available():
        print("no CUDA device: nothing of this can be shown here; --dry shows that it would run")
        return 2
    began, path = time.monotonic(), RESULTS / "gpu_suite-cuda.json"
    record = json.loads(path.read_text()) if path.exists() else {"results": {}}
    failed = []
    for name in options.parts:
        if not DRY and (time.monotonic() - began) / 60 + MINUTES.get(name, 0.5) > options.budget:
            print(f"\n== {name}: left out, the time does not suffice; --parts {name}")
            continue
        print(f"\n== {name}")
        try:
            result = PARTS[name]()
            print(json.dumps(result, indent=1))
        except Exception:  # the other parts still have something to show
            result = {"failed": traceback.format_exc()}
            failed.append(name)
            print(result["failed"])
        if not DRY:
            record = record | environment() | {"results": record["results"] | {name: result}}
            RESULTS.mkdir(exist_ok=True)
            path.write_text(json.dumps(record, indent=1) + "\n")
            torch.cuda.empty_cache()
    print(f"\nfailed: {', '.join(failed)}" if failed else "\nall parts ran")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
