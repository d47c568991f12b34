"""The quick SIRT is a SIRT, of the rows that the fit sees, and takes no longer than it may."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dip4d.conventional.algorithms import sirt
from dip4d.conventional.quick_sirt import quick_sirt
from dip4d.projector import Geometry, Projector
from dip4d.reconstruction.split import choose_split
from dip4d.simulation.simulate import simulate


@pytest.fixture(scope="module")
def series():
    return simulate("nanostar", 16, frames=12, scheme="grs", peak_counts=500, seed=2)[0]


def test_it_is_the_sirt_with_the_lowest_error_of_the_rows_it_does_not_see(series):
    split = choose_split(series, 0.1, test_images=0.1, seed=0)
    rows = {"fitted_rows": split.fitted_rows, "validation_rows": split.validation_rows}
    found = quick_sirt(series, 8, seconds=60, **rows)
    A = Projector(Geometry((16, 16), 16, torch.from_numpy(np.deg2rad(series.angles_deg))))
    y = torch.from_numpy(series.images).permute(1, 0, 2).contiguous()

    def error(x):
        aside = split.validation_rows
        return float((A(x) - y)[aside].norm() / y[aside].norm())

    volume = sirt(A, y, found.iterations, row_mask=split.fitted_rows)
    np.testing.assert_allclose(found.slice, volume[8].numpy(), rtol=1e-5)
    assert found.error == pytest.approx(error(volume), rel=1e-5)
    if found.iterations < 100:
        assert error(sirt(A, y, found.iterations + 5, row_mask=split.fitted_rows)) >= found.error


def test_without_time_it_does_one_iteration_and_without_validation_rows_there_is_no_error(series):
    split = choose_split(series, 0.0, seed=0)
    found = quick_sirt(series, 3, fitted_rows=split.fitted_rows, validation_rows=split.validation_rows, seconds=0)
    assert (found.iterations, found.error) == (1, None)
    assert found.slice.max() > 0
