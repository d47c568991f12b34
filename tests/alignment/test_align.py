"""The whole alignment: on specimens that change while the series is taken, and on a measured needle."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from dip4d.alignment.align import SLOW_FUNCTIONS, align, aligned_if_better
from dip4d.alignment.residual import sirt_residual
from dip4d.alignment.shifts import Shifts
from dip4d.io import read_tilt_series
from dip4d.simulation.simulate import jitter_shifts, simulate
from dip4d.tilt_geometry import remove_slow_motion, remove_unobservable_shift
from dip4d.tilt_series import TiltSeries
from tests.helpers import displaced, error


def test_jitter_and_an_axis_offset_are_recovered(changing):
    """The whole of it; 2 px rms, 3 px off. Slower runs at full size are in benchmarks/alignment.py."""
    clean, measured, true = changing
    aligned, found, report = align(measured, rounds=5)
    assert max(error(found, true, clean.angles_deg)) < 0.25
    assert report["sirt_residual_after"] < 0.6 * report["sirt_residual_before"]
    assert report["sirt_residual_after"] < 1.05 * sirt_residual(clean) + 0.05
    assert aligned.images.shape == measured.images.shape
    json.dumps(report)


def test_images_aligned_if_better_show_the_specimen_in_its_place():
    clean, _ = simulate("nanostar", 32, frames=48, scheme="grs", peak_counts=500, seed=3)
    moved, _ = simulate("nanostar", 32, frames=48, scheme="grs", peak_counts=500, seed=3, jitter=1)
    told = []
    series, shifts = aligned_if_better(moved, told.append)
    true = jumps_of(*jitter_shifts(moved.angles_deg, 1, seed=3).T, series=moved)
    assert np.sqrt(np.mean((shifts.z - true[0]) ** 2)) < 0.15
    assert np.sqrt(np.mean((shifts.across - true[1]) ** 2)) < 0.15
    assert told
    assert np.abs(series.images - clean.images).mean() < 0.6 * np.abs(moved.images - clean.images).mean()


def test_test_images_have_no_part_in_the_alignment_and_are_put_where_the_others_say():
    """Whatever they show, the others lie where they lay, to the last bit."""
    moved, _ = simulate("nanostar", 32, frames=48, scheme="grs", peak_counts=500, seed=3, jitter=1.5)
    kept = [8, 9, 30]
    images = moved.images.copy()
    images[kept] = np.random.default_rng(0).permuted(images[kept], axis=2)
    (_, shifts), (_, other) = (
        aligned_if_better(dataclasses.replace(moved, images=i), test_images=kept) for i in (moved.images, images)
    )
    rest = np.setdiff1d(np.arange(48), kept)
    np.testing.assert_array_equal(shifts.z[rest], other.z[rest])
    np.testing.assert_array_equal(shifts.across[rest], other.across[rest])
    true = jitter_shifts(moved.angles_deg, 1.5, seed=3).T
    z, s = jumps_of(shifts.z - true[0], shifts.across - true[1], series=moved)
    assert max(z.std(), s.std()) < 0.05
    assert max(np.abs(z[kept]).max(), np.abs(s[kept]).max()) < 0.1


def jumps_of(z: np.ndarray, s: np.ndarray, *, series: TiltSeries) -> tuple[np.ndarray, np.ndarray]:
    return remove_slow_motion(z, s, angles_deg=series.angles_deg, tau=series.tau, functions=SLOW_FUNCTIONS)


def test_a_slow_motion_is_the_specimens_and_stays():
    """A particle that walks along z and across the axis by several pixels, in images that jump by 1 px as well."""
    clean, _ = simulate("nanostar", 32, frames=48, scheme="grs", peak_counts=0, seed=3)
    theta, tau = np.deg2rad(clean.angles_deg), clean.tau
    walk = Shifts(2 * tau, 2 * tau * np.cos(theta) - 1.5 * tau * np.sin(theta))
    jumps = Shifts(*jumps_of(*jitter_shifts(clean.angles_deg, 1, seed=3).T, series=clean))
    moved = displaced(clean, Shifts(walk.z + jumps.z, walk.s + jumps.s), 500)
    found = aligned_if_better(moved)
    assert found is not None
    assert np.sqrt(np.mean((found[1].z - jumps.z) ** 2)) < 0.2
    assert np.sqrt(np.mean((found[1].across - jumps.s) ** 2)) < 0.2


def test_in_one_sweep_the_tilt_axis_is_found_all_the_same():
    clean, _ = simulate("nanostar", 32, frames=48, scheme="incremental", peak_counts=0, seed=3)
    jumps = jitter_shifts(clean.angles_deg, 1, seed=3)
    moved = displaced(clean, Shifts(jumps[:, 0], jumps[:, 1], 3.0), 500)
    found = aligned_if_better(moved)
    assert found is not None
    true = remove_unobservable_shift(jumps[:, 0], jumps[:, 1] + 3, angles_deg=clean.angles_deg)
    assert np.sqrt(np.mean((found[1].across - true[1]) ** 2)) < 0.3


def test_a_blank_image_is_suspected_and_harms_no_other(changing):
    clean, measured, true = changing
    images = measured.images.copy()
    images[20] = 0
    _, found, report = align(dataclasses.replace(measured, images=images), rounds=3)
    assert 20 in report["suspect_images"]
    keep = np.arange(48) != 20
    found, true = (Shifts(v.z[keep], v.s[keep], v.axis, v.rotation_deg) for v in (found, true))
    assert max(error(found, true, clean.angles_deg[keep])) < 0.3


def needle(real_data, name: str) -> TiltSeries:
    """The measured needle, less its background, binned by 4: raw from its microscope, or as NIST aligned it."""
    if name == "raw":
        series = read_tilt_series(
            real_data / "nist_needle_raw_fei.mrc", real_data / "nist_needle.rawtlt", tilt_axis="x"
        )
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


def test_where_the_time_is_short_fewer_rounds_are_done_and_it_is_said(changing):
    _, measured, _ = changing
    lines: list[str] = []
    aligned, _, report = align(measured, rounds=5, seconds=0.0, report=lines.append)
    assert any("no time for projection matching" in line for line in lines)
    assert not any("round 1" in line for line in lines)
    assert report["sirt_residual_after"] <= report["sirt_residual_before"]
    assert aligned.images.shape == measured.images.shape
