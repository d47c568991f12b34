"""What only a GPU can show runs, as far as a CPU can tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.helpers import ROOT
from tests.interpreted import need_triton

need_triton()


def test_kernels_agree_with_plain_torch_in_a_dry_call():
    words = [sys.executable, "benchmarks/gpu_suite.py", "--dry", "--parts", "projector", "kernels"]
    done = subprocess.run(words, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    _, projector, kernels = done.stdout.split("== ")
    found = json.loads(projector[projector.index("{") : projector.rindex("}") + 1])
    assert max(v for case in found.values() for v in case.values()) < 1e-5
    found = json.loads(kernels[kernels.index("{") : kernels.rindex("}") + 1])
    assert {"rows, float32", "variation, float32", "normalisation, float32"} == found.keys()
    assert max(v for case in found.values() for v in case) < 1e-5
