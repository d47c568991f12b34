"""Damaged files of users: what is tried, and what counts as lost."""

from __future__ import annotations

import importlib
import json
import logging
import sys
from pathlib import Path

import numpy as np
import pytest

from dip4d.errors import InputError


@pytest.fixture
def fuzz(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    monkeypatch.setattr(logging, "disable", lambda *_: None)  # of this process
    module = importlib.import_module("fuzz")
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    return module


@pytest.fixture
def tried(fuzz, tmp_path, monkeypatch):
    """Runs the benchmark on one small series; its exit code and what it has written."""
    images = np.random.default_rng(0).poisson(50.0, (6, 9, 9)).astype(np.float32)
    (tmp_path / "files").mkdir()
    np.savez(tmp_path / "files" / "series.npz", images=images, angles=np.linspace(-60, 60, 6))
    monkeypatch.setattr(sys, "argv", ["fuzz.py", str(tmp_path / "files"), "--trials", "4"])

    def run() -> tuple[int, dict]:
        with pytest.raises(SystemExit) as ended:
            fuzz.main()
        return int(ended.value.code), json.loads((tmp_path / "fuzz.json").read_text())

    return run


def test_what_is_read_or_refused_in_a_line_is_survived(tried):
    code, found = tried()
    assert code == 0
    assert sum(found["kinds"][".npz"].values()) == 4
    assert found["lost"] == []


@pytest.mark.parametrize("error", [ValueError("oh"), InputError("two\nlines")])
def test_anything_else_is_lost(fuzz, tried, monkeypatch, error):
    def read(path):
        raise error

    monkeypatch.setattr(fuzz, "read_tilt_series", read)
    monkeypatch.setattr(fuzz, "copied", lambda source, folder: Path(fuzz.shutil.copy(source, folder)))
    monkeypatch.setattr(fuzz, "size_of", lambda path: None)
    code, found = tried()
    assert code == 1
    assert found["kinds"][".npz"] == {"lost": 4}
