"""What the fit minimises: the misfit of projected orthoslices and measured rows; with `variation`, their roughness."""

from __future__ import annotations

from torch import Tensor, nn


class SquaredError(nn.Module):
    """Mean squared difference in units of the brightest pixel of the series, times 100 (numbers one can read)."""

    def __init__(self, peak_intensity: float) -> None:
        super().__init__()
        self.peak_intensity = peak_intensity

    def forward(self, projected: Tensor, measured: Tensor) -> Tensor:
        """projected, measured: (B, n, S), intensity."""
        return 100 * ((projected - measured) / self.peak_intensity).square().mean()


class GemanMcClure(nn.Module):
    """q / (q + scale^2) of the squared difference q in units of the brightest pixel, times 100: outliers count for 1.

    Geman and McClure (1987), as DIP-STER uses it.
    """

    def __init__(self, peak_intensity: float, scale: float = 0.1) -> None:
        super().__init__()
        self.peak_intensity, self.scale = peak_intensity, scale

    def forward(self, projected: Tensor, measured: Tensor) -> Tensor:
        """projected, measured: (B, n, S), intensity."""
        q = ((projected - measured) / self.peak_intensity).square()
        return 100 * (q / (q + self.scale**2)).mean()


LOSSES = {"squared": SquaredError, "geman_mcclure": GemanMcClure}  # by the name that `train.loss` has for them
