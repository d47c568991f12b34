"""Shifts are saved, added up and applied as their conventions say; what they make an image not show is marked."""

from __future__ import annotations

import numpy as np
import pytest

from dip4d.alignment.shifts import Shifts, apply, inside
from dip4d.errors import InputError
from dip4d.tilt_series import TiltSeries


def test_shifts_are_saved_and_loaded(tmp_path):
    shifts = Shifts(np.array([0.5, -1.25]), np.array([3.0, 0.125]), 2.5, -1.5)
    shifts.save(tmp_path / "shifts.csv")
    again = Shifts.load(tmp_path / "shifts.csv")
    for name in ("z", "s", "axis", "rotation_deg"):
        np.testing.assert_array_equal(getattr(again, name), getattr(shifts, name))
    assert (tmp_path / "shifts.csv").read_text().startswith("image,z_px,s_px,axis_px,rotation_deg\n")


HEADER = "image,z_px,s_px,axis_px,rotation_deg\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1: the header must be"),
        ("t,z,s\n0,1,2\n", "line 1: the header must be"),
        (HEADER, "no images"),
        (HEADER + "0,1,2,0\n", "line 2"),
        (HEADER + "0,1,2,0,0\n1,nan,2,0,0\n", "line 3"),
        (HEADER + "0,1,two,0,0\n", "line 2"),
        (HEADER + "0,1,2,0,0\n2,1,2,0,0\n", "0, 1, 2"),
        (HEADER + "0,1,2,0,0\n1,1,2,0.5,0\n", "axis_px and rotation_deg"),
    ],
)
def test_a_broken_file_of_shifts_is_refused(tmp_path, text, says):
    path = tmp_path / "shifts.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=r"shifts\.csv") as refused:
        Shifts.load(path)
    assert says in str(refused.value)


def test_a_missing_file_of_shifts_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file of shifts"):
        Shifts.load(tmp_path / "none.csv")


def test_shifts_for_another_number_of_images_are_refused(changing):
    with pytest.raises(InputError, match="48 images, but shifts for 3"):
        apply(changing[1], Shifts.none(3))


def test_whole_pixels_are_moved_exactly():
    images = np.random.default_rng(0).random((2, 9, 12)).astype(np.float32)
    series = TiltSeries(images, np.array([0.0, 10.0]))
    moved = apply(series, Shifts(np.array([2, 0]), np.array([-1, 0]), axis=-2.0))
    np.testing.assert_allclose(moved.images[0, :7, 3:], images[0, 2:, :9], atol=1e-6)
    assert (moved.images[0, 7:] == 0).all()
    assert (moved.images[0, :, :3] == 0).all()
    np.testing.assert_array_equal(inside(series, Shifts(np.array([2, 0]), np.array([-1, 0]), -2.0))[0, :7, 3:], True)


def test_a_rotation_turns_the_axis_and_is_undone():
    """A line along the tilt axis that is turned from z towards s by 5 degrees comes back upright."""
    z, s = np.mgrid[:41, :41] - 20.0
    r = np.deg2rad(5)
    distance = s * np.cos(r) - z * np.sin(r)  # from the line (z, s) = (cos r, sin r)
    series = TiltSeries(np.exp(-0.5 * (distance / 1.5) ** 2)[None], np.zeros(1))
    upright = apply(series, Shifts(np.zeros(1), np.zeros(1), rotation_deg=5.0)).images[0, 5:-5]
    np.testing.assert_allclose(upright, np.exp(-0.5 * (s[5:-5] / 1.5) ** 2), atol=0.01)


def test_displacements_seen_in_aligned_images_add_up(changing):
    """`plus` follows the rotation: aligning in two steps is aligning once."""
    clean = changing[0]
    first = Shifts(np.full(48, 0.7), np.full(48, -1.2), 1.0, 4.0)
    second = Shifts(np.full(48, -0.4), np.full(48, 2.0))
    twice, once = apply(apply(clean, first), second), apply(clean, first.plus(second.z, second.s))
    np.testing.assert_allclose(once.images, twice.images, atol=0.05 * clean.images.max())  # one interpolation less
    assert np.abs(once.images - twice.images).mean() < 1e-3 * clean.images.max()


def test_rows_that_a_shifted_image_does_not_show_are_marked_and_stay_so():
    images, z = np.random.default_rng(0).random((4, 8, 6)).astype(np.float32) + 1, np.arange(8)
    series = TiltSeries(images, np.arange(4), np.array([0, 2, 1, 3]))
    assert apply(series, Shifts.none(4)).shown is None
    moved = apply(series, Shifts(np.array([0, 2, -3, 0]), np.zeros(4)))
    expected = np.ones((4, 8), bool)
    expected[1, 6:] = expected[2, :3] = False
    np.testing.assert_array_equal(moved.shown, expected)
    assert not moved.images[~expected].any()
    np.testing.assert_array_equal(moved.in_time_order().shown, expected[[0, 2, 1, 3]])
    np.testing.assert_array_equal(moved.without_images([0]).shown, expected[1:])
    np.testing.assert_array_equal(moved.cropped((2, 7, 0, 6)).shown, expected[:, 2:7])
    np.testing.assert_array_equal(moved.binned(2).shown, expected.reshape(4, 4, 2).all(2))
    again = apply(moved, Shifts(np.array([0, -2, 3, 1]), np.zeros(4)))
    np.testing.assert_array_equal(again.shown, [z >= 0, z >= 2, z < 5, z < 7])
