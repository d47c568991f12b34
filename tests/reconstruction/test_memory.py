"""Buffers of a fit are kept from step to step, and given back in the end."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import pytest
import torch

from dip4d.reconstruction.memory import keep_buffers

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the allocator of the GNU C library")


def resident_mib() -> float:
    """Memory of this process, MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def test_buffers_are_soon_asked_of_the_system_no_more():
    with keep_buffers():
        for _ in range(40):  # until each has found its place
            torch.ones(2**22)  # 16 MiB, 4096 pages of 4 KiB
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(10):
            torch.ones(2**22)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 2 * 4096


def test_what_was_kept_is_given_back():
    before = resident_mib()
    with keep_buffers():
        buffers = [torch.ones(2**22) for _ in range(20)]  # 320 MiB
        del buffers
        assert resident_mib() > before + 250
    assert resident_mib() < before + 100
