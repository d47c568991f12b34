"""Strips have the closed forms of squares and discs, keep the mass, and agree with the projector that they replace."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dip4d.projector import Geometry, Projector
from dip4d.simulation.strips import project, strip_weights

ANGLES = np.deg2rad([0, 0.001, 17, 45, 63.4, 90, 118, 180, -70])


def chord_of_square(s: np.ndarray, angle: float, *, side: float) -> np.ndarray:
    """How long the line at s through a square around the middle is: the overlap of where it is within both sides."""
    c, t = abs(math.cos(angle)), abs(math.sin(angle))
    if min(c, t) < 1e-9:
        return side * (np.abs(s) < side / 2)
    low = np.maximum((s * c - side / 2) / t, (-s * t - side / 2) / c)
    high = np.minimum((s * c + side / 2) / t, (-s * t + side / 2) / c)
    return np.maximum(high - low, 0)


@pytest.mark.parametrize("angle", ANGLES)
def test_a_square_casts_its_trapezoid(angle):
    volume = np.zeros((1, 20, 20))
    volume[:, 5:15, 5:15] = 1
    s = (np.arange(24 * 1000) + 0.5) / 1000 - 12
    expected = chord_of_square(s, angle, side=10).reshape(24, 1000).mean(1)
    np.testing.assert_allclose(project(volume, angle, bins=24)[0], expected, atol=2e-2 if angle else 1e-9)
    assert np.abs(project(volume, angle, bins=24)[0] - expected).mean() < 1e-3


def test_a_pixel_at_45_degrees_casts_a_triangle():
    shadow = project(np.ones((1, 1, 1)), math.pi / 4, bins=3)[0]
    beside = (math.sqrt(0.5) - 0.5) ** 2
    np.testing.assert_allclose(shadow, [beside, 1 - 2 * beside, beside], atol=1e-12)


@pytest.mark.parametrize("angle", ANGLES)
def test_a_disc_casts_its_chord(angle):
    k, radius, size = 8, 9.0, 24
    x = (np.arange(size * k) + 0.5) / k - size / 2
    disc = (x**2 + x[:, None] ** 2 < radius**2).astype(float)[None]
    shadow = project(disc, angle, bins=size * k).reshape(size, k).mean(1) / k
    below = lambda s: (
        s * np.sqrt(radius**2 - s**2) + radius**2 * np.arcsin(s / radius)
    )  # of the chord 2 (r^2 - s^2)^0.5
    edges = np.clip(np.arange(size + 1) - size / 2, -radius, radius)
    np.testing.assert_allclose(shadow, np.diff(below(edges)), atol=0.05)


@pytest.mark.parametrize("angle", ANGLES)
def test_every_pixel_keeps_its_area_and_casts_it_where_its_middle_falls(angle):
    weights = strip_weights((7, 9), angle, bins=15)
    np.testing.assert_allclose(weights.sum(0), 1, atol=1e-9)
    y, x = np.arange(7) - 3.0, np.arange(9) - 4.0
    alone = project(np.eye(63).reshape(63, 7, 9), angle, bins=15)
    mean = alone @ (np.arange(15) - 7.0)
    middle = (x * math.cos(angle) + y[:, None] * math.sin(angle)).ravel()
    assert np.abs(mean - middle).max() < 0.5  # up to the width of a bin
    assert np.abs((mean - middle).mean()) < 1e-9


def test_along_the_axes_strips_are_sums():
    volume = np.random.default_rng(0).random((3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(project(volume, 0.0, bins=8), volume.sum(1), rtol=1e-5)
    np.testing.assert_allclose(project(volume, math.pi / 2, bins=8), volume.sum(2), rtol=1e-5)
    np.testing.assert_allclose(project(volume, 0.0, bins=4), volume.sum(1)[:, 2:6], rtol=1e-5)
    assert project(volume, 0.3, bins=8).dtype == np.float32


@pytest.mark.parametrize("angle", ANGLES)
def test_of_a_smooth_volume_strips_agree_with_the_projector(angle):
    x = np.arange(48) - 23.5
    volume = np.exp(-(((x - 5) / 6) ** 2) - ((x[:, None] + 8) / 4) ** 2)[None].astype(np.float32)
    ours = Projector(Geometry((48, 48), 48, torch.tensor([angle])))(torch.from_numpy(volume))[:, 0].numpy()
    np.testing.assert_allclose(project(volume, angle, bins=48), ours, atol=0.01 * ours.max())
