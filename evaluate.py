"""The tables and figures of saved runs.

    python evaluate.py RUN [RUN ...]

Reads only what lies in the folders of the runs and writes to their `figures`.
"""

import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    if not arguments or {"-h", "--help"} & set(arguments):
        print(__doc__.strip())
        return 0 if arguments else 2

    from dip4d.errors import InputError
    from dip4d.report import summarise

    try:
        drawn = summarise([Path(a) for a in arguments])
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(f"  {path}" for path in drawn))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
