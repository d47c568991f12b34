"""What no image can see of the place of the specimen, and nothing else, is taken out of displacements."""

from __future__ import annotations

import numpy as np
import pytest

from dip4d.tilt_geometry import remove_slow_motion, remove_unobservable_shift

ANGLES = np.linspace(-60, 70, 30)
THETA = np.deg2rad(ANGLES)


@pytest.mark.parametrize("axis", [False, True])
def test_a_specimen_that_lies_elsewhere_is_not_displaced(axis):
    z, s = remove_unobservable_shift(
        np.full(30, 3.0), 2 * np.cos(THETA) - 5 * np.sin(THETA), angles_deg=ANGLES, axis=axis
    )
    np.testing.assert_allclose(z, 0, atol=1e-9)
    np.testing.assert_allclose(s, 0, atol=1e-9)


def test_a_displaced_tilt_axis_shows_unless_it_is_taken_out_too():
    shift = np.full(30, 4.0)
    assert np.abs(remove_unobservable_shift(shift, shift, angles_deg=ANGLES)[1]).max() > 0.1
    np.testing.assert_allclose(remove_unobservable_shift(shift, shift, angles_deg=ANGLES, axis=True)[1], 0, atol=1e-9)


def test_what_is_left_of_jitter_is_left_alone_the_second_time():
    jitter = np.random.default_rng(0).normal(size=(2, 30))
    once = remove_unobservable_shift(*jitter, angles_deg=ANGLES)
    np.testing.assert_allclose(remove_unobservable_shift(*once, angles_deg=ANGLES), once, atol=1e-12)
    assert np.std(once) > 0.8


def test_a_slow_motion_is_taken_out_and_jumps_stay():
    random, angles, tau = (
        np.random.default_rng(0),
        np.linspace(-70, 70, 60) * (-1) ** np.arange(60),
        np.linspace(0, 1, 60),
    )
    theta = np.deg2rad(angles)
    slow = 3 * np.cos(np.pi * tau), np.cos(2 * np.pi * tau) * np.cos(theta) - 2 * np.cos(np.pi * tau) * np.sin(theta)
    jumps = random.normal(size=(2, 60))
    of = lambda z, s: remove_slow_motion(z, s, angles_deg=angles, tau=tau, functions=3)
    np.testing.assert_allclose(of(*slow), 0, atol=1e-10)
    np.testing.assert_allclose(of(slow[0] + jumps[0], slow[1] + jumps[1]), of(*jumps), atol=1e-10)
    assert np.std(of(*jumps)) > 0.9
