"""Alignment: on specimens that change while the series is taken, and on a measured needle."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from scipy import ndimage

from dip4d.__main__ import main
from dip4d.alignment import (
    align,
    along_axis,
    axis_rotation,
    by_mass,
    coarse,
    common_rows,
    jumps,
    lies_inside,
    normalised,
    sirt_residual,
    steadied,
)
from dip4d.errors import InputError
from dip4d.io import read_tilt_series
from dip4d.matching import choose_width, match_projections, plans, prediction_residual, register
from dip4d.shifts import Shifts, apply, inside, without_gauge
from dip4d.simulate import add_noise, jitter_shifts, simulate
from dip4d.tilt_series import TiltSeries

AXIS = 3.0  # pixels


def displaced(clean: TiltSeries, shifts: Shifts, dose: float, seed: int = 0) -> TiltSeries:
    """What a microscope sees whose images are displaced: shifted without noise, in a wide field, then exposed."""
    pad = 16
    wide = np.pad(clean.images, ((0, 0), (pad, pad), (pad, pad)))
    moved = [ndimage.shift(i, d) for i, d in zip(wide, zip(shifts.z, shifts.across, strict=True), strict=True)]
    images = np.clip(np.stack(moved)[:, pad:-pad, pad:-pad], 0, None)
    return dataclasses.replace(clean, images=add_noise(images.astype(np.float32), dose, seed))


def random_shifts(frames: int, rms: float, seed: int = 1, axis: float = AXIS) -> Shifts:
    rng = np.random.default_rng(seed)
    return Shifts(rng.normal(0, rms, frames), rng.normal(0, rms, frames), axis)


def error(found: Shifts, true: Shifts, angles_deg: np.ndarray) -> tuple[float, float]:
    """Root mean square error along z and s, in pixels, up to the position of the specimen in space."""
    z, s = without_gauge(found.z - true.z, found.across - true.across, angles_deg)
    return float(np.sqrt(np.mean(z**2))), float(np.sqrt(np.mean(s**2)))


@pytest.fixture(scope="module")
def changing() -> tuple[TiltSeries, TiltSeries, Shifts]:
    """A particle that changes shape and composition: its series without noise, as measured, and the shifts."""
    clean, _ = simulate("nanostar_alloying", 32, 48, "grs", 0, seed=0)
    shifts = random_shifts(48, 2.0)
    return clean, displaced(clean, shifts, 500), shifts


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


def test_images_are_brought_to_one_brightness(changing):
    gains = np.linspace(0.5, 2, 48).astype(np.float32)
    gains[7] = 0
    series = dataclasses.replace(changing[0], images=changing[0].images * gains[:, None, None])
    even, factors = normalised(series)
    means = even.images.mean((1, 2))
    assert factors[7] == 1
    np.testing.assert_allclose(np.delete(means, 7), np.median(series.images.mean((1, 2))), rtol=1e-4)


def test_the_centre_of_mass_does_not_need_a_static_specimen(changing):
    clean, measured, true = changing
    assert lies_inside(clean, 1)
    assert lies_inside(clean, 2)
    found = Shifts(by_mass(measured, 1), by_mass(measured, 2))
    assert max(error(found, true, clean.angles_deg)) < 0.25
    assert max(error(Shifts.none(48), true, clean.angles_deg)) > 1.5


def test_row_sums_align_along_the_axis_at_any_order_of_angles(changing):
    _, measured, true = changing
    left = along_axis(measured) - true.z
    assert left.std() < 0.25


def test_rotation_of_the_tilt_axis_from_a_long_specimen(changing):
    clean = changing[0]
    long = dataclasses.replace(clean, images=np.repeat(clean.images, 2, axis=1))
    turned = apply(long, Shifts(np.zeros(48), np.zeros(48), rotation_deg=-3.0))
    line = axis_rotation(turned, common_rows(turned, Shifts.none(48)))
    assert line.rotation_deg == pytest.approx(3.0, abs=0.5)
    assert line.error_deg < 1


def test_the_rotation_of_a_round_specimen_is_not_guessed(changing):
    turned = apply(changing[0], Shifts(np.zeros(48), np.zeros(48), rotation_deg=-3.0))
    found, _ = coarse(turned)
    assert found.rotation_deg == 0
    given, _ = coarse(turned, rotation_deg=3.0)
    assert given.rotation_deg == 3.0
    assert np.abs(given.across).max() < 0.3


def test_every_image_is_left_out_once_and_never_predicts_itself():
    for frames, width in ((10, 10), (48, 24), (50, 7), (5, 8)):
        plan = plans(frames, width)
        assert sorted(np.concatenate([group for group, _ in plan])) == list(range(frames))
        for group, used in plan:
            assert not set(group) & set(used)
            assert len(used) >= min(frames, width) - len(group)


def test_a_narrow_sector_of_angles_is_no_window():
    """In one sweep neighbours in time predict each other, and tell nothing of where they lie."""
    series, _ = simulate("nanostar", 24, 32, "incremental", 500, seed=0)
    assert choose_width(series, Shifts.none(32), [8, 16]) == 32


def test_registration_finds_a_fraction_of_a_pixel():
    z, s = np.mgrid[:32, :32] - 15.5
    blob = lambda dz, ds: np.exp(-0.5 * (((z - dz) / 4) ** 2 + ((s - ds - 2) / 5) ** 2))
    seen = np.ones((32, 32), bool)
    dz, ds = register(1.3 * blob(0.3, -0.4), blob(0, 0), seen)
    assert dz == pytest.approx(0.3, abs=0.03)
    assert ds == pytest.approx(-0.4, abs=0.03)
    assert register(np.zeros((32, 32)), blob(0, 0), seen) == (0, 0)


def test_projection_matching_recovers_shifts_while_the_specimen_changes(changing):
    """Started one pixel off, without the help of the centre of mass."""
    clean, measured, true = changing
    off = random_shifts(48, 1.0, seed=2)
    start = Shifts(true.z + off.z, true.s + off.s, AXIS)
    assert min(error(start, true, clean.angles_deg)) > 0.8
    found = match_projections(measured, start, width=24, rounds=15, iterations=6)
    assert max(error(found, true, clean.angles_deg)) < 0.25
    before, after = (prediction_residual(measured, s, 24).mean() for s in (start, found))
    assert after < 0.8 * before


def test_jitter_and_an_axis_offset_are_recovered(changing):
    """The whole of it; 2 px rms, 3 px off. Slower runs at full size are in benchmarks/alignment.py."""
    clean, measured, true = changing
    aligned, found, report = align(measured, rounds=5)
    assert max(error(found, true, clean.angles_deg)) < 0.25
    assert report["sirt_residual_after"] < 0.6 * report["sirt_residual_before"]
    assert report["sirt_residual_after"] < 1.05 * sirt_residual(clean) + 0.05
    assert aligned.images.shape == measured.images.shape
    json.dumps(report)


def test_what_is_shown_must_fit_the_images():
    for wrong in (np.ones((3, 8), bool), np.ones((4, 8))):
        with pytest.raises(InputError, match=r"s: shown must be true or false for each of \(4, 8\)"):
            TiltSeries(np.ones((4, 8, 6)), np.arange(4), source="s", shown=wrong)


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


@pytest.mark.parametrize("specimen", ["nanostar", "drift", "event"])
def test_jumps_are_told_from_change_and_drift(specimen):
    still, _ = simulate(specimen, 32, 40, "grs", 500, seed=3)
    moved, _ = simulate(specimen, 32, 40, "grs", 500, seed=3, jitter=0.7)
    assert jumps(still) < 0.12
    steps = np.diff(jitter_shifts(moved.angles_deg, 0.7, seed=3)[:, 0])
    assert jumps(moved) == pytest.approx(1.4826 * np.median(np.abs(steps - np.median(steps))) / 2**0.5, rel=0.15)
    images = still.images.copy()
    images[7] = 0
    assert jumps(dataclasses.replace(still, images=images)) < 0.12  # one bad image does not count
    assert jumps(dataclasses.replace(moved, images=moved.images[:, :7])) == 0  # too few rows to tell


def test_steadied_images_show_the_specimen_in_its_place():
    clean, _ = simulate("nanostar", 32, 48, "grs", 500, seed=3)
    moved, _ = simulate("nanostar", 32, 48, "grs", 500, seed=3, jitter=1)
    told = []
    series, shifts = steadied(moved, told.append)
    true = jitter_shifts(moved.angles_deg, 1, seed=3)
    assert np.sqrt(np.mean((shifts.z - true[:, 0]) ** 2)) < 0.15
    assert np.sqrt(np.mean((shifts.across - true[:, 1]) ** 2)) < 0.15
    assert told
    assert np.abs(series.images - clean.images).mean() < 0.6 * np.abs(moved.images - clean.images).mean()


def test_a_blank_image_is_suspected_and_harms_no_other(changing):
    clean, measured, true = changing
    images = measured.images.copy()
    images[20] = 0
    _, found, report = align(dataclasses.replace(measured, images=images), rounds=3)
    assert 20 in report["suspect_images"]
    keep = np.arange(48) != 20
    found, true = (Shifts(v.z[keep], v.s[keep], v.axis, v.rotation_deg) for v in (found, true))
    assert max(error(found, true, clean.angles_deg[keep])) < 0.3


def test_the_command_writes_what_can_be_read_again(tmp_path, changing, capsys):
    _, measured, true = changing
    np.savez(tmp_path / "star.npz", images=measured.images, angles=measured.angles_deg, pixel_nm=0.5)
    assert main(["align", str(tmp_path / "star.npz"), "--rounds", "0", "--background", "none"]) == 0
    aligned = read_tilt_series(tmp_path / "star_aligned.npz")
    shifts = Shifts.load(tmp_path / "star_shifts.csv")
    assert aligned.shape == measured.shape
    assert aligned.pixel_nm == 0.5
    assert len(shifts) == 48
    z = np.arange(measured.shape[1])
    lost = (z + true.z[:, None] < -1) | (z + true.z[:, None] > measured.shape[1])
    assert lost.any()
    assert not aligned.shown[lost].any()
    with pytest.raises(InputError, match=r"tilt axis lies along y \(key data.tilt_axis"):
        read_tilt_series(tmp_path / "star_aligned.npz", tilt_axis="x")
    assert (tmp_path / "star_alignment.png").stat().st_size > 10_000
    assert main(["align", str(tmp_path / "none.npz")]) == 2
    assert main(["align", str(tmp_path / "star.npz"), "--rounds", "0"]) == 2  # nothing is overwritten
    assert "star_shifts.csv" in capsys.readouterr().err
    assert main(["align", str(tmp_path / "star.npz"), "--bin", "0", "--out", str(tmp_path / "new")]) == 2
    assert "--bin 0 must be at least 1" in capsys.readouterr().err


def test_shifts_found_on_binned_images_are_saved_in_pixels_of_the_file(tmp_path, changing):
    """Of 31 pixels one is cut off by binning, and the middle moves by half of it."""
    clean = changing[0]
    series = dataclasses.replace(clean, images=clean.images[:, :, :-1])
    np.savez(tmp_path / "star.npz", images=series.images, angles=series.angles_deg)
    found = {}
    for k in ("1", "2"):
        options = ["--rounds", "0", "--background", "none", "--no-normalise", "--bin", k, "--out", str(tmp_path / k)]
        assert main(["align", str(tmp_path / "star.npz"), *options]) == 0
        found[k] = Shifts.load(tmp_path / k / "star_shifts.csv")
    np.testing.assert_allclose(found["2"].across, found["1"].across, atol=0.2)
    np.testing.assert_allclose(found["2"].z, found["1"].z, atol=0.2)


def needle(real_data, name: str) -> TiltSeries:
    """The measured needle, less its background, binned by 4: raw from its microscope, or as NIST aligned it."""
    if name == "raw":
        series = read_tilt_series(real_data / "nist_needle_raw_fei.mrc", real_data / "nist_needle.rawtlt", "x")
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(real_data / "nist_needle_aligned.hspy") as file:
            images = file["Experiments/__unnamed__/data"][:].transpose(0, 2, 1)
        series = TiltSeries(images, np.loadtxt(real_data / "nist_needle_aligned.rawtlt"))
    return series.without_background("auto").binned(4)


def test_the_raw_needle_is_aligned_as_well_as_its_owners_did(real_data):
    raw, nist = needle(real_data, "raw"), needle(real_data, "nist")
    rows = np.zeros(64, bool)
    rows[15:48] = True  # the needle, without the ends that come and go
    aligned, shifts, _ = align(raw, normalise=False, rounds=3)
    assert sirt_residual(raw, rows=rows) > 0.3
    assert sirt_residual(aligned, rows=rows) < 1.1 * sirt_residual(nist, rows=rows)
    assert shifts.rotation_deg == pytest.approx(2.79, abs=0.3)  # NIST's own
