"""Space-time total variation: it goes to its minimum, and where it must it is what is known already."""

from __future__ import annotations

import math
from itertools import islice

import pytest
import torch
from torch import Tensor

from dip4d.conventional.algorithms import tv
from dip4d.conventional.search import Choice, climbed_together
from dip4d.conventional.spacetime import _add_gradient, _add_transposed, frame_rows, sttv_steps
from dip4d.projector import Geometry, Projector

SIZE, FRAMES = 20, 16


def growing_disc(noise: float = 0.5, n_z: int = 1) -> tuple[Projector, Tensor, Tensor]:
    """A disc that grows evenly, one image of each state: operator, truth (Z, T, Y, X) and noisy rows (Z, T, S)."""
    generator = torch.Generator().manual_seed(0)
    angles = torch.rand(FRAMES, generator=generator) * 2.4 - 1.2
    s = torch.arange(SIZE) - (SIZE - 1) / 2
    radii = torch.linspace(4, 8, FRAMES)[:, None, None]
    x = (s**2 + s[:, None] ** 2 < radii**2).float().expand(n_z, -1, -1, -1).contiguous()
    A = Projector(Geometry((SIZE, SIZE), SIZE, angles))
    y = frame_rows(A, x)
    return A, x, y + noise * torch.randn(y.shape, generator=generator)


def objective(A: Projector, x: Tensor, *, y: Tensor, weight: float, time_weight: float) -> float:
    """Written out, frame by frame."""
    v, total = x.double(), 0.0
    for t, angle in enumerate(A.geometry.angles):
        one = Projector(Geometry((SIZE, SIZE), SIZE, angle[None]))
        total += 0.5 * float((one(x[:, t])[:, 0] - y[:, t]).double().square().sum())
        differences = torch.zeros(3, *v[:, t].shape, dtype=torch.float64)
        differences[0, :-1], differences[1, :, :-1] = v[:, t].diff(dim=0), v[:, t].diff(dim=1)
        differences[2, :, :, :-1] = v[:, t].diff(dim=2)
        total += weight * float(differences.square().sum(0).sqrt().sum())
        total += time_weight * float((v[:, t + 1] - v[:, t]).abs().sum()) if t + 1 < x.shape[1] else 0.0
    return total


@pytest.mark.parametrize(("weight", "time_weight"), [(0.3, 1.0), (2.0, 0.2)])
def test_it_goes_to_the_minimum(weight, time_weight):
    A, truth, y = growing_disc(n_z=3)
    values, x, at = [], truth, {"y": y, "weight": weight, "time_weight": time_weight}
    for k, x in enumerate(islice(sttv_steps(A, y, weight=weight, time_weight=time_weight), 1600), 1):
        if k in (50, 100, 200, 400, 1600):
            assert (x >= 0).all()
            values.append(objective(A, x, **at))
    gaps = [v / values[-1] - 1 for v in values[:-1]]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[3] < 0.02
    generator = torch.Generator().manual_seed(0)
    directions = [truth - x, -x, x.mean() - x, x.mean(1, keepdim=True) - x, x.flip(1) - x]
    directions += [torch.randn(x.shape, generator=generator) for _ in range(3)]
    for direction in directions:  # the objective is convex: no direction leads down
        for step in (1e-3, 1e-2, 0.3):
            assert objective(A, (x + step * direction).clamp(min=0), **at) > values[-1] * (1 - 1e-4)


def test_of_great_weight_in_time_it_is_tv_of_the_whole_series():
    A, _, y = growing_disc()
    (x,) = islice(sttv_steps(A, y, weight=3.0 / FRAMES, time_weight=1e3), 2999, 3000)
    still = tv(A, y, 1500, weight=3.0)
    assert float(x.diff(dim=1).abs().max()) < 0.01
    torch.testing.assert_close(x.mean(1), still, rtol=0, atol=0.02)


def test_without_weight_in_time_each_frame_is_tv_of_its_own_image():
    every, _, y = growing_disc()
    y, angles = y[:, ::4], every.geometry.angles[::4]
    A = Projector(Geometry((SIZE, SIZE), SIZE, angles))
    x = next(islice(sttv_steps(A, y, weight=0.5, time_weight=0.0), 799, 800))
    views = [Projector(Geometry((SIZE, SIZE), SIZE, angle[None])) for angle in angles]
    apart = torch.stack([tv(one, y[:, [t]], 800, weight=0.5) for t, one in enumerate(views)], dim=1)
    found, expected = (objective(A, v, y=y, weight=0.5, time_weight=0.0) for v in (x, apart))
    assert found == pytest.approx(expected, rel=0.01)


def test_slices_influence_each_other():
    A, _, y = growing_disc(n_z=4)
    together = next(islice(sttv_steps(A, y, weight=2.0, time_weight=1.0), 199, 200))
    apart = torch.cat([next(islice(sttv_steps(A, one[None], weight=2.0, time_weight=1.0), 199, 200)) for one in y])
    assert together.diff(dim=0).abs().sum() < 0.5 * apart.diff(dim=0).abs().sum()


def test_rows_that_are_left_out_have_no_part():
    A, _, y = growing_disc()
    row_mask = torch.ones(1, FRAMES)
    row_mask[:, ::4] = 0
    spoiled = y.clone()
    spoiled[:, ::4] = 99
    clean, other = (
        next(islice(sttv_steps(A, v, weight=0.3, time_weight=1.0, row_mask=row_mask), 49, 50)) for v in (y, spoiled)
    )
    assert torch.equal(clean, other)


def test_pixels_of_twice_the_weight_are_regularised_half_as_much():
    A, _, y = growing_disc()
    run = lambda factor, row_mask: next(
        islice(sttv_steps(A, y, weight=0.5 * factor, time_weight=factor, row_mask=row_mask), 599, 600)
    )
    light, heavy, weighted = run(1.0, None), run(2.0, None), run(2.0, torch.full_like(y, 2.0))
    assert (weighted - light).norm() < 0.05 * (heavy - light).norm()


def test_neighbours_in_time_help():
    A, truth, y = growing_disc(noise=0.2)
    error = lambda x: float((x - truth).square().mean().sqrt())
    run = lambda space, time: next(islice(sttv_steps(A, y, weight=space, time_weight=time), 199, 200))
    assert error(run(0.1, 0.5)) < 0.75 * min(error(run(w, 0.0)) for w in (0.03, 0.1, 0.3, 1.0))
    assert error(run(0.1, 0.5)) < 0.9 * min(error(run(w, 1e3)) for w in (0.03, 0.1, 0.3))


def test_differences_have_their_transposes(generator):
    x = torch.randn(3, 4, 5, 6, generator=generator, dtype=torch.float64)
    edges = torch.zeros(3, *x.shape, dtype=torch.float64)
    _add_gradient(x, edges, step=1.0)
    p, q = torch.randn(edges.shape, generator=generator).double(), torch.randn(3, 3, 5, 6, generator=generator).double()
    p[0, -1], p[1, :, :, -1], p[2, ..., -1] = 0, 0, 0
    back = torch.zeros_like(x)
    _add_transposed(p, q, onto=back)
    torch.testing.assert_close((edges * p).sum() + (x.diff(dim=1) * q).sum(), (x * back).sum(), rtol=1e-12, atol=0)


def test_two_weights_are_followed_to_their_best_and_none_is_tried_twice():
    asked = []

    def tried(a: float, b: float) -> Choice:
        asked.append((a, b))
        u, v = math.log2(a) - 2, math.log2(b) + 3
        return Choice(-(u**2) - v**2 - 0.5 * u * v, 1.0, {"a": a, "b": b}, iter, 1)

    assert climbed_together(tried, ("a", "b")).settings == {"a": 4, "b": 1 / 8}
    assert len(asked) == len(set(asked))


def test_negative_weights_are_refused():
    A, _, y = growing_disc()
    with pytest.raises(ValueError, match="weights"):
        next(sttv_steps(A, y, weight=-1.0, time_weight=0.0))
