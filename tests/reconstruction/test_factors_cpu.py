"""Layers that the CPU draws together are those that plain torch draws, and so are their variation and all gradients."""

from __future__ import annotations

import pytest
import torch

from dip4d.reconstruction import factors_cpu
from dip4d.reconstruction.factors import Factors, added
from dip4d.reconstruction.variation import drawn, drawn_if_needed, total_variation, variation_of_layers

# positions, frames, maps, (Y, X), layers: less and more than five maps and frames, one band and several, the smallest
SIZES = [(2, 4, 3, (9, 7), 2), (1, 11, 12, (70, 65), 2), (2, 5, 5, (3, 3000), 1), (1, 6, 1, (1, 1), 3)]


def leaves_of(positions, frames, maps, shape, *, layers, generator) -> list[list[torch.Tensor]]:
    draw = lambda *size: (2 * torch.randn(size, generator=generator)).requires_grad_()
    bounds = [torch.tensor(1.7 + k, requires_grad=True) for k in range(layers)]
    return [[draw(positions, frames, maps), draw(positions, maps, *shape), bound] for bound in bounds]


def exact(leaves: list[list[torch.Tensor]]) -> list[list[torch.Tensor]]:
    return [[leaf.detach().double().requires_grad_() for leaf in layer] for layer in leaves]


def factors_of(leaves: list[list[torch.Tensor]]) -> list[Factors]:
    return [Factors(*layer, offset=-2.0) for layer in leaves]


def assert_near(found, wanted, tolerance: float) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        assert (one.double() - other).norm() <= tolerance * other.norm() + 1e-9


@pytest.mark.parametrize("apart", [1, 4])
@pytest.mark.parametrize(("positions", "frames", "maps", "shape", "layers"), SIZES)
def test_slices_variation_and_gradients(positions, frames, maps, shape, layers, apart, generator):
    leaves = leaves_of(positions, frames, maps, shape, layers=layers, generator=generator)
    together = factors_cpu.draw_together(factors_of(leaves), apart)
    precise = exact(leaves)
    apart_drawn = [drawn(of) for of in factors_of(precise)]
    slices, weights = added(apart_drawn), torch.randn(positions, frames, *shape, generator=generator)
    variation = [total_variation(layer, apart) for layer in apart_drawn]
    assert_near([together.slices], [slices], 3e-7)
    assert_near(variation_of_layers(together), [sum(v) for v in zip(*variation, strict=True)], 1e-6)
    assert together.slices.min() >= 0
    assert together.slices.max() <= sum(float(layer[2].detach()) for layer in leaves) * (1 + 1e-6)

    loss = lambda slices, space, time: (slices * weights).mean() + 3 * space - 5 * time
    flat = lambda leaves: [leaf for layer in leaves for leaf in layer]
    found = torch.autograd.grad(loss(together.slices, *variation_of_layers(together)), flat(leaves))
    wanted = loss(slices, sum(space for space, _ in variation), sum(time for _, time in variation))
    assert_near(found, torch.autograd.grad(wanted, flat(precise)), 3e-5)


@pytest.mark.parametrize("of", ["slices", "variation"])
def test_gradients_of_one_of_both(of, generator):
    leaves = leaves_of(2, 4, 3, (9, 7), layers=2, generator=generator)
    found, precise = [], exact(leaves)
    for layer in (leaves, precise):
        layers = drawn_if_needed(factors_of(layer))
        slices = layers.slices if layer is leaves else added(layers)
        value = slices.square().sum() if of == "slices" else sum(variation_of_layers(layers))
        found.append(torch.autograd.grad(value, [leaf for of_layer in layer for leaf in of_layer]))
    assert_near(*found, 3e-5)


def test_far_from_its_middle_a_pixel_is_empty_or_full_and_no_gradient_is_lost_on_the_way():
    logits = torch.tensor([-1e4, -80.0, -30.0, -15.0, 0.0, 15.0, 80.0, 1e4])
    maps = (logits + 2).view(1, 1, 1, -1).requires_grad_()
    bound = torch.tensor(3.0)
    slices = factors_cpu.draw_together([Factors(torch.ones(1, 1, 1), maps, bound, -2.0)], 1).slices.flatten()
    wanted = 3 * logits.double().sigmoid()
    torch.testing.assert_close(slices.double()[2:6], wanted[2:6], rtol=2e-6, atol=0)
    torch.testing.assert_close(slices.double(), wanted, rtol=0, atol=1e-6)
    (gradient,) = torch.autograd.grad(slices.sum(), maps)
    torch.testing.assert_close(gradient.flatten().double()[2:5], (wanted * (1 - wanted / 3))[2:5], rtol=3e-6, atol=0)


def test_equal_pixels_have_no_variation_and_no_gradient():
    maps = torch.full((1, 3, 20, 30), 0.7, requires_grad=True)
    layers = factors_cpu.draw_together([Factors(torch.ones(1, 6, 3), maps, torch.tensor(2.0), -2.0)], 1)
    space, time = variation_of_layers(layers)
    assert float(space.detach()) == float(time.detach()) == 0
    assert not torch.autograd.grad(space + time, maps)[0].any()


def test_the_same_bits_on_any_number_of_threads(generator, monkeypatch):
    leaves, found = leaves_of(4, 30, 6, (70, 65), layers=2, generator=generator), []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        layers = drawn_if_needed(factors_of(leaves))
        loss = layers.slices.square().sum() + sum(variation_of_layers(layers))
        found.append([layers.slices, *torch.autograd.grad(loss, [leaf for layer in leaves for leaf in layer])])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_other_dtypes_are_drawn_by_plain_torch(generator):
    leaves = exact(leaves_of(1, 2, 3, (4, 5), layers=2, generator=generator))
    layers = drawn_if_needed(factors_of(leaves))
    assert [layer.dtype for layer in layers] == [torch.float64] * 2
