"""The kernels compile for an H100 and keep what they hold in registers; no GPU is needed for that."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest

from tests.helpers import ROOT


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no Triton")
def test_every_kernel_compiles_and_spills_nothing():
    environment = os.environ | {"TRITON_INTERPRET": "0", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "tests.compile_kernels"]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    spilled = {line.split()[0]: int(line.split()[-2]) for line in done.stdout.splitlines()}
    assert len(spilled) == 12
    assert not any(spilled.values())
