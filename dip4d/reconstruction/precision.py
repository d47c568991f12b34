"""What stays in float32 when the decoder works in bfloat16: places, times, and sums over many pixels."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(x: Tensor) -> Tensor:
    """In float32, if x is in less: 8 bits cannot tell where a pixel lies, or one time from the next."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def no_autocast(device: torch.device) -> AbstractContextManager:
    """Inside, a Trainer of mixed precision rounds nothing."""
    known = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if known else nullcontext()
