"""Hints name the program that was called, and what lies in the folder of a run is never half written."""

from __future__ import annotations

import json
import sys

import pytest

from dip4d.errors import InputError
from dip4d.run_folder import METRICS, add_metrics, read_metrics, reconstruct_command


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
    add_metrics(tmp_path, {"steps": 5, "held_out": {"dip": 0.1}})
    add_metrics(tmp_path, {"steps": 7, "held_out": {"sirt_whole": 0.2}})
    expected = {"steps": 7, "held_out": {"dip": 0.1, "sirt_whole": 0.2}}
    assert read_metrics(tmp_path) == json.loads((tmp_path / METRICS).read_text()) == expected
    with pytest.raises(ValueError, match="not JSON compliant"):
        add_metrics(tmp_path, {"held_out": {"dip": float("nan")}})
    assert read_metrics(tmp_path) == expected
    assert [file.name for file in tmp_path.iterdir()] == [METRICS]


def test_a_folder_without_metrics_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no metrics\.json; is it the folder of a finished run"):
        read_metrics(tmp_path)
