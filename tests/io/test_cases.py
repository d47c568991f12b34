"""Files that users bring, each with what is right: the small inputs of ../shared/cases, where they are at hand.

24 images of 32 x 40 pixels at -69 to 69 degrees in steps of 6, 0.4 nm a pixel, unless a case says otherwise.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from dip4d.__main__ import main
from dip4d.errors import InputError
from dip4d.io import read_angles, read_tilt_series
from dip4d.tilt_series import TiltSeries

CASES = Path(__file__).parents[3] / "shared" / "cases"
EVEN = np.arange(-69.0, 70, 6)
SYMMETRIC = (np.array([-3.0, 3, -9]), 45.0)  # the first angles of the mdoc files in time, and the seconds between
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason=f"no folder {CASES} of files that users bring")


def case(name: str, angles: str | None = None) -> TiltSeries:
    return read_tilt_series(CASES / name, None if angles is None else CASES / angles)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """Those of nearly all cases, in the order of their angles."""
    return case("m24_map_and_preali/s.map").images


PLAIN = [  # read right, with these images, angles and this pixel size
    ("a02_tlt_decimal_comma/s.mrc", None, 0.4),
    ("a03_utf16_txt/s.mrc", None, 0.4),
    ("a05d_count_line_first/s.mrc", None, 0.4),
    ("a08b_csv_header_index_angle/s.mrc", None, 0.4),
    ("a11_unicode_minus/s.mrc", None, 0.4),
    ("a18_stale_tlt_and_good_rawtlt/s.mrc", None, 0.4),
    ("d25_mdoc_times_equal/s.mrc", None, 0.4),
    ("e01_tomviz_even_angles/s.emd", None, 0.4),
    ("f01_names_not_padded", "f01_f03b_24_angles.tlt", None),
    ("f02_angle_in_names", None, None),
    ("f03b_mac_resource_forks_no_csv", "f01_f03b_24_angles.tlt", None),
    ("f12_csv_comment_lines", None, None),
    ("h05_hspy_nonsense_pixel/s.hspy", None, None),
    ("m09_gz_named_mrc/s.mrc", None, 0.4),
    ("m09_gz_named_mrc/t.mrc.gz", None, 0.4),
    ("m09_gz_named_mrc/t.mrc.bz2", None, 0.4),
    ("m18_serialem_header_all_zero_tilts/s.mrc", None, 0.4),
    ("m20_fei_old_header_no_label/s.mrc", None, 0.4),
    ("m22_serialem_header_no_exttyp/s.mrc", None, 0.4),
    ("m23_uppercase_ext/S.MRC", None, 0.4),
    ("m24_map_and_preali/s.preali", None, 0.4),
    ("m25_volume_stack_ispg401/s.mrc", None, 0.4),
    ("t01_imagej_stack_micron/s.tif", None, 0.4),
    ("t06_compressed_tiff_lzw/s.tif", None, None),
    ("t08_thumbnail_then_stack/s.tif", None, None),
    ("t17_dm_tiff_scale_tags/s.tif", None, 0.4),
]


@pytest.mark.parametrize(("name", "angles", "pixel"), PLAIN)
def test_read_as_meant(images, name, angles, pixel):
    if name.endswith((".emd", ".hspy")):
        pytest.importorskip("h5py")
        pytest.importorskip("rsciio")
    if "lzw" in name:
        pytest.importorskip("imagecodecs")
    series = case(name, angles)
    np.testing.assert_array_equal(series.images, images)
    np.testing.assert_allclose(series.angles_deg, EVEN, atol=1e-4)
    np.testing.assert_array_equal(series.times_s, np.arange(24))
    assert series.pixel_nm == (None if pixel is None else pytest.approx(pixel, rel=1e-6))


@pytest.mark.parametrize("name", ["m01_mode0_unsigned_bytes/s.mrc", "t12_miniswhite/s.tif", "f04_png"])
def test_bytes_are_unsigned_and_white_is_bright(images, name):
    series = case(name, "f01_f03b_24_angles.tlt" if name.startswith("f") else None)
    assert (series.images.min(), series.images.max()) == (2, 250)
    assert np.corrcoef(series.images.ravel(), images.ravel())[0, 1] > 0.999


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("a09_csv_clock/s.mrc", 60),
        ("a10_csv_three_columns/s.mrc", 3),
        ("f05_csv_semicolon_decimal_comma", 12.5),
        ("f06_csv_semicolon_header_decimal_comma", 12.5),
        ("f08_csv_utf16", 12.5),
        ("f09_csv_clock_times", 60),
        ("f11_csv_tab_separated", 3),
    ],
)
def test_times_of_a_table(images, name, step):
    series = case(name)
    np.testing.assert_array_equal(series.images, images)
    np.testing.assert_allclose(series.angles_deg, EVEN)
    np.testing.assert_allclose(np.diff(series.times_s), step)


def test_decimal_commas_of_one_column_are_no_times(images):
    series = case("a01c_csv_decimal_comma_one_column_fine/s.mrc")
    np.testing.assert_array_equal(series.images, images)
    np.testing.assert_allclose(series.angles_deg[:3], [-69.33, -63.21, -56.76])


@pytest.mark.parametrize("letter", ["d05", "d07", "d08", "d10", "d14", "d23", "d28"])
def test_stamps_of_an_mdoc_give_the_order_in_time(images, letter):
    folder = next(CASES.glob(f"{letter}_*"))
    series = read_tilt_series(folder / ("s.tif" if letter == "d28" else "s.mrc"))
    first, step = SYMMETRIC
    np.testing.assert_allclose(series.angles_deg[:3], first)
    np.testing.assert_allclose(np.diff(series.times_s), step)
    np.testing.assert_array_equal(series.images[np.argsort(series.angles_deg)], images)
    assert series.pixel_nm == pytest.approx(0.4)


def test_an_aborted_series_offers_its_whole_images(images):
    series = case("m13_aborted_nz_planned/s.mrc")
    np.testing.assert_array_equal(series.images, images[:20])
    np.testing.assert_allclose(series.angles_deg, EVEN[:20])
    assert any("24 images, 20 are whole" in note for note in series.notes)


def test_uneven_angles_of_an_emd_are_its_own():
    pytest.importorskip("h5py")
    series = case("e09_emd_angles_last_uneven/s.emd")
    np.testing.assert_allclose(series.angles_deg[:5], [9, 3, 21, 69, -69])
    assert series.shape == (24, 32, 40)


@pytest.mark.parametrize(
    "name", ["m21_fei_old_header_radians/s.mrc", "d21_mdoc_radians/s.mrc", "x23_angles_radians.npz"]
)
def test_radians_are_a_warning(logged, name):
    case(name)
    assert "look like radians" in " ".join(r.getMessage() for r in logged if r.levelname == "WARNING")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a07b_index_angle_txt/s.mrc", "only count the images"),
        ("a08_csv_index_angle/s.mrc", "only count the images"),
        ("d19_mdoc_two_more_sections/s.mrc", r"24 images .* s\.mrc\.mdoc has 26 angles"),
        ("d30_mdoc_beside_renamed_stack/s_ali.mrc", r"no tilt angles .* perhaps s\.mrc\.mdoc"),
        ("e07_data_exchange_h5/s.h5", "data_white and data_dark: divide by the white images"),
        ("t04_ome_wrong_sizes/s.ome.tif", "24 pages, but its OME header"),
        ("real/ncem_emd_type1_stringDims.h5", "EMD of NCEM whose data has 4 axes"),
        ("real/rs_olympus_SIS.tif", r"found shape \(101, 112\)"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(name, words):
    if name.endswith(".h5"):
        pytest.importorskip("h5py")
    with pytest.raises(InputError, match=words) as refused:
        case(name, "real/a2.tlt" if "olympus" in name else None)
    assert "\n" not in str(refused.value)
    assert "NoneType" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "angles", "pixel", "count"),
    [
        ("rs_test_loading_image_saved_with_imageJ_stack.tif", "a2.tlt", 168.67, 2),
        ("rs_test_loading_image_saved_with_DM_stack.tif", "a2.tlt", 168.67, 2),
        ("rs_128x128x5_1.ser", "a5.tlt", None, 5),
    ],
)
def test_pixel_sizes_of_real_files(name, angles, pixel, count):
    if name.endswith(".ser"):
        pytest.importorskip("rsciio")
    series = case(f"real/{name}", f"real/{angles}")
    assert len(series.images) == count
    assert series.pixel_nm == (None if pixel is None else pytest.approx(pixel, rel=1e-4))


@pytest.mark.parametrize("name", ["emd3197.map", "emd_3197.map.gz"])
def test_maps_are_mrc(tmp_path, name):
    (tmp_path / "a.tlt").write_text("\n".join(str(3 * i) for i in range(20)))
    assert read_tilt_series(CASES / "real" / name, tmp_path / "a.tlt").shape == (20, 20, 20)


@pytest.mark.parametrize(("name", "count"), [("mdocfile_frame_set_multiple.mdoc", 20), ("mdocfile_montage.mdoc", 62)])
def test_sections_of_an_mdoc_that_are_no_images_are_skipped(name, count):
    assert len(read_angles(CASES / "real" / name)[0]) == count


@pytest.fixture
def inspected(tmp_path, capsys, monkeypatch):
    """What inspect prints of a case; it draws nothing."""
    monkeypatch.setattr("dip4d.commands.inspect._draw", lambda *_, **__: [])

    def run(name: str, *options: str) -> str:
        assert main(["inspect", str(CASES / name), "--out", str(tmp_path), *options]) == 0
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("name", ["x01_bright_field.npz", "y01_bf.npz"])
def test_inspect_offers_to_invert_a_bright_field(inspected, name):
    said = inspected(name)
    assert "the contrast looks inverted" in said
    assert said.splitlines()[-1].endswith("data.tilt_axis=y data.invert=true")
    assert "data.invert" not in inspected("x00_good.npz")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x00_good.npz", "suspects    none"),
        ("x02_nan_border.npz", "the borders of 60 images are NaN: filled"),
        ("x08_half_blank.npz", "suspects    cannot be told: too many differ"),
        ("x16_constant.npz", "the series is blank"),
        ("x13b_axis_rotated_45.npz", "not certain"),
        ("x14_two_images.npz", "not certain"),
        ("x04_hot_pixel_third_of_images.npz", "not certain"),
        ("x05_zingers.npz", "not certain"),
        ("x22_all_same_angle.npz", "all tilt angles are 10 degrees"),
    ],
)
def test_inspect_says_what_is_wrong_and_what_cannot_be_told(inspected, name, words):
    said = inspected(name)
    assert words in said
    assert ("suspects    cannot be told" in said) == (name[:3] in ("x04", "x08", "x14", "x16"))


def test_a_blank_folder_is_said_to_be_blank(inspected):
    pytest.importorskip("rsciio")
    said = inspected("real/etspy_dm", "--angles", str(CASES / "real" / "a3.tlt"))
    assert "the series is blank" in said


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("y14_two", "2 images are too few"),
        ("y15_one_wide", "8 x 1 pixels are too narrow"),
        ("y16_constant", "the series is blank"),
    ],
)
def test_train_refuses_in_one_line(tmp_path, small, capsys, name, words):
    assert main(["reconstruct", *small, f"data.path={CASES / name}.npz", f"run.dir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_equal_times_fall_back_to_the_order_of_the_file():
    series = case("y24_equal_times.npz")
    np.testing.assert_array_equal(series.times_s, np.arange(16))
    assert any("all times are 0" in note for note in series.notes)


def test_a_bright_field_is_warned_of_and_inverted_in_a_run(tmp_path, small, logged):
    from dip4d.config.load import load_config
    from dip4d.experiment.inputs import load_data

    path = f"data.path={CASES / 'x01_bright_field.npz'}"
    load_data(load_config([*small, path]))
    assert any("data.invert=true" in r.getMessage() for r in logged)
    bright = load_data(load_config([*small, f"data.path={CASES / 'x00_good.npz'}"]))[0]
    inverted = load_data(load_config([*small, path, "data.invert=true"]))[0]
    mass, right = (s.images.sum((1, 2)) for s in (inverted, bright))
    np.testing.assert_allclose(mass, right, rtol=0.05)
    assert dataclasses.replace(inverted).images.max() > 50
