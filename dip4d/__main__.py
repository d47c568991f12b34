"""Commands around a tilt series and its reconstruction:  python -m dip4d COMMAND --help"""

from __future__ import annotations

import argparse
import importlib
import sys

COMMANDS = ("inspect", "align", "export", "view", "example")  # modules of dip4d.commands, in the order of --help


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dip4d", description=__doc__, epilog="To reconstruct: python train.py --help"
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in COMMANDS:
        module = importlib.import_module(f"dip4d.commands.{name}")
        command = commands.add_parser(name, help=module.SUMMARY, description=module.__doc__)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; 0, or 2 for what the user gave and cannot be used, or what the disk refuses."""
    parsed = build_parser().parse_args(arguments)

    from dip4d.errors import InputError

    try:
        parsed.run(parsed)
    except BrokenPipeError:  # whoever reads what is printed has seen enough, as `head` does
        sys.stdout = None
        return 0
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
