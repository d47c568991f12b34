"""Every logger leaves its traces in the folder of the run, without an account; none ends it."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from lightning.pytorch.loggers import CSVLogger, WandbLogger

from dip4d.experiment import tracking
from dip4d.experiment.tracking import Tracker, hint, make_logger
from tests.helpers import ROOT, run


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """An account without a key of W&B, without a network, and without a home."""
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setattr(tracking, "INIT_SECONDS", 2)


def test_every_logger(tmp_path, small, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    small += ["train.steps=3", "compare.methods=[sirt_whole]"]
    for logger, trace in (("wandb", "*.wandb"), ("tensorboard", "events.out.tfevents*"), ("csv", "metrics.csv")):
        run(tmp_path / logger, *small, f"logger={logger}")
        assert list((tmp_path / logger / "tracking").rglob(trace))


def test_a_run_that_went_on_is_one_of_w_and_b_and_all_its_parts_are_named(tmp_path, nobody, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    ids = set()
    for part in (1, 2):
        tracker = make_logger("wandb", tmp_path / "tracking", config={"a": 1}, name="run")
        assert isinstance(tracker.kept, WandbLogger)
        tracker.log_metrics({"x": 1.0}, step=part)
        ids.add(tracker.kept.experiment.id)
        said = hint(tracker).split()
        assert said[:4] == ["W&B,", "offline:", "wandb", "sync"]
        assert len(said) == 4 + part
        tracker.close()
        time.sleep(1.1)  # W&B names parts by the second
    assert len(ids) == 1


IN_A_PROCESS = """
import sys
from dip4d.commands.door import open_door
from dip4d.experiment import tracking
open_door()
tracking.INIT_SECONDS = 5
tracker = tracking.make_logger("wandb", tracking.Path("tracking"), config={"a": 1}, name="run")
tracker.log_metrics({"x": 1.0}, step=1)
print(type(tracker.kept).__name__, tracking.hint(tracker))
tracker.close()
"""


def test_w_and_b_disabled_is_a_csv_file(tmp_path, nobody, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert type(make_logger("wandb", tmp_path, config={"a": 1}, name="run").kept) is CSVLogger


def test_a_key_without_a_network_stops_no_run(tmp_path, nobody):
    done = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "WANDB_API_KEY": "0" * 40},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "WandbLogger W&B, offline: wandb sync" in done.stdout
    assert "it is tracked offline" in done.stdout
    assert done.stdout.count("warning: ") == 1, done.stdout


def test_a_logger_that_fails_is_silent_from_then_on(tmp_path, logged):
    class Broken(CSVLogger):
        def log_metrics(self, *_, **__):
            raise OSError("no space left on device")

    tracker = Tracker(Broken(tmp_path))
    for step in range(3):
        tracker.log_metrics({"x": 1.0}, step)
    assert [r.getMessage() for r in logged] == ["the run is tracked no further (no space left on device); it goes on"]


WITHOUT_HOME = """
import sys
from dip4d.commands.door import through_the_door

def command():
    import matplotlib.figure
    from dip4d.experiment import tracking
    tracker = tracking.make_logger(sys.argv[1], tracking.Path("tracking"), config={"a": 1}, name="run")
    tracker.log_metrics({"x": 1.0}, step=1)
    if sys.argv[1] == "wandb":
        tracker.quietly(lambda: tracker.kept.log_table("comparison", columns=["a"], data=[[1]]))
    print(type(tracker.kept).__name__)
    tracker.close()

sys.exit(through_the_door(command, arguments={}))
"""


@pytest.mark.parametrize(("logger", "kept"), [("wandb", "WandbLogger"), ("csv", "CSVLogger")])
def test_a_home_that_cannot_be_written_is_not_needed(tmp_path, nobody, logger, kept):
    unset = ("MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_DATA_HOME")
    given = {name: value for name, value in os.environ.items() if name not in unset}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_HOME, logger],
        cwd=tmp_path,
        env={**given, "HOME": "/proc/none", "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, f"{kept}\n")
    assert "/proc/none" not in done.stderr
    assert " INFO " not in done.stderr  # of W&B, where it finds no folder for its log
