"""The house stands: imports run one way, down the floors, and nothing heavy is imported at the door."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dip4d"
FLOORS = (  # from the ground up; each imports only from those before it
    "errors", "indices", "threads", "whole_file", "tilt_geometry", "projector", "config", "tilt_series", "run_folder",
    "measures", "simulation", "io", "conventional", "alignment", "reconstruction", "report", "experiment", "commands",
    "__init__", "__main__",
)  # fmt: skip


def rooms() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def floor_of(module: str) -> str:
    """The floor of a dotted name such as dip4d.io.mrc."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def name_of(room: Path) -> str:
    """The dotted name of a file."""
    return ".".join(room.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


ROOMS = {name_of(room): room for room in rooms()}


def imports(room: Path) -> list[str]:
    """The modules of dip4d that a file imports, wherever in it."""
    found = []
    for node in ast.walk(ast.parse(room.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if name in ROOMS else node.module or "" for name in inside]
    return [name for name in found if name.split(".")[0] == "dip4d"]


def test_every_file_has_its_floor():
    assert {floor_of(".".join(r.relative_to(PACKAGE.parent).with_suffix("").parts)) for r in rooms()} == set(FLOORS)


@pytest.mark.parametrize("room", rooms(), ids=lambda r: str(r.relative_to(PACKAGE)))
def test_imports_run_down_the_floors(room):
    own = floor_of(".".join(room.relative_to(PACKAGE.parent).with_suffix("").parts))
    below = FLOORS[: FLOORS.index(own) + 1]
    assert [name for name in imports(room) if floor_of(name) not in below] == []


def test_no_two_rooms_import_each_other():
    """Within a floor too: taking away, again and again, what imports nothing that is left, takes away everything."""
    left = {name: set(imports(room)) for name, room in ROOMS.items() if name != "dip4d"}
    while free := {room for room, needs in left.items() if not needs & (left.keys() - {room})}:
        left = {room: needs for room, needs in left.items() if room not in free}
    assert left == {}


def loaded(*command: str) -> set[str]:
    """The top-level packages that a command of Python loads."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command], cwd=PACKAGE.parent, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}


@pytest.mark.parametrize(
    "command",
    [["-c", "import dip4d"], ["-m", "dip4d", "--help"], ["-m", "dip4d", "align", "--help"], ["train.py", "--help"]],
    ids=lambda c: " ".join(c[-3:]),
)
def test_looking_around_loads_neither_torch_nor_lightning(command):
    assert not loaded(*command) & {"torch", "lightning", "pandas", "matplotlib", "numba"}


def test_a_quick_inspect_loads_neither_torch_nor_lightning(tmp_path):
    import numpy as np

    np.savez(tmp_path / "s.npz", images=np.random.default_rng(0).random((14, 12, 12)), angles=np.arange(14) * 9 - 60)
    inspect = ["-m", "dip4d", "inspect", str(tmp_path / "s.npz"), "--quick", "--out", str(tmp_path)]
    assert not loaded(*inspect) & {"torch", "lightning", "pandas", "numba"}
