"""A fit that is shared out among processes is the fit of one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from dip4d.__main__ import main
from dip4d.config.load import load_config
from dip4d.errors import InputError
from dip4d.experiment.several import wanted
from dip4d.run_folder import is_complete, read_metrics
from tests.helpers import ROOT, run, weights

TWO = ["trainer.devices=2", "trainer.strategy=ddp"]


def test_two_processes_fit_what_one_does(tmp_path, small):
    small += ["simulate.size=8", "network.channels=8", "train.steps=20", "compare.methods=[]", "data.margin_px=2"]
    one = run(tmp_path / "one", *small)
    folder = tmp_path / "two"
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", *small, *TWO, f"run.dir={folder}"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 3, done.stderr  # not usable after so few steps
    assert "MEMBER: 2/2" in done.stderr + done.stdout
    assert is_complete(folder)
    assert [f.name for f in tmp_path.iterdir()].count("runs") == 0
    assert not (folder / "handed_over.pt").exists()
    two = read_metrics(folder)
    assert two["steps"] == one["steps"] == 20
    assert two["held_out"]["dip"] == pytest.approx(one["held_out"]["dip"], rel=1e-3)
    for name, value in weights(tmp_path / "one").items():
        torch.testing.assert_close(weights(folder)[name], value, rtol=0.02, atol=2e-3)


def test_what_several_devices_cannot_do_is_refused(small, monkeypatch, capsys):
    assert main(["reconstruct", *small, *TWO, "train.max_minutes=1"]) == 2
    assert "give train.steps=N instead of train.max_minutes" in capsys.readouterr().err
    assert main(["reconstruct", *small, *TWO, "train.slices=1"]) == 2
    assert "needs train.slices=2 or more" in capsys.readouterr().err
    assert not wanted(load_config(small))
    monkeypatch.setenv("LOCAL_RANK", "0")
    with pytest.raises(InputError, match="start one process"):
        wanted(load_config([*small, *TWO]))
