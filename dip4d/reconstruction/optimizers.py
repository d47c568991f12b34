"""The optimizer of a fit: Adam, or Adam and Muon together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

BETAS = (0.9, 0.99)
MOMENTUM = 0.9  # of Muon
MUON_RATE = 5.0  # the rate of Muon is so many times that of Adam
NEWTON_SCHULZ = 3.4445, -4.7750, 2.0315


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
    others = [p for p in parameters if id(p) not in chosen]
    at_once = all(p.device.type == "cpu" for p in others)  # in one kernel, a tenth of the time
    adam = torch.optim.Adam(others, learning_rate, betas=BETAS, fused=at_once or None)
    adam._step_supports_amp_scaling = False  # else Lightning does not clip its gradients in mixed precision
    return Together([adam, Muon(muon_matrices, MUON_RATE * learning_rate)]) if muon_matrices else adam


class Muon(torch.optim.Optimizer):
    """Momentum whose steps are made orthogonal (Jordan et al., 2024), as that of torch, in float32 and of all matrices
    of a shape at once: on a CPU that of torch, in bfloat16 one by one, takes ten times as long.

    matrices: (m, n) each.
    learning_rate: length of a step.
    """

    def __init__(self, matrices: Sequence[nn.Parameter], learning_rate: float) -> None:
        super().__init__(matrices, {"lr": learning_rate})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None if closure is None else closure()
        for group in self.param_groups:
            of_shape: dict[torch.Size, list[nn.Parameter]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    of_shape.setdefault(matrix.shape, []).append(matrix)
            for (m, n), alike in of_shape.items():
                steps = orthogonal(torch.stack([self._ahead(matrix) for matrix in alike]))
                for matrix, step in zip(alike, steps, strict=True):
                    matrix.sub_(step, alpha=group["lr"] * max(1.0, m / n) ** 0.5)
        return loss

    def _ahead(self, matrix: nn.Parameter) -> Tensor:
        """The gradient, led by its mean over the last steps (Nesterov)."""
        gradient, state = cast(Tensor, matrix.grad), self.state[matrix]
        mean = state.setdefault("momentum_buffer", torch.zeros_like(gradient)).lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(mean, MOMENTUM)


def orthogonal(matrices: Tensor) -> Tensor:
    """About the orthogonal matrices next to some (k, m, n): singular values of 0.7 to 1.2.

    Five iterations of Newton and Schulz with the coefficients of Jordan et al.
    """
    x = matrices.float() if matrices.shape[1] <= matrices.shape[2] else matrices.float().mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    a, b, c = NEWTON_SCHULZ
    for _ in range(5):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x if matrices.shape[1] <= matrices.shape[2] else x.mT


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
