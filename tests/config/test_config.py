"""The configuration refuses, by name, what does not fit."""

from __future__ import annotations

import pytest

from dip4d.config import Config, help_text, load_config, save_config
from dip4d.errors import InputError


def test_defaults_files_and_overrides(tmp_path):
    assert load_config([]) == Config()
    (tmp_path / "a.yaml").write_text("train: {steps: 5, slices: 2}\ndata: {crop: [0, 4, 1, 9]}\n")
    config = load_config([str(tmp_path / "a.yaml"), "train.steps=7", "--simulate.dose=0", "trainer.devices=1"])
    assert (config.train.steps, config.train.slices, config.simulate.dose) == (7, 2, 0)
    assert config.data.crop == [0, 4, 1, 9]
    assert config.trainer == {"devices": 1}


def test_a_saved_configuration_repeats_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config(["data.path=x.mrc", "run.dir=there", "run.overwrite=true", "train.learning_rate=0.01"])
    save_config(config, tmp_path / "config.yaml")
    again = load_config([str(tmp_path / "config.yaml")])
    assert again.data.path == str(tmp_path / "x.mrc")
    assert (again.run.dir, again.run.overwrite) == (None, False)
    assert again.train == config.train


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("train.stpes=5", "unknown key train.stpes; did you mean train.steps"),
        ("steps=5", "unknown key steps; did you mean train.steps"),
        ("trainer.acelerator=cpu", "did you mean trainer.accelerator"),
        ("nonsense.at.all=1", "unknown key"),
        ("train.steps=many", "train.steps.*many"),
        ("train.steps=2.5", "train.steps"),
        ("train.steps=0", "train.steps=0 must be at least 1"),
        ("data.hold_out=0.9", "at most 0.5"),
        ("simulate.dose=nan", "simulate.dose=nan"),
        ("simulate.specimen=nanostr", "did you mean nanostar"),
        ("simulate.depth=0", "simulate.depth=0 must be at least 2"),
        ("simulate.jitter=-1", "simulate.jitter=-1.0 must be at least 0"),
        ("data.tilt_axis=z", "must be one of x, y"),
        ("data.crop=[1,2]", "four numbers"),
        ("data.background=dark", "auto, none or a number"),
        ("compare.methods=[sirt]", "must be one of"),
        ("run.resume=true", "needs run.dir"),
        ("missing.yaml", "no such configuration file"),
        ("train.py", "neither"),
        ("train=5", "train"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(argument, words):
    with pytest.raises(InputError, match=words) as error:
        load_config([argument])
    assert "\n" not in str(error.value)


def test_help_names_every_key():
    text = help_text()
    for name in ("run.dir", "data.tilt_axis=y", "simulate.size=64", "train.max_minutes", "logger=wandb", "trainer="):
        assert name in text
