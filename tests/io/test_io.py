"""Readers and writers, on files made here and, where they are at hand, on measured ones."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile

from dip4d.errors import InputError
from dip4d.io import open_volumes, read_angles, read_tilt_series, read_truth, write_volumes
from dip4d.io.volumes import read_times_and_size

ANGLES = np.array([-30.0, 0.0, 15.5, 60.0])


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1000, (4, 6, 9)).astype(np.int16)


def write_angles(path: Path, angles: np.ndarray = ANGLES) -> Path:
    path.write_text("\n".join(f"{a:8.2f}" for a in angles) + "\n")
    return path


@pytest.mark.parametrize("suffix", [".mrc", ".ali", ".st", ".rec", ".mrcs"])
@pytest.mark.parametrize("dtype", [np.int16, np.uint16, np.float32])
def test_mrc(tmp_path, images, suffix, dtype):
    path = tmp_path / f"series{suffix}"
    with mrcfile.new(path) as mrc:
        mrc.set_data(images.astype(dtype))
        mrc.voxel_size = 2.6
    write_angles(path.with_suffix(".rawtlt"))
    series = read_tilt_series(path)
    np.testing.assert_array_equal(series.images, images)
    np.testing.assert_array_equal(series.angles_deg, ANGLES)
    np.testing.assert_array_equal(series.times_s, range(4))
    assert series.pixel_nm == pytest.approx(0.26)  # MRC stores Angstrom
    assert series.images.dtype == np.float32


@pytest.mark.parametrize("kind", [".tif", ".ome.tif", ".npy", ".npz"])
def test_tiff_and_numpy(tmp_path, images, kind):
    path = tmp_path / f"series{kind}"
    if kind == ".npy":
        np.save(path, images)
    elif kind == ".npz":
        np.savez(path, images=images, angles=ANGLES, times=[0, 2, 4, 9], pixel_nm=1.5)
    else:
        size = {"PhysicalSizeX": 1.5, "PhysicalSizeXUnit": "nm", "axes": "TYX"} if kind == ".ome.tif" else None
        tifffile.imwrite(path, images, metadata=size, photometric="minisblack")
    series = read_tilt_series(path, None if kind == ".npz" else write_angles(tmp_path / "a.tlt"))
    np.testing.assert_array_equal(series.images, images)
    np.testing.assert_array_equal(series.angles_deg, ANGLES)
    assert series.pixel_nm == (1.5 if kind in (".npz", ".ome.tif") else None)
    assert series.times_s[-1] == (9 if kind == ".npz" else 3)


def test_the_tilt_axis_may_lie_along_either_image_axis(tmp_path, images):
    np.save(tmp_path / "s.npy", images)
    angles = write_angles(tmp_path / "a.tlt")
    along_y, along_x = (read_tilt_series(tmp_path / "s.npy", angles, tilt_axis=axis) for axis in "yx")
    assert along_y.shape == (4, 6, 9)
    np.testing.assert_array_equal(along_x.images, along_y.images.transpose(0, 2, 1))


def test_fei_extended_header(tmp_path, images):
    """The old FEI layout: 1024 records of 128 bytes, tilt first, pixel size in metres in the twelfth place."""
    records = np.zeros((1024, 32), "<f4")
    records[:4, 0], records[:4, 11] = ANGLES, 3.36e-9
    path = tmp_path / "fei.mrc"
    with mrcfile.new(path) as mrc:
        mrc.set_data(images)
        mrc.set_extended_header(np.frombuffer(records.tobytes(), "V1"))
        mrc.header.label[0] = b"    Fei Company (c) Copyright 2003"
    raw = bytearray(path.read_bytes())
    raw[208:216] = bytes(8)
    path.write_bytes(raw)
    series = read_tilt_series(path)
    np.testing.assert_array_equal(series.images, images)
    np.testing.assert_allclose(series.angles_deg, ANGLES)
    assert series.pixel_nm == pytest.approx(3.36)


def test_angles_named_on_the_command_line_win(tmp_path, images):
    np.savez(tmp_path / "s.npz", images=images, angles=ANGLES)
    other = write_angles(tmp_path / "other.tlt", ANGLES + 1)
    np.testing.assert_array_equal(read_tilt_series(tmp_path / "s.npz", other).angles_deg, ANGLES + 1)


@pytest.mark.parametrize("header", ["", "angle,time\n", "tilt [deg];t [s]\n"])
def test_csv_with_times_sorts_by_time(tmp_path, images, header):
    path = tmp_path / "a.csv"
    path.write_text(header + "0,30\n10,10\n20,20\n30,40\n")
    np.save(tmp_path / "s.npy", images)
    series = read_tilt_series(tmp_path / "s.npy", path)
    np.testing.assert_array_equal(series.angles_deg, [10, 20, 0, 30])
    np.testing.assert_array_equal(series.times_s, [10, 20, 30, 40])
    np.testing.assert_array_equal(series.images, images[[1, 2, 0, 3]])
    np.testing.assert_allclose(series.tau, [0, 1 / 3, 2 / 3, 1])


def test_mdoc(tmp_path):
    path = tmp_path / "s.mdoc"
    blocks = [
        f"[ZValue = {i}]\nTiltAngle = {a}\nDateTime = 31-Mar-23  16:24:{15 + 2 * i}\n" for i, a in enumerate(ANGLES)
    ]
    path.write_text("PixelSpacing = 7.88\nImageFile = s.mrc\n\n" + "\n".join(blocks))
    angles, times = read_angles(path)
    np.testing.assert_allclose(angles, ANGLES)
    np.testing.assert_array_equal(times, [0, 2, 4, 6])


def broken_files(folder: Path, images: np.ndarray) -> dict[str, tuple[Path, Path | None, str]]:
    """Name -> series, angle file, words that the error must say."""
    good, angles = folder / "good.npy", write_angles(folder / "angles.tlt")
    np.save(good, images)
    nan = images.astype(np.float32)
    nan[2, 1, 1] = np.nan
    np.save(folder / "nan.npy", nan)
    np.save(folder / "one.npy", images[0])
    np.save(folder / "complex.npy", images.astype(complex))
    (folder / "empty.mrc").touch()
    (folder / "text.mrc").write_text("these are not the images you are looking for\n" * 40)
    (folder / "text.tif").write_text("nor these")
    (folder / "cut.npy").write_bytes(good.read_bytes()[:150])
    np.savez(folder / "nothing.npz", a=images)
    words = folder / "words.tlt"
    words.write_text("1\ntwo\n3\n4\n")
    (folder / "far.tlt").write_text("1\n2\n3\n4000\n")
    (folder / "nan.tlt").write_text("1\nnan\n3\n4\n")
    (folder / "none.tlt").write_text("\n")
    return {
        "angle count": (good, write_angles(folder / "five.tlt", np.arange(5)), "4 images .* but 5 angles"),
        "nan pixel": (folder / "nan.npy", angles, "NaN or infinite pixels in image 2"),
        "one image": (folder / "one.npy", angles, "stack of images"),
        "complex": (folder / "complex.npy", angles, "real numbers"),
        "empty": (folder / "empty.mrc", angles, "empty"),
        "text as mrc": (folder / "text.mrc", angles, "not a readable MRC"),
        "text as tif": (folder / "text.tif", angles, "not a readable TIFF"),
        "truncated": (folder / "cut.npy", angles, "not a readable .npy"),
        "npz without images": (folder / "nothing.npz", angles, "no array named 'images'"),
        "unknown kind": (folder / "series.xyz", angles, "unknown kind of file"),
        "missing": (folder / "missing.mrc", angles, "no such file"),
        "no angles": (good, None, "no tilt angles in the file or beside it"),
        "missing angles": (good, folder / "missing.tlt", "no such angle file"),
        "words": (good, words, "line 2: 'two'"),
        "not degrees": (good, folder / "far.tlt", "4000"),
        "nan angle": (good, folder / "nan.tlt", "line 2"),
        "empty angles": (good, folder / "none.tlt", "no angles"),
        "binary angles": (good, good, "not a text file"),
    }


BROKEN = [
    "angle count", "nan pixel", "one image", "complex", "empty", "text as mrc", "text as tif", "truncated",
    "npz without images", "unknown kind", "missing", "no angles", "missing angles", "words", "not degrees", "nan angle",
    "empty angles", "binary angles",
]  # fmt: skip

ARGUMENT_AT_FAULT = {
    "angle count": "angles",
    "no angles": "angles",
    "missing angles": "angles",
    "unknown kind": "path",
    "missing": "path",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_files_are_named_with_the_reason(tmp_path, images, name):
    path, angles, words = broken_files(tmp_path, images)[name]
    with pytest.raises(InputError, match=words) as error:
        read_tilt_series(path, angles)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert error.value.argument == ARGUMENT_AT_FAULT.get(name)


def test_volumes_come_back_as_written(tmp_path):
    volumes = np.random.default_rng(0).random((3, 4, 5, 6), dtype=np.float32)
    path = tmp_path / "v.ome.tif"
    write_volumes(path, iter(volumes), shape=volumes.shape, times_s=np.array([0.0, 30.0, 75.5]), pixel_nm=1.25)
    np.testing.assert_array_equal(open_volumes(path), volumes)
    with tifffile.TiffFile(path) as tif:
        assert tif.is_ome
        assert (tif.series[0].axes, tif.series[0].shape) == ("TZYX", volumes.shape)
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
    assert (pixels["PhysicalSizeZ"], pixels["PhysicalSizeZUnit"]) == (1.25, "nm")
    assert [plane["DeltaT"] for plane in pixels["Plane"]] == [0] * 4 + [30] * 4 + [75.5] * 4
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("shape", [(3, 1, 5, 6), (1, 4, 5, 6), (1, 1, 5, 5)])
def test_volumes_with_an_axis_of_length_1_keep_it(tmp_path, shape):
    volumes, times_s = np.random.default_rng(0).random(shape, dtype=np.float32), np.arange(shape[0]) * 2.5
    write_volumes(tmp_path / "v.ome.tif", iter(volumes), shape=shape, times_s=times_s)
    np.testing.assert_array_equal(open_volumes(tmp_path / "v.ome.tif"), volumes)
    np.testing.assert_array_equal(read_times_and_size(tmp_path / "v.ome.tif")[0], times_s)
    np.testing.assert_array_equal(read_truth(tmp_path / "v.ome.tif", shape), volumes)


def test_truth(tmp_path):
    truth = np.random.default_rng(0).random((2, 3, 4, 4))
    np.save(tmp_path / "t.npy", truth)
    tifffile.imwrite(tmp_path / "t.tif", truth, photometric="minisblack")
    for name in ("t.npy", "t.tif"):
        np.testing.assert_allclose(read_truth(tmp_path / name, truth.shape), truth, rtol=1e-6)
    with pytest.raises(InputError, match="shape"):
        read_truth(tmp_path / "t.npy", (2, 3, 4, 5))


@pytest.mark.parametrize(
    ("name", "angles", "axis", "shape", "pixel", "first_angle"),
    [
        ("emat_liquid_N6.mrc", "emat_liquid_N6.rawtlt", "y", (116, 256, 256), 0.26, -46),
        ("emat_liquid_N6.mrc", None, "y", (116, 256, 256), 0.26, -46),
        ("nist_needle_raw_fei.mrc", None, "x", (77, 256, 256), 3.36, -76),
        ("formats/serialem_test_000.mrc", None, "x", (2, 1024, 1024), 0.788, 0),
    ],
)
def test_measured_series(real_data, name, angles, axis, shape, pixel, first_angle):
    series = read_tilt_series(real_data / name, None if angles is None else real_data / angles, tilt_axis=axis)
    assert series.shape == shape
    assert series.pixel_nm == pytest.approx(pixel, rel=1e-3)
    assert series.angles_deg[0] == pytest.approx(first_angle, abs=0.01)
    assert series.images.std() > 1
    if "serialem" in name:
        np.testing.assert_array_equal(series.times_s, [0, 2])
