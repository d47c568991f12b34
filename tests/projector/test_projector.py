"""The projector against what physics and linear algebra say; every backend runs the same list."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dip4d.projector import Geometry, Projector, cpu

SHAPES = [((20, 33), 29), ((31, 17), 60), ((16, 16), 16)]  # narrower, wider and equal detectors
BACKENDS = [pytest.param(torch.float64, 1e-12, id="reference"), pytest.param(torch.float32, 1e-6, id="cpu")]


def geometry(shape, bins, shared: bool, batch: int, generator: torch.Generator, n: int = 7) -> Geometry:
    size = (n,) if shared else (batch, n)
    angles = torch.rand(size, generator=generator, dtype=torch.float64) * 2 * math.pi
    return Geometry(shape, bins, angles, torch.randn(size, generator=generator, dtype=torch.float64))


def disc(size: int, radius: float, centre: tuple[float, float] = (0, 0), fine: int = 8) -> torch.Tensor:
    """A disc of intensity 1 (y, x), averaged over a finer grid."""
    axis = (torch.arange(size * fine, dtype=torch.float64) + 0.5) / fine - size / 2
    inside = (axis[:, None] - centre[1]) ** 2 + (axis - centre[0]) ** 2 < radius**2
    return inside.double().view(size, fine, size, fine).mean((1, 3))


@pytest.mark.parametrize(("dtype", "tolerance"), BACKENDS)
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("shape", "bins"), SHAPES)
def test_adjoint_is_the_transpose(shape, bins, shared, dtype, tolerance, generator):
    batch = 37  # not a multiple of the width of the kernels
    A = Projector(geometry(shape, bins, shared, batch, generator))
    x = torch.randn(batch, *shape, generator=generator, dtype=dtype)
    y = torch.randn(batch, 7, bins, generator=generator, dtype=dtype)
    Ax, Aty = A(x), A.T(y)
    difference = (Ax.double() * y).sum() - (x.double() * Aty).sum()
    assert abs(difference) < tolerance * Ax.norm() * y.norm()
    assert A.T.T is A
    assert (A.domain_shape, A.range_shape) == (shape, (7, bins))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("shape", "bins"), SHAPES)
def test_cpu_agrees_with_the_reference(shape, bins, shared, generator):
    A = Projector(geometry(shape, bins, shared, 37, generator))
    x = torch.randn(37, *shape, generator=generator, dtype=torch.float64)
    y = torch.randn(37, 7, bins, generator=generator, dtype=torch.float64)
    for fast, exact in ((A(x.float()), A(x)), (A.T(y.float()), A.T(y))):
        assert (fast - exact).norm() < 1e-5 * exact.norm()


@pytest.mark.parametrize("together", [1, 3, 8, 13, 40])  # of each width of the kernels, full and in part
@pytest.mark.parametrize("turn", [1, 3])
def test_slices_whose_own_angles_come_again_in_turn_agree_with_the_reference(together, turn, generator):
    """As those of the positions z of a tilt series do; the first angle of a turn may come again within it."""
    angles = torch.rand(turn, 2, generator=generator, dtype=torch.float64)
    angles[-1] = angles[0]
    shift = torch.randn(turn, 2, generator=generator, dtype=torch.float64)
    A = Projector(Geometry((20, 33), 29, angles.repeat(together, 1), shift.repeat(together, 1)))
    x = torch.randn(together * turn, 20, 33, generator=generator, dtype=torch.float64)
    y = torch.randn(together * turn, 2, 29, generator=generator, dtype=torch.float64)
    for fast, exact in ((A(x.float()), A(x)), (A.T(y.float()), A.T(y))):
        assert (fast - exact).norm() < 1e-6 * exact.norm()


def test_angles_that_come_again_are_found_only_where_all_do():
    views = np.array([1.0, 2, 1, 3] * 3)
    assert cpu._turn(views[:, None]) == 4
    assert cpu._turn(views[:-1, None]) == 11
    assert cpu._turn(np.ones((5, 2, 2))) == 1
    views[-1] = 4
    assert cpu._turn(views[:, None]) == 12


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("shared", [True, False])
def test_the_number_of_threads_changes_nothing(shared, threads, generator):
    A = Projector(geometry((20, 33), 29, shared, 9, generator))
    x, y = torch.randn(9, 20, 33, generator=generator), torch.randn(9, 7, 29, generator=generator)
    before = torch.get_num_threads()
    found = []
    try:
        for torch_threads in (1, threads):
            torch.set_num_threads(torch_threads)
            found.append((A(x), A.T(y)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, many) for one, many in zip(*found, strict=True))


@pytest.mark.parametrize("shared", [True, False])
def test_large_slices_lose_no_precision(shared, generator):
    A = Projector(geometry((512, 500), 530, shared, 2, generator, n=3))
    x = torch.randn(2, 512, 500, generator=generator, dtype=torch.float64)
    y = torch.randn(2, 3, 530, generator=generator, dtype=torch.float64)
    for fast, exact in ((A(x.float()), A(x)), (A.T(y.float()), A.T(y))):
        assert (fast - exact).norm() < 1e-6 * exact.norm()


def test_half_precision_is_only_rounded(generator):
    A = Projector(geometry((40, 40), 40, False, 3, generator))
    x = torch.rand(3, 40, 40, generator=generator).bfloat16()
    rows = A(x)
    assert rows.dtype == torch.bfloat16
    assert (rows - A(x.double())).norm() < 4e-3 * rows.double().norm()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shared", [True, False])
def test_disc_chords(dtype, shared):
    """A disc has the chords 2 sqrt(r^2 - s^2), at any angle and off the middle."""
    size, radius, centre = 64, 20.0, (5.0, -3.0)
    angles = torch.linspace(0, math.pi, 13, dtype=torch.float64)
    A = Projector(Geometry((size, size), size, angles if shared else angles[None]))
    rows = A(disc(size, radius, centre).to(dtype)[None])[0]
    s = torch.arange(size) - (size - 1) / 2
    for angle, row in zip(angles, rows, strict=True):
        middle = centre[0] * math.cos(angle) + centre[1] * math.sin(angle)
        edges = (torch.linspace(-0.5, 0.5, 65)[:, None] + s - middle).clamp(-radius, radius)
        chords = 2 * (radius**2 - edges**2).sqrt().mean(0)
        inside = (s - middle).abs() < radius - 2
        assert (row - chords).abs()[inside].max() < 0.6  # of 40: half a pixel at each edge
        assert (row - chords).abs().mean() < 0.1
        assert row[(s - middle).abs() > radius + 2].abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shared", [True, False])
def test_every_projection_keeps_the_mass(dtype, shared):
    angles = torch.linspace(0, 2 * math.pi, 33, dtype=torch.float64)
    A = Projector(Geometry((48, 48), 48, angles if shared else angles[None]))
    x = disc(48, 18).to(dtype)[None]
    torch.testing.assert_close(A(x).sum(-1), x.sum().expand(1, 33), rtol=2e-3, atol=0)
    at_right_angles = Projector(Geometry((48, 48), 48, torch.tensor([0.0, math.pi / 2, math.pi])))
    torch.testing.assert_close(at_right_angles(x).sum(-1), x.sum().expand(1, 3), rtol=1e-5, atol=0)


def test_projection_at_zero_and_ninety_degrees_are_sums():
    x = torch.randn(3, 12, 12, dtype=torch.float64)
    rows = Projector(Geometry((12, 12), 12, torch.tensor([0.0, math.pi / 2], dtype=torch.float64)))(x)
    torch.testing.assert_close(rows[:, 0], x.sum(1))
    torch.testing.assert_close(rows[:, 1], x.sum(2))


def test_a_shift_moves_the_rows():
    x = disc(32, 6)[None]
    angle = torch.tensor([0.4], dtype=torch.float64)
    still = Projector(Geometry((32, 32), 32, angle))(x)
    moved = Projector(Geometry((32, 32), 32, angle, shift=3.0))(x)
    torch.testing.assert_close(moved[..., 3:], still[..., :-3])


def test_turning_the_object_turns_the_angle():
    x = torch.randn(1, 20, 20, dtype=torch.float64)
    angles = torch.rand(5, dtype=torch.float64)
    A, turned = (Projector(Geometry((20, 20), 20, a)) for a in (angles, angles + math.pi / 2))
    torch.testing.assert_close(turned(x.rot90(1, (1, 2)).flip(1, 2)), A(x))


@pytest.mark.parametrize("shared", [True, False])
def test_gradients(shared, generator):
    A = Projector(geometry((5, 6), 7, shared, 2, generator, n=3))
    x = torch.randn(2, 5, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    y = torch.randn(2, 3, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(A, x)
    assert torch.autograd.gradcheck(A.T, y)
    assert torch.autograd.gradgradcheck(lambda v: A(v) ** 2, x)


@pytest.mark.parametrize("shared", [True, False])
def test_gradients_by_angle_and_shift(shared, generator):
    """Against finite differences in float64, and the fast path against that."""
    given = geometry((6, 7), 9, shared, 2, generator, n=3)
    x = torch.randn(2, 6, 7, generator=generator, dtype=torch.float64)
    y = torch.randn(2, 3, 9, generator=generator, dtype=torch.float64)
    leaves = [v.clone().requires_grad_() for v in (given.angles, given.shift)]
    assert torch.autograd.gradcheck(lambda a, s: Projector(Geometry((6, 7), 9, a, s))(x), leaves, eps=1e-7, atol=1e-5)
    assert torch.autograd.gradcheck(lambda a, s: Projector(Geometry((6, 7), 9, a, s)).T(y), leaves, eps=1e-7, atol=1e-5)

    def gradients(dtype: torch.dtype) -> tuple:
        A = Projector(Geometry((6, 7), 9, *leaves))
        return torch.autograd.grad((A(x.to(dtype)) * y.to(dtype)).sum(), leaves)

    for exact, fast in zip(gradients(torch.float64), gradients(torch.float32), strict=True):
        torch.testing.assert_close(fast, exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"angles": torch.tensor([0.0, math.nan])}, "finite"),
        ({"angles": torch.zeros(0)}, "n > 0"),
        ({"angles": torch.zeros(2, 2, 2)}, "shape"),
        ({"shift": torch.zeros(5)}, "broadcast"),
        ({"bins": 0}, ">= 1"),
    ],
)
def test_impossible_geometries(change, words):
    with pytest.raises(ValueError, match=words):
        Geometry(**({"slice_shape": (8, 8), "bins": 8, "angles": torch.zeros(3)} | change))


def test_tensors_of_the_wrong_shape():
    A = Projector(Geometry((8, 9), 10, torch.zeros(2, 3)))
    for call, tensor in ((A, torch.zeros(2, 9, 8)), (A, torch.zeros(3, 8, 9)), (A.T, torch.zeros(2, 2, 10))):
        with pytest.raises(ValueError, match="expected"):
            call(tensor)
