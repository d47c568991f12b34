"""Several networks side by side, whose mean is the result: what each makes of the noise alone, averages out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

from torch import Tensor, nn

from dip4d.reconstruction.networks.base import OrthosliceNetwork


class Ensemble(OrthosliceNetwork):
    """The mean of networks that were fitted to the same series from different random weights.

    A step shares its positions out among them, so that it takes as long as that of one network. Source:
    Lakshminarayanan et al., NeurIPS 2017.

    networks: one or more of a kind, for a specimen at rest.
    """

    def __init__(self, networks: Sequence[OrthosliceNetwork]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.windows, self.ensemble_size = networks[0].windows, len(networks)

    @property
    def each(self) -> list[OrthosliceNetwork]:
        return cast(list[OrthosliceNetwork], list(self.networks))

    def shown(self, images: Tensor) -> tuple[Tensor, ...]:
        """All are shown the same."""
        return self.each[0].shown(images)

    def features(self, z: Tensor, images: tuple[Tensor, ...] | None) -> list[Any]:
        """Those of each network."""
        return [network.features(z, images) for network in self.each]

    def render(self, features: list[Any], tau: Tensor) -> Tensor:
        """The mean orthoslices (B, n, Y, X), intensity per voxel."""
        drawn = zip(self.each, features, strict=True)
        return cast(Tensor, sum(network.render(of, tau) for network, of in drawn)) / self.ensemble_size

    def shared_out(self, count: int) -> list[tuple[OrthosliceNetwork, slice]]:
        """Some of the positions to each; all to each where there are fewer positions than networks."""
        if count < self.ensemble_size:
            return [(network, slice(None)) for network in self.each]
        edges = [count * k // self.ensemble_size for k in range(self.ensemble_size + 1)]
        return [(network, slice(*between)) for network, between in zip(self.each, pairwise(edges), strict=True)]

    def muon_matrices(self) -> list[nn.Parameter]:
        return [matrix for network in self.each for matrix in network.muon_matrices()]

    def learned_bound(self) -> float | None:
        """The mean of theirs: what their mean can reach."""
        bounds = [network.learned_bound() for network in self.each]
        return None if None in bounds else sum(cast(list[float], bounds)) / len(bounds)


def ensemble_in(state: dict[str, Any]) -> int:
    """Of how many networks a module with this state_dict is the mean."""
    named = re.compile(r"network\.networks\.(\d+)\.")
    return max((1 + int(found[1]) for name in state if (found := named.match(name))), default=1)
