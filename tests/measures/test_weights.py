"""A pixel counts as much as its noise allows, told from its neighbours and not from itself."""

from __future__ import annotations

import pytest
import torch

from dip4d.measures.weights import slope_of_variance, weights_of, weights_of_measured


def test_weights_are_inverse_variances_where_only_counting_makes_noise_but_for_what_evens_them():
    slope = slope_of_variance(counting=10.0, readout=0.0)
    intensity = torch.tensor([0.0, 0.3, 1.0])
    torch.testing.assert_close(weights_of(intensity, slope), 0.6 / (intensity + 0.3), rtol=1e-4, atol=0)
    assert float(weights_of(torch.tensor(-5.0), slope)) == float(weights_of(torch.tensor(0.0), slope))  # no noise less


@pytest.mark.parametrize(("counting", "readout"), [(0.0, 0.0), (0.0, 1.0), (1e-9, 1.0)])
def test_where_all_pixels_are_as_noisy_all_count_alike(counting, readout):
    slope = slope_of_variance(counting, readout)
    torch.testing.assert_close(weights_of(torch.linspace(0, 1, 5), slope), torch.ones(5), rtol=1e-6, atol=0)


def test_the_weight_of_a_measured_pixel_is_that_of_its_neighbourhood(generator):
    everywhere, slope = torch.ones(6, 5), slope_of_variance(10.0, 0.0)
    flat = weights_of_measured(torch.full((6, 5, 9), 0.6), everywhere, slope=slope)
    torch.testing.assert_close(flat, torch.full((6, 5, 9), 0.6 / 0.9), rtol=1e-4, atol=0)  # at the borders as well
    y = torch.full((6, 5, 9), 0.6)
    y[2, 3, 4] += 0.9
    around = weights_of_measured(y, everywhere, slope=slope)
    changed = (around - flat).abs() > 1e-6
    assert changed[1:4, 3, 3:6].all()
    assert changed.sum() == 9  # along z and s, in that image alone
    torch.testing.assert_close(around[2, 3, 4], torch.tensor(0.6 / (0.6 + 0.9 / 9 + 0.3)), rtol=1e-4, atol=0)


@pytest.mark.parametrize("slope", [0.0, 1.5])
def test_rows_without_a_part_have_no_weight_and_no_influence(generator, slope):
    y, row_mask = torch.rand(6, 5, 9, generator=generator), torch.rand(6, 5, generator=generator) > 0.3
    spoiled = torch.where(row_mask[..., None], y, 99.0)
    clean, other = (weights_of_measured(v, row_mask, slope=slope) for v in (y, spoiled))
    assert torch.equal(clean, other)
    assert (clean[~row_mask] == 0).all()
    assert (clean[row_mask] > 0).all()


def test_rows_without_intensity_count_alike():
    assert torch.equal(
        weights_of_measured(torch.full((2, 3, 4), torch.nan), torch.ones(2, 3), slope=0.0), torch.ones(2, 3, 4)
    )
