"""Everything that only a GPU can show, in one call of under nine minutes.

    python benchmarks/gpu_suite.py [--minutes 4]

1. correctness: the Triton projector against the float64 reference, on every dtype, and its adjointness;
2. speed: share of the memory roofline, beside a plain grid_sample, flat and steep views apart;
3. SIRT: 256^3 x 100 angles, beside ASTRA's SIRT3D_CUDA where it is installed;
4. training: a step and the projector's share of it; then a whole run of 128^3 x 100 in --minutes.

Writes benchmarks/results/gpu_suite-cuda.json after each part, so a part that fails costs only itself.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

from common import RESULTS, save, show, side_by_side  # first: it sets up OpenMP

# isort: split
import torch

from dip4d.conventional.algorithms import sirt
from dip4d.projector import Geometry, Projector

DEVICE = "cuda"


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm())


def correctness() -> dict:
    """Relative differences from the reference, and of <A x, y> from <x, A^T y> with signed Gaussian vectors."""
    generator = torch.Generator(DEVICE).manual_seed(0)
    found = {}
    for shape, bins, batch, n, shared in (
        ((256, 256), 256, 64, 1, False),
        ((512, 500), 530, 4, 3, False),
        ((128, 128), 128, 33, 100, True),
    ):
        size = (n,) if shared else (batch, n)
        angles = torch.rand(size, generator=generator, device=DEVICE, dtype=torch.float64) * 2 * math.pi
        A = Projector(Geometry(shape, bins, angles))
        x = torch.randn(batch, *shape, generator=generator, device=DEVICE, dtype=torch.float64)
        y = torch.randn(batch, n, bins, generator=generator, device=DEVICE, dtype=torch.float64)
        exact = A(x), A.T(y)
        name = f"{batch} x {shape[0]}x{shape[1]}, {n} {'shared' if shared else 'own'} angles"
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            rounded = x.to(dtype), y.to(dtype)
            truth = (A(rounded[0].double()), A.T(rounded[1].double()))  # the rounding of the input is not ours
            found[f"{name}, {str(dtype)[6:]}"] = {
                "forward": relative(A(rounded[0]), truth[0]),
                "adjoint": relative(A.T(rounded[1]), truth[1]),
            }
        Ax, Aty = A(x.float()), A.T(y.float())
        gap = (Ax.double() * y).sum() - (x * Aty.double()).sum()
        found[f"{name}, adjointness"] = float(gap.abs() / (exact[0].norm() * y.norm()))
    for name, value in found.items():
        print(f"  {name}: {value}")
    return found


def speed() -> dict:
    """Milliseconds and share of the memory roofline, B = 1024, N = 256, one own angle each."""
    batch, size = 1024, 256
    bandwidth = measured_bandwidth()
    found: dict = {"bandwidth GB/s": bandwidth / 1e9}
    generator = torch.Generator().manual_seed(0)
    for views, low, high in (("all", -70, 70), ("flat", -45, 45), ("steep", 45, 90)):
        angles = torch.deg2rad(torch.rand(batch, 1, generator=generator) * (high - low) + low)
        A = Projector(Geometry((size, size), size, angles.double().to(DEVICE)))
        x = torch.rand(batch, size, size, device=DEVICE)
        y = A(x)
        grid = rotated_grid(angles[:, 0].to(DEVICE), size)
        times = side_by_side(
            {
                "forward": lambda: A(x),
                "adjoint": lambda: A.T(y),
                "grid_sample forward": lambda: torch.nn.functional.grid_sample(
                    x[:, None], grid, align_corners=False
                ).sum(2),
            },
            30,
        )
        floor = 1e3 * (x.numel() + y.numel()) * 4 / bandwidth
        found[views] = times | {f"roofline {d}": floor / times[d] for d in ("forward", "adjoint")}
        show(f"{batch} slices of {size}^2, {views} views", times, "forward")
        print(f"  of the roofline: {floor / times['forward']:.0%} forward, {floor / times['adjoint']:.0%} adjoint")
    return found


def measured_bandwidth() -> float:
    """Bytes a second that a copy of 1 GiB moves, read and written."""
    source, target = torch.empty(2**28, device=DEVICE), torch.empty(2**28, device=DEVICE)
    milliseconds = side_by_side({"copy": lambda: target.copy_(source)}, 20)["copy"]
    return 2 * source.numel() * 4 / milliseconds * 1e3


def rotated_grid(angles: torch.Tensor, size: int) -> torch.Tensor:
    """Where grid_sample must look to turn slices (B, S, Y): the usual way to project in plain torch."""
    cos, sin, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    turn = torch.stack([torch.stack([cos, -sin, zero], -1), torch.stack([sin, cos, zero], -1)], 1)
    return torch.nn.functional.affine_grid(turn, (len(angles), 1, size, size), align_corners=False)


def reconstruction() -> dict:
    """SIRT of 256^3 x 100 angles, 100 iterations, beside ASTRA's."""
    size, n, iterations = 256, 100, 100
    angles = torch.linspace(-1, 1, n, dtype=torch.float64) * math.radians(70)
    A = Projector(Geometry((size, size), size, angles.to(DEVICE)))
    rows = A(torch.rand(size, size, size, device=DEVICE))
    functions = {"ours": lambda: sirt(A, rows, iterations)}
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
    """A training step of 128^3 x 100, and how much of it is the projector, both ways."""
    from dip4d.reconstruction.forward_model import Microscope
    from dip4d.reconstruction.losses import SquaredError
    from dip4d.reconstruction.networks.low_rank import BoundedLowRank, Decoder

    size, slices, times = 128, 8, 100
    decoder = Decoder((size, size), 10, n_z=size, images=10, channels=32, octaves=4)
    network = BoundedLowRank(decoder, 10, damping=0.3, intensity_bound=1.0, windows=10).to(DEVICE)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    microscope, loss = Microscope((size, size), size), SquaredError(float(size))
    z = torch.arange(slices, device=DEVICE).float()
    tau = torch.linspace(0, 1, times, device=DEVICE).expand(slices, -1)
    angles = (torch.rand(slices, times, device=DEVICE) - 0.5) * math.radians(140)
    rows = torch.rand(slices, times, size, device=DEVICE)
    volume = torch.rand(slices * times, size, size, device=DEVICE)
    A = Projector(Geometry((size, size), size, angles.reshape(-1, 1)))
    y = A(volume)

    def train() -> None:
        shown = microscope.back_project(rows, angles, tau=tau, windows=10)
        value = loss(microscope.project(network.render(network.features(z, shown), tau), angles), rows)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    found = side_by_side({"step": train, "projector": lambda: (A(volume), A.T(y), A.T(y))}, 20)
    found["share"] = found["projector"] / found["step"]
    print(f"  step {found['step']:.2f} ms, projector in it {found['projector']:.2f} ms: {found['share']:.1%}")
    return found


def training(minutes: float) -> dict:
    """A whole run of 128^3 x 100 within a budget; its scores."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        arguments = ["simulate.size=128", f"train.max_minutes={minutes}", "train.steps=6000", "logger=csv"]
        script = Path(__file__).parents[1] / "train.py"
        subprocess.run([sys.executable, script, *arguments, f"run.dir={run}"], check=True, timeout=60 * minutes + 60)
        metrics = json.loads((run / "metrics.json").read_text())
    found = {k: metrics[k] for k in ("steps", "fit_seconds", "seconds", "held_out")}
    for name, scores in metrics["methods"].items():
        for score in ("psnr", "ssim"):
            values = [v for v in scores[score] if v is not None]
            found[f"{name} {score}"] = {"mean": sum(values) / len(values), "worst": min(values)}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=4)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("no CUDA device: nothing of this can be shown here")
        return 2
    results: dict = {}
    parts = (correctness, speed, reconstruction, step, lambda: training(options.minutes))
    for name, part in zip(("correctness", "speed", "sirt", "step", "training"), parts, strict=True):
        print(f"\n== {name}")
        try:
            results[name] = part()
        except Exception:  # the other parts still have something to show
            results[name] = {"failed": traceback.format_exc()}
            print(results[name]["failed"])
        save("gpu_suite", results)
        torch.cuda.empty_cache()
    print(f"results in {RESULTS}")
    return 1 if any("failed" in r for r in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
