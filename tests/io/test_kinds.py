"""Kinds of trouble with images and headers, made anew: read as they are meant, or refused in one line."""

from __future__ import annotations

import bz2
import gzip
import os
import resource
import struct
import subprocess
import sys
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile

from dip4d.errors import InputError
from dip4d.io import read_tilt_series
from dip4d.io.series import write_tilt_series
from dip4d.tilt_series import TiltSeries

ANGLES = np.arange(-60.0, 60, 10)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """A dark background of about 10 counts and a bright spot, (12, 6, 9), uint16."""
    images = np.random.default_rng(0).poisson(10, (12, 6, 9)).astype(np.uint16)
    images[:, 2:4, 4:6] += 200
    return images


def write_mrc(path: Path, images: np.ndarray) -> bytearray:
    """Writes an MRC file, and its angles beside it; returns its bytes."""
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(images)
        mrc.voxel_size = 4
    path.with_suffix(".tlt").write_text("\n".join(map(str, ANGLES)))
    return bytearray(path.read_bytes())


def patched(raw: bytearray, **words: float) -> bytearray:
    """An MRC file with other words in its main header."""
    forms = {"dmin": (76, "<f"), "dmax": (80, "<f"), "version": (108, "<i"), "stamp": (152, "<i"), "flags": (156, "<i"),
             "nz": (8, "<i"), "nx": (0, "<i"), "symmetry": (92, "<i")}  # fmt: skip
    for name, value in words.items():
        at, form = forms[name]
        raw[at : at + 4] = struct.pack(form, value)
    return raw


# --- signs


@pytest.mark.parametrize(
    ("words", "unsigned"),
    [
        ({"stamp": 1146047817, "flags": 0}, True),
        ({"stamp": 1146047817, "flags": 1}, False),
        ({"stamp": 0, "dmin": 2, "dmax": 230}, True),
        ({"stamp": 0, "dmin": -100, "dmax": 100}, False),
        ({"stamp": 0, "dmin": 0, "dmax": 0, "version": 0}, True),
        ({"stamp": 0, "dmin": 0, "dmax": 0, "version": 20140}, False),
    ],
)
def test_bytes_of_an_mrc_have_a_sign_or_not(tmp_path, images, words, unsigned):
    raw = write_mrc(tmp_path / "s.mrc", images.astype(np.uint8).view(np.int8))
    (tmp_path / "s.mrc").write_bytes(patched(raw, **words))
    read = read_tilt_series(tmp_path / "s.mrc").images
    np.testing.assert_array_equal(read, images if unsigned else images.astype(np.uint8).view(np.int8))


def test_shorts_beyond_32767_have_no_sign(tmp_path, images):
    large = images * 200
    raw = write_mrc(tmp_path / "s.mrc", large.view(np.int16))
    (tmp_path / "s.mrc").write_bytes(patched(raw, dmin=0, dmax=float(large.max())))
    np.testing.assert_array_equal(read_tilt_series(tmp_path / "s.mrc").images, large)


def test_big_endian_mrc(tmp_path, images):
    write_mrc(tmp_path / "s.mrc", images.astype(">i2"))
    np.testing.assert_array_equal(read_tilt_series(tmp_path / "s.mrc").images, images)


# --- sizes


@pytest.mark.parametrize("packs", [gzip.compress, bz2.compress])
@pytest.mark.parametrize("name", ["s.mrc", "s.mrc.gz", "S.ST.GZ", "s.rec.bz2"])
def test_compressed_mrc_whatever_it_is_called(tmp_path, images, packs, name):
    raw = write_mrc(tmp_path / "s.mrc", images.astype(np.int16))
    (tmp_path / name).write_bytes(packs(bytes(raw)))
    series = read_tilt_series(tmp_path / name)
    np.testing.assert_array_equal(series.images, images)
    np.testing.assert_array_equal(series.angles_deg, ANGLES)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("angles", [8, 12])
@pytest.mark.parametrize("more", [0, 30])
def test_a_series_that_was_stopped_gives_its_whole_images(tmp_path, images, packed, angles, more):
    raw = bytes(write_mrc(tmp_path / "s.mrc", images.astype(np.int16)))[: 1024 + 8 * 108 + more]
    (tmp_path / "s.mrc").write_bytes(gzip.compress(raw) if packed else raw)
    (tmp_path / "s.tlt").write_text("\n".join(map(str, ANGLES[:angles])))
    series = read_tilt_series(tmp_path / "s.mrc")
    np.testing.assert_array_equal(series.images, images[:8])
    np.testing.assert_array_equal(series.angles_deg, ANGLES[:8])
    assert any("12 images, 8 are whole" in note for note in series.notes)


def test_bytes_behind_the_images_are_left_out_unless_they_are_images(tmp_path, images):
    raw = write_mrc(tmp_path / "s.mrc", images.astype(np.int16))
    (tmp_path / "s.mrc").write_bytes(raw + bytes(100))
    series = read_tilt_series(tmp_path / "s.mrc")
    np.testing.assert_array_equal(series.images, images)
    assert any("100 bytes behind" in note for note in series.notes)
    (tmp_path / "s.mrc").write_bytes(patched(raw, nz=10))
    with pytest.raises(InputError, match="a header of 10 images"):
        read_tilt_series(tmp_path / "s.mrc")


BOUNDED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1_600_000_000,) * 2)
from dip4d.errors import InputError
from dip4d.io import read_tilt_series
for path in sys.argv[1:]:
    try:
        read_tilt_series(path)
        print("read", path)
    except InputError as error:
        print("refused", error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_AS") or sys.platform == "darwin", reason="no bound of memory")
def test_headers_that_claim_gigabytes_are_refused_before_memory_is_taken(tmp_path, images):
    h5py = pytest.importorskip("h5py")
    raw = write_mrc(tmp_path / "a.mrc", images.astype(np.int16))
    (tmp_path / "a.mrc").write_bytes(patched(raw, nz=2**24))
    (tmp_path / "b.mrc").write_bytes(patched(bytearray(raw), nz=12, symmetry=2**31 - 1))
    (tmp_path / "c.mrc.bz2").write_bytes(bz2.compress(bytes(patched(bytearray(raw), nz=2**24))))
    header = np.lib.format.magic(1, 0) + struct.pack("<H", 118)
    shape = b"{'descr': '<f8', 'fortran_order': False, 'shape': (300, 1000, 1000), }"
    (tmp_path / "d.npy").write_bytes(header + shape.ljust(117) + b"\n" + bytes(1000))
    with h5py.File(tmp_path / "e.h5", "w") as file:
        file.create_dataset("image 0/HAADF", (30000, 30000), "f8")
        file["image 0/alpha tilt (deg)"] = 1.0
    files = sorted(map(str, tmp_path.glob("[a-e].*")))
    files = [f for f in files if not f.endswith(".tlt")]
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED, *files],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.stdout.count("refused") == len(files) == 5, done.stdout + done.stderr


# --- axes


@pytest.mark.parametrize("axis", [1, 3, (0, 1)])
def test_axes_of_length_1_are_dropped(tmp_path, images, axis):
    np.save(tmp_path / "s.npy", np.expand_dims(images, axis))
    np.savetxt(tmp_path / "s.tlt", ANGLES)
    np.testing.assert_array_equal(read_tilt_series(tmp_path / "s.npy").images, images)


def test_what_dip4d_wrote_has_its_tilt_axis_along_y(tmp_path, images):
    series = TiltSeries(images.transpose(0, 2, 1), ANGLES)
    write_tilt_series(tmp_path / "s.npz", series)
    assert read_tilt_series(tmp_path / "s.npz").tilt_axis == "y"
    with pytest.raises(InputError, match="written by dip4d"):
        read_tilt_series(tmp_path / "s.npz", tilt_axis="x")


def needle(axis: str) -> np.ndarray:
    """Images (t, rows, columns) of two rods beside the tilt axis."""
    theta, grid = np.deg2rad(ANGLES), np.arange(32) - 15.5
    s = np.stack([9 * np.cos(theta), -5 * np.cos(theta) + 3 * np.sin(theta)])
    rods = (
        np.exp(-((grid - s[..., None]) ** 2) / 6)[:, :, None]
        * (np.abs(grid - np.array([[-4], [5]])) < 6)[:, None, :, None]
    )
    images = 50 * rods.sum(0) + 10
    return images if axis == "y" else images.transpose(0, 2, 1)


@pytest.mark.parametrize("axis", ["x", "y"])
@pytest.mark.parametrize("dark", [False, True])
def test_the_tilt_axis_is_found_and_a_contradiction_is_a_warning(tmp_path, logged, axis, dark):
    images = needle(axis)
    np.savez(tmp_path / "s.npz", images=100 - images if dark else images, angles=ANGLES)
    found = read_tilt_series(tmp_path / "s.npz")
    assert found.tilt_axis == axis
    assert not logged
    other = "y" if axis == "x" else "x"
    assert read_tilt_series(tmp_path / "s.npz", tilt_axis=other).tilt_axis == other
    assert f"said to lie along image {other}, but the images speak for {axis}" in logged[0].getMessage()


def test_a_border_of_nan_is_filled_and_nan_inside_is_refused(tmp_path, images):
    floats = images.astype(np.float32)
    floats[3, :2], floats[5, :, -1], floats[7, 0, 0] = np.nan, np.nan, np.nan
    np.savez(tmp_path / "s.npz", images=floats, angles=ANGLES)
    series = read_tilt_series(tmp_path / "s.npz")
    assert not series.shown[3, :2].any()
    assert series.shown.sum() == 12 * 6 - 2
    assert abs(series.images[3, :2].mean() - 10) < 4
    floats[4, 3, 3] = np.inf
    np.savez(tmp_path / "s.npz", images=floats, angles=ANGLES)
    with pytest.raises(InputError, match="in image 4, inside of it: put"):
        read_tilt_series(tmp_path / "s.npz")


# --- TIFF


def tiff(path: Path, images: np.ndarray, **options: object) -> TiltSeries:
    tifffile.imwrite(path, images, **{"photometric": "minisblack", **options})
    np.savetxt(path.with_suffix(".tlt"), ANGLES)
    return read_tilt_series(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_white_may_be_0(tmp_path, images, dtype):
    series = tiff(tmp_path / "s.tif", images.astype(dtype), photometric="miniswhite")
    assert np.corrcoef(series.images.ravel(), images.ravel())[0, 1] < -0.999
    assert series.images.min() >= (0 if dtype != np.int16 else -300)


@pytest.mark.parametrize(
    ("unit", "per_unit"), [("micron", 2500), ("nm", 2.5), ("\\u00B5m", 2500), ("cm", 2.5e7), ("A", 0.25)]
)
def test_pixel_sizes_of_imagej(tmp_path, images, unit, per_unit):
    series = tiff(tmp_path / "s.tif", images, imagej=True, resolution=(per_unit, per_unit), metadata={"unit": unit})
    assert series.pixel_nm == pytest.approx(0.4)
    assert tiff(tmp_path / "t.tif", images, imagej=True, resolution=(2, 2), metadata={"unit": "pixel"}).pixel_nm is None


@pytest.mark.parametrize(("scale", "pixel"), [(0.4, 0.4), (4e16, None), (1e-9, None)])
def test_pixel_sizes_of_gatan_and_absurd_ones(tmp_path, images, scale, pixel):
    tags = [(65003, "s", 0, "nm", False), (65009, "d", 1, scale, False)]
    series = tiff(tmp_path / "s.tif", images, extratags=tags)
    assert series.pixel_nm == (None if pixel is None else pytest.approx(pixel))


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("colour", [True, False])
def test_of_a_preview_and_a_stack_the_stack_is_read(tmp_path, images, first, colour):
    preview = np.zeros((8, 10, 3) if colour else (8, 10), np.uint8)
    with tifffile.TiffWriter(tmp_path / "s.tif") as file:
        for what in (preview, images)[:: 1 if first else -1]:
            is_colour = what.shape[-1] == 3
            file.write(what, photometric="rgb" if is_colour else "minisblack")
    np.savetxt(tmp_path / "s.tlt", ANGLES)
    series = read_tilt_series(tmp_path / "s.tif")
    np.testing.assert_array_equal(series.images, images)
    assert any("of 2 images or stacks" in note for note in series.notes)


def test_pages_that_were_added_one_by_one_are_a_stack(tmp_path, images):
    for image in images:
        tifffile.imwrite(tmp_path / "s.tif", image, append=True, photometric="minisblack")
    np.savetxt(tmp_path / "s.tlt", ANGLES)
    np.testing.assert_array_equal(read_tilt_series(tmp_path / "s.tif").images, images)


def test_planes_that_an_ome_tiff_lacks_are_no_zeros(tmp_path, images):
    tifffile.imwrite(tmp_path / "s.ome.tif", images, metadata={"axes": "TYX"}, photometric="minisblack")
    raw = (tmp_path / "s.ome.tif").read_bytes()
    (tmp_path / "s.ome.tif").write_bytes(raw.replace(b'SizeT="12"', b'SizeT="14"'))
    np.savetxt(tmp_path / "s.ome.tlt", ANGLES)
    with pytest.raises(InputError, match="14 planes, 2 of them are not in the file"):
        read_tilt_series(tmp_path / "s.ome.tif")


def test_a_compressed_tiff_names_what_it_needs(tmp_path, images, monkeypatch):
    pytest.importorskip("imagecodecs")
    np.testing.assert_array_equal(tiff(tmp_path / "s.tif", images, compression="lzw").images, images)

    def asarray(*_: object, **__: object) -> None:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPageSeries, "asarray", asarray)
    with pytest.raises(InputError, match="compressed: pip install imagecodecs"):
        read_tilt_series(tmp_path / "s.tif")


# --- HDF5


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("unit", ["[deg]", "radians"])
@pytest.mark.parametrize("suffix", [".emd", ".h5"])
def test_emd_of_ncem(tmp_path, images, first, unit, suffix):
    h5py = pytest.importorskip("h5py")
    pytest.importorskip("rsciio")
    angles = np.random.default_rng(0).permutation(ANGLES)
    axes = [("angles", unit, angles if unit == "[deg]" else np.deg2rad(angles)),
            ("y", "[n_m]", 0.4 * np.arange(6)), ("x", "[n_m]", 0.4 * np.arange(9))]  # fmt: skip
    with h5py.File(tmp_path / f"s{suffix}", "w") as file:
        group = file.create_group("data/tomography")
        group.attrs["emd_group_type"] = 1
        group["data"] = images if first else images.T
        for i, (name, units, values) in enumerate(axes if first else axes[::-1]):
            group[f"dim{i + 1}"] = values
            group[f"dim{i + 1}"].attrs.update({"name": np.bytes_(name), "units": np.bytes_(units)})
    series = read_tilt_series(tmp_path / f"s{suffix}")
    np.testing.assert_array_equal(series.images, images)
    np.testing.assert_allclose(series.angles_deg, angles)
    assert series.pixel_nm == pytest.approx(0.4)


@pytest.mark.parametrize("how", ["link", "storage", "virtual"])
def test_links_to_other_files_are_not_followed(tmp_path, images, how):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = images[0]
    with h5py.File(tmp_path / "s.h5", "w") as file:
        if how == "link":
            file["image 0/HAADF"] = h5py.ExternalLink("other.h5", "x")
        elif how == "storage":
            file.create_dataset("image 0/HAADF", (6, 9), "u2", external=[("other.h5", 0, 108)])
        else:
            layout = h5py.VirtualLayout((6, 9), "u2")
            layout[:] = h5py.VirtualSource("other.h5", "x", (6, 9))
            file.create_virtual_dataset("image 0/HAADF", layout)
    with pytest.raises(InputError, match=r"s\.h5: refers to another file"):
        read_tilt_series(tmp_path / "s.h5")


# --- folders and files beside


@pytest.mark.parametrize("kind", [".png", ".tif"])
def test_folders_of_any_names(tmp_path, images, kind):
    image_of = pytest.importorskip("PIL.Image")
    folder = tmp_path / "scan"
    folder.mkdir()
    for i, image in enumerate(images):
        image_of.fromarray(image.astype(np.uint8 if kind == ".png" else np.uint16)).save(folder / f"im{i}{kind}")
        (folder / f"._im{i}{kind}").write_bytes(b"\x00\x05\x16\x07")
    image_of.new("RGB", (90, 40)).save(folder / f"overview{'.tif' if kind == '.png' else '.png'}")
    np.savetxt(tmp_path / "a.tlt", ANGLES)
    series = read_tilt_series(folder, tmp_path / "a.tlt")
    np.testing.assert_array_equal(series.images, images)
    assert any(f"1 images that are not {kind}" in note for note in series.notes)


def test_a_folder_may_hold_its_angle_file(tmp_path, images):
    (tmp_path / "scan").mkdir()
    for i, image in enumerate(images):
        np.save(tmp_path / "scan" / f"im{i}.npy", image)
    np.savetxt(tmp_path / "scan" / "angles.tlt", ANGLES)
    series = read_tilt_series(tmp_path / "scan")
    np.testing.assert_array_equal(series.images, images)
    np.testing.assert_array_equal(series.angles_deg, ANGLES)


def test_colours_that_are_grey_are_read_and_others_refused(tmp_path, images):
    image_of = pytest.importorskip("PIL.Image")
    (tmp_path / "scan").mkdir()
    for i, image in enumerate(images):
        image_of.fromarray(image.astype(np.uint8)).convert("RGB").save(tmp_path / "scan" / f"im{i}.png")
    np.savetxt(tmp_path / "a.tlt", ANGLES)
    np.testing.assert_array_equal(read_tilt_series(tmp_path / "scan", tmp_path / "a.tlt").images, images)
    image_of.new("RGB", (9, 6), (255, 0, 0)).save(tmp_path / "scan" / "im3.png")
    with pytest.raises(InputError, match=r"im3\.png: a colour image"):
        read_tilt_series(tmp_path / "scan", tmp_path / "a.tlt")


def test_a_stale_file_beside_is_named_and_the_next_is_taken(tmp_path, images):
    write_mrc(tmp_path / "s.mrc", images.astype(np.int16))
    np.savetxt(tmp_path / "s.tlt", ANGLES[:9])
    with pytest.raises(InputError, match=r"12 images .* s\.tlt has 9 angles"):
        read_tilt_series(tmp_path / "s.mrc")
    np.savetxt(tmp_path / "S.RAWTLT", ANGLES)
    series = read_tilt_series(tmp_path / "s.mrc")
    np.testing.assert_array_equal(series.angles_deg, ANGLES)
    assert any("s.tlt has 9 angles" in note for note in series.notes)


def test_refined_angles_keep_the_times_of_the_mdoc_beside(tmp_path, images):
    write_mrc(tmp_path / "s.mrc", images.astype(np.int16))
    np.savetxt(tmp_path / "s.tlt", ANGLES + 0.3)
    order = np.random.default_rng(0).permutation(12)
    entries = [
        f"[ZValue = {i}]\nTiltAngle = {a}\nDateTime = 01-Jan-24  12:{order[i]:02d}:00\n" for i, a in enumerate(ANGLES)
    ]
    (tmp_path / "s.mrc.mdoc").write_text("\n".join(entries))
    series = read_tilt_series(tmp_path / "s.mrc")
    np.testing.assert_allclose(series.times_s, 60 * np.arange(12))
    np.testing.assert_allclose(series.angles_deg, (ANGLES + 0.3)[np.argsort(order)])
    np.testing.assert_array_equal(series.images, images[np.argsort(order)])


def test_equal_angles_in_a_file_give_way_to_those_beside(tmp_path, images):
    np.savez(tmp_path / "s.npz", images=images, angles=np.zeros(12))
    np.savetxt(tmp_path / "s.tlt", ANGLES)
    series = read_tilt_series(tmp_path / "s.npz")
    np.testing.assert_array_equal(series.angles_deg, ANGLES)
    assert any("are all 0" in note for note in series.notes)


def test_a_tilde_is_home(tmp_path, images, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.savez(tmp_path / "s.npz", images=images)
    np.savetxt(tmp_path / "a.tlt", ANGLES)
    assert read_tilt_series("~/s.npz", "~/a.tlt").shape == (12, 6, 9)
