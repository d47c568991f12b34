"""The claims of the paper are judged by what lies in the folders of the runs, and no number of the paper is made up."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from dip4d.io.volumes import write_volumes
from dip4d.report.paper_claims import CLAIMS, NOT_GIVEN, Finding, PaperRun, findings
from dip4d.report.paper_page import lines_of, write_paper
from dip4d.run_folder import read_metrics
from tests.report.conftest import EDGE, FRAMES, ball, write_run


def simulated(folder: Path, *, ours: float = 30.0, surface: float = 1.03, mixing: float = 0.02) -> PaperRun:
    """A run of a case that changes in shape and composition.

    ours: the PSNR of its first volume, dB. surface: over that of the truth. mixing: how far its index is off.
    """
    run = write_run(folder)
    volumes = [ball(3 + 0.8 * t) for t in range(FRAMES)]
    write_volumes(run / "volumes.ome.tif", volumes, shape=(FRAMES, EDGE, EDGE, EDGE), times_s=np.arange(FRAMES) * 2.0)
    metrics = read_metrics(run)
    rivals = {"sirt_whole": 20.0, "sirt_window": 25.0, "sirt_frozen": 31.0}
    methods = {name: {"psnr": [psnr] * FRAMES, "ssim": [0.85] * FRAMES} for name, psnr in rivals.items()}
    methods["dip"] = {"psnr": [ours] * FRAMES, "ssim": [0.9] * FRAMES}
    methods["sirt_window"]["psnr"][2] = None  # not scored of every frame
    extra = {"methods": methods, "parameters": 115_000, "fit_seconds": 90.0, "seconds": 120.0}
    (run / "metrics.json").write_text(json.dumps(metrics | extra))
    names = ("volume_nm3", "surface_nm2", "surface_to_volume_per_nm", "Au_nm3", "mixing_index")
    off = {"volume_nm3": 1.01, "surface_nm2": surface, "Au_nm3": 0.98}
    columns = {"time_s": np.arange(FRAMES) * 2.0}
    for name in names:
        truth = np.full(FRAMES, 0.5)
        columns |= {name: truth * off.get(name, 1) + (mixing if name == "mixing_index" else 0), f"{name}_truth": truth}
    columns["volume_nm3"][:3] = 9.0  # the first three frames do not count
    header = ",".join(columns)
    np.savetxt(run / "measures.csv", np.column_stack([*columns.values()]), delimiter=",", header=header, comments="")
    return PaperRun(folder.name, f"Run {folder.name}", run, changes=("shape", "composition"))


def measured(folder: Path, *, error: float = 0.375, times: list[float] | None = None) -> PaperRun:
    """A run of a measured series. error: of its test images, where SIRT has 0.4 and the noise 0.3."""
    run = write_run(folder, with_truth=False)
    shape = (FRAMES, EDGE, EDGE, EDGE)
    write_volumes(run / "volumes.ome.tif", [ball(5)] * FRAMES, shape=shape, times_s=np.arange(FRAMES))
    errors = {"held_out_images": {"dip": error, "sirt_window": 0.4}, "parameters": 1, "fit_seconds": 1.0}
    errors |= {"times_s": times} if times else {}
    (run / "metrics.json").write_text(json.dumps(read_metrics(run) | errors))
    return PaperRun(folder.name, "Measured", run, measured=True)


def claim(runs: list[PaperRun], words: str) -> Finding:
    (found,) = [one for one in findings(runs) if words in one.claim.words]
    return found


def said(found: Finding) -> str:
    return "; ".join(told for _, told, _ in found.told)


def test_a_claim_is_met_by_what_the_files_of_the_runs_say(tmp_path):
    run = simulated(tmp_path / "run")
    for words, told in (
        (
            "Trained solely",
            "115,000 weights from a random start, 1.5 minutes; error of rows that were not fitted 0.125",
        ),
        ("a full volume, where", "6 images, 6 volumes of 20 x 20 x 20 voxels"),
        ("temporal resolution", "PSNR 30.0 dB, worst volume 30.0; SIRT, one volume of the whole series, 20.0"),
        ("structural similarity", "PSNR 30.0 dB, conventional 31.0"),
        ("change of shape", "volume off by +1.0 % in the mean, 1.0 % at most, surface off by +3.0 %"),
        ("change of composition", "Au off by -2.0 % in the mean, 2.0 % at most; mixing index off by at most 0.020"),
    ):
        found = claim([run], words)
        assert told in said(found)
        assert found.met == "met"


@pytest.mark.parametrize(
    ("off", "words"),
    [
        ({"ours": 24.0}, "temporal resolution"),
        ({"ours": 29.9}, "structural similarity"),
        ({"surface": 1.06}, "change of shape"),
        ({"mixing": 0.06}, "change of composition"),
    ],
)
def test_a_claim_that_one_run_does_not_meet_is_met_in_part_and_by_none_not(tmp_path, off, words):
    good, bad = simulated(tmp_path / "good"), simulated(tmp_path / "bad", **off)
    assert claim([good, bad], words).met == "met by 1 of 2"
    assert claim([bad], words).met == "not met"


def test_a_measured_series_is_judged_by_its_times_and_by_images_that_nothing_has_seen(tmp_path):
    slow, unknown = [90.0 * t for t in range(FRAMES)], [float(t) for t in range(FRAMES)]
    assert claim([measured(tmp_path / "a")], "the time of every image").met == "met"
    assert "one in 90 s" in said(found := claim([measured(tmp_path / "b", times=slow)], "the time of every image"))
    assert found.met == "not met"
    assert "no times" in said(found := claim([measured(tmp_path / "c", times=unknown)], "the time of every image"))
    assert found.met == "open"
    found = claim([measured(tmp_path / "d")], "the quality is comparable")
    assert "test images: DIP-4D 0.375, SIRT, sliding window 0.400, the noise alone 0.300" in said(found)
    assert found.met == "met"
    assert claim([measured(tmp_path / "e", error=0.6)], "the quality is comparable").met == "not met"
    alloying = claim([measured(tmp_path / "f")], "alloy while")
    assert alloying.met == "open"
    assert "not public" in alloying.claim.without


def test_what_a_run_lacks_leaves_a_claim_open_and_stops_nothing(tmp_path):
    run = simulated(tmp_path / "run")
    (run.folder / "measures.csv").write_text("no,table\n1")
    (run.folder / "volumes.ome.tif").unlink()
    metrics = read_metrics(run.folder)
    del metrics["methods"]["sirt_frozen"]
    (run.folder / "metrics.json").write_text(json.dumps(metrics))
    for words in ("a full volume, where", "structural similarity", "change of shape"):
        found = claim([run], words)
        assert found.met == "open"
        assert "cannot be told" in said(found)


def test_the_paper_has_the_numbers_of_its_abstract_and_no_other():
    assert [c.paper for c in CLAIMS if c.paper != NOT_GIVEN] == ["100 images, 100 volumes", "about 1 volume per minute"]


def test_the_page_holds_claims_runs_and_figures_and_asks_for_nothing_else(tmp_path):
    runs = [
        simulated(tmp_path / "one"),
        measured(tmp_path / "two"),
        PaperRun(
            "three", "Run three", tmp_path / "three", measured=True, problem="there is no <file>; get it with: get"
        ),
    ]
    found = findings(runs)
    page, table = write_paper(found, runs, folder=tmp_path)
    text = page.read_text()
    assert text.count("<tr>") == 2 + len(CLAIMS) + len(runs)
    for words in (
        "no result: there is no &lt;file&gt;",
        'href="one/report.html"',
        "not given",
        'id="figure1"',
        "doubtful",
    ):
        assert words in text
    assert set(re.findall(r'href="#(\w+)"', text)) == set(re.findall(r'figure id="(\w+)"', text)) == {"figure1"}
    own = text.replace((Path(__file__).parents[2] / "dip4d/report/page/three.min.js").read_text(), "")
    assert not re.search(r"""src=["'](?!data:)|@import|url\(|fetch\(|https?://(?!www\.w3\.org)""", own)
    assert "no result: there is no <file>" in table.read_text()
    assert "[Run one](one/report.html)" in table.read_text()
    first = page.read_bytes(), table.read_bytes()
    write_paper(found, runs, folder=tmp_path)
    assert (page.read_bytes(), table.read_bytes()) == first
    assert lines_of(found)[1].startswith("met: Simulated: for every image")


def test_there_is_a_page_without_any_result(tmp_path):
    runs = [PaperRun("one", "Run one", tmp_path / "one", problem="not run yet")]
    page, _ = write_paper(findings(runs), runs, folder=tmp_path, quick=True)
    assert "0 of 9 claims met" in page.read_text()
    assert page.stat().st_size < 100_000
