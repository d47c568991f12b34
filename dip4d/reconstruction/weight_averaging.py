"""Averaged weights: the mean of what the weights of a network have lately been, steadier than what they are; and the
mean of the best of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

AS_GOOD_RATIO = 1.001  # so many times the lowest error cannot be told from it
WEIGHTS_KEPT = 8  # at most, so that memory does not grow with the fit


class AveragedWeights:
    """An exponential moving average of the parameters of a network, which the fit does not see.

    At a high learning rate the weights hop around a valley; their average lies in it, so that its error on validation
    rows tells, long before the rate has fallen, when noise begins to be fitted. decay: of the average in a step; 0
    keeps the weights as they are. At the start the average is shorter, so that it does not hold on to random weights.
    Source: Polyak and Juditsky, SIAM J. Control Optim. 30:838, 1992.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self._weights: list[Tensor] = list(network.parameters())
        self.values = [p.detach().clone() for p in self._weights]

    @torch.no_grad()
    def update(self) -> None:
        """To be called after each step."""
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 9))
        self._follow()
        torch._foreach_lerp_(self.values, self._weights, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]

    @torch.no_grad()
    def swap(self) -> None:
        """Puts the average into the network and keeps its weights; once more puts them back."""
        self._follow()
        for value, weight in zip(self.values, self._weights, strict=True):
            kept = weight.clone()
            weight.copy_(value)
            value.copy_(kept)

    def _follow(self) -> None:
        """The averages lie where the weights do."""
        self.values = [v.to(w.device) for v, w in zip(self.values, self._weights, strict=True)]

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


class BestWeights:
    """The weights of a fit with the lowest validation error, and those that are as good, as far as few rows can tell.

    Near its lowest the error hardly changes over hundreds of steps, while the volume does. Which of its weights the
    validation rows prefer is then chance; their mean is a better guess than any. Source: Wortsman et al., ICML 2022.
    """

    def __init__(self) -> None:
        self._kept: dict[int, tuple[float, dict[str, Tensor]]] = {}  # by step

    @property
    def lowest(self) -> float:
        return min((error for error, _ in self._kept.values()), default=math.inf)

    def as_good(self, error: float) -> bool:
        """Whether an error cannot be told from the lowest, or is below it."""
        return error <= AS_GOOD_RATIO * self.lowest

    def offer(self, step: int, error: float, *, network: nn.Module) -> None:
        """Remembers the weights that the network has at a step if their error is, so far, among the lowest."""
        if self.as_good(error):
            self._kept[step] = error, {name: v.detach().clone() for name, v in network.state_dict().items()}
            best = sorted(self._kept.items(), key=lambda item: item[1][0])[:WEIGHTS_KEPT]
            self._kept = {step: kept for step, kept in best if self.as_good(kept[0])}

    def load_into(self, network: nn.Module, error: Callable[[], float]) -> None:
        """Gives a network the mean, or the best weights if it is not as good as they are. error(): of the network."""
        if not self._kept:  # no error was a number
            return
        network.load_state_dict(self.mean())
        if not self.as_good(error()):
            network.load_state_dict(self.best())

    def best(self) -> dict[str, Tensor]:
        """The weights with the lowest error, as a state_dict."""
        return min(self._kept.values(), key=lambda kept: kept[0])[1]

    def mean(self) -> dict[str, Tensor]:
        """The mean of all that are as good, as a state_dict."""
        states = [state for _, state in self._kept.values()]
        mean = lambda name: cast(Tensor, sum(s[name] for s in states)) / len(states)
        return {name: mean(name).to(v) for name, v in states[0].items()}

    def state_dict(self) -> dict:
        return self._kept

    def load_state_dict(self, state: dict) -> None:
        self._kept = state
