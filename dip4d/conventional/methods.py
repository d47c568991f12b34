"""The conventional methods: an algorithm, given the whole series, a window of it, or frozen frames; or all at once.

An algorithm is one entry of `ALGORITHMS`: `add_algorithm` adds another, which can then be asked for
(`compare.methods`), is tuned, scored, and drawn in the table and the figures as the others. Nothing imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from dip4d.errors import InputError


@dataclass(frozen=True)
class Algorithm:
    """A conventional algorithm.

    name: as in `compare.methods`, without an underscore.
    label: as in tables and figures.
    colour: of its lines in figures.
    steps: ``steps(A, y, *, row_mask=None[, weight])`` yields one iterate (B, Y, X) after the other; the best is kept.
    tuned_weight: whether `steps` takes the weight of a regularisation, which is then tuned as well.
    weighs_pixels: whether row_mask may be (B, n, S), the weights of pixels: these are then those of their noise.
    """

    name: str
    label: str
    colour: str
    steps: Callable[..., Iterator[Any]]
    tuned_weight: bool = False
    weighs_pixels: bool = False


@dataclass(frozen=True)
class Scope:
    """What an algorithm is given: name, as in `compare.methods`; words for tables; line, its style in figures."""

    name: str
    words: str
    line: str


def _later(name: str, module: str = "algorithms") -> Callable[..., Iterator[Any]]:
    """A function of a module of `dip4d.conventional` that needs torch: imported when it is used."""

    def steps(A: Any, y: Any, **keys: Any) -> Iterator[Any]:
        return getattr(import_module(f"dip4d.conventional.{module}"), name)(A, y, **keys)

    return steps


SCOPES: dict[str, Scope] = {
    scope.name: scope
    for scope in (
        Scope("whole", "whole series", ":"),
        Scope("window", "sliding window", "--"),
        Scope("frozen", "frozen frames", "-"),
    )
}
JOINT = Scope("joint", "all frames at once", "-.")  # for algorithms that yield frames (B, T, Y, X)
ALGORITHMS: dict[str, Algorithm] = {}
METHODS: dict[str, tuple[Algorithm, Scope]] = {}  # by name, such as sirt_whole
USUAL = {True: ("sirt_whole", "sirt_window", "sirt_frozen"), False: ("sirt_whole", "sirt_window", "tv_whole")}


def add_algorithm(algorithm: Algorithm) -> None:
    """Makes an algorithm known, with its methods NAME_whole, NAME_window and NAME_frozen."""
    ALGORITHMS[algorithm.name] = algorithm
    METHODS.update({f"{algorithm.name}_{scope.name}": (algorithm, scope) for scope in SCOPES.values()})


add_algorithm(Algorithm("sirt", "SIRT", "#003049", _later("sirt_steps")))
add_algorithm(Algorithm("fbp", "FBP", "#2a9d8f", _later("fbp_steps")))
add_algorithm(Algorithm("em", "EM", "#e09f3e", _later("em_steps")))
add_algorithm(Algorithm("tv", "TV", "#7b2cbf", _later("tv_steps"), tuned_weight=True, weighs_pixels=True))
SPACE_TIME = Algorithm("sttv", "Space-time TV", "#9c6644", _later("sttv_steps", "spacetime"), weighs_pixels=True)
METHODS["sttv"] = (SPACE_TIME, JOINT)


class _Saveable:
    """The names that output.save knows: all methods, and what is not one."""

    def __iter__(self) -> Iterator[str]:
        return iter(["truth", "series", *METHODS])


SAVEABLE = _Saveable()


def check_saved(wanted: Iterable[str], methods: Iterable[str], *, with_truth: bool) -> None:
    """Raises InputError for what a run that compares these methods could not save."""
    there = {"series", *methods, *(["truth"] if with_truth else [])}
    for name in wanted:
        if name == "truth" and not with_truth:
            raise InputError("output.save=[truth]: there is none; give data.truth")
        if name not in there:
            raise InputError(f"output.save=[{name}]: it is not compared; add it to compare.methods")


def methods_of(wanted: Iterable[str] | None, *, with_truth: bool) -> list[str]:
    """The names of the methods that are wanted, in the order of `METHODS`; the usual ones if None.

    with_truth: frozen ones need a truth, and are left out without.
    """
    names = set(USUAL[with_truth] if wanted is None else wanted)
    return [n for n, (_, scope) in METHODS.items() if n in names and (with_truth or scope != SCOPES["frozen"])]


def label_of(method: str) -> str:
    """A method in words, such as "SIRT, whole series"; its name if it is not known here."""
    if method not in METHODS:
        return method
    algorithm, scope = METHODS[method]
    return f"{algorithm.label}, {scope.words}"
