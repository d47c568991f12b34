"""Total variation and bound in one pass are those of plain torch, and so are their gradients."""

from __future__ import annotations

import pytest
import torch

from dip4d.reconstruction.variation import bounded, total_variation

SHAPES = [(2, 5, 7, 9), (1, 1, 4, 4), (3, 8, 1, 6), (2, 3, 5, 1), (4, 30, 16, 16)]


def in_float64(*tensors: torch.Tensor) -> list[torch.Tensor]:
    """Copies that plain torch works on, exact beside float32."""
    return [t.detach().double().requires_grad_() for t in tensors]


@pytest.mark.parametrize("apart", [1, 2, 4])
@pytest.mark.parametrize("shape", SHAPES)
def test_total_variation_and_its_gradient_are_those_of_plain_torch(shape, apart, generator):
    slices = torch.randn(shape, generator=generator).requires_grad_()
    (exact,) = in_float64(slices)
    found, wanted = total_variation(slices, apart), total_variation(exact, apart)
    for one, other in zip(found, wanted, strict=True):
        assert float(one) == pytest.approx(float(other), rel=1e-6)
    (3 * found[0] - 5 * found[1]).backward()
    (3 * wanted[0] - 5 * wanted[1]).backward()
    torch.testing.assert_close(slices.grad.double(), exact.grad, rtol=1e-6, atol=1e-7 * float(exact.grad.abs().max()))


def test_total_variation_of_a_step():
    slices = torch.zeros(2, 3, 4, 5)
    slices[..., 2:] = 7.0
    space, time = total_variation(slices)
    assert float(space) == pytest.approx(7 / 4)
    assert float(time) == 0
    assert float(total_variation(slices.transpose(-1, -2))[0]) == pytest.approx(7 / 4)
    assert float(total_variation(slices * 0 + 3)[0]) == 0
    slices[:, 1] += 2  # there and back again
    assert float(total_variation(slices)[1]) == pytest.approx(2)


def test_a_gradient_of_equal_pixels_is_zero():
    slices = torch.full((1, 3, 4, 4), 2.0, requires_grad=True)
    space, time = total_variation(slices)
    (space + time).backward()
    assert not slices.grad.any()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", [(2, 3, 35), (5, 7), (1, 1, 1)])
def test_the_bound_and_its_gradients_are_those_of_plain_torch(shape, threads, generator, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    logit, bound = 4 * torch.randn(shape, generator=generator), torch.tensor(1.7, requires_grad=True)
    logit.requires_grad_()
    weights = torch.randn(shape, generator=generator)
    exact_logit, exact_bound = in_float64(logit, bound)
    values = bounded(logit * 1.0, bound)
    wanted = exact_bound * exact_logit.sigmoid()
    torch.testing.assert_close(values.double(), wanted, rtol=1e-6, atol=1e-7)
    assert values.min() >= 0
    assert values.max() <= 1.7
    (values * weights).sum().backward()
    (wanted * weights.double()).sum().backward()
    torch.testing.assert_close(logit.grad.double(), exact_logit.grad, rtol=1e-5, atol=1e-6)
    assert float(bound.grad) == pytest.approx(float(exact_bound.grad), rel=1e-5, abs=1e-6)
