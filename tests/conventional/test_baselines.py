"""The baselines are at their best, and know what they may know."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from dip4d.conventional.algorithms import sirt
from dip4d.conventional.baselines import Baseline, Conventional
from dip4d.conventional.methods import ALGORITHMS, METHODS
from dip4d.conventional.search import Choice
from dip4d.conventional.series import statistics_of
from dip4d.indices import window
from dip4d.measures.image_quality import psnr
from dip4d.projector import Geometry, Projector
from dip4d.reconstruction.split import choose_validation_rows, rows_of
from dip4d.simulation.simulate import simulate
from dip4d.tilt_series import TiltSeries

SIZE, FRAMES = 20, 24


@pytest.fixture(scope="module")
def data():
    series, truth = simulate("nanostar", SIZE, frames=FRAMES, scheme="grs", peak_counts=200, seed=0)
    return series, truth, choose_validation_rows((SIZE, FRAMES), 0.1, seed=0)


def conventional(data, truth: bool = True, **changes) -> Conventional:
    series, volumes, validation_rows = data
    keys = {"iterations": 60, "windows": [6, 10], "peak_counts": 200, "seed": 0} | changes
    return Conventional(series, validation_rows, truth=volumes if truth else None, **keys)


def test_a_frozen_frame_is_as_noisy_as_the_series(data):
    """With the counts at the brightest pixel without noise; or as the images of the series leave the truth."""
    clean, _ = simulate("nanostar", SIZE, frames=FRAMES, scheme="grs", peak_counts=0, seed=0)
    per_count = float(clean.images.max()) / 200
    assert conventional(data).frozen_noise.gain == pytest.approx(per_count, rel=0.02)
    told = conventional(data, peak_counts=None).frozen_noise
    assert told.gain == pytest.approx(per_count, rel=0.1)
    assert told.offset < 0.2 * per_count
    assert conventional(data, peak_counts=0).frozen_noise.gain == 0


def test_a_frozen_series_is_of_the_specimen_where_it_is_known(data):
    """Else the operator that reconstructs it has made it."""
    asked = []

    def frozen(t: int, angles_deg: np.ndarray) -> np.ndarray:
        asked.append((t, angles_deg))
        return np.full((len(angles_deg), SIZE, SIZE), t, np.float32)

    _, rows = conventional(data, frozen=frozen, peak_counts=0).frozen_series(7)
    assert np.all(rows.numpy() == 7)
    assert any(t == 7 and len(angles) == FRAMES and np.all(np.diff(angles) > 0) for t, angles in asked)
    A, rows = conventional(data, peak_counts=0).frozen_series(7)
    torch.testing.assert_close(rows, A(torch.from_numpy(data[1][7])))


def mean_psnr(data, volume) -> float:
    truth = data[1]
    return float(np.mean([psnr(volume(t), truth[t], data_range=float(truth.max())) for t in range(FRAMES)]))


def test_the_number_of_iterations_is_the_best(data):
    at_work = conventional(data, windows=[FRAMES])
    baseline = at_work.baseline("sirt_whole")
    A, best = at_work._operator(at_work.angles), baseline.settings["iterations"]
    looks = at_work.looks
    truth = data[1]

    def score(iterations: int) -> float:
        x = sirt(A, at_work.rows, iterations).numpy()
        return float(np.mean([psnr(x, truth[t], data_range=float(truth.max())) for t in looks]))

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


@pytest.mark.parametrize("name", ["sirt_whole", "sirt_window", "sirt_frozen"])
def test_a_search_that_the_clock_ends_says_so_and_is_not_degenerate(data, name):
    cut = conventional(data, iterations=200, windows=[6, 24], seconds=1e-9).baseline(name)
    assert cut.search_cut_short
    assert cut.settings["iterations"] > 1
    assert not conventional(data, iterations=30, windows=[6, 24]).baseline(name).search_cut_short


def test_a_window_is_as_good_as_any_at_any_number_of_iterations(data):
    at_work = conventional(data, windows=[6, 8, 10, 14, 18, 24])
    found = at_work.baseline("sirt_window")
    truth, best = data[1], -math.inf
    for width in at_work.windows:
        around = [window(t, FRAMES, width=width) for t in at_work.looks]
        for iterations in (5, 10, 20, 30, 45, 60):
            x = [sirt(at_work._operator(at_work.angles[a]), at_work.rows[:, a], iterations).numpy() for a in around]
            pairs = zip(x, at_work.looks, strict=True)
            best = max(best, np.mean([psnr(v, truth[t], data_range=float(truth.max())) for v, t in pairs]))
    chosen = np.mean([psnr(found.volume(t), truth[t], data_range=float(truth.max())) for t in at_work.looks])
    assert chosen > best - 0.02


@pytest.mark.parametrize("best", [1.0, 8.0, 0.125, 64.0])
def test_the_weight_is_followed_to_its_best(data, monkeypatch, best):
    asked = []

    def tried(self, algorithm, problems, *, seconds, weight) -> Choice:
        asked.append(weight)
        return Choice(-abs(math.log(weight / best)), weight, {}, None, 1)

    monkeypatch.setattr(Conventional, "_tried", tried)
    assert conventional(data)._choose(ALGORITHMS["tv"], []).weight == min(best, 32)
    assert len(asked) == len(set(asked))
    assert conventional(data)._choose(ALGORITHMS["sirt"], []).weight == 1


def test_a_moving_specimen_is_better_seen_through_a_window_and_best_when_frozen(data):
    at_work = conventional(data)
    whole, frozen = (mean_psnr(data, at_work.baseline(f"sirt_{scope}").volume) for scope in ("whole", "frozen"))
    windowed = at_work.baseline("sirt_window")
    assert windowed.settings["window"] in (6, 10)
    early = psnr(windowed.volume(0), data[1][0], data_range=1.0)
    assert early > psnr(at_work.baseline("sirt_whole").volume(0), data[1][0], data_range=1.0)
    assert frozen > whole + 1


@pytest.mark.parametrize("name", METHODS)
def test_every_method_reconstructs(data, name):
    baseline = conventional(data, iterations=25, windows=[FRAMES]).baseline(name)
    volume = baseline.volume(FRAMES - 1)
    assert volume.shape == (SIZE, SIZE, SIZE)
    assert volume.min() >= 0
    assert psnr(volume, data[1][FRAMES - 1], data_range=1.0) > 15
    assert (baseline.validation_error is None) == name.endswith("_frozen")
    assert baseline.validation_error is None or 0.05 < baseline.validation_error < 0.6
    assert baseline.settings["iterations"] >= 1


def test_without_truth_validation_rows_choose_and_are_not_used(data):
    _, _, validation_rows = data
    at_work = conventional(data, truth=False)
    baseline = at_work.baseline("sirt_whole")
    A, best = at_work._operator(at_work.angles), baseline.settings["iterations"]

    def error(iterations: int) -> float:
        x = sirt(A, at_work.rows, iterations, row_mask=(~validation_rows).float())
        difference = (A(x) - at_work.rows)[validation_rows]
        return float(difference.norm() / at_work.rows[validation_rows].norm())

    assert baseline.validation_error == pytest.approx(error(best), rel=1e-4)
    assert error(best) <= min(error(i) for i in range(5, 61, 5)) + 1e-6
    with pytest.raises(ValueError, match="truth"):
        at_work.baseline("sirt_frozen")


def test_the_error_without_noise_is_that_of_predicting_what_was_there_to_see():
    clean, _ = simulate("static", SIZE, frames=FRAMES, scheme="incremental", peak_counts=0, seed=0)
    again = np.repeat(np.arange(FRAMES), 2)
    rng = np.random.default_rng(0)
    images = clean.images[again] + rng.normal(0, 0.3 * clean.images.std(), (2 * FRAMES, SIZE, SIZE))
    series = TiltSeries(images, clean.angles_deg[again])
    test_rows = rows_of([t for view in (5, 11, 18) for t in (2 * view, 2 * view + 1)], (SIZE, 2 * FRAMES))
    validation_rows = choose_validation_rows((SIZE, 2 * FRAMES), 0.1, seed=0, test_images=np.flatnonzero(test_rows[0]))
    at_work = conventional((series, None, validation_rows), truth=False, iterations=20, test_rows=test_rows)
    baseline = at_work.baseline("sirt_whole")
    A = at_work._operator(at_work.angles)
    x = sirt(A, at_work.rows, baseline.settings["iterations"], row_mask=at_work.fit_masks)
    frames = test_rows[0]
    there = torch.from_numpy(clean.images[again]).transpose(0, 1)[:, frames]
    true = float((A(x)[:, frames] - there).norm() / there.norm())
    assert baseline.test_error_without_noise == pytest.approx(true, rel=0.15)
    assert baseline.test_error > 1.5 * true


@pytest.mark.parametrize("truth", [True, False])
@pytest.mark.parametrize(
    "name", ["sirt_whole", "sirt_window", "fbp_whole", "em_window", "tv_window", "sirt_frozen", "sttv"]
)
def test_a_test_image_is_never_an_input(data, name, truth):
    if name.endswith("_frozen") and not truth:
        pytest.skip("needs the truth")
    series, volumes, validation_rows = data
    images = [7, 15]
    test_rows = rows_of(images, (SIZE, FRAMES))
    spoiled = series.images.copy()
    spoiled[images] = 50 * np.roll(spoiled[images], 6, axis=2)
    found = []
    for seen in (series, dataclasses.replace(series, images=spoiled)):
        parts = (seen, volumes, validation_rows & ~test_rows)
        found.append(
            conventional(parts, truth, iterations=15, windows=[FRAMES // 2], test_rows=test_rows).baseline(name)
        )
    clean, other = found
    assert clean.settings == other.settings
    assert clean.validation_error == other.validation_error
    np.testing.assert_array_equal(clean.volume(7), other.volume(7))
    if clean.test_error is not None:
        assert 0.05 < clean.test_error < 0.6
        assert other.test_error > 0.9


def test_the_error_of_test_images_is_that_of_predicting_them(data):
    series, volumes, _ = data
    images, none = [7, 15], torch.zeros(SIZE, FRAMES, dtype=torch.bool)
    test_rows = rows_of(images, (SIZE, FRAMES))
    at_work = conventional((series, volumes, none), iterations=20, test_rows=test_rows)
    baseline = at_work.baseline("sirt_whole")
    A = at_work._operator(at_work.angles)
    x = sirt(A, at_work.rows, baseline.settings["iterations"], row_mask=(~test_rows).float())
    difference = (A(x) - at_work.rows)[:, images]
    assert baseline.validation_error is None
    assert baseline.test_error == pytest.approx(float(difference.norm() / at_work.rows[:, images].norm()), rel=1e-4)


@pytest.mark.parametrize("name", ["tv_whole", "tv_window", "tv_frozen", "sttv"])
def test_weights_that_follow_the_noise_make_a_method_better(data, monkeypatch, name):
    algorithm, scope = METHODS[name]
    found = {}
    for weighs in (True, False):
        monkeypatch.setitem(METHODS, name, (dataclasses.replace(algorithm, weighs_pixels=weighs), scope))
        found[weighs] = mean_psnr(data, conventional(data, windows=[10]).baseline(name).volume)
    assert found[True] > found[False] + 0.1


@pytest.mark.parametrize("name", ["sirt_whole", "tv_whole"])
def test_what_an_image_does_not_show_is_not_fitted(data, name):
    series, volumes, validation_rows = data
    shown = np.ones(series.images.shape[:2], bool)
    shown[::3, :4] = False
    found = []
    for filling in (0.0, 9.0):
        filled = dataclasses.replace(series, images=np.where(shown[..., None], series.images, filling), shown=shown)
        at_work = conventional((filled, volumes, validation_rows), statistics=statistics_of(series))
        baseline = at_work.baseline(name)
        found.append((baseline.volume(0), baseline.validation_error))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


@pytest.mark.parametrize("name", ["sirt_whole", "sirt_window", "sirt_frozen", "tv_frozen", "sttv"])
def test_with_a_margin_a_specimen_that_the_images_cut_off_is_better(name):
    """And what is returned and scored is as wide as the images."""
    y, x = torch.meshgrid(torch.arange(16.0) - 7.5, torch.arange(32.0) - 15.5, indexing="ij")
    whole = (torch.hypot(y, x + 2) < 4).float() + (torch.hypot(y, x - 9) < 3)  # the border is at 8
    images = lambda t, degrees: (
        Projector(Geometry((16, 32), 16, torch.from_numpy(np.deg2rad(degrees))))(whole.expand(3, -1, -1))
        .transpose(0, 1)
        .numpy()
    )
    angles = 7.3 * (np.arange(20) * 7 % 20) - 70
    series, truth = TiltSeries(images(0, angles), angles), np.tile(whole[:, 8:24].numpy(), (20, 3, 1, 1))
    keys = {"truth": truth, "frozen": images, "iterations": 60, "windows": [12], "peak_counts": 0, "seed": 0}
    scores = []
    for margin in (0, 8):
        rows = torch.zeros(3, 20, dtype=torch.bool)
        baseline = Conventional(dataclasses.replace(series, margin=margin), rows, **keys).baseline(name)
        assert baseline.volume(3).shape == (3, 16, 16)
        scores.append(psnr(baseline.volume(3), truth[3], data_range=1.0))
    assert scores[1] > scores[0] + 1
