"""Every logger leaves its traces in the folder of the run, without an account."""

from __future__ import annotations

from tests.helpers import run


def test_every_logger(tmp_path, small, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("WANDB_MODE", "offline")
    small += ["train.steps=3", "compare.methods=[sirt_whole]"]
    for logger, trace in (("wandb", "*.wandb"), ("tensorboard", "events.out.tfevents*"), ("csv", "metrics.csv")):
        run(tmp_path / logger, *small, f"logger={logger}")
        assert list((tmp_path / logger / "tracking").rglob(trace))
