"""DIP-4D: one 3D volume for every image of a tilt series."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from dip4d.commands.door import through_the_door

COMMANDS = (
    "inspect",
    "align",
    "reconstruct",
    "report",
    "twin",
    "plan",
    "export",
    "view",
    "example",
)  # in the order of --help


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dip4d", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name in COMMANDS:
        module = _module(name)
        command = commands.add_parser(name, help=module.SUMMARY, description=module.__doc__)
        if not hasattr(module, "main"):
            module.add_arguments(command)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; the exit code, as `through_the_door` says."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    module = _module(arguments[0]) if arguments and arguments[0] in COMMANDS else None
    if module is not None and hasattr(module, "main"):  # its arguments are keys
        return through_the_door(lambda: module.main(arguments[1:]), arguments=module.ARGUMENTS)
    parsed = build_parser().parse_args(arguments)
    module = _module(parsed.command)
    return through_the_door(lambda: module.run(parsed), arguments=module.ARGUMENTS)


def _module(name: str):
    return importlib.import_module(f"dip4d.commands.{name}")


if __name__ == "__main__":
    sys.exit(main())
