"""Hints name the program that was called, and what lies in the folder of a run is never half written."""

from __future__ import annotations

import json
import sys

import pytest

from dip4d.config.schema import Run
from dip4d.errors import InputError
from dip4d.run_folder import METRICS, add_metrics, in_use, prepare, read_metrics, reconstruct_command, replace_with


@pytest.mark.parametrize(
    ("called", "command"),
    [
        ("train.py", "python train.py"),
        ("/a/b/train.py", "python train.py"),
        ("/a/dip4d/__main__.py", "python -m dip4d reconstruct"),
        ("/usr/bin/dip4d", "dip4d reconstruct"),
        ("", "dip4d reconstruct"),
    ],
)
def test_a_hint_can_be_pasted_where_it_was_printed(monkeypatch, called, command):
    monkeypatch.setattr(sys, "argv", [called])
    assert reconstruct_command() == command


def test_metrics_are_added_entry_by_entry_and_a_number_that_is_none_spoils_nothing(tmp_path):
    add_metrics(tmp_path, {"steps": 5, "methods": {}, "held_out": {"dip": 0.1}})
    add_metrics(tmp_path, {"steps": 7, "held_out": {"sirt_whole": 0.2}})
    expected = {"steps": 7, "methods": {}, "held_out": {"dip": 0.1, "sirt_whole": 0.2}}
    assert read_metrics(tmp_path) == json.loads((tmp_path / METRICS).read_text()) == expected
    with pytest.raises(ValueError, match="not JSON compliant"):
        add_metrics(tmp_path, {"held_out": {"dip": float("nan")}})
    assert read_metrics(tmp_path) == expected
    assert [file.name for file in tmp_path.iterdir()] == [METRICS]


def test_a_folder_without_metrics_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no metrics\.json; is it the folder of a finished run"):
        read_metrics(tmp_path)


def test_two_runs_do_not_write_to_one_folder_and_a_dead_one_is_in_nobodys_way(tmp_path):
    run = Run(dir=str(tmp_path / "run"))
    path = prepare(run, "x")
    with in_use(path, run), pytest.raises(InputError, match="another run is writing"), in_use(path, run):
        pass
    (path / "config.yaml").write_text("")  # and there it died
    assert (path / "run.lock").exists()
    assert prepare(run, "x") == path
    with in_use(path, run):
        assert not (path / "config.yaml").exists()
        (path / "checkpoint.ckpt").write_text("")
    assert not (path / "run.lock").exists()
    with pytest.raises(InputError, match="already holds a run"):
        prepare(run, "x")


def test_overwrite_removes_nothing_before_the_new_run_writes(tmp_path):
    (tmp_path / "checkpoint.ckpt").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    run = Run(dir=str(tmp_path), overwrite=True)
    prepare(run, "x")
    assert (tmp_path / "checkpoint.ckpt").exists()
    with in_use(tmp_path, run):
        assert {f.name for f in tmp_path.iterdir()} == {"notes.txt", "run.lock"}


def test_a_replacement_that_was_interrupted_is_gone_on_with(tmp_path):
    newer = tmp_path / "going_on"
    newer.mkdir()
    for folder, words in ((tmp_path, "old"), (newer, "new")):
        for name in ("config.yaml", "metrics.json", "volumes.ome.tif"):
            (folder / name).write_text(words)
    (newer / "volumes.ome.tif").replace(tmp_path / "volumes.ome.tif")  # so far it had come
    replace_with(tmp_path, newer)
    assert {f.read_text() for f in tmp_path.iterdir()} == {"new"}


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"methods": 3}', b"\xff\xfe", b"{", b"[" * 10**5])
def test_damaged_metrics_are_named_with_the_remedy(tmp_path, data):
    (tmp_path / METRICS).write_bytes(data)
    with pytest.raises(InputError, match=r"metrics\.json: .*run\.resume=true"):
        read_metrics(tmp_path)
