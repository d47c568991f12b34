"""Vectors of numbers that lie side by side, for kernels of numba, which leaves such short loops scalar."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_intrinsic: Any = intrinsic  # what it makes takes no `typing`, which no type checker can know
_INDEX, _FAST = ir.IntType(64), ("fast",)


@_intrinsic
def add_two(typing: Any, lanes: Any, out: Any, place: Any, x: Any, left: Any, a: Any, b: Any) -> Any:
    """``out[place] += a * x[left] + b * x[left + 1]``, each of them `len(lanes)` numbers.

    lanes: a tuple, whose length the compiler knows.
    out, x: contiguous float32, the lanes innermost.
    place, left: counted in vectors from the first, int64, not checked.
    a, b: float32.
    """
    width = lanes.count
    vector = ir.VectorType(ir.FloatType(), width)

    def compiled(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        def at(array: int, index: Any) -> Any:
            data = cgutils.create_struct_proxy(signature.args[array])(context, builder, given[array]).data
            return builder.bitcast(builder.gep(data, [builder.mul(index, _INDEX(width))]), vector.as_pointer())

        def all_of(number: Any) -> Any:
            one = builder.insert_element(ir.Constant(vector, ir.Undefined), number, ir.IntType(32)(0))
            return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width))

        there = at(1, given[2])
        total = builder.load(there, align=4)
        for factor, index in ((given[5], given[4]), (given[6], builder.add(given[4], _INDEX(1)))):
            term = builder.fmul(all_of(factor), builder.load(at(3, index), align=4), flags=_FAST)
            total = builder.fadd(total, term, flags=_FAST)
        builder.store(total, there, align=4)
        return context.get_dummy_value()

    weights = types.float32, types.float32
    return types.void(lanes, out, types.int64, x, types.int64, *weights), compiled
