"""Real configurations, shrunken; real files, where they are at hand; what the library logs."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before anything imports Triton

if "PYTEST_XDIST_WORKER" in os.environ:  # several files of tests at a time, a thread each
    torch.set_num_threads(1)

SMALL = [
    "simulate.size=16",
    "simulate.frames=12",
    "network.channels=16",
    "network.rank=4",
    "network.motion=never",
    "train.steps=30",
    "train.max_minutes=null",
    "train.slices=4",
    "compare.iterations=10",
    "compare.windows=[6]",
    "logger=csv",
    "output.figures=false",
    "trainer.accelerator=cpu",
]


@pytest.fixture
def small() -> list[str]:
    """The default run, small enough for seconds."""
    return list(SMALL)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def logged() -> Iterator[list[logging.LogRecord]]:
    """What the library logs during the test, as it comes, whether or not a command prints it."""
    library, records = logging.getLogger("dip4d"), []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler, level = Keep(), library.level
    library.addHandler(handler)
    library.setLevel(logging.INFO)
    yield records
    library.removeHandler(handler)
    library.setLevel(level)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of measured tilt series; the test is skipped where there is none."""
    folder = Path(os.environ.get("DIP4D_REAL_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "emat_liquid_N6.mrc").exists():
        pytest.skip(f"no measured tilt series in {folder}; name their folder in DIP4D_REAL_DATA")
    return folder
