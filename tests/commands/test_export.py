"""`dip4d export` writes what other programs read, and overwrites nothing."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import mrcfile
import numpy as np
import pytest
import tifffile

from dip4d.__main__ import main
from dip4d.io import open_volumes
from dip4d.simulation.simulate import simulate
from tests.helpers import measured, run

TIMES = np.array([0.0, 30.0, 75.5])


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

    def fail(volumes, path, *, times_s, pixel_nm):
        path.mkdir()
        raise OSError("no space left")

    monkeypatch.setitem(export.FORMATS, kind, fail)
    assert main(["export", str(finished), "--format", kind]) == 2
    assert capsys.readouterr().err == "error: no space left\n"
    assert not list((finished / "export").iterdir())


def test_export_names_a_missing_package(finished, capsys, monkeypatch):
    for kind, module, package in (("zarr", "zarr", "zarr"), ("mp4", "imageio_ffmpeg", "imageio-ffmpeg")):
        monkeypatch.setitem(sys.modules, module, None)
        assert main(["export", str(finished), "--format", kind]) == 2
        error = capsys.readouterr().err
        assert f"needs a package that is not installed: pip install {package}" in error
        assert error.count("\n") == 1


def test_a_series_of_one_row_is_reconstructed_drawn_and_exported(tmp_path, small, monkeypatch, capsys):
    series, _ = simulate("nanostar", 16, frames=12, n_z=1, seed=0)
    folder = tmp_path / "run"
    metrics = run(
        folder, *small, measured(tmp_path, series.images, series.angles_deg), "train.steps=3", "output.figures=true"
    )
    volumes = open_volumes(folder / "volumes.ome.tif")
    assert volumes.shape == (12, 1, 16, 16)
    assert volumes.sum((1, 2, 3)) == pytest.approx(metrics["mass"]["volumes"], rel=1e-4)
    assert {"orthoslices_yx.png", "diagnostics.png"} <= {f.name for f in (folder / "figures").iterdir()}
    assert main(["report", str(folder)]) == 0
    for kind in ("mrc", "tiff", "npy", "mp4", "zarr"):
        if kind in ("mp4", "zarr"):
            pytest.importorskip({"mp4": "imageio_ffmpeg", "zarr": "zarr"}[kind])
        assert main(["export", str(folder), "--format", kind]) == 0
        assert "12 volumes" in capsys.readouterr().out
    np.testing.assert_array_equal(np.load(folder / "export" / "npy" / "volumes.npy"), volumes)
    shown = []
    parts = {"dims": SimpleNamespace(), "scale_bar": SimpleNamespace()}
    viewer = SimpleNamespace(add_image=lambda data, **_: shown.append(data.shape), **parts)
    monkeypatch.setitem(sys.modules, "napari", SimpleNamespace(Viewer=lambda **_: viewer, run=lambda: None))
    assert main(["view", str(folder)]) == 0
    assert shown == [(12, 1, 16, 16)]


def test_axes_of_the_beam_are_turned_not_mirrored(finished, volumes):
    assert main(["export", str(finished), "--format", "npy", "--axes", "beam-z"]) == 0
    turned = np.load(finished / "export" / "npy" / "volumes.npy")
    t, z, y, x = 1, 3, 2, 5
    assert turned.shape == (3, 6, 4, 6)
    assert turned[t, y, 3 - z, x] == volumes[t, z, y, x]  # (x, y, z) is now (x, -z, y): a quarter turn about x


def test_a_small_file_is_one_that_plain_imagej_opens(finished, monkeypatch, tmp_path):
    import tifffile

    from dip4d.io import write_volumes

    with tifffile.TiffFile(finished / "volumes.ome.tif") as tif:
        assert not tif.is_bigtiff
        assert len(tif.pages) == 12
    monkeypatch.setattr("dip4d.io.volumes.CLASSIC_BYTES", 1000)
    write_volumes(tmp_path / "big.tif", [np.zeros((4, 6, 6))], shape=(1, 4, 6, 6), times_s=np.zeros(1))
    with tifffile.TiffFile(tmp_path / "big.tif") as tif:
        assert tif.is_bigtiff
