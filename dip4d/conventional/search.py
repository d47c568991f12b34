"""The search for the best settings of a conventional algorithm: trials with more and more iterations, side by side."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import cycle, islice
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from dip4d.conventional.methods import Algorithm
from dip4d.projector import Projector
from dip4d.threads import blocks, each_alone

SCORED_ITERATIONS = 5  # iterations between two looks at the score
FEWEST_LOOKS = 5  # at the score of every setting, whatever the time
LEAST_BEHIND, SHARE_BEHIND = 10, 0.25  # iterations, and share of the best number, after which a peak lies behind
SLAB = 64  # slices reconstructed at a time
TV_WEIGHT_RANGE = 32.0  # the largest weight of a regularisation that is tried, and one over the smallest
WEIGHTS_TRIED = 5  # about so many, where there is a weight: the time for each is shared out before

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Problem:
    """Slices to reconstruct, which tell how good settings are.

    y: (B, n, S), rows. row_mask: (B, n), or weights (B, n, S), or None. positions: (B,), z of the slices.
    frames: at which the slices are scored.
    together: whether the slices influence each other, and must not be reconstructed apart.
    """

    A: Projector
    y: Tensor
    row_mask: Tensor | None
    positions: np.ndarray
    frames: Sequence[int]
    together: bool = False

    def parts(self, count: int) -> list[Problem]:
        """So many problems of a part of the slices each, fewer if there are not as many slices."""
        sizes = np.array_split(np.arange(len(self.positions)), 1 if self.together else min(count, len(self.positions)))
        of = lambda v, part: None if v is None else v[part]
        return [replace(self, y=self.y[p], row_mask=of(self.row_mask, p), positions=self.positions[p]) for p in sizes]


@dataclass
class Choice:
    """An algorithm at the settings that scored best; called with a problem it reconstructs it, (B, Y, X).

    weight: of its regularisation, times the noise times the root of the number of images.
    cut_short: whether the time was up before the peak of the score lay behind, so that better ones may exist.
    seconds: that one slice takes.
    """

    score: float
    weight: float
    settings: dict[str, float]
    steps: Callable[..., Iterator[Tensor]]
    iterations: int
    cut_short: bool = False
    seconds: float = 0.0

    def __call__(self, A: Projector, y: Tensor, row_mask: Tensor | None = None) -> Tensor:
        def run(part: slice) -> Tensor:
            return self.together(A, y[part], row_mask=None if row_mask is None else row_mask[part])

        slab = min(SLAB, -(-len(y) // _workers(y.device)))
        return torch.cat(list(on_device(run, [slice(*b) for b in blocks(len(y), slab)], device=y.device)))

    def together(self, A: Projector, y: Tensor, *, row_mask: Tensor | None = None) -> Tensor:
        """All slices in one, where they influence each other."""
        return next(islice(self.steps(A, y, row_mask=row_mask), self.iterations - 1, None))


class Trial:
    """An algorithm with one choice of settings, tried with more and more iterations on some problems."""

    def __init__(
        self,
        steps: Callable[..., Iterator[Tensor]],
        problems: Sequence[Problem],
        *,
        score: Callable[[Sequence[Tensor], Sequence[Problem]], float],
        weight: float,
        settings: dict[str, float],
        iterations: int,
    ) -> None:
        count = -(-_workers(problems[0].y.device) // len(problems))
        self.problems = [part for problem in problems for part in problem.parts(count)]
        self.runs = [steps(p.A, p.y, row_mask=p.row_mask) for p in self.problems]
        self.steps, self.score, self.weight, self.settings = steps, score, weight, settings
        self.iteration, self.most, self.looks, self.seconds = 0, iterations, 0, 0.0
        self.best, self.best_at = -math.inf, 0

    def look(self) -> None:
        """A few more iterations, and their score."""
        began, after = time.monotonic(), self.iteration % SCORED_ITERATIONS
        more = min(SCORED_ITERATIONS - after, self.most - self.iteration) if self.iteration else 1
        ahead = lambda run: next(islice(run, more - 1, None))
        volumes = list(on_device(ahead, self.runs, device=self.problems[0].y.device))
        self.iteration, self.looks = self.iteration + more, self.looks + 1
        score = self.score(volumes, self.problems)
        if score > self.best or not self.best_at:
            self.best, self.best_at = score, self.iteration
        self.seconds += time.monotonic() - began

    @property
    def over(self) -> bool:
        """Whether the peak of the score lies well behind, or no more iterations are allowed."""
        behind = max(LEAST_BEHIND, SHARE_BEHIND * self.best_at)
        return self.iteration >= self.most or self.iteration > self.best_at + behind

    def choice(self) -> Choice:
        slices = sum(len(p.positions) for p in self.problems)
        seconds = self.seconds / (slices * self.iteration) * self.best_at
        settings = {**self.settings, "iterations": self.best_at}
        return Choice(self.best, self.weight, settings, self.steps, self.best_at, not self.over, seconds)


def race(trials: Sequence[Trial], seconds: float) -> None:
    """Runs trials side by side until the peak of each lies behind or the time is up; each gets `FEWEST_LOOKS`."""
    end = time.monotonic() + seconds
    while running := [t for t in trials if not t.over]:
        behind = min(running, key=lambda t: t.looks)
        if behind.looks >= FEWEST_LOOKS and time.monotonic() > end:
            break
        behind.look()


def on_device(function: Callable[[Item], Result], items: Iterable[Item], *, device: torch.device) -> Iterator[Result]:
    """A function of items, in parallel where threads do the work."""
    return each_alone(function, items) if device.type == "cpu" else map(function, items)


def _workers(device: torch.device) -> int:
    """How many parts of a work `on_device` does at a time."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def climbed(choice: Choice, tried: Callable[..., Choice]) -> Choice:
    """From a choice on, the weight of its regularisation doubled, or else halved, as long as that scores better."""
    start = choice
    for factor in (2.0, 0.5):
        while 1 / TV_WEIGHT_RANGE <= choice.weight * factor <= TV_WEIGHT_RANGE:
            other = tried(weight=choice.weight * factor)
            if other.score <= choice.score:
                choice = replace(choice, cut_short=choice.cut_short or other.cut_short)
                break
            choice = replace(other, cut_short=choice.cut_short or other.cut_short)
        if choice.weight != start.weight:
            break
    return choice


def climbed_together(tried: Callable[..., Choice], names: Sequence[str]) -> Choice:
    """The best of several weights: each is followed as by `climbed`, in turns, until none of them changes any more.

    tried: ``tried(**weights)``, of weights by these names; it is not asked twice for the same.
    """
    known = cache(lambda *weights: tried(**dict(zip(names, weights, strict=True))))
    weights, settled = [1.0] * len(names), 0
    choice = known(*weights)
    for k in cycle(range(len(names))):
        if settled == len(names):
            break
        with_it = lambda weight: replace(known(*weights[:k], weight, *weights[k + 1 :]), weight=weight)
        choice = climbed(with_it(weights[k]), with_it)
        settled = settled + 1 if choice.weight == weights[k] else 1
        weights[k] = choice.weight
    return choice


def runs_of(algorithm: Algorithm) -> int:
    """About how many weights of the regularisation are tried."""
    return WEIGHTS_TRIED if algorithm.tuned_weight else 1
