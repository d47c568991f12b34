"""What the fit minimises: the misfit of projected orthoslices and measured rows; with `variation`, their roughness."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from dip4d.conventional.series import SeriesStatistics
from dip4d.measures.weights import slope_of_variance, weights_of


class SquaredError(nn.Module):
    """Mean squared difference in units of the brightest pixel of the series, times 100 (numbers one can read)."""

    def __init__(self, peak_intensity: float) -> None:
        super().__init__()
        self.peak_intensity = peak_intensity

    def forward(self, projected: Tensor, measured: Tensor) -> Tensor:
        """projected, measured: (B, n, S), intensity."""
        return 100 * ((projected - measured) / self.peak_intensity).square().mean()


class WeightedError(SquaredError):
    """The squared error, each pixel weighted by the inverse of its variance at what is predicted: bright pixels have
    more noise (`dip4d.measures.weights`).

    peak_intensity: of the brightest pixel of the series.
    counting, readout: as those of `SeriesStatistics`; without counting it is the squared error.
    """

    def __init__(self, peak_intensity: float, *, counting: float, readout: float = 0.0) -> None:
        super().__init__(peak_intensity)
        self.slope = slope_of_variance(counting, readout)

    def forward(self, projected: Tensor, measured: Tensor) -> Tensor:
        """projected, measured: (B, n, S), intensity."""
        weights = weights_of(projected.detach() / self.peak_intensity, self.slope)
        return 100 * (weights * ((projected - measured) / self.peak_intensity).square()).mean()


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


LOSSES: dict[str, Callable[[SeriesStatistics], nn.Module]] = {  # by the name that `train.loss` has for them
    "weighted": lambda series: WeightedError(series.peak_intensity, counting=series.counting, readout=series.readout),
    "squared": lambda series: SquaredError(series.peak_intensity),
    "geman_mcclure": lambda series: GemanMcClure(series.peak_intensity),
}
