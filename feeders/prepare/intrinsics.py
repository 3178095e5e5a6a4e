"""Many bytes of a text at a time, as one number, in compiled code: instructions that numba has no names for."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def _eight_bytes(_: Any, text: Any, at: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, values[0])
        place = builder.gep(array.data, [values[1]])
        return builder.load(builder.bitcast(place, ir.IntType(64).as_pointer()), align=1)

    return types.uint64(text, at), generate


@intrinsic
def _trailing_zeros(_: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.cttz(values[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(word), generate


@intrinsic
def _set_bits(_: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.ctpop(values[0])

    return types.uint64(word), generate


def _which_bytes(relation: str) -> Any:
    @intrinsic
    def which(_: Any, text: Any, at: Any, byte: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            array = context.make_array(signature.args[0])(context, builder, values[0])
            place = builder.gep(array.data, [values[1]])
            many = ir.VectorType(ir.IntType(8), 64)
            found = builder.load(builder.bitcast(place, many.as_pointer()), align=1)
            one = builder.insert_element(ir.Constant(many, ir.Undefined), values[2], ir.Constant(ir.IntType(32), 0))
            same = builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), 64), [0] * 64))
            return builder.bitcast(builder.icmp_unsigned(relation, found, same), ir.IntType(64))

        return types.uint64(text, at, types.uint8), generate

    return which


equal_bytes: Callable[[np.ndarray, int, int], np.uint64] = cast(Any, _which_bytes("=="))
"""Which of the 64 bytes of a (B,) uint8 text from any place on are a byte, the first as the lowest bit."""

lower_bytes: Callable[[np.ndarray, int, int], np.uint64] = cast(Any, _which_bytes("<"))
"""Which of them are below a byte."""

eight_bytes: Callable[[np.ndarray, int], np.uint64] = cast(Any, _eight_bytes)
"""The eight bytes of a (B,) uint8 text from any place on as one number, the first as its lowest; none past the end."""

trailing_zeros: Callable[[np.uint64], np.uint64] = cast(Any, _trailing_zeros)
"""How many bits there are below the lowest set one; 64 where none is set."""

set_bits: Callable[[np.uint64], np.uint64] = cast(Any, _set_bits)
"""How many bits are set."""
