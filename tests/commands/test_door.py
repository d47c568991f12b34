"""The door between the library and whoever types a command: codes, one line for an error, hints, what is printed."""

from __future__ import annotations

import logging

import pytest

from dip4d.commands.door import open_door, through_the_door
from dip4d.errors import InputError


def raising(error: BaseException):
    def run() -> None:
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (
            InputError("exclude=[9]: no image 9", argument="exclude"),
            2,
            "error: exclude=[9]: no image 9 (key data.exclude)\n",
        ),
        (InputError("other=1 is wrong", argument="other"), 2, "error: other=1 is wrong\n"),
        (InputError("a.mrc: the file is empty"), 2, "error: a.mrc: the file is empty\n"),
        (OSError("no space left"), 2, "error: no space left\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_an_error_is_one_line_that_says_what_to_write(error, code, says, capsys):
    assert through_the_door(raising(error), arguments={"exclude": "key data.exclude"}) == code
    said = capsys.readouterr()
    assert said.err == says
    assert said.out == ""


def test_what_is_no_fault_of_the_user_is_raised():
    with pytest.raises(ZeroDivisionError):
        through_the_door(lambda: 1 / 0, arguments={})


def test_what_the_library_logs_is_printed_once_and_warnings_are_marked(capsys):
    def run() -> None:
        open_door()  # once more
        logging.getLogger("dip4d.somewhere").info("so many images")
        logging.getLogger("dip4d.somewhere").warning("a bad one")
        logging.getLogger("dip4d.somewhere").debug("of no interest")

    assert through_the_door(run, arguments={}) == 0
    assert capsys.readouterr().out == "so many images\nwarning: a bad one\n"
