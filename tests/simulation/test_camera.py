"""Each fault of the camera does what it says, and none is there unless it is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from dip4d.config.load import load_config
from dip4d.config.schema import Camera
from dip4d.errors import InputError
from dip4d.experiment.inputs import load_data
from dip4d.simulation.camera import background, blurred, gains, hot_pixels, recorded, saturated
from dip4d.simulation.simulate import add_noise, simulate

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0, 8, (5, 40, 50)).astype(np.float32)
ANGLES = np.array([-70.0, -30.0, 0.0, 30.0, 90.0])


def shown(peak_counts: float = 0, **faults: float) -> np.ndarray:
    return recorded(IMAGES, ANGLES, camera=Camera(**faults), peak_counts=peak_counts, seed=4)


def test_without_faults_there_is_the_noise_of_counting_alone():
    assert np.array_equal(shown(), IMAGES)
    assert np.array_equal(shown(300), add_noise(IMAGES, 300, seed=4))


def test_readout_noise_has_its_rms_everywhere():
    noise = shown(readout=0.02) - IMAGES
    assert noise.std() == pytest.approx(0.02 * IMAGES.max(), rel=0.03)
    assert abs(noise.mean()) < 0.002
    assert not np.allclose(noise[0], noise[1])


def test_the_background_is_counted_too():
    there = shown(background=0.1) - IMAGES
    np.testing.assert_allclose(there, 0.1 * IMAGES.max(), rtol=1e-4)
    noise = shown(100, background=5.0) - IMAGES - 5 * IMAGES.max()
    variance = (IMAGES + 5 * IMAGES.max()).mean() * IMAGES.max() / 100
    assert noise.var() == pytest.approx(variance, rel=0.05)


def test_the_gradient_is_a_plane_that_begins_at_the_level():
    plane = background((40, 50), 0.2, gradient=0.1, seed=4)
    assert plane.min() == pytest.approx(0.2)
    assert plane.max() == pytest.approx(0.3)
    np.testing.assert_allclose(np.diff(plane, 2, axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(np.diff(plane, 2, axis=1), 0, atol=1e-6)
    assert not np.allclose(plane, background((40, 50), 0.2, gradient=0.1, seed=5))


def test_the_gain_drifts_slowly_and_flickers():
    factors = gains(400, 0.05, seed=4)
    assert factors.mean() == pytest.approx(1, abs=1e-6)
    assert factors.std() == pytest.approx(0.05, rel=0.15)
    step = np.diff(factors).std() / factors.std()
    assert 0.5 < step < 1.3  # of noise alone 1.4, of a walk alone nearly 0
    np.testing.assert_allclose(shown(gain_drift=0.05), IMAGES * gains(5, 0.05, seed=4)[:, None, None], rtol=1e-6)


def test_the_blur_grows_as_the_sine_of_the_tilt():
    point = np.zeros((5, 61, 61), np.float32)
    point[:, 30, 30] = 1
    x = np.arange(61) - 30.0
    wide = [np.sqrt((image.sum(0) * x**2).sum()) for image in blurred(point, ANGLES, at_90_px=3.0)]
    np.testing.assert_allclose(wide, 3 * np.abs(np.sin(np.deg2rad(ANGLES))), rtol=0.03, atol=1e-6)


def test_the_brightest_pixel_loses_the_share_and_order_is_kept():
    thick = np.linspace(0, 10, 101, dtype=np.float32)
    seen = saturated(thick, 0.3, peak=10.0)
    assert seen[-1] == pytest.approx(7)
    assert seen[50] == pytest.approx(5 * 0.85)
    assert (np.diff(seen) > 0).all()
    assert (np.diff(seen, 2) < 0).all()


def test_hot_pixels_are_a_share_and_stay_in_place():
    hot = hot_pixels((300, 300), 0.01, seed=4)
    assert (hot > 0).mean() == pytest.approx(0.01, rel=0.1)
    assert hot[hot > 0].min() >= 0.5
    assert hot.max() <= 1.5
    added = shown(hot_pixels=0.05) - IMAGES
    assert (added > 1).any()
    np.testing.assert_allclose(added, np.broadcast_to(added[0], added.shape), atol=1e-5)


def test_faults_are_keys_and_leave_the_truth_alone():
    keys = ["simulate.size=16", "simulate.frames=6", "simulate.specimen=bending_rod"]
    clean, truth = load_data(load_config(keys))
    faulty, same = load_data(load_config([*keys, "simulate.camera.background=0.2", "simulate.camera.gain_drift=0.1"]))
    assert np.array_equal(truth, same)
    assert abs(float(np.median(faulty.images))) < 0.05 * faulty.images.max()  # the background is taken off again
    assert faulty.background == pytest.approx(0.2 * clean.images.max(), rel=0.3)
    with pytest.raises(InputError, match=r"simulate\.camera\.saturation=2.0 must be at most 0.5"):
        load_config(["simulate.camera.saturation=2"])
    with pytest.raises(InputError, match=r"did you mean simulate\.camera\.readout"):
        load_config(["simulate.camera.readuot=1"])
    with pytest.raises(ValueError, match="'dirt' is not one of readout, background"):
        simulate("static", 16, frames=2, camera={"dirt": 1.0})
    assert np.array_equal(*(simulate("static", 16, frames=3, camera=c)[0].images for c in ({}, {"readout": 0.0})))
    assert np.isfinite(gains(2, 0.1, seed=0)).all()
