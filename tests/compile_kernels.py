"""Compiles every kernel in Triton for an H100, which needs no GPU: the interpreter lets pass what the compiler refuses.

python -m tests.compile_kernels prints the bytes that each spills and its registers, as the assembler counts them.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from dip4d.projector import cuda as projector
from dip4d.reconstruction import factors_cuda as factors
from dip4d.reconstruction import modulation_cuda as modulation

SCALARS = {"offset": "fp32", "eps": "fp32", "quantum": "fp32"} | dict.fromkeys(
    ("ny", "nx", "bins", "n", "n_views", "own", "apart", "pixels", "parts"), "i32"
)
FLOAT64 = ("by_angle", "by_shift")
MAPS, CHANNELS = 10, 32  # of the default network


def kernels() -> list[tuple[triton.JITFunction, dict[str, int]]]:
    """Each with its constants."""
    room = triton.next_power_of_2(MAPS)
    march = {"LINES": projector.LINES, "WIDTH": projector.WIDTH}
    maps = lambda numbers: {"K": MAPS, "ROOM": room, "PIXELS": numbers // room}
    few = {"C": CHANNELS, "ROOM": CHANNELS, "PIXELS": modulation.NUMBERS // CHANNELS}
    return [
        (projector._view_kernel, {"FORWARD": True, "BLOCK": projector.VIEWS}),
        (projector._view_kernel, {"FORWARD": False, "BLOCK": projector.VIEWS}),
        (projector._forward_kernel, march),
        (projector._adjoint_kernel, {"ROWS": projector.ROWS, "WIDTH": projector.WIDTH}),
        (projector._geometry_kernel, {"PIXELS": projector.ROWS * projector.WIDTH}),
        (factors._project_kernel, {"K": MAPS} | march),
        (factors._project_gradient_kernel, maps(factors.OF_PROJECTION)),
        (factors._variation_kernel, maps(factors.OF_VARIATION)),
        (factors._variation_gradient_kernel, maps(factors.OF_VARIATION)),
        (modulation._add_squares_kernel, few),
        (modulation._activate_kernel, few | {"GROUP": 4}),
        (modulation._add_backwards_kernel, few | {"GROUP": 4}),
        (modulation._backwards_kernel, few | {"GROUP": 4}),
    ]


def compiled(kernel: triton.JITFunction, constants: dict[str, int]) -> tuple[int, int]:
    """Bytes spilled, and registers."""
    scalars = (
        SCALARS if kernel.__module__ != modulation.__name__ else {k: v for k, v in SCALARS.items() if k != "offset"}
    )
    kind = lambda name: scalars.get(name, "*fp64" if name in FLOAT64 else "*fp32")
    signature = {n: "constexpr" if n in constants else kind(n) for n in kernel.arg_names}
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=places)
    ptx = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4}).asm["ptx"]
    assembler = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        words = [str(assembler), "-v", "-arch=sm_90a", file.name, "-o", "/dev/null"]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stderr
    spilled, registers = (re.search(p, said) for p in (r"(\d+) bytes spill stores", r"Used (\d+) registers"))
    assert spilled is not None
    assert registers is not None
    return int(spilled[1]), int(registers[1])


if __name__ == "__main__":
    for kernel, constants in kernels():
        print(kernel.__name__, constants, *compiled(kernel, constants))
