"""The movie: a surface that is seen where it is, and pictures of the size and number that were asked for."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from dip4d.__main__ import main
from dip4d.report.movie import write_mp4
from dip4d.report.preview import read_preview, view_of
from dip4d.report.surface import TIP_DEG, surface_picture
from tests.report.conftest import FRAMES, ball


def soft_ball(*, radius: float, at: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    """A ball (z, y, x) with a soft surface, `at` voxels from the middle."""
    z, y, x = (n - 15.5 - d for n, d in zip(np.indices((32, 32, 32)), at, strict=True))
    return np.clip(radius - np.sqrt(z**2 + y**2 + x**2) + 1, 0, 2) / 2


def seen(volume: np.ndarray, turn_deg: float = 0.0) -> np.ndarray:
    """Where the surface is seen: (rows, columns), 4 pixels a voxel."""
    return np.isfinite(surface_picture(volume, 0.5, turn_deg=turn_deg, reach=16, edge=128))


@pytest.mark.parametrize("turn_deg", [0.0, 33.0, 180.0])
def test_a_ball_is_a_disk_of_its_radius_from_all_sides(turn_deg):
    there = seen(soft_ball(radius=8), turn_deg)
    assert there.sum() == pytest.approx(np.pi * (8 * 4) ** 2, rel=0.04)
    np.testing.assert_allclose(np.argwhere(there).mean(0), 63.5, atol=0.6)


def test_z_is_up_x_to_the_right_and_a_turn_is_about_z():
    row, column = np.argwhere(seen(soft_ball(radius=3, at=(8, 0, 0)))).mean(0)
    assert row == pytest.approx(63.5 - 4 * 8 * np.cos(np.deg2rad(TIP_DEG)), abs=0.7)
    assert column == pytest.approx(63.5, abs=0.7)
    to_the_right = soft_ball(radius=3, at=(0, 0, 8))
    assert np.argwhere(seen(to_the_right)).mean(0)[1] == pytest.approx(63.5 + 32, abs=0.7)
    assert np.argwhere(seen(to_the_right, 180)).mean(0)[1] == pytest.approx(63.5 - 32, abs=0.7)


def test_nothing_is_seen_of_an_empty_volume_and_light_stays_within_black_and_white():
    assert not seen(np.zeros((32, 32, 32))).any()
    bright = surface_picture(soft_ball(radius=8), 0.5, turn_deg=0, reach=16, edge=64)
    assert 0 <= np.nanmin(bright) < 0.5 < np.nanmax(bright) <= 1


def test_a_view_has_the_surface_at_half_of_the_specimen_and_all_of_it_in_the_picture(run_of_a_ball):
    view = view_of(read_preview(run_of_a_ball)["truth"], 1.0)
    assert view.level == pytest.approx(0.5, abs=0.02)
    assert 7 + 2 <= view.reach <= 12  # the last ball has radius 7 and lies 2 above the middle
    assert view.z == int(ball(5).sum((1, 2)).argmax())


def test_a_movie_has_a_picture_for_every_image(run_of_a_ball):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    path = write_mp4(run_of_a_ball, fps=4, size=(480, 270))
    frames, seconds = ffmpeg.count_frames_and_secs(str(path))
    assert (frames, seconds) == (FRAMES, pytest.approx(FRAMES / 4, abs=0.05))
    reader = ffmpeg.read_frames(str(path))
    assert next(reader)["size"] == (480, 270)
    pictures = [np.frombuffer(frame, np.uint8).reshape(270, 480, 3).astype(int) for frame in reader]
    assert np.abs(pictures[0] - pictures[-1]).mean() > 2
    before = path.read_bytes()
    assert write_mp4(run_of_a_ball, fps=4, size=(480, 270)).read_bytes() == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--size", "much"], "write width and height as 1920x1080 (option --size)"),
        (["--size", "481x270"], "give even numbers from 240 to 4096 (option --size)"),
        (["--fps", "0"], "give 0.1 to 120 (option --fps)"),
    ],
)
def test_a_movie_that_cannot_be_drawn_is_refused_before_any_work(run_of_a_ball, capsys, options, words):
    assert main(["report", str(run_of_a_ball), "--movie", *options]) == 2
    assert words in capsys.readouterr().err
    assert not (run_of_a_ball / "report.html").exists()


def test_without_ffmpeg_a_line_says_how_to_get_it(run_of_a_ball, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert main(["report", str(run_of_a_ball), "--movie"]) == 2
    assert "pip install imageio-ffmpeg" in capsys.readouterr().err
