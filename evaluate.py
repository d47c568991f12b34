"""The tables and figures of saved runs: ``python evaluate.py RUN [RUN ...]``."""

import sys

from dip4d.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["report", *sys.argv[1:]]))
