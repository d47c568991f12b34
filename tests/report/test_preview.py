"""What is kept small of volumes is what they are, to a grey level, and never too much."""

from __future__ import annotations

import numpy as np
import pytest

from dip4d.errors import InputError
from dip4d.io import write_volumes
from dip4d.report.preview import (
    MOVIE_VOXELS,
    VOXELS,
    Shrunk,
    add_preview,
    binning,
    frames_kept,
    movies_of,
    read_preview,
    small_movie,
)
from dip4d.run_folder import PREVIEW, VOLUMES


@pytest.fixture
def volumes() -> np.ndarray:
    return np.random.default_rng(0).random((4, 5, 7, 7), dtype=np.float32) * [[[[1]]], [[[20]]], [[[3]]], [[[7]]]]


def test_what_is_kept_is_within_half_a_grey_level(tmp_path, volumes):
    add_preview(tmp_path, {"dip": small_movie(volumes, range(4), binned=1)})
    add_preview(tmp_path, {"truth": small_movie(2 * volumes[1:2], [1.0], binned=1), "none": None})
    movies = read_preview(tmp_path)
    assert list(movies) == ["dip", "truth"]
    for movie, kept in ((movies["dip"], volumes), (movies["truth"], 2 * volumes[1:2])):
        assert movie.vmax == pytest.approx(kept.max())
        np.testing.assert_allclose(movie.volumes * movie.vmax / 255, kept, atol=0.51 * movie.vmax / 255)
    np.testing.assert_array_equal(movies["dip"].times_s, range(4))


def test_binning_keeps_the_mean_and_negative_intensities_are_0():
    volume = np.arange(5 * 6 * 7.0).reshape(5, 6, 7)
    movie = small_movie([volume], [0.0], binned=2)
    assert movie.volumes.shape == (1, 3, 3, 4)
    assert movie.volumes[0, 0, 0, 0] * movie.vmax / 255 == pytest.approx(volume[:2, :2, :2].mean(), abs=0.5)
    assert movie.vmax == pytest.approx(volume[4:, 4:, 6:].mean())
    assert (small_movie([-volume], [0.0], binned=1).volumes == 0).all()


@pytest.mark.parametrize("shape", [(64, 64, 64), (16, 256, 256), (256, 256, 256), (3, 2000, 2000)])
def test_never_too_many_voxels_are_kept(shape):
    n = binning(shape)
    voxels = int(np.prod([-(-edge // n) for edge in shape]))
    kept = frames_kept(100, shape)
    assert voxels <= VOXELS
    assert voxels * len(kept) <= MOVIE_VOXELS
    assert (kept[0], kept[-1]) == (0, 99)
    if shape[0] <= 64:
        assert n == 1 or shape[1] == 2000


def test_frames_pass_as_they_are_and_only_those_asked_for_are_kept(volumes):
    shrunk = Shrunk(1)
    passed = list(shrunk.passing([volumes[0], None, volumes[2]], {0: 1.5, 1: 2.5}))
    np.testing.assert_array_equal(passed[0], volumes[0])
    assert passed[1] is None
    movie = shrunk.movie()
    assert movie is not None
    assert movie.times_s.tolist() == [1.5]
    assert Shrunk(1).movie() is None


def test_a_run_without_a_preview_shows_its_volumes(tmp_path, volumes):
    times = np.array([0.0, 1.0, 2.5, 4.0])
    write_volumes(tmp_path / VOLUMES, iter(volumes), shape=volumes.shape, times_s=times)
    movies = movies_of(tmp_path)
    assert list(movies) == ["dip"]
    np.testing.assert_array_equal(movies["dip"].times_s, times)
    assert movies_of(tmp_path / "nothing") == {}


def test_a_damaged_preview_is_named(tmp_path):
    (tmp_path / PREVIEW).write_bytes(b"PK")
    with pytest.raises(InputError, match=r"preview\.npz: damaged"):
        read_preview(tmp_path)
