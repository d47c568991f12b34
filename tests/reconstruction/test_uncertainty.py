"""The spread of members fitted to half of the rows each."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import train
from dip4d.data import TiltRows, choose_held_out
from dip4d.io import open_volumes
from dip4d.simulate import simulate
from dip4d.uncertainty import SCALE, calibration, half_of_rows, spread


def test_a_member_sees_half_of_the_rows_and_no_held_out_one():
    held_out = choose_held_out(21, 9, 0.1, 0)
    unseen = half_of_rows(held_out, 1)
    assert not (held_out & unseen).any()
    assert (unseen.sum(1) == 9).all()  # of 19
    assert not torch.equal(unseen, half_of_rows(held_out, 2))
    series, _ = simulate("nanostar", 9, 21, "grs", 500, seed=0)
    data = TiltRows(series, held_out, 4, 5, 0, unseen)
    for z in range(9):
        batch = data.batch([z])
        seen, kept = set(batch.rows.t[0].tolist()), set(batch.held_out.t[0].tolist())
        assert seen == set((~(unseen | held_out))[z].nonzero()[:, 0].tolist())
        assert kept == set(held_out[z].nonzero()[:, 0].tolist())


def test_the_spread_is_the_scaled_standard_deviation_frame_by_frame():
    movies = torch.randn(4, 3, 2, 5, 5)
    sigmas = list(spread([iter(movie) for movie in movies]))
    np.testing.assert_allclose(np.stack(sigmas), SCALE * movies.numpy().std(0, ddof=1), rtol=1e-5)


def test_calibration_of_normal_errors_counts_the_specimen_only():
    rng = np.random.default_rng(0)
    truth = np.zeros((5, 20, 20, 20))
    truth[:, 5:15] = 1
    errors = rng.normal(0, 0.01, truth.shape) * (truth > 0)
    sigma = np.full(truth.shape[1:], 0.01)
    shares = calibration(truth + errors, [sigma] * 5, truth)
    assert shares["within_1_sigma"] == pytest.approx(0.683, abs=0.01)
    assert shares["within_2_sigma"] == pytest.approx(0.954, abs=0.01)
    assert calibration(truth + errors, [sigma / 10] * 5, truth)["within_1_sigma"] < 0.1


def test_a_run_writes_a_standard_deviation_for_every_voxel(tmp_path, small):
    folder = tmp_path / "run"
    assert (
        train.main([*small, "train.steps=60", "compare.methods=[]", "uncertainty.members=3", f"run.dir={folder}"]) == 0
    )
    sigma, volumes = (np.array(open_volumes(folder / f"{n}.ome.tif")) for n in ("uncertainty", "volumes"))
    assert sigma.shape == volumes.shape
    assert sigma.min() >= 0
    assert sigma[volumes > 0.3].mean() > 5 * sigma[volumes < 0.01].mean()  # what is empty is known best
    shares = json.loads((folder / "metrics.json").read_text())["uncertainty"]
    assert 0.05 < shares["within_1_sigma"] < shares["within_2_sigma"] <= 1


def test_two_members_are_refused(small, capsys):
    assert train.main([*small, "uncertainty.members=2"]) == 2
    assert "uncertainty.members=2 must be 0 or at least 3" in capsys.readouterr().err
