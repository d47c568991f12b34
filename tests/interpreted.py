"""Kernels in Triton: on a GPU where there is one, else in Triton's interpreter; without Triton, skipped."""

from __future__ import annotations

import importlib.util
import os

import pytest
import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def interpreted() -> bool:
    """Whether kernels can run: on a GPU, or in the interpreter."""
    if importlib.util.find_spec("triton") is None:
        return False
    if DEVICE == "cuda":
        return True
    os.environ["TRITON_INTERPRET"] = "1"  # too late when something has imported triton before: lightning does
    import triton.language as tl

    return type(tl.cdiv).__name__ == "InterpretedFunction"


def need_triton() -> None:
    """Skips the tests of a file where kernels cannot run."""
    if not interpreted():
        pytest.skip("no Triton, or it was imported before TRITON_INTERPRET=1 was set", allow_module_level=True)
