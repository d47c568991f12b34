"""A step of the fit as a CUDA graph: recorded once, then launched as one thing instead of hundreds of kernels.

A kernel of a small series takes less time than its launch. What is recorded is the loss and its gradients; clipping and
optimizer stay as they are. Where recording fails, or what is recorded goes another way, steps are launched as before.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from dip4d.reconstruction.data import Batch, Rows

SAME = 1e-3  # relative difference of two losses that rounding, of bfloat16 too, may make
_log = logging.getLogger(__name__)


class Fitted(Protocol):
    """What a step graph needs of the module: see `dip4d.reconstruction.module.DIP4D`."""

    network: Any
    poses: Any

    def loss_of(self, batch: Batch, rows: Rows) -> Tensor: ...


class StepGraph:
    """``loss_of(batch, rows)`` of a module, recorded at the first call and compared with itself at the second."""

    def __init__(self, module: Fitted) -> None:
        self.module = module
        self._graph: Callable[..., Tensor] | None = None
        self._calls = 0

    def __call__(self, batch: Batch, rows: Rows) -> Tensor:
        """As `loss_of`."""
        self._calls += 1
        tensors = _tensors(batch, rows)
        if self._calls == 1:
            self._record(batch, rows, tensors=tensors)
        elif self._calls == 2 and self._graph is not None:
            self._check(batch, rows, tensors=tensors)
        if self._graph is None:
            return self.module.loss_of(batch, rows)
        return self._graph(*tensors)

    def _record(self, batch: Batch, rows: Rows, *, tensors: list[Tensor]) -> None:
        step, kind = _Step(self.module, (batch, rows)), tensors[0].device.type
        own = tuple(t.clone() for t in tensors)  # what the graph reads: each call copies its own there
        mixed = {"dtype": torch.get_autocast_dtype(kind), "enabled": torch.is_autocast_enabled(kind)}
        try:
            with torch.autocast(kind, **mixed, cache_enabled=False):
                graph = torch.cuda.make_graphed_callables(step, own, allow_unused_input=True)
            self._graph = cast(Callable[..., Tensor], graph)
        except (RuntimeError, AssertionError) as error:
            self._give_up(str(error).splitlines()[0] if str(error) else type(error).__name__)

    def _check(self, batch: Batch, rows: Rows, *, tensors: list[Tensor]) -> None:
        assert self._graph is not None
        with torch.no_grad():
            plain, recorded = float(self.module.loss_of(batch, rows)), float(self._graph(*tensors))
        if not abs(recorded - plain) <= SAME * abs(plain):
            self._give_up(f"its loss is {recorded:g} where it should be {plain:g}")

    def _give_up(self, why: str) -> None:
        self._graph = None
        _log.info(f"Steps are not recorded as a CUDA graph, which costs time and nothing else: {why}")


class _Step(nn.Module):
    """The loss of a module as a function of tensors alone, those of a batch and of its rows."""

    def __init__(self, module: Fitted, like: tuple[Batch, Rows]) -> None:
        super().__init__()
        self.network, self.poses = module.network, module.poses  # whose weights the graph differentiates by
        self.loss_of = (module.loss_of,)  # in a tuple, lest the module count as a part
        self.like = like

    def forward(self, *tensors: Tensor) -> Tensor:
        batch, rows = self.like
        left = iter(tensors)
        z = next(left)
        own = _filled(batch.rows, left)
        some = own if rows is batch.rows else _filled(rows, left)
        return self.loss_of[0](Batch(z, own, own), some)  # validation rows are for others


def _tensors(batch: Batch, rows: Rows) -> list[Tensor]:
    """The tensors of a batch and of some of its rows, each number once."""
    return [batch.z, *_of_rows(batch.rows)] + ([] if rows is batch.rows else _of_rows(rows))


def _of_rows(rows: Rows) -> list[Tensor]:
    parts = []
    for field in fields(rows):
        value = getattr(rows, field.name)
        values = value if isinstance(value, tuple) else () if value is None else (value,)
        parts += [v[:1] if _expanded(v) else v for v in values]
    return parts


def _filled(like: Rows, tensors: Any) -> Rows:
    """Rows like others, of the next tensors."""

    def take(value: Tensor) -> Tensor:
        return next(tensors).expand_as(value) if _expanded(value) else next(tensors)

    def fill(value: Any) -> Any:
        return None if value is None else tuple(map(take, value)) if isinstance(value, tuple) else take(value)

    return Rows(**{field.name: fill(getattr(like, field.name)) for field in fields(like)})


def _expanded(value: Tensor) -> bool:
    """Whether all positions share what one of them has."""
    return value.stride(0) == 0 and len(value) > 1
