"""Buffers of a fit are kept, and given back afterwards."""

from __future__ import annotations

import resource
import sys

import pytest
import torch

from dip4d.reconstruction.memory import keep_buffers


def faults_of_ten_buffers() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**22)  # 16 MiB, 4096 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the allocator of the GNU C library")
def test_a_buffer_is_asked_of_the_system_once_and_given_back_in_the_end():
    with keep_buffers():
        torch.ones(2**22)
        assert faults_of_ten_buffers() < 2 * 4096
    assert faults_of_ten_buffers() > 5 * 4096
