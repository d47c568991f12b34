"""How fine a specimen is along the tilt axis follows from what its images hold above their noise."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dip4d.measures.detail import FEWEST_Z, is_fine_along_z
from dip4d.tilt_series import TiltSeries


def layered(wave_px: float, *, noise: float, n_z: int = 32) -> TiltSeries:
    """Images of layers of that period along the tilt axis, brightness 5 to 15, with white noise."""
    z = np.arange(n_z)[:, None]
    image = np.broadcast_to(10 + 5 * np.sin(2 * np.pi * z / wave_px), (n_z, 24))
    images = image + np.random.default_rng(0).normal(0, noise, (20, n_z, 24))
    return TiltSeries(images.astype(np.float32), np.linspace(-60, 60, 20))


@pytest.mark.parametrize(("wave_px", "noise", "fine"), [(6, 1, True), (6, 20, False), (16, 1, False), (3, 1, False)])
def test_layers_are_seen_where_they_stand_above_the_noise(wave_px, noise, fine):
    assert is_fine_along_z(layered(wave_px, noise=noise)) is fine


def test_too_few_positions_tell_nothing():
    assert not is_fine_along_z(layered(6, noise=1, n_z=FEWEST_Z - 1))
    assert is_fine_along_z(layered(6, noise=1, n_z=FEWEST_Z))


def test_rows_that_a_shifted_image_does_not_show_are_no_detail():
    smooth = layered(32, noise=1)
    shown = np.ones(smooth.images.shape[:2], bool)
    shown[3, :4] = shown[9, -5:] = False
    images = np.where(shown[..., None], smooth.images, 0)
    assert not is_fine_along_z(dataclasses.replace(smooth, images=images, shown=shown))
