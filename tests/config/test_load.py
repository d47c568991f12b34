"""The configuration refuses, by name, what does not fit, and understands the names of the version before."""

from __future__ import annotations

import pytest

from dip4d.config.load import check_same_run, config_of, help_text, load_config, save_config
from dip4d.config.schema import RENAMED, Config
from dip4d.errors import InputError


def test_defaults_files_and_overrides(tmp_path):
    assert load_config([]) == Config()
    (tmp_path / "a.yaml").write_text("train: {steps: 5, slices: 2}\ndata: {crop: [0, 4, 1, 9]}\n")
    config = load_config([str(tmp_path / "a.yaml"), "train.steps=7", "--simulate.peak_counts=0", "trainer.devices=1"])
    assert (config.train.steps, config.train.slices, config.simulate.peak_counts) == (7, 2, 0)
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
        ("data.validation_rows=0.9", "at most 0.5"),
        ("simulate.peak_counts=nan", "simulate.peak_counts=nan"),
        ("simulate.specimen=nanostr", "did you mean nanostar"),
        ("simulate.n_z=0", "simulate.n_z=0 must be at least 2"),
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
    for name in ("run.dir", "data.tilt_axis=auto", "simulate.size=64", "train.max_minutes", "logger=wandb", "trainer="):
        assert name in text


def test_a_preset_is_one_argument_and_later_ones_win():
    config = load_config(["network=dipster", "train.slices=8"])
    assert (config.network.name, config.train.loss, config.train.rows, config.train.slices) == (
        "dipster", "geman_mcclure", 1, 8)  # fmt: skip
    with pytest.raises(InputError, match="network=dipstr: must be one of dip, dipster, tddip, voxels"):
        load_config(["network=dipstr"])
    assert load_config(["network={channels: 16}"]).network.channels == 16


OLD_VALUES = {
    "data.hold_out": 0.125,
    "data.hold_out_images": 0.0625,
    "data.hold_out_in_a_row": 3,
    "simulate.depth": 5,
    "simulate.dose": 250.0,
    "network.wavelength": 6.0,
    "network.brightest": 7.5,
    "network.clock": False,
    "train.smoothness": 1.5,
    "train.steadiness": 0.5,
    "train.average": 0.75,
}


@pytest.mark.parametrize("old", RENAMED)
def test_a_key_of_the_version_before_means_what_it_did_and_one_line_says_its_new_name(old, logged):
    new, value = RENAMED[old], OLD_VALUES[old]
    config = load_config([f"{old}={value}"])
    (record,) = logged
    assert record.levelname == "WARNING"
    assert old in record.getMessage()
    assert new in record.getMessage()
    assert "\n" not in record.getMessage()
    section, name = new.split(".")
    assert getattr(getattr(config, section), name) == value
    assert config == load_config([f"{new}={value}"]) == config_of(**{old: value}) != Config()
    assert load_config([f"{section}={{{old.split('.')[1]}: {value}}}"]) == config


def test_a_file_of_the_version_before_gets_one_line_and_is_saved_under_the_new_names(tmp_path, logged):
    lines = {section: [] for section in ("data", "simulate", "network", "train")}
    for old, value in OLD_VALUES.items():
        section, name = old.split(".")
        lines[section].append(f"{name}: {str(value).lower()}")
    old = tmp_path / "old.yaml"
    old.write_text("\n".join(f"{section}: {{{', '.join(keys)}}}" for section, keys in lines.items()))
    config = load_config([str(old)])
    (record,) = logged
    assert str(old) in record.getMessage()
    assert all(f"{a} is now {b}" in record.getMessage() for a, b in RENAMED.items())
    assert config == load_config([f"{RENAMED[name]}={value}" for name, value in OLD_VALUES.items()])
    save_config(config, tmp_path / "new.yaml")
    assert load_config([str(tmp_path / "new.yaml")]) == config
    assert len(logged) == 1  # nothing more was said


@pytest.mark.parametrize("old", RENAMED)
def test_an_old_and_a_new_name_together_are_refused(old, tmp_path):
    section, new = RENAMED[old].split(".")
    value = str(OLD_VALUES[old]).lower()
    both = f"{{{old.split('.')[1]}: {value}, {new}: {value}}}"
    (tmp_path / "both.yaml").write_text(f"{section}: {both}\n")
    for argument in (f"{section}={both}", str(tmp_path / "both.yaml")):
        with pytest.raises(InputError, match=f"{old} is the old name of {RENAMED[old]}; give one of them"):
            load_config([argument])


def test_a_new_name_wins_over_an_old_one_in_an_earlier_file(tmp_path):
    (tmp_path / "old.yaml").write_text("simulate: {dose: 5}\n")
    assert load_config([str(tmp_path / "old.yaml"), "simulate.peak_counts=6"]).simulate.peak_counts == 6
    assert load_config(["simulate.peak_counts=6", str(tmp_path / "old.yaml")]).simulate.peak_counts == 5


def test_python_values_make_the_configuration_that_arguments_do():
    assert config_of() == Config()
    arguments = ["network=dipster", "train.steps=500", "data.crop=[0,4,1,9]", "run.seed=3"]
    assert config_of(network="dipster", train={"steps": 500}, data={"crop": [0, 4, 1, 9]}, **{"run.seed": 3}) == (
        load_config(arguments)
    )
    with pytest.raises(InputError, match=r"did you mean train\.steps"):
        config_of(train={"stpes": 500})


def test_a_run_goes_on_with_what_it_began_with_whatever_names_its_keys_had(tmp_path):
    (tmp_path / "config.yaml").write_text("simulate: {size: 20, dose: 5}\ntrain: {steps: 7}\n")
    config = check_same_run(tmp_path / "config.yaml", ["train.steps=9"])
    assert (config.simulate.peak_counts, config.train.steps) == (5, 9)
    with pytest.raises(InputError, match=r"cannot resume with simulate\.peak_counts=6"):
        check_same_run(tmp_path / "config.yaml", ["simulate.peak_counts=6"])


@pytest.mark.parametrize(
    "path", ["/x/a #1.mrc", "/x/a: b.mrc", "[a].mrc", "*.mrc", "1e5", "s's.mrc", "a,b=c.mrc", "yes"]
)
def test_a_path_is_taken_as_it_is(path):
    assert load_config([f"data.path={path}"]).data.path == path


def test_a_tilde_is_home_and_nothing_is_none(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    config = load_config(["data.path=~/s.mrc", "run.dir=~/run", "data.angles=null", "data.truth='a b'"])
    assert (config.data.path, config.run.dir, config.data.angles) == ("/home/me/s.mrc", "/home/me/run", None)
    assert config.data.truth == "a b"
