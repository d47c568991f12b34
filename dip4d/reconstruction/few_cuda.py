"""On CUDA: a few numbers, such as those of all channels, in the registers of a program, counted in powers of two."""

# What a checker cannot see of Triton: the types inside of a kernel.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def few(values, COUNT: tl.constexpr, ROOM: tl.constexpr):
    """COUNT numbers as (ROOM,) in float32, 0 beyond."""
    k = tl.arange(0, ROOM)
    return tl.load(values + k, mask=k < COUNT, other=0.0).to(tl.float32)


@triton.jit
def leave_few(to, values, COUNT: tl.constexpr, ROOM: tl.constexpr):
    """Writes the first COUNT of the numbers (ROOM,)."""
    k = tl.arange(0, ROOM)
    tl.store(to + k, values, mask=k < COUNT)
