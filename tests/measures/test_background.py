"""A specimen that reaches the border is named; no other looks cut or inverted."""

from __future__ import annotations

import numpy as np
import pytest

from dip4d.measures.background import border_advice, margin_of
from dip4d.measures.contrast import contrast_advice
from dip4d.simulation.simulate import simulate
from dip4d.simulation.specimens import SPECIMENS
from dip4d.tilt_series import TiltSeries
from tests.helpers import ORDERS, blobs


def slab(half_width: float, half_height: float) -> np.ndarray:
    """Images (t, 32, 32) of a bar along the tilt axis, in closed form but for the beam."""
    theta, s = np.deg2rad(ORDERS["scattered"])[:, None, None], np.arange(32)[:, None] - 15.5
    u = np.linspace(-60, 60, 961)
    x, y = s * np.cos(theta) - u * np.sin(theta), s * np.sin(theta) + u * np.cos(theta)
    inside = (np.abs(x) < half_width) & (np.abs(y) < half_height)
    return np.repeat(inside.mean(-1)[:, None] * 2400, 32, axis=1)


@pytest.mark.parametrize(("half_width", "reaches"), [(10, False), (16, True), (20, True), (30, True)])
def test_a_specimen_that_reaches_the_border_is_named_and_a_film_is_not(half_width, reaches):
    angles, rng = ORDERS["scattered"], np.random.default_rng(0)
    images = rng.poisson(slab(half_width, 3) + 5)
    said = border_advice(TiltSeries(images, angles), key="data.background")
    assert (said is not None) == reaches
    assert said is None or "data.background=none or the number of an empty image" in said
    film = 50 / np.cos(np.deg2rad(angles)) * np.linspace(1, 0.6, 60)
    over = rng.poisson(100 * blobs(angles) + film[:, None, None])
    assert border_advice(TiltSeries(over, angles)) is None


@pytest.mark.parametrize(("half_width", "margin"), [(10, 0), (14, 0), (16, 4), (20, 5), (25, 9), (30, 13), (60, 16)])
@pytest.mark.parametrize("counts", [4, 400])
def test_the_margin_is_about_as_far_as_a_specimen_reaches_beyond_the_images(half_width, margin, counts):
    images = np.random.default_rng(0).poisson(slab(half_width, 1) * (counts / 40))
    assert margin_of(TiltSeries(images, ORDERS["scattered"])) == pytest.approx(margin, abs=2 if margin else 0)
    along = images.transpose(0, 2, 1)[:, :, ::-1]  # along the axis it may
    inside = np.pad(along[:, :, 4:-4], ((0, 0), (0, 0), (4, 4)))
    assert margin_of(TiltSeries(inside, ORDERS["scattered"])) == 0


def test_a_specimen_that_leaves_the_field_in_the_end_is_cut_off():
    for seed in (0, 1):
        assert 4 <= margin_of(simulate("leaving", 32, n_z=16, frames=40, peak_counts=50, seed=seed)[0]) <= 8


def test_noise_alone_is_no_specimen_at_the_border():
    noise = np.random.default_rng(0).normal(0, 1, (60, 24, 32))
    assert margin_of(TiltSeries(noise, ORDERS["scattered"])) == 0


@pytest.mark.parametrize("specimen", SPECIMENS)
def test_no_simulated_specimen_looks_inverted_or_cut(specimen):
    series, _ = simulate(specimen, 24, frames=40, peak_counts=100, seed=3)
    assert contrast_advice(series) is None
    assert border_advice(series) is None
    assert margin_of(series) == 0
    dark = TiltSeries(200 - series.images, series.angles_deg)
    assert "invert=true" in contrast_advice(dark)
