"""What the fit minimises: the misfit of projected orthoslices and measured rows; with `variation`, their roughness."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from dip4d.conventional.series import SeriesStatistics

USUAL = 0.3  # of the brightest pixel: there a weighted pixel counts as much as an unweighted one
EVENED = 0.3  # of the variance of the brightest pixel, given to all: it keeps the weights between a half and two
ERROR_OF_FIT = 0.02  # of the brightest pixel, standard deviation: what no noise explains, the same in all


class SquaredError(nn.Module):
    """Mean squared difference in units of the brightest pixel of the series, times 100 (numbers one can read)."""

    def __init__(self, peak_intensity: float) -> None:
        super().__init__()
        self.peak_intensity = peak_intensity

    def forward(self, projected: Tensor, measured: Tensor) -> Tensor:
        """projected, measured: (B, n, S), intensity."""
        return 100 * ((projected - measured) / self.peak_intensity).square().mean()


class WeightedError(SquaredError):
    """The squared error, each pixel weighted by the inverse of its variance: bright pixels have more noise.

    The variance of counting grows with the intensity, here of what is predicted; to all pixels the readout adds its
    own, and the model its error (weighted least squares: Fessler, IEEE Trans. Med. Imaging 13:290, 1994).

    peak_intensity: of the brightest pixel of the series.
    counting, readout: as those of `SeriesStatistics`; without counting it is the squared error.
    """

    def __init__(self, peak_intensity: float, *, counting: float, readout: float = 0.0) -> None:
        super().__init__(peak_intensity)
        usual = counting * USUAL + readout + EVENED * (counting + readout) + ERROR_OF_FIT**2
        self.slope = counting / usual  # of the variance, relative to that at the usual intensity

    def forward(self, projected: Tensor, measured: Tensor) -> Tensor:
        """projected, measured: (B, n, S), intensity."""
        predicted = (projected.detach() / self.peak_intensity).clamp(min=0)
        weights = 1 / (1 + self.slope * (predicted - USUAL))
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
