"""One tilt series in, one volume for every image out: ``python train.py [config.yaml ...] [key=value ...]``."""

import sys

from dip4d.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["reconstruct", *sys.argv[1:]]))
