"""The spread of members fitted to half of the rows each."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from dip4d.reconstruction.data import TiltRows
from dip4d.reconstruction.split import Split, choose_validation_rows
from dip4d.reconstruction.uncertainty import (
    EDGE_VOXELS,
    USUAL_SQUARE,
    VOXELS_OVER_ROWS,
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


class Predicts:
    """A network whose validation rows are known."""

    device = torch.device("cpu")

    def __init__(self, predicted: torch.Tensor, measured: torch.Tensor) -> None:
        self.rows = predicted, measured

    def validation_rows(self, batch):
        return self.rows


def test_the_scale_is_the_error_of_unseen_rows_less_their_noise_over_that_of_the_members():
    random = torch.Generator().manual_seed(0)
    draw = lambda size: size * torch.randn(2, 40, 50, generator=random)
    true, error = 10 + draw(1.0), draw(0.6)
    measured = true + draw(1.0)
    members = [Predicts(true + error + draw(0.3), measured) for _ in range(6)]
    data = SimpleNamespace(all_batches=lambda: [SimpleNamespace(to=lambda device: None)])
    floor = 1.0 / float(measured.square().mean().sqrt())
    scale = lambda fitted, floor: scale_of(Predicts(fitted, measured), members, data=data, noise_floor=floor)
    assert scale(true + error, floor) == pytest.approx(VOXELS_OVER_ROWS * 0.6 / 0.3, rel=0.1)
    assert scale(true + error, None) == VOXELS_OVER_ROWS * USUAL_SQUARE**0.5
    assert scale(true, floor) > 0  # no error at all is none that is known


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
