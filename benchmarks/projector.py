"""The projector beside others: one own angle for each slice (training), and many slices at the same angles (SIRT).

    python benchmarks/projector.py [--size 256] [--slices 64] [--angles 100] [--threads 1]
    python benchmarks/projector.py --few [--angles 100] [--threads 2]  # 1 to 64 slices beside a CSR matrix

Prints times and ratios and writes benchmarks/results/projector-*.json. ASTRA and scikit-image join in where they are
installed (pip install astra-toolbox).
"""

from __future__ import annotations

import argparse
import math

from common import save, show, side_by_side  # first: it sets up OpenMP

# isort: split
import numpy as np
import scipy.sparse
import torch
from torch import Tensor

from dip4d.projector import Geometry, Projector, reference


def eager_forward(x: Tensor, angles: Tensor, bins: int) -> Tensor:
    """The same sums as Projector, as anybody would write them in torch: march rows, gather two taps. One view each."""
    cos, sin = angles.cos(), angles.sin()
    steep = cos.abs() < sin.abs()
    x = torch.where(steep[:, None, None], x.transpose(1, 2), x)
    along, across = torch.where(steep, sin, cos)[:, None, None], torch.where(steep, cos, sin)[:, None, None]
    n = x.shape[1]
    k = torch.arange(bins) - (bins - 1) / 2
    i = torch.arange(n)[:, None] - (n - 1) / 2
    position = (k - i * across) / along + (n - 1) / 2 + 1
    x = torch.nn.functional.pad(x, (1, 2))
    position = position.clamp(0, n + 1)
    left = position.long()
    fraction = position - left
    return ((1 - fraction) * x.gather(2, left) + fraction * x.gather(2, left + 1)).sum(1) / along[:, 0].abs()


def eager_adjoint(y: Tensor, angles: Tensor, size: int) -> Tensor:
    """Its transpose: gather two bins for each pixel. y: (B, S)."""
    cos, sin = angles.cos()[:, None, None], angles.sin()[:, None, None]
    m = torch.maximum(cos.abs(), sin.abs())
    u = torch.arange(size) - (size - 1) / 2
    s0 = (u * cos + u[:, None] * sin + (y.shape[1] - 1) / 2 + 1).clamp(0, y.shape[1] + 1).flatten(1)
    y = torch.nn.functional.pad(y, (1, 2))
    left = s0.long()
    distance = s0 - left
    m = m.flatten(1)
    w_left, w_right = (1 - distance / m).clamp(min=0) / m, (1 - (1 - distance) / m).clamp(min=0) / m
    return (w_left * y.gather(1, left) + w_right * y.gather(1, left + 1)).unflatten(1, (size, size))


def csr(size: int, bins: int, angles: Tensor) -> Tensor:
    """The matrix (n S, Y X) of the projector for one slice."""
    left, w_left, w_right = reference._taps(angles.double(), torch.zeros_like(angles).double(), (size, size), bins)
    rows = torch.arange(len(angles))[:, None] * bins + left - 1
    pixels = torch.arange(size * size).expand_as(rows)
    keep = [((left >= 1) & (w_left > 0), rows, w_left), ((left < bins) & (w_right > 0), rows + 1, w_right)]
    index = torch.cat([torch.stack([r[k], pixels[k]]) for k, r, _ in keep], dim=1)
    values = torch.cat([w[k] for k, _, w in keep]).float()
    shape = (len(angles) * bins, size * size)
    return torch.sparse_coo_tensor(index, values, shape, check_invariants=False).coalesce().to_sparse_csr()


FEW = (1, 4, 8, 16, 32, 64)  # slices
MOST_OF_IMAGES = 8  # slices of an image: as many as a fit takes at once
Matrices = tuple[scipy.sparse.csr_matrix, scipy.sparse.csr_matrix]


def matrices(size: int, angles: Tensor) -> Matrices:
    """The matrix of the projector for one slice, and its transpose."""
    m = csr(size, size, angles)
    parts = m.values().numpy(), m.col_indices().int().numpy(), m.crow_indices().int().numpy()
    forward = scipy.sparse.csr_matrix(parts, shape=tuple(m.shape))
    return forward, forward.T.tocsr()


def few_slices(size: int, n: int, generator: torch.Generator) -> dict[str, dict]:
    """Ours beside CSR matrices of SciPy, whose slices lie as they like best: milliseconds, and ours over theirs.

    shared: so many slices at n angles. images: n images of so many slices, one angle for all of each, as in a fit.
    """
    angles = torch.linspace(-1, 1, n) * math.radians(70)
    whole, each = matrices(size, angles), [matrices(size, a[None]) for a in angles]
    found = {"shared": {}, "images": {}}
    for slices in FEW:
        x = torch.rand(slices, size, size, generator=generator)
        A = Projector(Geometry((size, size), size, angles.double()))
        found["shared"][str(slices)] = _beside(A, x, [whole])
        if slices <= MOST_OF_IMAGES:
            images = torch.rand(slices * n, size, size, generator=generator)
            A = Projector(Geometry((size, size), size, angles.double().repeat(slices)[:, None]))
            found["images"][str(slices)] = _beside(A, images, each)
    return found


def _beside(A: Projector, x: Tensor, each: list[Matrices]) -> dict[str, dict[str, float]]:
    """Slices x as they come, one after the other of those that the matrices are for."""
    y, found = A(x), {}
    for direction, ours, given in (("forward", A, x), ("adjoint", A.T, y)):
        theirs = [m[direction == "adjoint"] for m in each]
        columns = given.flatten(1).unflatten(0, (-1, len(each))).permute(1, 2, 0).contiguous().numpy()
        product = lambda m=theirs, c=columns: [
            a @ b for a, b in zip(m, c.squeeze(2) if c.shape[2] == 1 else c, strict=True)
        ]
        expected = ours(given).flatten(1).unflatten(0, (-1, len(each))).permute(1, 2, 0).numpy()
        np.testing.assert_allclose(np.reshape(product(), expected.shape), expected, atol=1e-4 * expected.max())
        times = side_by_side({"ours": lambda f=ours, v=given: f(v), "SciPy, CSR matrix": product}, 9)
        found[direction] = times | {"ratio": times["ours"] / times["SciPy, CSR matrix"]}
    return found


def compare_few(n: int, generator: torch.Generator) -> dict[str, dict]:
    """`few_slices` of three sizes, and a table of ratios."""
    found = {}
    for size in (64, 128, 256):
        found[str(size)] = few_slices(size, n, generator)
        for kind, of in found[str(size)].items():
            for direction in ("forward", "adjoint"):
                ratios = "  ".join(f"{slices}: {of[slices][direction]['ratio']:.2f}" for slices in of)
                print(
                    f"{size}^2, {n} angles, {kind:7s} {direction}, time over that of CSR by slices  {ratios}",
                    flush=True,
                )
    return found


def own_angles(size: int, slices: int, generator: torch.Generator) -> dict:
    angles = (torch.rand(slices, generator=generator) - 0.5) * math.radians(140)
    x = torch.rand(slices, size, size, generator=generator)
    A = Projector(Geometry((size, size), size, angles[:, None].double()))
    y = A(x)
    assert (eager_forward(x, angles, size) - y[:, 0]).norm() < 1e-4 * y.norm()
    assert (eager_adjoint(y[:, 0], angles, size) - A.T(y)).norm() < 1e-4 * A.T(y).norm()
    forward = {
        "ours": lambda: A(x),
        "torch, eager gather": lambda: eager_forward(x, angles, size),
        "torch, our reference": lambda: reference.forward(x, A.geometry.angles, A.geometry.shift, size),
    }
    adjoint = {
        "ours": lambda: A.T(y),
        "torch, eager gather": lambda: eager_adjoint(y[:, 0], angles, size),
        "torch, our reference": lambda: reference.adjoint(y, A.geometry.angles, A.geometry.shift, (size, size)),
    }
    try:
        from skimage.transform import radon

        forward["scikit-image radon"] = lambda: [
            radon(v, [math.degrees(a)], circle=True) for v, a in zip(x.numpy(), angles.tolist(), strict=True)
        ]
    except ImportError:
        pass
    return {"forward": side_by_side(forward), "adjoint": side_by_side(adjoint)}


def shared_angles(size: int, slices: int, n: int, generator: torch.Generator) -> dict:
    angles = torch.linspace(-1, 1, n) * math.radians(70)
    x = torch.rand(slices, size, size, generator=generator)
    A = Projector(Geometry((size, size), size, angles.double()))
    y = A(x)
    matrix = csr(size, size, angles)
    transposed = matrix.to_sparse_coo().t().coalesce().to_sparse_csr()
    flat_x, flat_y = x.flatten(1).T.contiguous(), y.flatten(1).T.contiguous()
    assert ((matrix @ flat_x) - flat_y).norm() < 1e-4 * flat_y.norm()
    forward = {"ours": lambda: A(x), "torch, CSR matrix": lambda: matrix @ flat_x}
    adjoint = {"ours": lambda: A.T(y), "torch, CSR matrix": lambda: transposed @ flat_y}
    try:
        forward["ASTRA linear, CPU"], adjoint["ASTRA linear, CPU"] = astra(x.numpy(), y.numpy(), angles.numpy())
    except ImportError:
        print("(ASTRA is not installed)")
    return {"forward": side_by_side(forward, 5), "adjoint": side_by_side(adjoint, 5)}


def astra(x: np.ndarray, y: np.ndarray, angles: np.ndarray) -> tuple:
    """Forward and back projection of every slice by ASTRA's CPU projector of the same model."""
    import astra

    size = x.shape[-1]
    volume = astra.create_vol_geom(size, size)
    detector = astra.create_proj_geom("parallel", 1.0, size, angles)
    projector = astra.create_projector("linear", detector, volume)

    def forward() -> None:
        for v in x:
            astra.data2d.delete(astra.create_sino(v, projector)[0])

    def adjoint() -> None:
        for rows in y:
            astra.data2d.delete(astra.create_backprojection(rows, projector)[0])

    return forward, adjoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--slices", type=int, default=64)
    parser.add_argument("--angles", type=int, default=100)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--few", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(0)
    if options.few:
        results = compare_few(options.angles, generator)
        given = {"angles": options.angles, "threads": options.threads}
        save(f"projector-few-slices-{options.threads}-threads", {"options": given, "milliseconds": results})
        return
    results = {
        "own": own_angles(options.size, options.slices, generator),
        "shared": shared_angles(options.size, options.slices, options.angles, generator),
    }
    n = f"{options.slices} slices of {options.size}^2, {options.threads} thread(s)"
    for kind, what in (("own", "one own angle each"), ("shared", f"{options.angles} shared angles")):
        for direction in ("forward", "adjoint"):
            show(f"{direction}, {n}, {what}", results[kind][direction], "ours")
    save("projector", {"options": vars(options), "milliseconds": results})


if __name__ == "__main__":
    main()
