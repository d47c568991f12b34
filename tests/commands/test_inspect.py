"""`dip4d inspect` says what it understood of a file, and overwrites nothing."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from dip4d.__main__ import main
from dip4d.config.load import load_config
from dip4d.experiment.inputs import as_fitted
from dip4d.experiment.plan import make_plan
from dip4d.simulation.simulate import simulate


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


def test_inspect_says_what_it_understood(series, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/dip4d"])
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
        f"next        dip4d reconstruct data.path={series} data.tilt_axis=x",
    ):
        assert words in said
    assert {p.name for p in (tmp_path / "looks").iterdir()} == {"two-montage.png", "two-sinogram.png"}


def test_what_the_next_command_needs_is_what_its_plan_says(tmp_path, capsys, nothing_drawn):
    series, _ = simulate("nanostar", 32, frames=20, seed=3)
    np.savez(tmp_path / "s.npz", images=series.images, angles=series.angles_deg)
    assert main(["inspect", str(tmp_path / "s.npz")]) == 0
    needs, command = capsys.readouterr().out.splitlines()[-2:]
    assert needs.split()[0] == "needs"
    units = (" minutes", " GB of memory", " GB of disk")
    minutes, memory, disk = (float(needs.split(unit)[0].split()[-1]) for unit in units)
    words = shlex.split(command)
    config = load_config(words[words.index("reconstruct") + 1 :])
    plan = make_plan(config, as_fitted(config, series), folder=tmp_path, methods=[], with_truth=False)
    fit = plan.pace.fit(plan.steps) / 60
    assert 0.3 * fit < minutes < 10 * fit
    assert memory == pytest.approx(plan.memory_gb[0], abs=0.1)
    assert disk == pytest.approx(plan.disk_gb[0], rel=0.1)


def test_a_run_that_cannot_be_is_said_with_its_reason(tmp_path, capsys, nothing_drawn):
    np.savez(tmp_path / "s.npz", images=np.eye(8)[None].repeat(2, 0), angles=[0, 3])
    assert main(["inspect", str(tmp_path / "s.npz")]) == 0
    assert "needs       cannot be told: " in capsys.readouterr().out


def test_inspect_overwrites_nothing(series, tmp_path, capsys):
    for _ in range(2):
        assert main(["inspect", str(series), "--quick", "--tilt-axis", "y", "--out", str(tmp_path / "looks")]) == 0
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
    assert main(["inspect", str(real_data / name), "--quick", "--out", str(tmp_path)]) == 0
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


def test_inspect_tells_jitter_and_what_becomes_of_it(tmp_path, capsys):
    for jitter, advised in ((0.0, False), (1.0, True)):
        moved, _ = simulate("nanostar", 32, frames=40, jitter=jitter, seed=3)
        np.savez(tmp_path / "s.npz", images=moved.images, angles=moved.angles_deg)
        assert (
            main(["inspect", str(tmp_path / "s.npz"), "--quick", "--tilt-axis", "y", "--out", str(tmp_path / "looks")])
            == 0
        )
        (line,) = [text for text in capsys.readouterr().out.splitlines() if text.split()[:1] == ["jitter"]]
        assert (float(line.split()[1]) > 0.2) == ("dip4d align" in line) == advised


def test_inspect_speaks_of_its_own_options(series, tmp_path, capsys):
    assert main(["inspect", str(series), "--angles", str(tmp_path / "none.tlt"), "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'none.tlt'}: no such angle file (option --angles)\n"


@pytest.fixture
def nothing_drawn(monkeypatch):
    monkeypatch.setattr("dip4d.commands.inspect._draw", lambda *_, **__: [])


def last_line(capsys) -> str:
    return capsys.readouterr().out.splitlines()[-1]


def test_the_next_command_is_whole_and_can_be_pasted(tmp_path, capsys, monkeypatch, nothing_drawn):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/dip4d"])
    images = np.zeros((14, 300, 540), np.float32)
    images[:, 10:290, 20:500] = np.random.default_rng(0).poisson(30, (14, 280, 480))
    folder = tmp_path / "a b (c)"
    folder.mkdir()
    np.savez(folder / "s's.npz", images=images)
    np.savetxt(folder / "a;b.tlt", np.linspace(-60, 60, 14))
    arguments = [str(folder / "s's.npz"), "--angles", str(folder / "a;b.tlt"), "--pixel-nm", "0.5", "--tilt-axis", "y"]
    assert main(["inspect", *arguments, "--quick"]) == 0
    words = shlex.split(last_line(capsys).removeprefix("  next"))
    assert words == [
        "dip4d",
        "reconstruct",
        f"data.path={folder / chr(115)}'s.npz",
        f"data.angles={folder / 'a;b.tlt'}",
        "data.tilt_axis=y",
        "data.pixel_nm=0.5",
        "data.crop=[10,290,20,500]",
        "data.bin=2",
        "network.change=never",
    ]
    assert load_config(words[2:]).data.crop == [10, 290, 20, 500]


def test_a_bright_field_is_inspected_inverted(series, tmp_path, capsys, nothing_drawn):
    with np.load(series) as bright:
        dark = {**bright, "images": np.delete(3 - bright["images"], 5, axis=0)}
    for name in ("angles", "times"):
        dark[name] = np.delete(dark[name], 5)
    np.savez(tmp_path / "dark.npz", **dark)
    for options in ([], ["--invert"]):
        assert main(["inspect", str(tmp_path / "dark.npz"), "--quick", *options]) == 0
        said = capsys.readouterr().out
        assert ("the contrast looks inverted" in said) == (not options)
        assert "along image x (by itself)" in said
        assert "data.tilt_axis=x data.invert=true" in said.splitlines()[-1]
        assert " 0.99" in said or " 1.00" in said  # of the total intensity, which is above 0


def test_inspect_says_that_the_images_cut_the_specimen_off(tmp_path, capsys, nothing_drawn):
    for name in ("leaving", "nanostar"):
        series, _ = simulate(name, 32, n_z=12, frames=40, seed=1)
        np.savez(tmp_path / f"{name}.npz", images=series.images + 30, angles=series.angles_deg)
        assert main(["inspect", "--quick", str(tmp_path / f"{name}.npz")]) == 0
        said = "cut off     across the tilt axis: reconstructed" in capsys.readouterr().out
        assert said == (name == "leaving")
    assert main(["inspect", str(tmp_path / "leaving.npz")]) == 0
    out = capsys.readouterr().out
    assert out.count("data.margin_px") == 1  # not once more by the plan
    assert "needs       about" in out
