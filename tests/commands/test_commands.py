"""The commands of `python -m dip4d`: what they print and write, what they refuse, that they overwrite nothing."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import types
import zipfile
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile

from dip4d.__main__ import COMMANDS, main
from dip4d.commands import example
from dip4d.io import write_volumes
from dip4d.run_folder import FIGURES, VOLUMES

TIMES = np.array([0.0, 30.0, 75.5])


@pytest.fixture
def volumes() -> np.ndarray:
    return np.random.default_rng(0).random((3, 4, 6, 6), dtype=np.float32)


@pytest.fixture
def finished(tmp_path, volumes) -> Path:
    """A folder with the volumes of a run."""
    folder = tmp_path / "run"
    folder.mkdir()
    write_volumes(folder / VOLUMES, iter(volumes), volumes.shape, TIMES, 1.25)
    return folder


@pytest.fixture
def series(tmp_path) -> Path:
    """A series of 14 images of two discs off the tilt axis, which lies along image x; image 5 is blank."""
    angles = np.linspace(-60, 60, 14)
    grid = np.arange(32) - 15.5
    images = np.zeros((14, 32, 32))
    for place, height in ((8, -4), (-3, 6)):
        s = place * np.cos(np.deg2rad(angles))
        images += np.exp(-((grid[None, :, None] - s[:, None, None]) ** 2) / 8 - (grid - height) ** 2 / 18)
    images[5] = 0
    np.savez(tmp_path / "two.npz", images=images, angles=angles, times=[*range(13), 40.0], pixel_nm=0.5)
    return tmp_path / "two.npz"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert "usage: python -m dip4d " + command in capsys.readouterr().out


def test_errors_are_one_line_and_exit_with_2(tmp_path, capsys):
    for wrong in (
        ["inspect", str(tmp_path / "nothing.mrc")],
        ["inspect", str(tmp_path), "--out", __file__],
        ["export", str(tmp_path), "--format", "npy"],
        ["view", str(tmp_path)],
    ):
        assert main(wrong) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1


# --- inspect


def test_inspect_says_what_it_understood(series, tmp_path, capsys):
    assert main(["inspect", str(series), "--out", str(tmp_path / "looks")]) == 0
    said = capsys.readouterr().out
    for words in (
        "14 of 32 x 32 pixels",
        "along image x (by itself); the images speak for x",
        "-60 to 60 deg, one sweep",
        "0 to 40 s, apart: 1 to 28 s",
        "0.5 nm",
        "5 (blank)",
        "data.exclude=[5]",
        f"next        python train.py data.path={series} data.tilt_axis=x",
    ):
        assert words in said
    assert {p.name for p in (tmp_path / "looks").iterdir()} == {"two-montage.png", "two-sinogram.png"}


def test_inspect_overwrites_nothing(series, tmp_path, capsys):
    for _ in range(2):
        assert main(["inspect", str(series), "--tilt-axis", "y", "--out", str(tmp_path / "looks")]) == 0
    assert "along image y (as you say)" in capsys.readouterr().out
    names = {p.name for p in (tmp_path / "looks").iterdir()}
    assert names == {"two-montage.png", "two-montage-2.png", "two-sinogram.png", "two-sinogram-2.png"}


MEASURED = [
    ("emat_liquid_N6.mrc", "y", (116, 256, 256), (-46, 44), (0, 115), 0.26),
    ("nist_needle_raw_fei.mrc", "x", (77, 256, 256), (-76, 76), (0, 76), 3.36),
    ("nist_needle_aligned.hspy", "x", (77, 256, 256), (-76, 76), (0, 76), 3.36),
    ("nist_needle_180deg.dm3", "x", (91, 64, 64), (-90, 90), (0, 5868.79), 17.99),
    ("formats/serialem_test_000.mrc", "y", (2, 1024, 1024), (0, 0), (0, 2), 0.788),
    ("cwi_nanotube_sinogram.npy", "y", (698, 1, 384), (-50, 50), (0, 697), None),
]


@pytest.mark.parametrize(("name", "axis", "shape", "angles", "times", "pixel"), MEASURED)
def test_inspect_of_measured_series(real_data, tmp_path, capsys, name, axis, shape, angles, times, pixel):
    if name.endswith((".hspy", ".dm3")):
        pytest.importorskip("rsciio")
        pytest.importorskip("h5py")
    assert main(["inspect", str(real_data / name), "--out", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"(t, z, s) = {shape}" in said
    assert f"along image {axis} " in said
    for line, (low, high), unit in (("angles", angles, "deg"), ("times", times, "s")):
        numbers = next(text for text in said.splitlines() if text.split()[:1] == [line]).split()
        assert [float(numbers[1]), float(numbers[3])] == pytest.approx([low, high], abs=0.01)
        assert numbers[4].startswith(unit)
    size = next(text for text in said.splitlines() if text.split()[:1] == ["pixel"]).split()[1]
    assert size == "unknown" if pixel is None else float(size) == pytest.approx(pixel, rel=2e-3)
    assert len(list(tmp_path.glob("*.png"))) == 2


# --- export


def test_export_mrc(finished, volumes):
    assert main(["export", str(finished), "--format", "mrc"]) == 0
    files = sorted((finished / "export" / "mrc").iterdir())
    assert [f.name for f in files] == ["frame_000.rec", "frame_001.rec", "frame_002.rec"]
    for file, volume in zip(files, volumes, strict=True):
        assert mrcfile.validate(file)
        with mrcfile.open(file) as mrc:
            np.testing.assert_array_equal(mrc.data, volume)
            assert mrc.is_volume()
            assert float(mrc.voxel_size.x) == pytest.approx(12.5)
            label = mrc.header.label.tobytes()
    assert b"75.5 s" in label


def test_export_tiff(finished, volumes):
    assert main(["export", str(finished), "--format", "tiff"]) == 0
    files = sorted((finished / "export" / "tiff").iterdir())
    assert len(files) == 3
    with tifffile.TiffFile(files[2]) as tif:
        np.testing.assert_array_equal(tif.asarray().squeeze(), volumes[2])
        pixels = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
    assert (pixels["PhysicalSizeZ"], pixels["Plane"][0]["DeltaT"]) == (1.25, 75.5)


def test_export_zarr(finished, volumes):
    zarr = pytest.importorskip("zarr")
    assert main(["export", str(finished), "--format", "zarr"]) == 0
    group = zarr.open_group(str(finished / "export" / "volumes.ome.zarr"), mode="r")
    np.testing.assert_array_equal(group["0"][:], volumes)
    assert group["0"].chunks == (1, 4, 6, 6)
    multiscale = group.attrs["ome"]["multiscales"][0]
    assert [(a["name"], a["unit"]) for a in multiscale["axes"]] == [
        ("t", "second"), ("z", "nanometer"), ("y", "nanometer"), ("x", "nanometer")
    ]  # fmt: skip
    scale = multiscale["datasets"][0]["coordinateTransformations"][0]
    assert scale == {"type": "scale", "scale": [37.75, 1.25, 1.25, 1.25]}
    assert group.attrs["times_s"] == TIMES.tolist()
    assert group.attrs["ome"]["version"] == "0.5"


def test_export_npy(finished, volumes):
    assert main(["export", str(finished), "--format", "npy"]) == 0
    folder = finished / "export" / "npy"
    np.testing.assert_array_equal(np.load(folder / "volumes.npy"), volumes)
    about = json.loads((folder / "volumes.json").read_text())
    assert about == {"axes": "tzyx", "pixel_nm": 1.25, "times_s": TIMES.tolist()}


def test_export_mp4(finished):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    assert main(["export", str(finished), "--format", "mp4"]) == 0
    frames = ffmpeg.read_frames(str(finished / "export" / "orthoslices.mp4"))
    width, height = next(frames)["source_size"]
    assert sum(1 for _ in frames) == 3
    assert min(width, height) > 200


@pytest.mark.parametrize("kind", ["mrc", "npy"])
def test_export_overwrites_nothing_and_leaves_nothing_half_done(finished, kind, capsys, monkeypatch):
    out = finished / "there"
    out.write_text("mine")
    assert main(["export", str(finished), "--format", kind, "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert out.read_text() == "mine"

    from dip4d.io import export

    def fail(volumes, times_s, pixel_nm, path):
        path.mkdir()
        raise OSError("no space left")

    monkeypatch.setitem(export.FORMATS, kind, fail)
    assert main(["export", str(finished), "--format", kind]) == 2
    assert capsys.readouterr().err == "error: no space left\n"
    assert not list((finished / "export").iterdir())


def test_export_names_a_missing_package(finished, capsys, monkeypatch):
    for kind, package in (("zarr", "zarr"), ("mp4", "imageio_ffmpeg")):
        monkeypatch.setitem(sys.modules, package, None)
        assert main(["export", str(finished), "--format", kind]) == 2
        error = capsys.readouterr().err
        assert package in error
        assert "pip install -r requirements-formats.txt" in error


# --- view


def test_view_without_napari_says_how_to_get_it(finished, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "napari", None)
    (finished / FIGURES).mkdir()
    (finished / FIGURES / "quality.png").touch()
    assert main(["view", str(finished)]) == 0
    said = capsys.readouterr().out
    assert "pip install 'napari[all]'" in said
    assert "quality.png" in said


def test_view_hands_volumes_and_scale_to_napari(finished, volumes, monkeypatch):
    seen = {}

    class Viewer:
        def __init__(self, **options):
            self.dims = types.SimpleNamespace()

        def add_image(self, images, **options):
            seen.update(options, images=np.array(images))

    monkeypatch.setitem(sys.modules, "napari", types.SimpleNamespace(Viewer=Viewer, run=lambda: seen.update(ran=True)))
    assert main(["view", str(finished)]) == 0
    np.testing.assert_array_equal(seen["images"], volumes)
    assert seen["scale"] == (1, 1.25, 1.25, 1.25)
    assert seen["ran"]


# --- example


@pytest.fixture
def wheel(tmp_path, monkeypatch) -> bytes:
    """A stand-in for the package, which pip is made to bring; its checksum is the one expected."""
    path = tmp_path / "stand-in.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside in example._FILES:
            archive.writestr(example._INSIDE + inside, inside.encode())
    raw = path.read_bytes()

    def pip(command, **options):
        (Path(command[command.index("--dest") + 1]) / "etspy-1.3.0-py3-none-any.whl").write_bytes(raw)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    monkeypatch.setattr(example, "_SHA256", hashlib.sha256(raw).hexdigest())
    return raw


def test_example_writes_what_the_config_reads(wheel, tmp_path, capsys, monkeypatch):
    from omegaconf import OmegaConf

    config = Path(__file__).parents[1] / "configs" / "needle.yaml"
    monkeypatch.chdir(tmp_path)
    assert main(["example", "needle"]) == 0
    assert (tmp_path / OmegaConf.load(config).data.path).read_bytes() == b"HAADF_Aligned.hspy"
    assert (tmp_path / "data" / "needle_raw.mrc").is_file()
    assert "python train.py configs/needle.yaml\n" in capsys.readouterr().out
    assert main(["example", "needle"]) == 0
    assert "there already" in capsys.readouterr().out


def test_example_refuses_a_wrong_checksum_and_overwrites_nothing(wheel, tmp_path, capsys, monkeypatch):
    out = tmp_path / "mine"
    out.mkdir()
    (out / "needle_raw.mrc").write_text("mine")
    assert main(["example", "needle", "--out", str(out)]) == 2
    assert "exist already" in capsys.readouterr().err
    assert [p.name for p in out.iterdir()] == ["needle_raw.mrc"]
    monkeypatch.setattr(example, "_SHA256", "0" * 64)
    assert main(["example", "needle", "--out", str(tmp_path / "new")]) == 2
    assert "SHA-256" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_example_says_why_pip_failed(tmp_path, capsys, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: retrying\nERROR: no network\n")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: failed)
    assert main(["example", "needle", "--out", str(tmp_path)]) == 2
    assert "ERROR: no network" in capsys.readouterr().err
