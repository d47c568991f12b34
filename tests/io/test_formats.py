"""Files of microscopes and of other programs: written here where that can be done, measured ones where at hand."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import scipy.io
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dip4d.errors import InputError
from dip4d.io import read_angles, read_tilt_series
from dip4d.io.angles import SIDECARS

ANGLES = np.array([-30.0, 0.0, 15.5, 60.0])
TIMES = np.array([0.0, 2.0, 4.5, 9.0])


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1000, (4, 6, 9)).astype(np.int16)


def check(series, images, pixel=None, times=TIMES):
    np.testing.assert_array_equal(series.images, images)
    np.testing.assert_allclose(series.angles_deg, ANGLES, atol=1e-5)
    np.testing.assert_allclose(series.times_s, range(4) if times is None else times, atol=1e-4)
    assert series.pixel_nm == (None if pixel is None else pytest.approx(pixel))


# --- MRC and what lies in its extended header


def with_extended(path: Path, images: np.ndarray, kind: bytes, extended: bytes) -> bytearray:
    """Writes an MRC file with an extended header of a kind; returns its bytes."""
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(images)
        mrc.voxel_size = 2.6
        mrc.set_extended_header(np.frombuffer(extended, "V1"))
        mrc.header.exttyp = kind
    return bytearray(path.read_bytes())


def test_fei1_header(tmp_path, images):
    kind = np.dtype(mrcfile.dtypes.get_ext_header_dtype(b"FEI1"))
    records = np.zeros(4, kind)
    records["Alpha tilt"], records["Pixel size X"] = ANGLES, 3.36e-9
    records["Timestamp"] = 44000 + TIMES / 86400
    records["Metadata size"] = kind.itemsize
    with_extended(tmp_path / "s.mrc", images, b"FEI1", records.tobytes())
    check(read_tilt_series(tmp_path / "s.mrc"), images, 3.36)


def serialem(path: Path, images: np.ndarray) -> None:
    records = b"".join(struct.pack("<h12x", round(100 * a)) for a in ANGLES)
    raw = with_extended(path, images, b"SERI", records)
    raw[128:132] = struct.pack("<hh", 14, 61)
    path.write_bytes(raw)


def test_serialem_header_and_the_times_of_its_mdoc(tmp_path, images):
    path = tmp_path / "s.st"
    serialem(path, images)
    check(read_tilt_series(path), images, 0.26, times=None)
    blocks = [
        f"[ZValue = {i}]\nTiltAngle = {a}\nDateTime = 31-Mar-23  16:24:{10 + 2 * i}\n" for i, a in enumerate(ANGLES)
    ]
    (tmp_path / "s.st.mdoc").write_text("PixelSpacing = 2.6\nImageFile = s.st\n\n" + "\n".join(blocks))
    series = read_tilt_series(path)
    check(series, images, 0.26, times=[0, 2, 4, 6])
    assert "times from s.st.mdoc" in series.notes
    (tmp_path / "s.st.mdoc").write_text("PixelSpacing = 2.6\n\n" + "\n".join(blocks).replace("15.5", "17.5"))
    check(read_tilt_series(path), images, 0.26, times=None)  # of other angles, so not of this series


@pytest.mark.parametrize("t_last", [False, True])
def test_tomobase_mrc(tmp_path, images, t_last):
    """JSON with angles; no sampling in the main header; the cell, said to be Angstrom, holds nm."""
    stored = np.ascontiguousarray(np.moveaxis(images, 0, 2)) if t_last else images
    meta = json.dumps({"angles": ANGLES.tolist(), "times": TIMES.tolist()}).encode()
    raw = with_extended(tmp_path / "s.mrc", stored, b"json", meta)
    raw[28:40] = bytes(12)
    raw[40:52] = struct.pack("<3f", *(0.5 * n for n in stored.shape[::-1]))
    (tmp_path / "s.mrc").write_bytes(raw)
    series = read_tilt_series(tmp_path / "s.mrc")
    check(series, images, 0.5)
    assert any("nm, not Angstrom" in note for note in series.notes)


# --- MATLAB and HDF5


@pytest.mark.parametrize("name", ["obj", "series", "stack", None])
@pytest.mark.parametrize("t_last", [False, True])
def test_tomobase_mat(tmp_path, images, name, t_last):
    stored = np.moveaxis(images, 0, 2) if t_last else images
    struct_ = {"data": stored, "angles": ANGLES, "pixelsize": 0.5, "times": TIMES}
    scipy.io.savemat(tmp_path / "s.mat", struct_ if name is None else {name: struct_})
    check(read_tilt_series(tmp_path / "s.mat"), images, 0.5)


def test_the_times_that_tomobase_makes_up_are_left_out(tmp_path, images):
    made_up = np.linspace(1, 4, 5)
    scipy.io.savemat(tmp_path / "s.mat", {"obj": {"data": images, "angles": ANGLES, "times": made_up}})
    series = read_tilt_series(tmp_path / "s.mat")
    check(series, images, times=None)
    assert any("5 times for 4 angles" in note for note in series.notes)


def test_matlab_73(tmp_path, images):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "s.mat", "w", userblock_size=512) as file:
        group = file.create_group("obj")
        for key, value in {"data": images, "angles": ANGLES[None], "pixelsize": [[0.5]], "times": TIMES[None]}.items():
            group[key] = np.asarray(value).T
    check(read_tilt_series(tmp_path / "s.mat"), images, 0.5)


@pytest.mark.parametrize("units", [None, "deg", "degrees", "rad"])
def test_data_exchange_h5(tmp_path, images, units):
    h5py = pytest.importorskip("h5py")
    path, angles = tmp_path / "s.h5", np.linspace(-60, 60, len(images))
    with h5py.File(path, "w") as file:
        file["exchange/data"] = images
        file["exchange/theta"] = np.deg2rad(angles) if units == "rad" else angles
        if units:
            file["exchange/theta"].attrs["units"] = units
        file["exchange/data_white"] = np.zeros((0, *images.shape[1:]))
    series = read_tilt_series(path, tilt_axis="y")
    np.testing.assert_allclose(series.images, images)
    np.testing.assert_allclose(series.angles_deg, angles)
    with h5py.File(path, "a") as file:
        file["exchange/data_dark"] = images[:2]
    with pytest.raises(InputError, match="data_dark: divide by the white images"):
        read_tilt_series(path)
    with h5py.File(path, "a") as file:
        del file["exchange/data_dark"], file["exchange/theta"]
    with pytest.raises(InputError, match="no tilt angles"):
        read_tilt_series(path)


def test_tomobase_h5(tmp_path, images):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "s.h5"
    with h5py.File(path, "w") as file:
        file["notes"] = "none"
        for i in range(4):
            file[f"image {i}/HAADF"] = images[i]
            file[f"image {i}/alpha tilt (deg)"] = [ANGLES[i]]
            file[f"image {i}/acquisition timee (s)"] = TIMES[i]
    check(read_tilt_series(path), images)
    with h5py.File(path, "a") as file:
        del file["image 2"]
    with pytest.raises(InputError, match="without a gap"):
        read_tilt_series(path)


# --- through RosettaSciIO


def test_a_missing_extra_is_named_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rsciio", None)
    (tmp_path / "s.dm4").write_bytes(b"some")
    with pytest.raises(InputError, match="pip install rosettasciio"):
        read_tilt_series(tmp_path / "s.dm4")
    monkeypatch.setitem(sys.modules, "h5py", None)
    (tmp_path / "s.h5").write_bytes(b"some")
    with pytest.raises(InputError, match="pip install h5py"):
        read_tilt_series(tmp_path / "s.h5")


def signal(images: np.ndarray, original: dict, metadata: dict | None = None, t_axis: dict | None = None) -> dict:
    """What a reader of RosettaSciIO returns."""
    axes = [{"name": "t", "size": len(images), "scale": 1.0, "offset": 0.0, "units": "s", **(t_axis or {})}]
    axes += [
        {"name": n, "size": k, "scale": 0.5e-3, "offset": 0.0, "units": "µm"}
        for n, k in zip("yx", images.shape[1:], strict=True)
    ]
    return {"data": images, "axes": axes[-images.ndim :], "metadata": metadata or {}, "original_metadata": original}


def test_tags_of_gatan(tmp_path, images, monkeypatch):
    """Tilts from the tracking record, in the order of the series; times between the two stamps that there are."""
    pytest.importorskip("rsciio")
    from rsciio import digitalmicrograph

    record = {
        f"TagGroup{k}": {"stage angle (degree)": ANGLES[i], "Index in series": i, "Acquisition index": 3 - i}
        for k, i in enumerate((2, 0, 3, 1))
    }
    tomography = {"Tracking data": {"Online tracking data": record}}
    tomography |= {"Acquisition start": "12/05/2016, 14:47:55", "Acquisition finish": "12/05/2016, 14:48:35"}
    tags = {"ImageList": {"TagGroup0": {"ImageTags": {"Tomography": tomography}}}}
    monkeypatch.setattr(digitalmicrograph, "file_reader", lambda path: [signal(images, tags)])
    (tmp_path / "s.dm3").write_bytes(b"some")
    series = read_tilt_series(tmp_path / "s.dm3")
    np.testing.assert_array_equal(series.angles_deg, ANGLES[::-1])  # recorded backwards
    np.testing.assert_allclose(series.times_s, [0, 10, 20, 30])
    np.testing.assert_array_equal(series.images, images[::-1])
    assert series.pixel_nm == pytest.approx(0.5)


def test_an_axis_in_degrees_is_the_tilt(tmp_path, images, monkeypatch):
    pytest.importorskip("rsciio")
    from rsciio import digitalmicrograph

    axis = {"units": "deg", "offset": -3.0, "scale": 2.0}
    monkeypatch.setattr(digitalmicrograph, "file_reader", lambda path: [signal(images, {}, t_axis=axis)])
    (tmp_path / "s.dm4").write_bytes(b"some")
    series = read_tilt_series(tmp_path / "s.dm4")
    np.testing.assert_allclose(series.angles_deg, [-3, -1, 1, 3])
    assert any("nominal" in note for note in series.notes)


@pytest.mark.parametrize("where", ["stage", "etspy"])
def test_hyperspy(tmp_path, images, monkeypatch, where):
    pytest.importorskip("h5py")
    pytest.importorskip("rsciio")
    from rsciio import hspy

    padded = np.concatenate([ANGLES, np.zeros(20)])  # as FEI pads them
    metadata = {"Acquisition_instrument": {"TEM": {"Stage": {"tilt_alpha": padded}}}, "General": {"title": "x"}}
    if where == "etspy":
        metadata["Tomography"] = {"_sig_tilts": {"data": ANGLES[:, None]}}
        metadata["Acquisition_instrument"] = {"TEM": {"Stage": {"tilt_alpha": 7.0}}}
    monkeypatch.setattr(hspy, "file_reader", lambda path: [signal(images, {}, metadata)])
    (tmp_path / "s.hspy").write_bytes(b"some")
    check(read_tilt_series(tmp_path / "s.hspy"), images, 0.5, times=None)


def velox(path: Path, images: np.ndarray) -> None:
    """The least that Velox writes for a stack: pixels (rows, columns, t) and one JSON record a frame."""
    import h5py

    with h5py.File(path, "w") as file:
        text = h5py.string_dtype()
        file.create_dataset("Version", data=[json.dumps({"format": "Velox", "version": "11"})], dtype=text)
        group = file.create_group("Data/Image/0123")
        group["Data"] = np.moveaxis(images, 0, 2)
        records = np.zeros((4096, len(images)), np.uint8)
        for i in range(len(images)):
            record = {
                "BinaryResult": {"DetectorIndex": "0", "PixelSize": {"width": "5e-10", "height": "5e-10"},
                                 "PixelUnitX": "m", "PixelUnitY": "m", "Offset": {"x": "0", "y": "0"}},
                "Detectors": {"Detector-0": {"DetectorName": "HAADF"}},
                "Scan": {"FrameTime": "2.0"},
                "Stage": {"AlphaTilt": str(np.deg2rad(ANGLES[i]))},
                "Acquisition": {"AcquisitionStartDatetime": {"DateTime": str(1.5e9 + TIMES[i])}},
            }  # fmt: skip
            raw = json.dumps(record).encode()
            records[: len(raw), i] = np.frombuffer(raw, np.uint8)
        group["Metadata"] = records


def test_velox(tmp_path, images):
    pytest.importorskip("h5py")
    pytest.importorskip("rsciio")
    velox(tmp_path / "s.emd", images)
    check(read_tilt_series(tmp_path / "s.emd"), images, 0.5)


def ser(path: Path, images: np.ndarray, seconds: list[int]) -> bytes:
    """A series of images as TIA writes it (version 0x210), rows from below."""
    count, rows, columns = images.shape
    head = struct.pack("<HHHIIIIII", 0x4949, 0x0197, 0x0210, 0x4122, 0x4152, count, count, 0, 1)
    head += struct.pack("<IddIII", count, 0.0, 1.0, 0, 0, 0)
    elements = [
        struct.pack("<ddIddIHII", 0, 5e-10, 0, 0, 5e-10, 0, 5, columns, rows) + image[::-1].astype("<i2").tobytes()
        for image in images
    ]
    tags = [struct.pack("<HHI", 0x4152, 0, second) for second in seconds]
    start = len(head) + 8 * count
    size = len(elements[0]) + len(tags[0])
    offsets = [start + size * i for i in range(count)]
    table = struct.pack(f"<{2 * count}I", *offsets, *(o + len(elements[0]) for o in offsets))
    head = head[:22] + struct.pack("<I", len(head)) + head[26:]
    raw = head + table + b"".join(e + t for e, t in zip(elements, tags, strict=True))
    path.write_bytes(raw)
    return raw


def test_ser(tmp_path, images):
    pytest.importorskip("rsciio")
    ser(tmp_path / "s_1.ser", images, [100, 102, 104, 109])
    with pytest.raises(InputError, match=r"no tilt angles.*name a file of them") as refused:
        read_tilt_series(tmp_path / "s_1.ser")
    assert refused.value.argument == "angles"
    (tmp_path / "s_1.tlt").write_text("\n".join(map(str, ANGLES)))
    check(read_tilt_series(tmp_path / "s_1.ser"), images, 0.5, times=[0, 2, 4, 9])


# --- folders


def folder_of(path: Path, images: np.ndarray, suffix: str = ".tif", table: str | None = "angles.csv") -> Path:
    path.mkdir()
    for i, image in enumerate(images):
        name = path / f"image_{i}{suffix}"
        if suffix == ".mrc":
            with mrcfile.new(name) as mrc:
                mrc.set_data(image)
                mrc.voxel_size = 5
        elif suffix == ".npy":
            np.save(name, image)
        else:
            tifffile.imwrite(name, image)
    if table:
        lines = [f"image_{i}{suffix}, {a}, {t}" for i, (a, t) in enumerate(zip(ANGLES, TIMES, strict=True))]
        (path / table).write_text("file,angle,time\n" + "\n".join(lines[::-1]))
    return path


@pytest.mark.parametrize("suffix", [".tif", ".mrc", ".npy"])
def test_folder_of_images(tmp_path, images, suffix):
    folder = folder_of(tmp_path / "scan", images, suffix)
    check(read_tilt_series(folder), images, 0.5 if suffix == ".mrc" else None)  # sorted by time
    tifffile.imwrite(folder / "overview.tif", images[0])
    assert any("1 images of the folder" in note for note in read_tilt_series(folder).notes)


def test_folder_without_times_keeps_the_order_of_the_table(tmp_path, images):
    folder = folder_of(tmp_path / "scan", images, table=None)
    (folder / "a.csv").write_text("image_2.tif;1\nimage_0.tif;2\n")
    series = read_tilt_series(folder)
    np.testing.assert_array_equal(series.images, images[[2, 0]])
    np.testing.assert_array_equal(series.angles_deg, [1, 2])


def test_folder_without_a_table_needs_angles_in_the_images(tmp_path, images):
    folder = folder_of(tmp_path / "scan", images, table=None)
    with pytest.raises(InputError, match="no tilt angles"):
        read_tilt_series(folder)
    (tmp_path / "a.tlt").write_text("\n".join(map(str, ANGLES)))
    check(read_tilt_series(folder, tmp_path / "a.tlt"), images, times=None)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("missing.tif,3\n", "line 1: no image 'missing.tif'"),
        ("image_0.tif,3\nimage_0.tif,4\n", "line 2: .* twice"),
        ("image_0.tif,3\nimage_1.tif,four\n", "line 2: 'four'"),
        ("image_0.tif,3\nimage_1.tif,4000\n", "line 2: '4000'"),
        ("image_0.tif,3\nimage_1.tif,4,5\n", "line 2: expected"),
        ("name,angle\n", "names no images"),
        ("a.csv,3\n", "no image"),
        ("odd.tif,3\nimage_1.tif,4\n", r"image_1.tif: \(6, 9\) pixels, but odd.tif"),
    ],
)
def test_a_wrong_table_is_named_with_its_line(tmp_path, images, table, words):
    folder = folder_of(tmp_path / "scan", images, table=None)
    tifffile.imwrite(folder / "odd.tif", images[0, :3])
    (folder / "a.csv").write_text(table)
    with pytest.raises(InputError, match=words.replace("a.csv,3", "")) as error:
        read_tilt_series(folder)
    assert "\n" not in str(error.value)


# --- sinograms


@pytest.mark.parametrize(("axis", "shape"), [("y", (4, 1, 9)), ("x", (4, 1, 9))])
def test_a_sinogram_is_a_series_of_one_slice(tmp_path, images, axis, shape):
    np.save(tmp_path / "s.npy", images[:, 0])
    (tmp_path / "s.tlt").write_text("\n".join(map(str, ANGLES)))
    series = read_tilt_series(tmp_path / "s.npy", tilt_axis=axis)
    assert series.shape == shape
    np.testing.assert_array_equal(series.images[:, 0], images[:, 0])
    assert any("sinogram" in note for note in series.notes)


# --- damaged files: a clear error, or the right shape


def write_mrc(path: Path, images: np.ndarray) -> None:
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(images)
        mrc.voxel_size = 2.6


def write_mat(path: Path, images: np.ndarray) -> None:
    scipy.io.savemat(path, {"obj": {"data": images, "angles": ANGLES}})


def write_npz(path: Path, images: np.ndarray) -> None:
    np.savez(path, images=images, angles=ANGLES)


def write_h5(path: Path, images: np.ndarray) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for i in range(4):
            file[f"image {i}/HAADF"], file[f"image {i}/alpha tilt (deg)"] = images[i], ANGLES[i]


WRITERS = {
    ".mrc": write_mrc,
    ".st": serialem,
    ".tif": lambda path, images: tifffile.imwrite(path, images, photometric="minisblack"),
    ".ome.tif": lambda path, images: tifffile.imwrite(path, images, photometric="minisblack", metadata={"axes": "TYX"}),
    ".npy": np.save,
    ".npz": write_npz,
    ".mat": write_mat,
    ".ser": lambda path, images: ser(path, images, [1, 2, 3, 4]),
    ".emd": velox,
    ".h5": write_h5,
}
EXTRAS = {".ser": ["rsciio"], ".emd": ["rsciio", "h5py"], ".h5": ["h5py"]}
HEADER = {".mrc": 1024, ".st": 1080, ".npy": 128, ".ser": 66}  # bytes; elsewhere the whole file may be damaged


def unless_refused(path: Path, read):
    """What `read` returns; None if it refuses with an InputError of one line that names the file."""
    try:
        return read()
    except InputError as error:
        message = str(error)
    assert path.stem in message
    assert "\n" not in message
    return None


def damaged(tmp_path_factory, images: np.ndarray, suffix: str, change) -> None:
    """Reads a file after `change` of its bytes: an InputError of one line that names it, or the right shape."""
    for extra in EXTRAS.get(suffix, []):
        pytest.importorskip(extra)
    folder = tmp_path_factory.getbasetemp()
    path = folder / f"damaged{suffix}"
    WRITERS[suffix](path, images)
    path.write_bytes(change(path.read_bytes()))
    (folder / "damaged.tlt").write_text("\n".join(map(str, ANGLES)))
    series = unless_refused(path, lambda: read_tilt_series(path, folder / "damaged.tlt"))
    if series is not None:
        told = any("check the shape" in note or "last axis" in note for note in series.notes)
        assert series.shape == images.shape or told


@pytest.mark.parametrize("suffix", WRITERS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_truncated_files(tmp_path_factory, images, suffix, data):
    share = data.draw(st.floats(0, 0.9999))
    damaged(tmp_path_factory, images, suffix, lambda raw: raw[: int(share * len(raw))])


@pytest.mark.parametrize("suffix", WRITERS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_headers(tmp_path_factory, images, suffix, data):
    def change(raw: bytes) -> bytes:
        changed = bytearray(raw)
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, min(HEADER.get(suffix, len(raw)), len(raw)) - 1))
            new = data.draw(st.binary(min_size=1, max_size=4))
            changed[at : at + len(new)] = new[: len(raw) - at]
        return bytes(changed)

    damaged(tmp_path_factory, images, suffix, change)


@pytest.mark.parametrize("ends_by", ["os.kill(os.getpid(), 11)", "time.sleep(60)"])
@pytest.mark.parametrize(("suffix", "program"), [(".h5", "_READ_HDF5"), (".mat", "_READ_MAT")])
def test_where_a_library_crashes_or_hangs_the_file_is_named(tmp_path, monkeypatch, images, suffix, program, ends_by):
    pytest.importorskip("h5py")
    monkeypatch.setattr("dip4d.io.damaged.SECONDS", 3)
    monkeypatch.setattr(f"dip4d.io.damaged.{program}", f"import os, time; {ends_by}")
    WRITERS[suffix](tmp_path / f"a{suffix}", images)
    with pytest.raises(InputError, match=rf"a\{suffix}: not a readable .* file .*damaged"):
        read_tilt_series(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", WRITERS)
def test_longer_than_it_says(tmp_path_factory, images, suffix):
    damaged(tmp_path_factory, images, suffix, lambda raw: raw + bytes(images[0].nbytes))


@pytest.mark.parametrize("suffix", [".emd", ".h5"])
@pytest.mark.parametrize("share", [0.0001, 0.02, 0.3, 0.9, 0.999])
def test_truncated_hdf5(tmp_path, images, suffix, share):
    pytest.importorskip("rsciio")
    pytest.importorskip("h5py")
    path = tmp_path / f"s{suffix}"
    WRITERS[suffix](path, images)
    raw = path.read_bytes()
    path.write_bytes(raw[: max(1, int(share * len(raw)))])
    with pytest.raises(InputError) as error:
        read_tilt_series(path)
    assert "\n" not in str(error.value)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_gatan_files(real_data, tmp_path_factory, data):
    """Bytes changed among the tags at the beginning and at the end, between which the pixels lie."""
    pytest.importorskip("rsciio")
    raw = bytearray((real_data / "nist_needle_180deg.dm3").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, 4000) | st.integers(len(raw) - 20000, len(raw) - 4))
        raw[at : at + 4] = data.draw(st.binary(min_size=4, max_size=4))
    path = tmp_path_factory.getbasetemp() / "damaged.dm3"
    path.write_bytes(raw)
    series = unless_refused(path, lambda: read_tilt_series(path))
    assert series is None or series.shape == (91, 64, 64)


@pytest.mark.parametrize("suffix", SIDECARS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from("0123456789.-+eE,; \n#[]=naifZValueTtAgDm:"), max_size=80), data=st.data())
def test_any_text_as_a_file_of_angles(tmp_path_factory, suffix, text, data):
    if suffix == ".mdoc":
        text = "".join(f"[ZValue = {i}]\nTiltAngle = {a}\n" for i, a in enumerate(ANGLES))
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.text(max_size=6)) + text[at + data.draw(st.integers(0, 6)) :]
    path = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    path.write_text(text, encoding="utf-8")
    found = unless_refused(path, lambda: read_angles(path))
    if found is not None:
        angles, times = found
        assert np.isfinite(angles).all()
        assert angles.size
        assert times is None or (times.shape == angles.shape and np.isfinite(times).all())


@pytest.mark.parametrize("name", ["nist_needle_180deg.dm3", "nist_needle_aligned.hspy"])
def test_truncated_measured_files(real_data, tmp_path, name):
    pytest.importorskip("rsciio")
    pytest.importorskip("h5py")
    raw = (real_data / name).read_bytes()
    for share in (0.0001, 0.01, 0.3, 0.9, 0.999):
        path = tmp_path / name
        path.write_bytes(raw[: int(share * len(raw))])
        with pytest.raises(InputError) as error:
            read_tilt_series(path)
        assert "\n" not in str(error.value)
