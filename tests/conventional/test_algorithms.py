"""SIRT, EM, TV and filtered back-projection against their own definitions and against closed forms."""

from __future__ import annotations

import math
from itertools import islice

import pytest
import torch
from torch import Tensor

from dip4d.conventional.algorithms import (
    _gradient,
    _gradient_transposed,
    em,
    em_steps,
    fbp,
    in_slabs,
    sirt,
    tv,
    tv_steps,
)
from dip4d.projector import Geometry, Projector

METHODS = {
    "fbp": lambda A, y, row_mask=None, unit=1.0: fbp(A, y, row_mask=row_mask),
    "sirt": lambda A, y, row_mask=None, unit=1.0: sirt(A, y, 10, row_mask=row_mask),
    "em": lambda A, y, row_mask=None, unit=1.0: em(A, y, 10, row_mask=row_mask),
    "tv": lambda A, y, row_mask=None, unit=1.0: tv(A, y, 10, weight=2 * unit, row_mask=row_mask),
}
every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


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


@pytest.mark.parametrize("method", [sirt, em])
def test_thirty_iterations_are_ten_and_ten_and_ten(generator, method):
    A, _, y = problem(generator)
    x = None
    for _ in range(3):
        x = method(A, y, 10, x=x)
    assert torch.equal(x, method(A, y, 30))


def test_the_truth_is_a_fixed_point(generator):
    A, truth, y = problem(generator)
    torch.testing.assert_close(sirt(A, y, 3, x=truth), truth, atol=1e-5, rtol=0)
    torch.testing.assert_close(em(A, y, 3, x=truth), truth, atol=1e-5, rtol=0)
    torch.testing.assert_close(tv(A, y, 3, weight=0, x=truth), truth, atol=1e-5, rtol=0)


@every_method
def test_rows_left_out_have_no_influence(generator, method):
    A, _, y = problem(generator)
    row_mask = (torch.rand(3, 20, generator=generator) > 0.3).float()
    spoiled = torch.where(row_mask[..., None] > 0, y, y.max())
    assert torch.equal(method(A, y, row_mask=row_mask), method(A, spoiled, row_mask=row_mask))
    assert not torch.equal(method(A, y, row_mask=row_mask), method(A, y))
    few = Projector(Geometry(A.domain_shape, 12, A.geometry.angles[row_mask[0] > 0]))
    alone = method(few, y[:1, row_mask[0] > 0])
    torch.testing.assert_close(method(A, y, row_mask=row_mask)[:1], alone, rtol=1e-4, atol=1e-5)


@every_method
def test_the_unit_of_intensity_does_not_matter(generator, method):
    """Images may be in counts or in amperes."""
    A, _, y = problem(generator)
    for unit in (1e-9, 1e6):
        torch.testing.assert_close(method(A, unit * y, unit=unit) / unit, method(A, y), rtol=1e-4, atol=1e-5)


@every_method
def test_slabs_make_no_difference(generator, method):
    A, _, y = problem(generator, slices=40)
    y = y * torch.logspace(-4, 0, 40)[:, None, None]
    row_mask = (torch.rand(40, 20, generator=generator) > 0.3).float()
    done = []
    reconstruct = lambda y, row_mask: method(A, y, row_mask)
    assert torch.equal(in_slabs(reconstruct, y, slab=17, row_mask=row_mask, report=done.append), method(A, y, row_mask))
    assert done == [17, 34, 40]
    assert torch.equal(in_slabs(reconstruct, y, slab=64), method(A, y))


def test_a_slab_needs_slices(generator):
    A, _, y = problem(generator)
    with pytest.raises(ValueError, match="slab=0"):
        in_slabs(lambda y, row_mask: fbp(A, y), y, slab=0)
    with pytest.raises(ValueError, match="0 slices"):
        in_slabs(lambda y, row_mask: fbp(A, y), y[:0], slab=1)


SIZE, RADIUS = 64, 20
INTERLEAVED = [*range(-70, -30, 5), *range(-30, 30), *range(30, 71, 5)]


def disc_rows(angles_deg: Tensor, x: float = 0.0, y: float = 0.0, radius: float = RADIUS) -> Tensor:
    """The exact chords of a disc of intensity 1 at (x, y), averaged over each bin: (1, n, SIZE)."""
    a = torch.deg2rad(angles_deg.double())[:, None]
    s = (torch.arange(SIZE * 16) + 0.5) / 16 - SIZE / 2 - x * a.cos() - y * a.sin()
    return (2 * (radius**2 - s**2).clamp(min=0).sqrt()).unflatten(1, (SIZE, 16)).mean(-1)[None].float()


def seen_at(angles_deg: Tensor) -> Projector:
    return Projector(Geometry((SIZE, SIZE), SIZE, torch.deg2rad(angles_deg.double())))


def distance_to_middle() -> Tensor:
    s = torch.arange(SIZE) - (SIZE - 1) / 2
    return (s**2 + s[:, None] ** 2).sqrt()


def test_a_disc_comes_back_from_all_sides():
    angles = torch.arange(-90.0, 90)
    x, r = fbp(seen_at(angles), disc_rows(angles))[0], distance_to_middle()
    inside, outside = x[r < RADIUS - 3], x[(r > RADIUS + 3) & (r < SIZE / 2)]
    assert abs(inside.mean() - 1) < 0.005
    assert (inside - 1).abs().max() < 0.05
    assert outside.mean().abs() < 0.003
    assert outside.abs().max() < 0.05


@pytest.mark.parametrize(
    ("angles", "covered"),
    [
        (range(-70, 71, 2), 142),
        (INTERLEAVED, 145),
        ([*range(-70, 71, 5), *range(0, 71, 5)], 145),  # half of a second sweep
        ([*range(20, 161, 2)], 142),  # the wedge elsewhere
        ([a * 111.246 % 180 for a in range(54)], 180),  # golden angles, one gap wider than the others but no wedge
    ],
)
def test_a_wedge_takes_its_share_and_no_more(angles, covered):
    """A filtered disc is the same in all views, 1 / pi, so that its middle tells the sum of their shares."""
    angles = torch.tensor([*angles], dtype=torch.float64)
    x = fbp(seen_at(angles), disc_rows(angles))[0]
    assert abs(x[distance_to_middle() < RADIUS - 3].mean() - covered / 180) < 0.005


def test_views_left_out_open_a_wedge():
    angles = torch.arange(-90, 90, 2)
    row_mask = (angles.abs() <= 60).float()
    y = disc_rows(angles, 8, -6, 12)
    few = fbp(seen_at(angles[row_mask > 0]), y[:, row_mask > 0])
    torch.testing.assert_close(fbp(seen_at(angles), y, row_mask=row_mask[None]), few, rtol=0, atol=1e-5)


def test_dense_views_count_less_each():
    """Blobs off the middle, with exact rows: equal weights would draw them out by more than half."""
    s = torch.arange(SIZE) - (SIZE - 1) / 2

    def blob(x: float, y: float, sigma: float) -> tuple[Tensor, Tensor]:
        offset = s - x * angles.cos()[:, None] - y * angles.sin()[:, None]
        rows = math.sqrt(2 * math.pi) * sigma * torch.exp(-0.5 * (offset / sigma) ** 2)
        return torch.exp(-0.5 * ((s - x) ** 2 + (s[:, None] - y) ** 2) / sigma**2), rows[None]

    for angles_deg in (range(-90, 90), [*range(-90, -30, 5), *range(-30, 30), *range(30, 90, 5)]):
        angles = torch.deg2rad(torch.tensor([*angles_deg]).float())
        (truth, y), (small, more) = blob(8, -6, 4), blob(-12, 8, 3)
        seen = distance_to_middle() < SIZE / 2
        error = (fbp(seen_at(angles.rad2deg()), y + more)[0] - truth - small)[seen]
        assert error.norm() < 0.05 * (truth + small).norm()


def test_repeated_views_share_their_weight():
    angles = torch.tensor(INTERLEAVED)
    y = disc_rows(angles, 8, -6, 12)
    once = fbp(seen_at(angles), y)
    twice = fbp(seen_at(torch.cat((angles, angles[::2]))), torch.cat((y, y[:, ::2]), 1))
    torch.testing.assert_close(twice, once, rtol=0, atol=1e-5)
    behind = fbp(seen_at(torch.cat((angles, angles[::2] + 180))), torch.cat((y, y[:, ::2].flip(2)), 1))
    torch.testing.assert_close(behind, once, rtol=0, atol=1e-5)


def test_fbp_refuses_angles_of_each_slice():
    A = Projector(Geometry((8, 8), 8, torch.zeros(2, 3)))
    with pytest.raises(ValueError, match="share"):
        fbp(A, torch.ones(2, 3, 8))


def counts(generator, slices: int = 2) -> tuple[Projector, Tensor]:
    """Poisson counts in double precision, with an empty strip."""
    A, x, _ = problem(generator, slices)
    x[:, :, :3] = 0
    return A, torch.poisson(3 * A(x).double(), generator=generator)


def test_em_raises_the_likelihood_and_keeps_the_mass(generator):
    A, y = counts(generator)
    log_likelihood = lambda x: (torch.xlogy(y, A(x)) - A(x)).sum((1, 2))
    before = torch.full((2,), -math.inf)
    for x in islice(em_steps(A, y), 40):
        assert (x >= 0).all()
        torch.testing.assert_close(A(x).sum((1, 2)), y.sum((1, 2)), rtol=1e-5, atol=0)
        now = log_likelihood(x)
        assert (now > before).all()
        before = now
    assert (now > log_likelihood(sirt(A, y, 40))).all()


def test_em_puts_nothing_where_nothing_was_counted(generator):
    A = Projector(Geometry((12, 12), 12, torch.tensor([0.0, math.pi / 2])))
    x = torch.rand(2, 12, 12, generator=generator)
    x[:, :3], x[:, :, :3], x[1] = 0, 0, 0
    y = A(x)
    first = em(A, y, 1)
    empty = A.T(y) == 0  # no count in any beam through these
    assert empty[0].any()
    assert empty[1].all()
    assert torch.equal(first == 0, empty)
    assert (em(A, y, 50)[0, :, :2] < 1e-6).all()  # no count in one beam of two
    assert torch.equal(em(A, torch.where(y > 0.01, y, -1.0), 5), em(A, torch.where(y > 0.01, y, 0.0), 5))


def test_em_starts_from_a_uniform_slice(generator):
    """Which is the answer, whatever its level, if the slice is uniform; what no beam meets becomes 0."""
    A = Projector(Geometry((12, 12), 8, torch.tensor([-0.1, 0.0, 0.1])))
    seen = A.T(torch.ones(1, 3, 8)) > 0
    assert 0 < seen.sum() < seen.numel()
    torch.testing.assert_close(em(A, A(7 * seen.float()), 1), 7 * seen.float())


def noisy_discs(noise: float = 1.0, size: int = 32, n: int = 40) -> tuple[Projector, Tensor, Tensor]:
    A = Projector(Geometry((size, size), size, torch.linspace(-1.2, 1.2, n)))
    s = torch.arange(size) - (size - 1) / 2
    x = ((s**2 + s[:, None] ** 2 < 11**2).float() + (((s - 3) ** 2 + (s[:, None] + 4) ** 2) < 4**2).float())[None]
    y = A(x)
    return A, x, y + noise * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))


def objective(A: Projector, x: Tensor, y: Tensor, weight: float) -> float:
    """Written out: half the squares, and the length of the difference vector of every pixel."""
    v = x.double()
    down, right = torch.zeros_like(v), torch.zeros_like(v)
    down[:, :-1], right[:, :, :-1] = v[:, 1:] - v[:, :-1], v[:, :, 1:] - v[:, :, :-1]
    return float(0.5 * (A(x) - y).double().square().sum() + weight * (down**2 + right**2).sqrt().sum())


def test_the_gradient_has_its_transpose(generator):
    x = torch.randn(2, 7, 9, generator=generator, dtype=torch.float64)
    p = torch.randn(2, 2, 7, 9, generator=generator, dtype=torch.float64)
    p[:, 0, -1], p[:, 1, :, -1] = 0, 0
    torch.testing.assert_close((_gradient(x) * p).sum(), (x * _gradient_transposed(p)).sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("weight", [3.0, 20.0])
def test_tv_goes_to_the_minimum(weight):
    A, truth, y = noisy_discs()
    values, x = [], None
    for k, x in enumerate(islice(tv_steps(A, y, weight=weight), 1500), 1):
        assert (x >= 0).all()
        if k in (25, 50, 100, 200, 400, 1500):
            values.append(objective(A, x, y, weight))
    gaps = [v / values[-1] - 1 for v in values[:-1]]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[2] < 0.05
    assert gaps[4] < 0.003
    generator = torch.Generator().manual_seed(0)
    directions = [truth - x, sirt(A, y, 30) - x, -x, x.mean() - x]
    directions += [torch.randn(x.shape, generator=generator) for _ in range(5)]
    for direction in directions:  # the objective is convex: no direction leads down
        for step in (1e-3, 1e-2, 0.3):
            assert objective(A, (x + step * direction).clamp(min=0), y, weight) > values[-1] * (1 - 1e-5)


def test_tv_of_a_step_is_the_closed_form():
    """One view of slices one pixel thick: A is the identity, and each plateau moves by weight / its length."""
    A = Projector(Geometry((1, 30), 30, torch.zeros(1)))
    y = torch.cat((torch.full((10,), 1.0), torch.full((20,), 4.0)))[None, None]
    expected = torch.cat((torch.full((10,), 1.2), torch.full((20,), 3.9)))[None, None]
    torch.testing.assert_close(tv(A, y, 1500, weight=2.0), expected, rtol=0, atol=1e-3)
    below = y - 2  # the lower plateau stays at 0, where non-negativity holds it
    expected = torch.cat((torch.zeros(10), torch.full((20,), 1.9)))[None, None]
    torch.testing.assert_close(tv(A, below, 1500, weight=2.0), expected, rtol=0, atol=1e-3)


def test_tv_of_weighted_pixels_moves_light_plateaus_further():
    A = Projector(Geometry((1, 30), 30, torch.zeros(1)))
    y = torch.cat((torch.full((10,), 1.0), torch.full((20,), 4.0)))[None, None]
    weights = torch.cat((torch.full((10,), 2.0), torch.full((20,), 0.8)))[None, None]
    expected = torch.cat((torch.full((10,), 1.1), torch.full((20,), 3.875)))[None, None]
    torch.testing.assert_close(tv(A, y, 3000, weight=2.0, row_mask=weights), expected, rtol=0, atol=1e-3)


def test_tv_without_weight_is_least_squares():
    A, _, y = noisy_discs()
    squares = lambda x: float((A(x) - y).square().sum())
    assert squares(tv(A, y, 100, weight=0)) < 0.98 * squares(sirt(A, y, 100))


def test_tv_of_great_weight_is_flat(generator):
    """The best constant, <A 1, y> / <A 1, A 1>."""
    A, x, y = problem(generator)
    ones = A(torch.ones_like(x))
    level = (ones * y).sum((1, 2), keepdim=True) / ones.square().sum((1, 2), keepdim=True)
    torch.testing.assert_close(tv(A, y, 1000, weight=1000), level.expand_as(x), rtol=1e-3, atol=0)


def test_tv_removes_noise_that_sirt_keeps():
    A, truth, y = noisy_discs()
    error = lambda x: float((x - truth).square().mean().sqrt())
    best = min(error(sirt(A, y, k)) for k in (5, 10, 15, 20, 30, 50, 100))
    assert error(tv(A, y, 150, weight=0.7 * len(y[0]) ** 0.5)) < 0.7 * best


def test_tv_refuses_a_negative_weight(generator):
    A, _, y = problem(generator)
    for weight in (-1.0, math.nan):
        with pytest.raises(ValueError, match="weight"):
            tv(A, y, 1, weight=weight)
