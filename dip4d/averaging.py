"""Averaged weights: the mean of what the weights of a network have lately been, steadier than what they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class AveragedWeights:
    """An exponential moving average of the parameters of a network, which the fit does not see.

    At a high learning rate the weights hop around a valley; their average lies in it, so that its error on held-out
    rows tells, long before the rate has fallen, when noise begins to be fitted. decay: of the average in a step; 0
    keeps the weights as they are. At the start the average is shorter, so that it does not hold on to random weights.
    Source: Polyak and Juditsky, SIAM J. Control Optim. 30:838, 1992.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self._weights = list(network.parameters())
        self.values = [p.detach().clone() for p in self._weights]

    @torch.no_grad()
    def update(self) -> None:
        """To be called after each step."""
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 9))
        for value, weight in self._pairs():
            value.lerp_(weight, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Puts the average into the network and keeps its weights; once more puts them back."""
        for value, weight in self._pairs():
            kept = weight.clone()
            weight.copy_(value)
            value.copy_(kept)

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.values = [v.to(w.device) for v, w in zip(self.values, self._weights, strict=True)]
        return zip(self.values, self._weights, strict=True)

    @contextmanager
    def used(self) -> Iterator[None]:
        """The network with its averaged weights."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def state_dict(self) -> dict[str, int | list[Tensor]]:
        return {"steps": self.steps, "values": self.values}

    def load_state_dict(self, state: dict) -> None:
        self.steps, self.values = state["steps"], state["values"]
