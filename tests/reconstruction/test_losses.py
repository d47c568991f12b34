"""What the fit minimises, against closed forms."""

from __future__ import annotations

import pytest
import torch

from dip4d.reconstruction.losses import GemanMcClure, SquaredError, WeightedError


def test_geman_mcclure_is_squared_for_small_errors_and_bounded_for_large_ones():
    measured = torch.zeros(1, 1, 4)
    small = torch.full_like(measured, 1e-3)
    ratio = GemanMcClure(2.0, scale=0.1)(small, measured) / SquaredError(2.0)(small, measured)
    assert ratio == pytest.approx(100, rel=1e-3)
    assert GemanMcClure(2.0)(small * 1e9, measured) == pytest.approx(100)


def test_the_unit_of_intensity_does_not_matter():
    generator = torch.Generator().manual_seed(0)
    projected, measured = torch.rand(2, 2, 3, 8, generator=generator)
    for loss in (SquaredError, weighted, GemanMcClure):
        torch.testing.assert_close(loss(7.0)(7 * projected, 7 * measured), loss(1.0)(projected, measured))
    expected = 100 * (projected - measured).square().mean()
    torch.testing.assert_close(SquaredError(1.0)(projected, measured), expected)


def weighted(peak_intensity: float, *, counting: float = 1.0, readout: float = 0.0) -> WeightedError:
    """By default with so much noise that nothing else matters."""
    return WeightedError(peak_intensity, counting=counting, readout=readout)


def test_bright_pixels_are_trusted_less_as_far_as_their_noise_is_of_counting():
    measured = torch.tensor([0.0, 3.0, 10.0]).expand(1, 1, 3)  # of a brightest pixel of 10: none, as usual, all of it
    of_each = lambda loss: [float(loss(measured + error, measured)) for error in 0.01 * torch.eye(3)[:, None, None]]
    usual = of_each(SquaredError(10.0))[1]
    assert of_each(weighted(10.0)) == pytest.approx([2 * usual, usual, 6 / 13 * usual], rel=1e-2)
    for plain in (SquaredError(10.0), weighted(10.0, counting=1e-9), weighted(10.0, counting=0.0, readout=1.0)):
        assert of_each(plain) == pytest.approx([usual] * 3, rel=1e-3)
    none, as_usual, all_of_it = of_each(weighted(10.0, counting=1e-3))  # about the error of the fit
    assert 2 * usual > none > as_usual > all_of_it > 6 / 13 * usual


def test_the_weights_follow_what_is_predicted_but_are_not_fitted():
    projected = torch.tensor([[[-1.0, 0.2, 0.9]]], requires_grad=True)
    measured = torch.tensor([[[0.0, 0.3, 0.7]]])
    weighted(1.0)(projected, measured).backward()
    weights = 0.6 / (torch.tensor([0.0, 0.2, 0.9]) + 0.3)  # none is negative
    expected = 100 * 2 / 3 * weights * (projected.detach() - measured)
    torch.testing.assert_close(projected.grad, expected, rtol=1e-2, atol=0)
