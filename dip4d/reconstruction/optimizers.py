"""The optimizer of a fit: Adam, or Adam and Muon together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

BETAS = (0.9, 0.99)
MOMENTUM = 0.9  # of Muon
MUON_RATE = 5.0  # the rate of Muon is so many times that of Adam


def make_optimizer(
    parameters: Iterable[nn.Parameter],
    learning_rate: float,
    *,
    muon_matrices: Sequence[nn.Parameter] = (),
) -> torch.optim.Optimizer:
    """Adam for the parameters, but for `muon_matrices`, some of them, Muon (Jordan et al., 2024).

    Muon makes every step orthogonal, so that a fit needs a third of the steps. Adam ends better where there is noise to
    be fitted: it leaves alone what hardly matters.
    """
    chosen = {id(k) for k in muon_matrices}
    adam = torch.optim.Adam([p for p in parameters if id(p) not in chosen], learning_rate, betas=BETAS)
    if not muon_matrices:
        return adam
    muon = torch.optim.Muon(muon_matrices, MUON_RATE * learning_rate, weight_decay=0.0, momentum=MOMENTUM)
    return Together([adam, muon])


class Together(torch.optim.Optimizer):
    """Several optimizers, each of parameters of its own, as one: for schedulers, for clipping and for checkpoints."""

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self.optimizers = list(optimizers)
        super().__init__([{"params": group["params"]} for o in self.optimizers for group in o.param_groups], {})
        self._share_groups()

    def _share_groups(self) -> None:
        self.param_groups = [group for o in self.optimizers for group in o.param_groups]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None if closure is None else closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def state_dict(self) -> dict:
        return {"optimizers": [o.state_dict() for o in self.optimizers]}

    def load_state_dict(self, state: dict) -> None:
        for optimizer, part in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(part)
        self._share_groups()
