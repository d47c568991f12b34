"""What the fit minimises, against closed forms."""

from __future__ import annotations

import pytest
import torch

from dip4d.reconstruction.losses import GemanMcClure, SquaredError


def test_geman_mcclure_is_squared_for_small_errors_and_bounded_for_large_ones():
    measured = torch.zeros(1, 1, 4)
    small = torch.full_like(measured, 1e-3)
    ratio = GemanMcClure(2.0, scale=0.1)(small, measured) / SquaredError(2.0)(small, measured)
    assert ratio == pytest.approx(100, rel=1e-3)
    assert GemanMcClure(2.0)(small * 1e9, measured) == pytest.approx(100)


def test_the_unit_of_intensity_does_not_matter():
    generator = torch.Generator().manual_seed(0)
    projected, measured = torch.rand(2, 2, 3, 8, generator=generator)
    for loss in (SquaredError, GemanMcClure):
        torch.testing.assert_close(loss(7.0)(7 * projected, 7 * measured), loss(1.0)(projected, measured))
    expected = 100 * (projected - measured).square().mean()
    torch.testing.assert_close(SquaredError(1.0)(projected, measured), expected)
