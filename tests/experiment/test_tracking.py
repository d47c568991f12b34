"""Every logger leaves its traces in the folder of the run, without an account; none ends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from wandb.proto import wandb_internal_pb2

from dip4d.config.load import load_config
from dip4d.errors import InputError
from dip4d.experiment import tracking
from dip4d.experiment.tracking import Tracker, hint, make_logger
from dip4d.report.measures_table import read_measures
from tests.helpers import ROOT, run

Record = vars(wandb_internal_pb2)["Record"]


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


def records(folder: Path) -> list:
    """What W&B wrote offline, once it is all there: W&B closes its log after the run that it logs has gone on."""
    (file,) = folder.rglob("*.wandb")
    until = time.monotonic() + 60
    while not (found := records_of(file.read_bytes())) or found[-1].WhichOneof("record_type") != "exit":
        assert time.monotonic() < until, f"{file} has no end"
        time.sleep(0.1)
    return found


def records_of(data: bytes) -> list:
    """A log as LevelDB has it: blocks of 32 KiB, records cut at their ends."""
    at, whole, found = 7, b"", []
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        if at + 7 + length > len(data):
            break  # written in part
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole one, or the last part of one
            found.append(Record.FromString(whole))
            whole = b""
    return found


def told(folder: Path, kind: str) -> dict:
    """All updates of one kind of record, by their names; the last of each."""
    found = [
        item for r in records(folder) if r.WhichOneof("record_type") == kind for item in updates_of(getattr(r, kind))
    ]
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in found}


def updates_of(record) -> list:
    return list(record.item if hasattr(record, "item") else record.update)


def test_w_and_b_has_all_that_a_run_found(tmp_path, small, monkeypatch, logged):
    monkeypatch.setenv("WANDB_MODE", "offline")
    keys = ["logger=wandb", "tracking.artifacts=true", "tracking.group=balls", "tracking.tags=[first,small]"]
    keys += ["output.figures=true"]
    metrics = run(tmp_path, *small, "train.steps=3", "compare.methods=[sirt_whole]", "network.name=voxels", *keys)

    assert [m for r in logged if "tracked no further" in (m := r.getMessage())] == []
    summary = told(tmp_path, "summary")
    psnr = metrics["methods"]["dip"]["psnr"]
    assert summary["psnr_mean"] == pytest.approx(sum(psnr) / len(psnr))
    assert summary["psnr_worst"] == pytest.approx(min(psnr))
    assert summary["ssim_worst"] == pytest.approx(min(metrics["methods"]["dip"]["ssim"]))
    assert summary["validation_error"] == metrics["held_out"]["dip"]
    assert summary["test_error"] == metrics["held_out_images"]["dip"]
    assert summary["verdict"].startswith(metrics["verdict"]["level"])

    history = told(tmp_path, "history")
    measured = read_measures(tmp_path / "measures.csv")
    assert history["measures/volume_px3"] == pytest.approx(measured["volume_px3"][-1])
    assert {"figures/orthoslices_yx", "figures/quality"} <= {name.removesuffix("/_type") for name in history}
    (table,) = (tmp_path / "tracking").rglob("comparison*.table.json")
    assert [row[0] for row in json.loads(table.read_text())["data"]][:2] == [
        "Bounded low rank, voxels",
        "SIRT, whole series",
    ]

    derived = told(tmp_path, "config")["derived"]
    assert derived["steps"] == 3
    assert derived["made"] == metrics["made"]
    assert derived["statistics"] == metrics["statistics"]
    assert derived["statistics"]["noise"] > 0

    (began,) = (r.run for r in records(tmp_path) if r.WhichOneof("record_type") == "run")
    assert (began.run_group, list(began.tags)) == ("balls", ["first", "small"])
    (artifact,) = (
        r.artifact
        for r in records(tmp_path)
        if r.WhichOneof("record_type") == "artifact"
        if r.artifact.type == "reconstruction"
    )
    assert {entry.path for entry in artifact.manifest.contents} == set(tracking.SENT)


def test_the_orthoslices_of_a_fit_are_as_bright_at_every_step(tmp_path):
    sent = []
    tracker = Tracker(CSVLogger(tmp_path))
    tracker.kept = type(
        "Fake", (WandbLogger,), {"__init__": lambda self: None, "log_image": lambda self, n, p, step: sent.append(p[0])}
    )()
    for brightest in (1.0, 2.0):
        tracking.log_picture(tracker, "orthoslices", picture=np.array([[0.5, brightest]]), vmax=2.0, step=1)
    assert [picture[0, 0] for picture in sent] == [63, 63]


def test_a_sweep_names_keys_that_there_are_and_sorts_by_the_error_of_validation_rows():
    sweep = yaml.safe_load((ROOT / "configs" / "sweep.yaml").read_text())
    keys = [f"{name}={(of.get('values') or [of.get('min')])[0]}" for name, of in sweep["parameters"].items()]
    given = [part for part in sweep["command"] if not part.startswith("$")]
    assert load_config([str(ROOT / p) if p.endswith(".yaml") else p for p in given] + keys).tracking.group == "sweep"
    metrics = {"methods": {"dip": {}}, "held_out": {"dip": 0.25}}
    assert tracking.final_scores(metrics) == {sweep["metric"]["name"]: 0.25}


def test_a_tag_that_w_and_b_does_not_take_is_refused():
    with pytest.raises(InputError, match=r"tracking.tags=\w+ must have 1 to 64"):
        load_config([f"tracking.tags=[{'a' * 65}]"])
