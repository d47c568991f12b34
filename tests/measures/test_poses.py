"""Turns and displacements that images have against their reconstruction, on projections whose poses are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, shift

from dip4d.measures.poses import POSES, pose_step, poses_off
from dip4d.projector import Geometry, Projector

N = 24


def image(volume: np.ndarray, angle_deg: float) -> np.ndarray:
    angles = torch.deg2rad(torch.tensor([angle_deg], dtype=torch.float64))
    return Projector(Geometry((N, N), N, angles))(torch.from_numpy(volume))[:, 0].numpy()


def step_of(volume: np.ndarray, angle_deg: float, *, turned: float = 0.0, moved=(0.0, 0.0), noise: float = 0.0, seed=0):
    """The step to an image at another angle, displaced by (z, s) pixels."""
    measured = shift(image(volume, angle_deg + turned), moved, order=3)
    measured = measured + noise * np.random.default_rng(seed).normal(size=measured.shape)
    slope = image(volume, angle_deg + 0.5) - image(volume, angle_deg - 0.5)
    return pose_step(measured, image(volume, angle_deg), per_degree=slope)


@pytest.fixture
def volume():
    spots = np.zeros((12, N, N), np.float32)
    for z, y, x in ((3, 8, 7), (6, 15, 12), (8, 9, 17), (5, 12, 10)):
        spots[z, y, x] = 1
    return gaussian_filter(spots, 1.5)


def test_a_turn_and_a_displacement_are_found(volume):
    found = step_of(volume, 20.0, turned=1.5, moved=(0.2, -0.3))
    np.testing.assert_allclose(found.step, (1.5, 0.2, -0.3), atol=0.15)


def test_the_standard_error_is_that_of_many_noises(volume):
    steps = [step_of(volume, -35.0, noise=0.003, seed=k) for k in range(60)]
    spread = np.std([s.step for s in steps], axis=0)
    np.testing.assert_allclose(np.mean([s.error for s in steps], axis=0), spread, rtol=0.35)
    off = poses_off(steps)
    assert all(off[name]["rms"] < 0.6 * off[name]["error"] for name in POSES)


def test_random_turns_are_told_from_noise(volume):
    turns = np.random.default_rng(1).normal(0, 3, 40)
    steps = [step_of(volume, 3.0 * k - 60, turned=t, noise=0.003, seed=k) for k, t in enumerate(turns)]
    assert poses_off(steps)["turn_deg"]["rms"] == pytest.approx(np.sqrt(np.mean(turns**2)), rel=0.2)


def test_an_empty_image_tells_nothing():
    nothing = np.zeros((4, N))
    assert pose_step(nothing, nothing, per_degree=nothing) is None
    assert poses_off([None]) == {}
