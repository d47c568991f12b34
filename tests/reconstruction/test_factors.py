"""Rows and total variation made from factors are those of the drawn orthoslices, and so are all gradients."""

from __future__ import annotations

import importlib

import pytest
import torch

from dip4d.config.load import config_of
from dip4d.projector import reference
from dip4d.reconstruction import factors as factors_module
from dip4d.reconstruction.factors import Factors
from dip4d.reconstruction.fit import prepare
from dip4d.reconstruction.split import choose_split
from dip4d.reconstruction.variation import drawn, total_variation
from dip4d.simulation.simulate import simulate
from tests.interpreted import DEVICE, need_triton

need_triton()
kernels = importlib.import_module("dip4d.reconstruction.factors_cuda")

# batch, times, maps, (Y, X), bins: more than one tile of pixels and of bins; all sorts of maps; the smallest
SIZES = [(2, 4, 3, (20, 33), 29), (1, 2, 10, (17, 16), 70), (1, 3, 33, (12, 30), 20), (1, 1, 1, (1, 1), 3)]


def parts(batch, times, maps, shape, generator, dtype=torch.float32) -> list[torch.Tensor]:
    weights, drawing = (torch.randn(s, generator=generator) for s in ((batch, times, maps), (batch, maps, *shape)))
    leaves = weights, drawing.to(dtype), torch.tensor(1.7)
    return [leaf.to(DEVICE).requires_grad_() for leaf in leaves]


def views(batch, times, generator) -> tuple[torch.Tensor, torch.Tensor]:
    angles = torch.rand(batch, times, generator=generator, dtype=torch.float64) * 6.3
    return angles.to(DEVICE), torch.randn(batch, times, generator=generator, dtype=torch.float64).to(DEVICE)


def exact(leaves: list[torch.Tensor]) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The leaves in float64, and the orthoslices that plain torch draws of them."""
    leaves = [leaf.detach().double().requires_grad_() for leaf in leaves]
    return leaves, drawn(Factors(*leaves, offset=-2.0))


def assert_near(got, want, tolerance=1e-6) -> None:
    for one, other in zip(got, want, strict=True):
        assert one.shape == other.shape
        assert (one.double() - other).norm() <= tolerance * other.norm() + 1e-9


@pytest.mark.parametrize(("batch", "times", "maps", "shape", "bins"), SIZES)
def test_rows_and_their_gradients(batch, times, maps, shape, bins, generator):
    leaves, (angles, shift) = parts(batch, times, maps, shape, generator), views(batch, times, generator)
    weights = torch.randn(batch, times, bins, generator=generator).to(DEVICE)
    rows = kernels.project(Factors(*leaves, offset=-2.0), angles, shift=shift, bins=bins)
    precise, slices = exact(leaves)
    want = reference.forward(slices.flatten(0, 1), angles.view(-1, 1), shift.view(-1, 1), bins).view_as(rows)
    assert_near([rows], [want])
    found = torch.autograd.grad((rows * weights).sum(), leaves)
    assert_near(found, torch.autograd.grad((want * weights).sum(), precise), 5e-6)


@pytest.mark.parametrize("apart", [1, 2])
@pytest.mark.parametrize(("batch", "times", "maps", "shape", "bins"), SIZES[:-1])
def test_total_variation_and_its_gradients(batch, times, maps, shape, bins, apart, generator):
    leaves = parts(batch, times, maps, shape, generator)
    found = total_variation(Factors(*leaves, offset=-2.0), apart)
    precise, slices = exact(leaves)
    want = total_variation(slices, apart)
    assert_near(found, want)
    of = lambda variation, leaves: torch.autograd.grad(3 * variation[0] - 5 * variation[1], leaves)
    assert_near(of(found, leaves), of(want, precise), 5e-6)


def test_equal_pixels_have_no_variation_and_no_gradient(generator):
    leaves = parts(1, 1, 3, (1, 1), generator)
    leaves = [leaves[0].detach().expand(1, 3, 3).clone(), leaves[1].detach().expand(1, 3, 20, 30).clone(), leaves[2]]
    leaves = [leaf.detach().requires_grad_() for leaf in leaves]
    space, time = total_variation(Factors(*leaves, offset=-2.0))
    assert float(space.detach()) == float(time.detach()) == 0
    assert all(not g.any() for g in torch.autograd.grad(space + time, leaves))


def test_maps_in_bfloat16_are_summed_in_float32(generator):
    leaves, (angles, shift) = parts(2, 3, 5, (20, 24), generator, torch.bfloat16), views(2, 3, generator)
    rows = kernels.project(Factors(*leaves, offset=-2.0), angles, shift=shift, bins=24)
    precise, slices = exact(leaves)
    want = reference.forward(slices.flatten(0, 1), angles.view(-1, 1), shift.view(-1, 1), 24).view_as(rows)
    assert rows.dtype == torch.float32
    assert_near([rows], [want])
    found = torch.autograd.grad(rows.square().sum(), leaves)
    assert found[1].dtype == torch.bfloat16
    assert_near(found, torch.autograd.grad(want.square().sum(), precise), torch.finfo(torch.bfloat16).eps)


def test_the_same_bits_twice(generator):
    leaves, (angles, shift) = parts(2, 3, 4, (20, 30), generator), views(2, 3, generator)
    found = []
    for _ in range(2):
        factors = Factors(*leaves, offset=-2.0)
        rows = kernels.project(factors, angles, shift=shift, bins=20)
        loss = rows.square().sum() + sum(total_variation(factors))
        found.append([rows, *torch.autograd.grad(loss, leaves)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("hidden", [False, True])
def test_a_step_without_orthoslices_has_the_same_loss_and_gradients(hidden, monkeypatch):
    series, _ = simulate("nanostar", 12, frames=6, scheme="grs", peak_counts=500, seed=0)
    keys = {"network.channels": 8, "network.rank": 3, "train.slices": 2, "train.steps": 1}
    torch.manual_seed(0)
    module, data = prepare(series, choose_split(series, 0.1), settings=config_of(**keys))
    batch, found = data.batch([3, 6]), []
    if hidden:
        batch.rows.row_mask = torch.rand(batch.rows.t.shape) < 0.7
    for fused in (False, True):
        monkeypatch.setattr(factors_module, "triton_serves", lambda x, fused=fused: fused)
        if fused:
            monkeypatch.setattr(module.network, "render", None)  # nothing draws
        module.zero_grad()
        loss = module.loss_of(batch, batch.rows)
        loss.backward()
        of = [p.grad.flatten().double() for p in module.parameters() if p.grad is not None]
        found.append((loss.detach().double(), torch.cat(of)))
    assert_near(found[1], found[0], 1e-5)
