"""The one exception that means: what the user gave cannot be used, and this line says why and what to do."""

from __future__ import annotations


class InputError(ValueError):
    """A file, an argument or a value that cannot be used. All programs print it in one line and exit with code 2.

    argument: the name of the argument at fault, where there is one, such as `exclude`. The library speaks of arguments;
    a command line adds the key or the option that sets it (`dip4d.commands.door`).
    """

    def __init__(self, message: str, *, argument: str | None = None) -> None:
        super().__init__(message)
        self.argument = argument
