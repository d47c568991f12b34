"""The Triton backend against the reference: on a GPU where there is one, else in Triton's interpreter on the CPU."""

from __future__ import annotations

import importlib
import math

import pytest
import torch

from dip4d.projector import reference
from tests.interpreted import DEVICE, need_triton

need_triton()
cuda = importlib.import_module("dip4d.projector.cuda")

SHAPES = [
    ((20, 33), 29),
    ((31, 17), 60),
    ((16, 16), 16),
    ((40, 70), 131),  # more than one tile each way
    ((1, 9), 5),
    ((9, 1), 1),
    ((1, 1), 3),
]
EXACT = torch.tensor([0, 45, 90, 135, 180, -45, 270], dtype=torch.float64).deg2rad()


def views(shared: bool, batch: int, generator: torch.Generator, n: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Any angles and shifts, and the exact ones: (n + 7,) or (batch, n + 7)."""
    size = (n,) if shared else (batch, n)
    angles = torch.rand(size, generator=generator, dtype=torch.float64) * 2 * math.pi
    angles = torch.cat([angles, EXACT.expand(*size[:-1], -1)], -1)
    return angles, torch.randn(angles.shape, generator=generator, dtype=torch.float64)


def forward(x, angles, shift, bins):
    return cuda.forward(x.to(DEVICE), angles.to(DEVICE), shift.to(DEVICE), bins).cpu()


def adjoint(y, angles, shift, shape):
    return cuda.adjoint(y.to(DEVICE), angles.to(DEVICE), shift.to(DEVICE), shape).cpu()


def assert_near(got: torch.Tensor, want: torch.Tensor, tolerance: float) -> None:
    assert got.shape == want.shape
    assert (got - want).norm() <= tolerance * want.norm()


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("shape", "bins"), SHAPES)
def test_agrees_with_the_reference_and_is_its_own_transpose(shape, bins, shared, generator):
    angles, shift = views(shared, 2, generator)
    x = torch.randn(2, *shape, generator=generator)
    y = torch.randn(2, angles.shape[-1], bins, generator=generator)
    Ax, Aty = forward(x, angles, shift, bins), adjoint(y, angles, shift, shape)
    assert_near(Ax, reference.forward(x.double(), angles, shift, bins), 1e-6)
    assert_near(Aty, reference.adjoint(y.double(), angles, shift, shape), 1e-6)
    difference = (Ax.double() * y).sum() - (x.double() * Aty).sum()
    assert abs(difference) < 1e-6 * Ax.norm() * y.norm()


@pytest.mark.parametrize(("shape", "bins"), SHAPES)
def test_gradients_of_angle_and_shift_are_those_of_the_reference(shape, bins, generator):
    angles = torch.rand(2, 5, generator=generator, dtype=torch.float64) * 2 * math.pi
    shift = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    x, y = torch.randn(2, *shape, generator=generator), torch.randn(2, 5, bins, generator=generator)
    found = cuda.geometry_gradient(*(v.to(DEVICE) for v in (x, y, angles, shift)))
    for got, want in zip(found, reference.geometry_gradient(x.double(), y.double(), angles, shift), strict=True):
        assert got.dtype == torch.float64
        assert_near(got.cpu(), want, 1e-6)


def test_zero_and_ninety_degrees_are_sums(generator):
    x = torch.randn(2, 12, 12, generator=generator)
    rows = forward(x, EXACT[[0, 2]], torch.zeros(2), 12)
    torch.testing.assert_close(rows, torch.stack([x.sum(1), x.sum(2)], 1))


def test_large_slices_lose_no_accuracy(generator):
    """Places in float32 alone would be wrong by 3e-5 of a pixel here."""
    angles = torch.tensor([[0.7], [0.9]], dtype=torch.float64)
    shift = torch.tensor([[0.3], [-70.6]], dtype=torch.float64)
    x, y = torch.randn(2, 512, 500, generator=generator), torch.randn(2, 1, 512, generator=generator)
    assert_near(forward(x, angles, shift, 512), reference.forward(x.double(), angles, shift, 512), 1e-6)
    assert_near(adjoint(y, angles, shift, (512, 500)), reference.adjoint(y.double(), angles, shift, (512, 500)), 1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype, generator):
    angles, shift = views(False, 2, generator)
    x = torch.randn(2, 20, 33, generator=generator).to(dtype)
    y = torch.randn(2, 10, 29, generator=generator).to(dtype)
    Ax, Aty = forward(x, angles, shift, 29), adjoint(y, angles, shift, (20, 33))
    assert Ax.dtype == Aty.dtype == dtype
    # only the result is rounded
    assert_near(Ax.double(), reference.forward(x.double(), angles, shift, 29), torch.finfo(dtype).eps / 2)
    assert_near(Aty.double(), reference.adjoint(y.double(), angles, shift, (20, 33)), torch.finfo(dtype).eps / 2)


def test_any_strides(generator):
    x = torch.randn(33, 2, 40, generator=generator).permute(1, 2, 0)[:, ::2]  # (2, 20, 33)
    y = torch.randn(2, 58, 4, generator=generator).mT[..., ::2]  # (2, 4, 29)
    angles = torch.rand(4, 2, generator=generator).T  # float32
    shift = torch.tensor(0.25).expand(2, 4)
    exact = angles.double(), shift.double()
    assert_near(forward(x, angles, shift, 29), reference.forward(x.double(), *exact, 29), 1e-6)
    assert_near(adjoint(y, angles, shift, (20, 33)), reference.adjoint(y.double(), *exact, (20, 33)), 1e-6)


def test_many_views_and_no_slices(generator):
    n = cuda.VIEWS + 2
    angles, shift = views(True, 1, generator, n - len(EXACT))
    x, y = torch.randn(1, 4, 5, generator=generator), torch.randn(1, n, 6, generator=generator)
    assert_near(forward(x, angles, shift, 6), reference.forward(x.double(), angles, shift, 6), 1e-6)
    assert_near(adjoint(y, angles, shift, (4, 5)), reference.adjoint(y.double(), angles, shift, (4, 5)), 1e-6)
    assert forward(x[:0], angles, shift, 6).shape == (0, n, 6)
    assert adjoint(y[:0], angles, shift, (4, 5)).shape == (0, 4, 5)


def test_shifted_off_the_detector(generator):
    x, y = torch.randn(1, 8, 8, generator=generator), torch.randn(1, 2, 8, generator=generator)
    for far in (30.0, -30.0, 1e7):
        shift = torch.full((2,), far, dtype=torch.float64)
        assert forward(x, EXACT[:2], shift, 8).abs().max() == 0
        assert adjoint(y, EXACT[:2], shift, (8, 8)).abs().max() == 0


def test_the_same_bits_twice(generator):
    angles, shift = views(True, 1, generator)
    x, y = torch.randn(3, 16, 16, generator=generator), torch.randn(3, 10, 16, generator=generator)
    assert torch.equal(forward(x, angles, shift, 16), forward(x, angles, shift, 16))
    assert torch.equal(adjoint(y, angles, shift, (16, 16)), adjoint(y, angles, shift, (16, 16)))
