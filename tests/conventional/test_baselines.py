"""The baselines are at their best, and know what they may know."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from dip4d.algorithms import sirt
from dip4d.conventional import METHODS, Baseline, Choice, Conventional, brightest_voxel, noise
from dip4d.data import choose_held_out, rows_of
from dip4d.metrics import psnr
from dip4d.simulate import simulate
from dip4d.tilt_series import TiltSeries

SIZE, FRAMES = 20, 24


@pytest.fixture(scope="module")
def data():
    series, truth = simulate("nanostar", SIZE, FRAMES, "grs", 200, seed=0)
    return series, truth, choose_held_out(FRAMES, SIZE, 0.1, 0)


def conventional(data, truth: bool = True, **changes) -> Conventional:
    series, volumes, held_out = data
    keys = {"iterations": 60, "windows": [6, 10], "dose": 200, "seed": 0} | changes
    return Conventional(series, held_out, volumes if truth else None, **keys)


def mean_psnr(data, volume) -> float:
    truth = data[1]
    return float(np.mean([psnr(volume(t), truth[t], float(truth.max())) for t in range(FRAMES)]))


def test_the_number_of_iterations_is_the_best(data):
    at_work = conventional(data, windows=[FRAMES])
    baseline = at_work.baseline("sirt_whole")
    A, best = at_work._operator(at_work.angles), baseline.settings["iterations"]
    looks = at_work.looks
    truth = data[1]

    def score(iterations: int) -> float:
        x = sirt(A, at_work.rows, iterations).numpy()
        return float(np.mean([psnr(x, truth[t], float(truth.max())) for t in looks]))

    others = [score(i) for i in range(5, 61, 5)]
    assert score(best) == pytest.approx(max(others))
    assert best == 5 * (1 + int(np.argmax(others)))
    np.testing.assert_allclose(baseline.volume(3), sirt(A, at_work.rows, best).numpy())


@pytest.mark.parametrize("truth", [True, False])
def test_window_and_weight_are_the_best(data, truth):
    def chosen(*widths: int) -> Baseline:
        return conventional(data, truth, windows=widths, iterations=30).baseline("tv_window")

    found, each = chosen(6, 10, 16).settings, [chosen(6), chosen(10), chosen(16)]
    assert found in [baseline.settings for baseline in each]
    if truth:
        assert found == max(each, key=lambda b: mean_psnr(data, b.volume)).settings


@pytest.mark.parametrize("best", [1.0, 8.0, 0.125, 64.0])
def test_the_weight_is_followed_to_its_best(data, monkeypatch, best):
    asked = []

    def tried(self, algorithm, problems, frames, seconds, weight) -> Choice:
        asked.append(weight)
        return Choice(-abs(math.log(weight / best)), weight, {}, None, 1)

    monkeypatch.setattr(Conventional, "_tried", tried)
    assert conventional(data)._choose("tv", [], [], math.inf).weight == min(best, 32)
    assert len(asked) == len(set(asked))
    assert conventional(data)._choose("sirt", [], [], math.inf).weight == 1


def test_a_moving_specimen_is_better_seen_through_a_window_and_best_when_frozen(data):
    at_work = conventional(data)
    whole, frozen = (mean_psnr(data, at_work.baseline(f"sirt_{scope}").volume) for scope in ("whole", "frozen"))
    window = at_work.baseline("sirt_window")
    assert window.settings["window"] in (6, 10)
    early = psnr(window.volume(0), data[1][0], 1.0)
    assert early > psnr(at_work.baseline("sirt_whole").volume(0), data[1][0], 1.0)
    assert frozen > whole + 1


@pytest.mark.parametrize("name", METHODS)
def test_every_method_reconstructs(data, name):
    baseline = conventional(data, iterations=25, windows=[FRAMES]).baseline(name)
    volume = baseline.volume(FRAMES - 1)
    assert volume.shape == (SIZE, SIZE, SIZE)
    assert volume.min() >= 0
    assert psnr(volume, data[1][FRAMES - 1], 1.0) > 15
    assert (baseline.held_out is None) == name.endswith("_frozen")
    assert baseline.held_out is None or 0.05 < baseline.held_out < 0.6
    assert baseline.settings["iterations"] >= 1


def test_without_truth_held_out_rows_choose_and_are_not_used(data):
    _, _, held_out = data
    at_work = conventional(data, truth=False)
    baseline = at_work.baseline("sirt_whole")
    A, best = at_work._operator(at_work.angles), baseline.settings["iterations"]

    def error(iterations: int) -> float:
        x = sirt(A, at_work.rows, iterations, known=(~held_out).float())
        difference = (A(x) - at_work.rows)[held_out]
        return float(difference.norm() / at_work.rows[held_out].norm())

    assert baseline.held_out == pytest.approx(error(best), rel=1e-4)
    assert error(best) <= min(error(i) for i in range(5, 61, 5)) + 1e-6
    with pytest.raises(ValueError, match="truth"):
        at_work.baseline("sirt_frozen")


def test_the_error_without_noise_is_that_of_predicting_what_was_there_to_see():
    clean, _ = simulate("static", SIZE, FRAMES, "incremental", 0, seed=0)
    again = np.repeat(np.arange(FRAMES), 2)
    rng = np.random.default_rng(0)
    images = clean.images[again] + rng.normal(0, 0.3 * clean.images.std(), (2 * FRAMES, SIZE, SIZE))
    series = TiltSeries(images, clean.angles_deg[again])
    unseen = rows_of([t for view in (5, 11, 18) for t in (2 * view, 2 * view + 1)], 2 * FRAMES, SIZE)
    held_out = choose_held_out(2 * FRAMES, SIZE, 0.1, 0, np.flatnonzero(unseen[0]))
    at_work = conventional((series, None, held_out), truth=False, iterations=20, unseen=unseen)
    baseline = at_work.baseline("sirt_whole")
    A = at_work._operator(at_work.angles)
    x = sirt(A, at_work.rows, baseline.settings["iterations"], known=at_work.known)
    frames = unseen[0]
    there = torch.from_numpy(clean.images[again]).transpose(0, 1)[:, frames]
    true = float((A(x)[:, frames] - there).norm() / there.norm())
    assert baseline.held_out_without_noise == pytest.approx(true, rel=0.15)
    assert baseline.held_out_images > 1.5 * true


SMOOTH_ROWS = np.sin(np.linspace(0, 3, 64)) * 10 + 5


def test_the_noise_is_found():
    images = np.random.default_rng(0).normal(SMOOTH_ROWS, 0.7, (40, 30, 64))
    assert noise(TiltSeries(images, np.arange(40))) == pytest.approx(0.7, rel=0.1)


@pytest.mark.parametrize("smoothed", [0, 1.5])
def test_where_views_are_repeated_smoothing_does_not_hide_the_noise(smoothed):
    white = np.random.default_rng(0).normal(0, 0.7, (40, 32, 64))
    images = SMOOTH_ROWS * np.repeat(np.linspace(0.5, 1, 20), 2)[:, None, None] + gaussian_filter(
        white, (0, smoothed, smoothed), mode="wrap"
    )
    assert noise(TiltSeries(images, np.repeat(np.arange(20), 2))) == pytest.approx(0.7, rel=0.25)
    if smoothed:
        assert noise(TiltSeries(images, np.arange(40))) < 0.2


def test_the_brightest_voxel_is_of_the_right_order(data):
    assert 0.7 < brightest_voxel(data[0]) < 2.0  # pure gold is 1


@pytest.mark.parametrize("truth", [True, False])
@pytest.mark.parametrize("name", ["sirt_whole", "sirt_window", "fbp_whole", "em_window", "tv_window", "sirt_frozen"])
def test_an_unseen_image_is_never_an_input(data, name, truth):
    if name.endswith("_frozen") and not truth:
        pytest.skip("needs the truth")
    series, volumes, held_out = data
    images = [7, 15]
    unseen = rows_of(images, FRAMES, SIZE)
    spoiled = series.images.copy()
    spoiled[images] = 50 * np.roll(spoiled[images], 6, axis=2)
    found = []
    for seen in (series, dataclasses.replace(series, images=spoiled)):
        parts = (seen, volumes, held_out & ~unseen)
        found.append(conventional(parts, truth, iterations=15, windows=[FRAMES // 2], unseen=unseen).baseline(name))
    clean, other = found
    assert clean.settings == other.settings
    assert clean.held_out == other.held_out
    np.testing.assert_array_equal(clean.volume(7), other.volume(7))
    if clean.held_out_images is not None:
        assert 0.05 < clean.held_out_images < 0.6
        assert other.held_out_images > 0.9


def test_the_error_of_unseen_images_is_that_of_predicting_them(data):
    series, volumes, _ = data
    images, none = [7, 15], torch.zeros(SIZE, FRAMES, dtype=torch.bool)
    unseen = rows_of(images, FRAMES, SIZE)
    at_work = conventional((series, volumes, none), iterations=20, unseen=unseen)
    baseline = at_work.baseline("sirt_whole")
    A = at_work._operator(at_work.angles)
    x = sirt(A, at_work.rows, baseline.settings["iterations"], known=(~unseen).float())
    difference = (A(x) - at_work.rows)[:, images]
    assert baseline.held_out is None
    assert baseline.held_out_images == pytest.approx(
        float(difference.norm() / at_work.rows[:, images].norm()), rel=1e-4
    )


def test_what_an_image_does_not_show_is_not_fitted(data):
    series, volumes, held_out = data
    shown = np.ones(series.images.shape[:2], bool)
    shown[::3, :4] = False
    found = []
    for filling in (0.0, 9.0):
        filled = dataclasses.replace(series, images=np.where(shown[..., None], series.images, filling), shown=shown)
        at_work = conventional((filled, volumes, held_out))
        at_work.brightest = float(series.images.max())
        baseline = at_work.baseline("sirt_whole")
        found.append((baseline.volume(0), baseline.held_out))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]
