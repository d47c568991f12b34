"""The commands of `dip4d`: every one has help, and says in one line what it cannot use."""

from __future__ import annotations

import re

import pytest

from dip4d.__main__ import COMMANDS, main


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "reconstruct"])
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    assert "usage: dip4d " + command in capsys.readouterr().out


@pytest.mark.parametrize("ask", ["-h", "--help"])
def test_the_help_of_reconstruct_is_its_keys(ask, capsys):
    assert main(["reconstruct", ask]) in (0, 3)
    said = capsys.readouterr().out
    for words in ("dip4d reconstruct [config.yaml ...] [key=value ...]", "train.max_minutes= ", "simulate.size=64"):
        assert words in said


def test_the_list_of_commands_names_all(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert "usage: dip4d" in said
    assert re.findall(r"^ {4}(\w+)", said, re.MULTILINE) == list(COMMANDS)


def test_errors_are_one_line_and_exit_with_2(tmp_path, capsys):
    for wrong in (
        ["inspect", str(tmp_path / "nothing.mrc")],
        ["inspect", str(tmp_path), "--out", __file__],
        ["export", str(tmp_path), "--format", "npy"],
        ["view", str(tmp_path)],
        ["report", str(tmp_path)],
        ["reconstruct", "no.such.key=1", f"run.dir={tmp_path / 'run'}"],
    ):
        assert main(wrong) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
