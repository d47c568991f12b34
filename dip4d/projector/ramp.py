"""The ramp filter of filtered back-projection."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def filter_ramp(y: Tensor) -> Tensor:
    """Rows (..., S) filtered by |frequency|, in cycles per bin.

    The filter is band-limited and defined in real space (Kak and Slaney, Principles of Computerized Tomographic
    Imaging, 1988, eq. 61), the rows are padded with zeros: there is no bias at low frequencies.
    """
    length = 2 * y.shape[-1]
    lag = torch.arange(length, device=y.device).to(y)
    lag = torch.minimum(lag, length - lag)  # 0, 1, 2, ..., 2, 1
    ramp = torch.where(lag % 2 == 1, -1 / (math.pi * lag).square(), 0)
    ramp[0] = 1 / 4
    return torch.fft.irfft(torch.fft.rfft(y, length) * torch.fft.rfft(ramp).real, length)[..., : y.shape[-1]]
