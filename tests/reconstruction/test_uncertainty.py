"""The spread of members fitted to half of the rows each."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dip4d.reconstruction.data import TiltRows
from dip4d.reconstruction.split import Split, choose_validation_rows
from dip4d.reconstruction.uncertainty import (
    EDGE_VOXELS,
    MOST_NOISE,
    USUAL_NOISE,
    calibration,
    half_of_rows,
    scale_of,
    spread,
)
from dip4d.simulation.simulate import simulate


def test_a_member_sees_half_of_the_rows_and_no_validation_row():
    validation = choose_validation_rows((9, 21), 0.1, seed=0)
    hidden = half_of_rows(validation, 1)
    assert not (validation & hidden).any()
    assert (hidden.sum(1) == 9).all()  # of 19
    assert not torch.equal(hidden, half_of_rows(validation, 2))
    series, _ = simulate("nanostar", 9, frames=21, scheme="grs", peak_counts=500, seed=0)
    data = TiltRows(series, Split(validation, hidden), slices=4, steps=5, seed=0)
    for z in range(9):
        batch = data.batch([z])
        seen, kept = set(batch.rows.t[0].tolist()), set(batch.validation.t[0].tolist())
        assert seen == set((~(hidden | validation))[z].nonzero()[:, 0].tolist())
        assert kept == set(validation[z].nonzero()[:, 0].tolist())


def test_the_spread_is_that_of_the_members_about_the_fit_and_of_its_edges():
    movies = torch.randn(4, 3, 2, 9, 9)
    flat = torch.full((3, 2, 9, 9), 0.5)
    sigmas = list(spread(iter(flat), [iter(movie) for movie in movies], scale=2.0))
    np.testing.assert_allclose(np.stack(sigmas), 2 * np.sqrt(((movies.numpy() - 0.5) ** 2).mean(0)), rtol=1e-5)
    step = torch.zeros(1, 5, 9, 9)
    step[..., 5:] = 1
    (sigma,) = spread(iter(step), [iter(step), iter(step)], scale=1.0)
    assert sigma[2, 4, 4] == pytest.approx(EDGE_VOXELS * 0.5, rel=0.2)  # the slope of a step, smoothed
    assert sigma[2, 4, 0] < 1e-3


def test_the_scale_grows_with_the_noise_up_to_a_point():
    assert scale_of(0.0) < scale_of(0.1) < scale_of(MOST_NOISE) == scale_of(1.0) < 2
    assert scale_of(None) == scale_of(USUAL_NOISE)


def test_calibration_of_normal_errors_counts_the_specimen_only():
    rng = np.random.default_rng(0)
    truth = np.zeros((5, 20, 20, 20))
    truth[:, 5:15] = 1
    errors = rng.normal(0, 0.01, truth.shape) * (truth > 0)
    sigma = np.full(truth.shape[1:], 0.01)
    shares = calibration(truth + errors, [sigma] * 5, truth=truth)
    assert shares["within_1_sigma"] == pytest.approx(0.683, abs=0.01)
    assert shares["within_2_sigma"] == pytest.approx(0.954, abs=0.01)
    assert calibration(truth + errors, [sigma / 10] * 5, truth=truth)["within_1_sigma"] < 0.1
