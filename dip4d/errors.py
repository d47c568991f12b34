"""What ends a program early: what the user gave cannot be used, or the system wants it to end."""

from __future__ import annotations

import errno


class InputError(ValueError):
    """A file, an argument or a value that cannot be used. All programs print it in one line and exit with code 2.

    argument: the name of the argument at fault, where there is one, such as `exclude`. The library speaks of arguments;
    a command line adds the key or the option that sets it (`dip4d.commands.door`).
    """

    def __init__(self, message: str, *, argument: str | None = None) -> None:
        super().__init__(message)
        self.argument = argument


class TerminatedError(BaseException):
    """The system wants the program to end, by SIGTERM or, under SLURM, SIGUSR1. All programs exit with 143 then."""


def in_words(error: OSError) -> str:
    """What the disk refuses, and what to do, in one line."""
    what = " ".join(str(error).split())
    remedy = {
        errno.ENOSPC: "the disk is full, make room",
        errno.EDQUOT: "your quota is used up, make room",
        errno.EACCES: "name a folder in which you may write",
        errno.EPERM: "name a folder in which you may write",
        errno.EROFS: "name a folder on a disk that can be written",
    }.get(error.errno or 0)
    return f"{what}: {remedy}" if remedy else what
