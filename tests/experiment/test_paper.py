"""The cases of the paper: what is missing is run, what is there is left alone, what fails stops nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dip4d.__main__ import main
from dip4d.config.load import load_config, save_config
from dip4d.experiment import paper
from dip4d.experiment.paper import CASES, Case, make_paper
from tests.conftest import SMALL
from tests.helpers import ROOT

TINY = tuple(key for key in SMALL if not key.startswith(("logger", "output.figures")))


@pytest.fixture
def asked(monkeypatch) -> list[list[str]]:
    """The arguments of the runs that were asked for; each is whole at once, but those of a specimen that is no one."""
    asked = []

    def run(arguments):
        asked.append(list(arguments))
        folder = Path(next(a for a in arguments if a.startswith("run.dir="))[8:])
        if "simulate.specimen=nothing" in arguments:
            return 2, "error: simulate.specimen=nothing must be one of ..."
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps({"methods": {}, "complete": True}))
        save_config(load_config([a for a in arguments if not a.startswith("run.")]), folder / "config.yaml")
        return 3, ""

    monkeypatch.setattr(paper, "_in_own_process", run)
    return asked


def cases(monkeypatch, *some: Case) -> None:
    monkeypatch.setattr(paper, "CASES", some)


def test_what_is_there_is_left_alone_and_what_was_interrupted_goes_on(tmp_path, asked, monkeypatch):
    cases(monkeypatch, Case("one", "One", ("simulate.size=16",)), Case("two", "Two", ("simulate.size=20",)))
    assert make_paper(tmp_path)[1]
    assert [a[-1] for a in asked] == [f"run.dir={tmp_path / 'one'}", f"run.dir={tmp_path / 'two'}"]
    (tmp_path / "two" / "metrics.json").unlink()
    asked.clear()
    assert make_paper(tmp_path)[1]
    assert [a[-2:] for a in asked] == [[f"run.dir={tmp_path / 'two'}", "run.resume=true"]]


def test_a_case_that_fails_or_lacks_its_file_stops_no_other_and_is_told(tmp_path, asked, monkeypatch):
    monkeypatch.setattr(paper, "PLACES", (str(tmp_path / "data"),))
    monkeypatch.delenv(paper.DATA_FOLDER, raising=False)
    series = Case("far", "Far", (), files=("far.mrc",), source="a look at the Moon")
    wrong = Case("wrong", "Wrong", ("simulate.specimen=nothing",))
    cases(monkeypatch, series, wrong, Case("good", "Good", ("simulate.size=16",)))
    paths, whole = make_paper(tmp_path / "paper")
    assert not whole
    table = next(p for p in paths if p.suffix == ".md").read_text()
    assert f"there is no far.mrc in {tmp_path / 'data'}; get it with: a look at the Moon" in table
    assert "no result: simulate.specimen=nothing must be one of" in table
    assert "[Good](good/report.html)" in table
    cases(monkeypatch, series)
    assert make_paper(tmp_path / "other")[1]  # a missing file is no failure


def test_a_run_of_other_settings_is_not_taken_for_a_case(tmp_path, asked, monkeypatch):
    cases(monkeypatch, Case("one", "One", ("simulate.size=16",), quick=("simulate.size=12",)))
    make_paper(tmp_path, quick=True)
    assert "simulate.size=12" in asked[0]
    paths, whole = make_paper(tmp_path)
    assert (len(asked), whole) == (1, False)
    assert "one holds a run of other settings" in paths[1].read_text()


def test_the_images_of_a_measured_series_are_placed_first(tmp_path, asked, monkeypatch):
    (tmp_path / "far.mrc").touch()
    monkeypatch.setenv(paper.DATA_FOLDER, str(tmp_path))
    cases(monkeypatch, Case("far", "Far", ("data.bin=2",), files=("far.mrc",), placed=True))
    make_paper(tmp_path / "paper")
    before, after = asked
    assert f"data.path={tmp_path / 'far.mrc'}" in before
    assert "align.refine=true" in before
    assert f"align.shifts={tmp_path / 'paper' / 'far_displacements' / 'shifts.csv'}" in after
    (tmp_path / "far.mrc").unlink()
    make_paper(tmp_path / "paper")  # what is there needs no file any more
    assert len(asked) == 2


def test_ctrl_c_ends_all_and_the_page_tells_what_is_there(tmp_path, asked, monkeypatch):
    whole = Case("whole", "Whole", ("simulate.size=16",))
    cases(monkeypatch, whole)
    make_paper(tmp_path)

    def stop(arguments):
        (tmp_path / "begun").mkdir()
        save_config(load_config([]), tmp_path / "begun" / "config.yaml")
        raise KeyboardInterrupt

    monkeypatch.setattr(paper, "_in_own_process", stop)
    cases(monkeypatch, Case("begun", "Begun", ()), Case("later", "Later", ()), whole)
    with pytest.raises(KeyboardInterrupt):
        make_paper(tmp_path)
    table = (tmp_path / "paper.md").read_text()
    for words in (
        "| Begun | simulated | - | no result: interrupted; the same command goes on with it |",
        "| Later | simulated | - | no result: not run yet |",
        "| [Whole](whole/report.html) | simulated | - | no verdict |",
    ):
        assert words in table


def test_a_tiny_paper_is_run_for_real_and_not_run_again(tmp_path, monkeypatch, capfd):
    one = Case("one", "One", (*TINY, "train.steps=4", "compare.methods=[]"), changes=("shape",))
    cases(monkeypatch, one, Case("two", "Two", ("simulate.size=7",)))
    command = ["report", "--paper", "--out", str(tmp_path)]
    assert main(command) == 1
    said = capfd.readouterr()
    assert "error: simulate.size=7 must be at least 8" in said.err
    assert "12 images, 12 volumes of 16 x 16 x 16 voxels" in (tmp_path / "paper.md").read_text()
    assert 'src="data:image/png' in (tmp_path / "paper.html").read_text()
    made = (tmp_path / "one" / "metrics.json").stat().st_mtime_ns
    cases(monkeypatch, one)
    assert main(command) == 0
    assert (tmp_path / "one" / "metrics.json").stat().st_mtime_ns == made


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name the folder of a finished run, or give --paper"),
        (["--quick"], "--quick and --out go with --paper"),
        (["run", "--paper"], "--paper makes runs of its own"),
        (["--paper", "--movie"], "--paper makes runs of its own"),
    ],
)
def test_what_does_not_go_together_is_refused_in_a_line(arguments, words, capsys):
    assert main(["report", *arguments]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(("name", "file"), [("needle", "needle.yaml"), ("liquid", "emat_liquid.yaml")])
def test_a_measured_case_is_the_configuration_of_that_series(name, file):
    (case,) = [case for case in CASES if case.name == name]
    theirs = load_config([str(ROOT / "configs" / file)])
    theirs.data.path = None
    assert load_config(case.keys) == theirs


def test_all_cases_are_configurations_quick_ones_too():
    for case in CASES:
        assert load_config([*case.keys, *case.quick]) != load_config(case.keys)
