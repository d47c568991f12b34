"""`dip4d align` writes what can be read again, in pixels of the file, and overwrites nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dip4d.__main__ import main
from dip4d.alignment.shifts import Shifts
from dip4d.errors import InputError
from dip4d.io import read_tilt_series
from dip4d.tilt_series import TiltSeries
from tests.helpers import displaced_alloying


@pytest.fixture(scope="module")
def changing() -> tuple[TiltSeries, TiltSeries, Shifts]:
    """A particle that changes: its series without noise, as measured, and the shifts."""
    return displaced_alloying(32, 48, 2.0)


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
    with pytest.raises(InputError, match="tilt axis lies along y") as refused:
        read_tilt_series(tmp_path / "star_aligned.npz", tilt_axis="x")
    assert refused.value.argument == "tilt_axis"
    assert (tmp_path / "star_alignment.png").stat().st_size > 10_000
    assert main(["align", str(tmp_path / "none.npz")]) == 2
    assert main(["align", str(tmp_path / "star_aligned.npz"), "--tilt-axis", "x"]) == 2
    assert "its tilt axis lies along y (option --tilt-axis)" in capsys.readouterr().err
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
