"""What the fit minimises: the misfit of projected orthoslices and measured rows."""

from __future__ import annotations

from torch import Tensor, nn


class SquaredError(nn.Module):
    """Mean squared difference in units of the brightest pixel of the series, times 100 (numbers one can read)."""

    def __init__(self, brightest: float) -> None:
        super().__init__()
        self.brightest = brightest

    def forward(self, projected: Tensor, measured: Tensor) -> Tensor:
        """projected, measured: (B, n, S), intensity."""
        return 100 * ((projected - measured) / self.brightest).square().mean()
