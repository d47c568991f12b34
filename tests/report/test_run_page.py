"""The page of a run holds all there is of it, asks for nothing else, and is the same whenever it is made."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from dip4d.config.load import load_config
from dip4d.errors import InputError
from dip4d.report import run_page
from dip4d.report.curves import charts_of
from dip4d.report.run_page import write_comparison, write_page
from dip4d.report.words import bibtex, methods_paragraph
from dip4d.run_folder import read_metrics
from tests.report.conftest import FRAMES, write_run

ROOT = Path(__file__).parents[2]


def data_of(page: Path) -> dict:
    """What the script of a page reads."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text())
    assert found is not None
    return json.loads(found[1])


def test_a_page_tells_what_lies_in_the_folder_and_asks_for_nothing_else(run_of_a_ball):
    page = write_page(run_of_a_ball)
    text = page.read_text()
    for words in ("doubtful.", "its mass &lt;grows&gt;", "train.steps=7 network.motion=never", "0.3750", "@software"):
        assert words in text or " ".join(reversed(words.split())) in text
    own = text.replace((ROOT / "dip4d/report/page/three.min.js").read_text(), "")
    assert not re.search(r"""(src|href)=["'](?!data:)|@import|url\(|fetch\(|https?://(?!www\.w3\.org)""", own)
    data = data_of(page)
    assert [m["label"] for m in data["movies"]] == ["truth", "DIP-4D", "SIRT, sliding window"]
    assert [data["movies"][i]["label"] for i in data["panels"]] == ["DIP-4D", "SIRT, sliding window", "truth"]
    assert [c["title"] for c in data["charts"]] == ["PSNR (dB)", "SSIM", "Residual", "Mass, over its mean"]
    assert data["unseen"] == [3]
    assert data["voxel_nm"] == 0.5
    assert 0.3 < data["level"] < 0.6


def test_it_is_the_same_whenever_it_is_made_and_changes_nothing_else(run_of_a_ball):
    first = write_page(run_of_a_ball).read_bytes()
    before = {f: f.read_bytes() for f in run_of_a_ball.rglob("*") if f.is_file()}
    assert write_page(run_of_a_ball).read_bytes() == first
    assert {f: f.read_bytes() for f in run_of_a_ball.rglob("*") if f.is_file()} == before


def test_a_run_without_truth_and_an_early_one_have_a_page_too(tmp_path):
    blind = write_run(tmp_path / "blind", with_truth=False)
    assert "truth" not in [m["label"] for m in data_of(write_page(blind))["movies"]]
    early = tmp_path / "early"
    early.mkdir()
    metrics = {k: v for k, v in read_metrics(blind).items() if k in ("methods", "held_out", "times_s")}
    (early / "metrics.json").write_text(json.dumps(metrics))
    page = write_page(early)
    assert data_of(page)["movies"] == []
    assert "No verdict." in page.read_text()
    assert page.stat().st_size < 100_000


def test_a_page_that_would_be_too_large_shows_fewer_times(run_of_a_ball, monkeypatch):
    page = write_page(run_of_a_ball)
    monkeypatch.setattr(run_page, "LARGEST", page.stat().st_size - 100)
    assert [len(m["times"]) for m in data_of(write_page(run_of_a_ball))["movies"]] == [3, 3, 1]


def test_several_runs_stand_side_by_side(tmp_path):
    runs = [write_run(tmp_path / name) for name in ("one", "two")]
    page = write_comparison(runs, tmp_path / "runs.html")
    data = data_of(page)
    assert [m["label"] for m in data["movies"]] == ["truth, one", "DIP-4D, one", "DIP-4D, two"]
    assert [line["label"] for line in data["charts"][0]["lines"]] == ["one", "two"]
    assert page.read_text().count("<table>") == 2


def test_each_score_has_its_own_head_in_the_table(run_of_a_ball):
    metrics = read_metrics(run_of_a_ball)
    scores = metrics["methods"]["dip"]
    scores["psnr_near"] = scores["psnr"]
    (run_of_a_ball / "metrics.json").write_text(json.dumps(metrics))
    page = write_page(run_of_a_ball).read_text()
    assert page.count("<th>PSNR near the specimen (dB), mean</th>") == page.count("<th>PSNR (dB), mean</th>") == 1


def test_quantities_are_curves_with_their_errors_and_the_truth(run_of_a_ball):
    table = "frame,time_s,volume_nm3,volume_nm3_sigma,volume_nm3_truth\n0,0.0,5.0,0.5,5.5\n1,2.0,6.0,0.5,\n"
    (run_of_a_ball / "measures.csv").write_text(table)
    charts = {c["title"]: c["lines"] for c in charts_of({"": (run_of_a_ball, read_metrics(run_of_a_ball))})}
    truth, ours = charts["Volume (nm³)"]
    assert ours["points"] == [[0, 5, 0.5], [2, 6, 0.5]]
    assert truth["points"] == [[0, 5.5]]
    (run_of_a_ball / "measures.csv").write_text(table + "2,4.0,much,0.5,\n")
    with pytest.raises(InputError, match=r"measures\.csv: not a table of quantities"):
        charts_of({"": (run_of_a_ball, read_metrics(run_of_a_ball))})


def test_what_to_cite_is_what_citation_cff_says():
    cff = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    (paper,) = cff["references"]
    found = bibtex({"made": {"versions": {"dip4d": "1.2.3"}}})
    assert "version = {1.2.3}" in found
    assert "version" not in bibtex({})
    authors = " and ".join(f"{a['family-names']}, {a['given-names']}" for a in paper["authors"])
    plain = found.replace("{", "").replace("}", "")
    for words in (cff["title"], cff["authors"][0]["name"], paper["title"], authors):
        assert words in plain


def test_volumes_are_packed_as_differences(run_of_a_ball):
    import base64
    import gzip

    from dip4d.report.preview import read_preview

    page = write_page(run_of_a_ball)
    packed = re.search(r'id="m1">(.*?)</script>', page.read_text())
    assert packed is not None
    steps = np.frombuffer(gzip.decompress(base64.b64decode(packed[1])), np.uint8).reshape(FRAMES, -1)
    volumes = read_preview(run_of_a_ball)["dip"].volumes.reshape(FRAMES, -1)
    np.testing.assert_array_equal(np.cumsum(steps, axis=0, dtype=np.uint8), volumes)


@pytest.mark.parametrize("loss", ["weighted", "squared", "geman_mcclure"])
def test_the_methods_say_which_misfit_was_minimised(loss):
    said = methods_paragraph({"steps": 5, "methods": {"dip": {}}}, load_config([f"train.loss={loss}"]))
    assert ("weighted by its noise" in said, "Geman" in said) == (loss == "weighted", loss == "geman_mcclure")
