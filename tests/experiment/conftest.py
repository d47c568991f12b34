"""A finished run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import SMALL
from tests.helpers import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The folder of a small run, one for all tests of a file."""
    path = tmp_path_factory.mktemp("run") / "small"
    run(path, *SMALL)
    return path
