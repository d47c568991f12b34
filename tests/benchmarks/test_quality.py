"""The benchmark of quality, shrunken: it computes what it says, once, and tells it in a table and a figure."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def quality(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    module = importlib.import_module("quality")
    tiny = importlib.import_module("quality_cases").Size(16, 8, 12, 3, (6,), 10, {"network.channels": 16})
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.setitem(module.SIZES, "small", tiny)
    listed = [module.Case("small", "nanostar", m) for m in ("sirt_frozen", "dip", "tddip")]
    monkeypatch.setattr(module, "cases", lambda part: [*listed, module.Case("small", "static", "dip")])
    return module


def test_what_is_computed_is_not_computed_again(quality, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["quality.py", "--small"])
    quality.main()
    results = json.loads((tmp_path / "quality-small.json").read_text())["cases"]
    assert len(results) == 4
    for result in results.values():
        assert len(result["psnr"]) == len(result["mass"]) == 12
        assert len(result["change"]) == 11
    ours = results["small nanostar grs counts500 jitter0 seed11 dip"]
    steps = [look["step"] for look in ours["curve"]]
    assert steps == sorted(steps)
    assert steps[-1] == ours["steps"] > 0
    table = (tmp_path / "quality-small.md").read_text()
    assert f"{np.mean(ours['psnr']):.2f}" in table
    assert (tmp_path / "quality-small.png").stat().st_size > 20_000

    monkeypatch.setattr(quality, "compute", lambda case: pytest.fail(f"{case.name} again"))
    quality.main()
    monkeypatch.setattr(sys, "argv", ["quality.py", "--small", "--list", "--again", "--only", "nanostar", "dip"])
    capsys.readouterr()
    quality.main()
    assert capsys.readouterr().out.split("\n")[:-1] == ["small nanostar grs counts500 jitter0 seed11 dip"]


def test_the_summary_of_known_scores(quality):
    quality_tables = importlib.import_module("quality_tables")
    frozen = {"psnr": [30.0, 30.0, 30.0]}
    result = {
        "psnr": [29.0, 35.0, 38.0], "ssim": [0.9, 1.0, 0.98], "dice": [1, 1, 1], "mass": [0.01, 0.01, 0.01],
        "change": [3.0, 1.0], "change_of_truth": [2.0, 2.0], "stillness": [40.0, 50.0], "seconds": 1.0,
        "curve": [{"psnr": 34.0}, {"psnr": 36.0}, {"psnr": 35.5}],
    }  # fmt: skip
    row = quality_tables.summary(result, frozen)
    expected = {"PSNR": 34, "worst": 29, "mass %": 1, "spread %": 0, "change": 1, "lost dB": 0.5, "over frozen": 4,
                "worst gap": -1, "below": 1}  # fmt: skip
    assert {k: row[k] for k in expected} == pytest.approx(expected)
    assert np.isnan(row["still dB"])
    still = quality_tables.summary(result | {"change_of_truth": [0.0, 0.0]}, None)
    assert still["still dB"] == 45
    assert np.isnan(still["change"])


def test_every_part_lists_cases_with_names_of_their_own(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    quality = importlib.import_module("quality_cases")
    of = [quality.cases(part) for part in ("quick", "small", "standard", "full", "camera")]
    for listed in [*of, quality.cases("hard", "A"), quality.cases("hard")]:
        names = [case.name for case in listed]
        assert names
        assert len(set(names)) == len(names)
        assert all(quality.case_of(vars(case)) == case for case in listed)
    reported = quality.cases("hard")
    assert {case.specimen for case in reported} == set(quality.FAMILIES["B"])
    assert {case.method for case in reported} == {"dip", *quality.RIVALS}
    assert not {case.seed for case in reported} & {case.seed for case in quality.cases("hard", "A")}


def test_hard_specimens_are_told_by_families_with_their_means(quality, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(quality.SIZES, "hard", quality.SIZES["small"])
    monkeypatch.setattr(
        importlib.import_module("quality_tables"), "FAMILIES", {"A": {}, "B": {"facets": None, "film": None}}
    )
    listed = [quality.Case("hard", s, m) for s in ("facets", "film") for m in ("sirt_frozen", "voxels_matched")]
    monkeypatch.setattr(quality, "cases", lambda part, family: [*listed, quality.Case("hard", "film", "tv_frozen")])
    monkeypatch.setattr(sys, "argv", ["quality.py", "--hard", "--only", "hard"])
    quality.main()
    assert "time rank" in capsys.readouterr().out
    results = quality.read("hard")
    table = (tmp_path / "quality-hard.md").read_text().splitlines()
    assert table[0] == "**Family B**"
    mean = next(row for row in table if row.startswith("| mean | voxels_matched |"))
    expected = np.mean([np.mean(r["psnr"]) for r in results.values() if r["method"] == "voxels_matched"])
    assert f"| {expected:.2f} |" in mean
    assert not any(row.startswith("| mean | tv_frozen |") for row in table)  # not of all specimens
    ours = next(row.split(" | ") for row in table if row.startswith("| film | voxels_matched |"))
    columns = table[2].split(" | ")
    assert int(ours[columns.index("steps")]) > 0
    film = [r for r in results.values() if r["specimen"] == "film"]
    assert int(ours[-1].strip(" |")) == film[0]["time_rank"]
    gap = np.mean(
        np.subtract(*(next(r for r in film if r["method"] == m)["psnr"] for m in ("voxels_matched", "tv_frozen")))
    )
    assert ours[columns.index("over TV frozen")] == f"{gap:.2f}"


def test_a_camera_with_faults_is_another_series_less_its_background(quality, monkeypatch):
    seen = {}

    def fitted(case, series, truth):
        seen[case.camera] = series.images
        return {"seconds": 1.0}, iter(truth)

    monkeypatch.setattr(quality, "fitted", fitted)
    for camera in ("", "background"):
        quality.compute(quality.Case("small", "nanostar", "dip", camera=camera))
    assert abs(np.median(seen["background"])) < 0.03 * seen[""].max()
    assert not np.array_equal(seen["background"], seen[""])
