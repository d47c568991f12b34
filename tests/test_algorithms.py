"""SIRT against its own definition."""

from __future__ import annotations

import torch

from dip4d.algorithms import sirt, window
from dip4d.projector import Geometry, Projector


def problem(generator, slices: int = 3, size: int = 12, n: int = 20):
    A = Projector(Geometry((size, size), size, torch.linspace(-1.2, 1.2, n)))
    x = torch.rand(slices, size, size, generator=generator)
    return A, x, A(x)


def test_sirt_is_the_textbook_iteration(generator):
    """x <- max(0, x + C A^T R (y - A x)), with A as a matrix."""
    A, _, y = problem(generator)
    y = y + 0.5 * torch.randn(y.shape, generator=generator)
    basis = torch.eye(144).view(144, 12, 12)
    matrix = A(basis).flatten(1).T.double()  # (n S, Y X)
    rows, columns = matrix.sum(1), matrix.sum(0)
    R, C = (torch.where(v > 1e-6, 1 / v, 0) for v in (rows, columns))
    for b in range(len(y)):
        x = torch.zeros(144, dtype=torch.float64)
        for _ in range(15):
            x = (x + C * (matrix.T @ (R * (y[b].flatten() - matrix @ x)))).clamp(min=0)
        torch.testing.assert_close(sirt(A, y, 15)[b].flatten().double(), x, rtol=1e-4, atol=1e-5)


def test_thirty_iterations_are_ten_and_ten_and_ten(generator):
    A, _, y = problem(generator)
    x = None
    for _ in range(3):
        x = sirt(A, y, 10, x)
    assert torch.equal(x, sirt(A, y, 30))


def test_the_truth_is_a_fixed_point(generator):
    A, truth, y = problem(generator)
    torch.testing.assert_close(sirt(A, y, 3, truth), truth, atol=1e-5, rtol=0)


def test_rows_left_out_have_no_influence(generator):
    A, _, y = problem(generator)
    known = (torch.rand(3, 20, generator=generator) > 0.3).float()
    spoiled = torch.where(known[..., None] > 0, y, 1e3)
    assert torch.equal(sirt(A, y, 10, known=known), sirt(A, spoiled, 10, known=known))
    assert not torch.equal(sirt(A, y, 10, known=known), sirt(A, y, 10))


def test_windows_stay_inside_and_around():
    for t in range(20):
        w = window(t, 20, 7)
        assert w.start >= 0
        assert w.stop <= 20
        assert w.stop - w.start == 7
        assert t in range(w.start, w.stop)
    assert window(10, 20, 7) == slice(7, 14)
    assert window(3, 5, 50) == slice(0, 5)
