"""The code keeps its shape: short functions, arguments by name, one recipe for everything that can be added."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = sorted((ROOT / "dip4d").rglob("*.py"))
LONGEST = 50  # lines
# Mathematical ones: an operator, what it is applied to, and how often. Kernels, and what autograd calls, are others.
MATHEMATICAL = {"sirt", "em", "tv", "Choice.__call__"}
BACKENDS = (
    "projector/cpu.py",
    "projector/cuda.py",
    "projector/reference.py",
    "projector/operator.py",
    "projector/lanes.py",
    "_cuda.py",
)


def functions(room: Path) -> list[tuple[str, ast.FunctionDef]]:
    """All functions of a file, with the class that they stand in."""
    tree = ast.parse(room.read_text())
    inside = {m: f"{c.name}." for c in ast.walk(tree) if isinstance(c, ast.ClassDef) for m in c.body}
    return [(inside.get(n, "") + n.name, n) for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]


def is_kernel(function: ast.FunctionDef) -> bool:
    """Of numba, or what autograd calls with the arguments of `apply`."""
    called = [a.arg for a in function.args.args[:1]] == ["ctx"]
    return called or any("_jit" in ast.dump(decorator) for decorator in function.decorator_list)


@pytest.mark.parametrize("room", ROOMS, ids=lambda r: str(r.relative_to(ROOT)))
def test_no_function_is_longer_than_a_screen(room):
    assert [name for name, f in functions(room) if f.end_lineno - f.lineno >= LONGEST] == []


@pytest.mark.parametrize("room", [r for r in ROOMS if not str(r).endswith(BACKENDS)], ids=lambda r: str(r.name))
def test_from_the_third_on_arguments_are_given_by_name(room):
    positional = lambda f: [a.arg for a in f.args.posonlyargs + f.args.args if a.arg not in ("self", "cls")]
    many = [n for n, f in functions(room) if len(positional(f)) > 2 and not is_kernel(f)]
    assert set(many) <= MATHEMATICAL


@pytest.mark.parametrize("room", ROOMS, ids=lambda r: str(r.relative_to(ROOT)))
def test_nothing_asks_which_network_it_has(room):
    assert not re.search(r"isinstance\(.*Moving|name == \"dip\"", room.read_text()) or "report" in room.parts


def test_the_whole_run_fits_on_one_screen():
    (run,) = (f for name, f in functions(ROOT / "dip4d/experiment/run.py") if name == "run_experiment")
    assert run.end_lineno - run.lineno <= 42


def test_scripts_at_the_root_are_thin():
    for script in ("train.py", "evaluate.py"):
        assert len((ROOT / script).read_text().splitlines()) <= 10


@pytest.mark.parametrize("room", ROOMS, ids=lambda r: str(r.relative_to(ROOT)))
def test_from_four_arguments_on_a_docstring_has_one_on_a_line(room):
    """In public docstrings, functions and classes alike."""
    tree, wrong = ast.parse(room.read_text()), []
    for node in ast.walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith("_"):
            continue
        function = node
        if isinstance(node, ast.ClassDef):
            function = next((m for m in node.body if isinstance(m, ast.FunctionDef) and m.name == "__init__"), None)
        said = ast.get_docstring(node)
        if function is None or said is None:
            continue
        names = [a.arg for a in function.args.args + function.args.kwonlyargs if a.arg not in ("self", "cls")]
        told = [n for n in names if re.search(rf"\b{n}(, \w+)*:(?!:)", said)]
        on_own_line = [n for n in told if re.search(rf"^\s*(\w+, )*{n}(, \w+)*:", said, re.MULTILINE)]
        if len(names) >= 4 and told != on_own_line:
            wrong.append((node.name, sorted(set(told) - set(on_own_line))))
    assert wrong == []
