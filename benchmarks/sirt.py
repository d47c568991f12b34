"""SIRT beside ASTRA's: the same geometry, data and iterations; time, and difference of the images.

    python benchmarks/sirt.py [--size 256] [--slices 32] [--angles 100] [--iterations 100] [--threads 1]

Needs: pip install astra-toolbox. On a machine with a GPU, ours runs on it and meets ASTRA's SIRT3D_CUDA as well.
"""

from __future__ import annotations

import argparse
import math
import time

from common import save, show, synchronise  # first: it sets up OpenMP

# isort: split
import astra
import numpy as np
import torch

from dip4d.conventional.algorithms import sirt
from dip4d.projector import Geometry, Projector


def ellipses(slices: int, size: int) -> torch.Tensor:
    """Slices of a particle with a hole, (B, Y, X)."""
    u = (torch.arange(size) + 0.5) * 2 / size - 1
    r = torch.linspace(0.35, 0.75, slices)[:, None, None]
    body = ((u / r) ** 2 + (u[:, None] / (0.7 * r)) ** 2 < 1).float()
    return body * (1 - 0.6 * (((u - 0.1) / r) ** 2 + (u[:, None] / r) ** 2 < 0.1).float())


def by_astra_cpu(rows: np.ndarray, angles: np.ndarray, size: int, iterations: int) -> np.ndarray:
    """SIRT of each slice by ASTRA's CPU algorithm, projector `linear`, non-negative.

    ASTRA counts y upwards where a slice counts it downwards: hence the sign of the angles.
    """
    volume = astra.create_vol_geom(size, size)
    detector = astra.create_proj_geom("parallel", 1.0, size, -angles)
    projector = astra.create_projector("linear", detector, volume)
    out = []
    for row in rows:
        sinogram, image = astra.data2d.create("-sino", detector, row), astra.data2d.create("-vol", volume, 0)
        config = astra.astra_dict("SIRT")
        config |= {"ProjectorId": projector, "ProjectionDataId": sinogram, "ReconstructionDataId": image}
        config["option"] = {"MinConstraint": 0}
        algorithm = astra.algorithm.create(config)
        astra.algorithm.run(algorithm, iterations)
        out.append(astra.data2d.get(image))
        astra.algorithm.delete(algorithm)
        astra.data2d.delete([sinogram, image])
    return np.stack(out)


def by_astra_cuda(rows: np.ndarray, angles: np.ndarray, size: int, iterations: int) -> np.ndarray:
    """SIRT3D_CUDA of the whole stack; ASTRA's 3D projector is another model, so only the time compares."""
    slices = len(rows)
    volume = astra.create_vol_geom(size, size, slices)
    detector = astra.create_proj_geom("parallel3d", 1.0, 1.0, slices, size, angles)
    sinogram, image = astra.data3d.create("-sino", detector, rows), astra.data3d.create("-vol", volume, 0)
    config = astra.astra_dict("SIRT3D_CUDA") | {"ProjectionDataId": sinogram, "ReconstructionDataId": image}
    config["option"] = {"MinConstraint": 0}
    algorithm = astra.algorithm.create(config)
    astra.algorithm.run(algorithm, iterations)
    out = astra.data3d.get(image)
    astra.algorithm.delete(algorithm)
    astra.data3d.delete([sinogram, image])
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--slices", type=int, default=32)
    parser.add_argument("--angles", type=int, default=100)
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    angles = np.linspace(-70, 70, o.angles) * math.pi / 180
    A = Projector(Geometry((o.size, o.size), o.size, torch.from_numpy(angles).to(device)))
    rows = A(ellipses(o.slices, o.size).to(device))
    rows = rows + 0.02 * rows.max() * torch.randn(rows.shape, generator=torch.Generator().manual_seed(0)).to(device)

    def timed(function) -> tuple[float, np.ndarray]:
        synchronise()
        began = time.perf_counter()
        image = function()
        synchronise()
        return 1e3 * (time.perf_counter() - began), image

    sirt(A, rows, 2)  # compile
    host = rows.cpu().numpy()
    milliseconds, results = {}, {}
    milliseconds["ours"], ours = timed(lambda: sirt(A, rows, o.iterations).cpu().numpy())
    milliseconds["ASTRA SIRT linear, CPU"], theirs = timed(lambda: by_astra_cpu(host, angles, o.size, o.iterations))
    results["relative difference"] = float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
    if device == "cuda" and astra.use_cuda():
        by_astra_cuda(host, angles, o.size, 2)
        milliseconds["ASTRA SIRT3D_CUDA"], _ = timed(lambda: by_astra_cuda(host, angles, o.size, o.iterations))
    show(f"SIRT, {o.slices} slices of {o.size}^2, {o.angles} angles, {o.iterations} iterations", milliseconds, "ours")
    print(f"  relative difference of the images: {results['relative difference']:.1e}")
    save("sirt", {"options": vars(o), "milliseconds": milliseconds} | results)


if __name__ == "__main__":
    main()
