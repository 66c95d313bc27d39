"""Sixteen float32 numbers at once, for kernels that numba compiles.

Numba's own loops over 16 numbers are unrolled into scalars before they are vectorised; a value of this type is one LLVM vector
from the start, which every processor's compiler splits into what its registers hold. It needs no C compiler: numba brings its
own. Its cache of compiled kernels looks at the kernels' file alone: touch kernels.py after a change here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import float32, njit, types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

WIDTH = 16

_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
_VECTOR, _INTS = ir.VectorType(_FLOAT, WIDTH), ir.VectorType(_INT, WIDTH)


class Lanes(types.Type):  # type: ignore[misc]
    """Numba's type of such a value."""

    def __init__(self) -> None:
        super().__init__(name="Lanes")


lanes = Lanes()


@register_model(Lanes)
class _Model(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


# ------------------------------------------------------------------------------------------------- pieces of LLVM's language


def _pointer(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), _VECTOR.as_pointer())


def _spread(builder: Any, value: Any) -> Any:
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), ir.Constant(_INTS, [0] * WIDTH))


def _called(builder: Any, name: str, *args: Any) -> Any:
    kind = ir.FunctionType(_VECTOR, [a.type for a in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{WIDTH}f32"), args)


def _folded(builder: Any, value: Any, join: Any) -> Any:
    """One number of all lanes, always in the same order: halves upon halves."""
    width = WIDTH
    while width > 1:
        whole, half = ir.VectorType(_FLOAT, width), width // 2
        parts = [
            builder.shuffle_vector(value, ir.Constant(whole, ir.Undefined), ir.Constant(ir.VectorType(_INT, half), indices))
            for indices in (list(range(half)), list(range(half, width)))
        ]
        value, width = join(*parts), half
    return builder.extract_element(value, ir.Constant(_INT, 0))


# ------------------------------------------------------------------------------------------------------------- operations


@intrinsic
def load(typing: Any, array: Any, at: Any) -> Any:
    """The 16 numbers of a flat float32 array from an index on; no bounds are checked."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(_pointer(context, builder, signature.args[0], args[0], args[1]))
        value.align = 4
        return value

    return lanes(array, types.intp), generate


@intrinsic
def store(typing: Any, array: Any, at: Any, value: Any) -> Any:
    """Writes 16 numbers into a flat float32 array from an index on; no bounds are checked."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _pointer(context, builder, signature.args[0], args[0], args[1])).align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp, lanes), generate


@intrinsic
def fetch(typing: Any, array: Any, at: Any) -> Any:
    """Asks for the cache line at an index, to have it when it is read."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.bitcast(_pointer(context, builder, signature.args[0], args[0], args[1]), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, _INT, _INT, _INT])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [pointer, *(ir.Constant(_INT, n) for n in (0, 3, 1))])  # to read, into all caches, data
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@intrinsic
def splat(typing: Any, value: Any) -> Any:
    """One float32 in all lanes."""
    return lanes(types.float32), lambda context, builder, signature, args: _spread(builder, args[0])


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once."""
    return lanes(lanes, lanes, lanes), lambda context, builder, signature, args: _called(builder, "fma", *args)


@intrinsic
def add(typing: Any, a: Any, b: Any) -> Any:
    return lanes(lanes, lanes), lambda context, builder, signature, args: builder.fadd(*args)


@intrinsic
def sub(typing: Any, a: Any, b: Any) -> Any:
    return lanes(lanes, lanes), lambda context, builder, signature, args: builder.fsub(*args)


@intrinsic
def mul(typing: Any, a: Any, b: Any) -> Any:
    return lanes(lanes, lanes), lambda context, builder, signature, args: builder.fmul(*args)


@intrinsic
def div(typing: Any, a: Any, b: Any) -> Any:
    return lanes(lanes, lanes), lambda context, builder, signature, args: builder.fdiv(*args)


@intrinsic
def larger(typing: Any, a: Any, b: Any) -> Any:
    """The larger of each lane."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return lanes(lanes, lanes), generate


@intrinsic
def _rounded(typing: Any, a: Any) -> Any:
    return lanes(lanes), lambda context, builder, signature, args: _called(builder, "rint", args[0])


@intrinsic
def _power(typing: Any, a: Any) -> Any:
    """2 to the power of whole numbers in [-126, 127], by writing the exponent's bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        biased = builder.add(builder.fptosi(args[0], _INTS), ir.Constant(_INTS, [127] * WIDTH))
        return builder.bitcast(builder.shl(biased, ir.Constant(_INTS, [23] * WIDTH)), _VECTOR)

    return lanes(lanes), generate


@intrinsic
def total(typing: Any, a: Any) -> Any:
    """The sum over the lanes."""
    return types.float32(lanes), lambda context, builder, signature, args: _folded(builder, args[0], builder.fadd)


@intrinsic
def largest(typing: Any, a: Any) -> Any:
    """The largest lane."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _folded(builder, args[0], lambda x, y: builder.select(builder.fcmp_ordered(">", x, y), x, y))

    return types.float32(lanes), generate


@intrinsic
def first(typing: Any, a: Any, count: Any, other: Any) -> Any:
    """The first `count` lanes of a, and another value in the rest."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        count = builder.trunc(args[1], _INT)
        bound = builder.insert_element(ir.Constant(_INTS, ir.Undefined), count, ir.Constant(_INT, 0))
        bound = builder.shuffle_vector(bound, ir.Constant(_INTS, ir.Undefined), ir.Constant(_INTS, [0] * WIDTH))
        inside = builder.icmp_signed("<", ir.Constant(_INTS, list(range(WIDTH))), bound)
        return builder.select(inside, args[0], _spread(builder, args[2]))

    return lanes(lanes, types.intp, types.float32), generate


def _turned(by: int) -> Any:
    @intrinsic
    def turned(typing: Any, a: Any) -> Any:
        """Lane i gets what lane i + by held, around the end."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            order = ir.Constant(_INTS, [(i + by) % WIDTH for i in range(WIDTH)])
            return builder.shuffle_vector(args[0], ir.Constant(_VECTOR, ir.Undefined), order)

        return lanes(lanes), generate

    return turned


_turned8, _turned4 = _turned(8), _turned(4)


@njit(inline="always")
def gathered(a: Any, width: Any) -> Any:
    """The sums of lanes i, i + width, i + 2 width ... in lane i < width; width 4, 8 or 16."""
    if width <= 8:
        a = add(a, _turned8(a))
    if width <= 4:
        a = add(a, _turned4(a))
    return a


@intrinsic
def _from(typing: Any, a: Any, bound: Any, value: Any) -> Any:
    """The value where a >= bound, and 0 elsewhere."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        inside = builder.fcmp_ordered(">=", args[0], _spread(builder, args[1]))
        return builder.select(inside, args[2], ir.Constant(_VECTOR, [0.0] * WIDTH))

    return lanes(lanes, types.float32, lanes), generate


@intrinsic
def smaller(typing: Any, a: Any, b: Any) -> Any:
    """The smaller of each lane."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", *args), *args)

    return lanes(lanes, lanes), generate


@njit(inline="always")
def exp(given: Any) -> Any:
    """e to the power of each lane, within 2 units in the last place for x in [-87, 88]; 0 below, e^88 above. Range reduction
    and the polynomial of Cephes' expf (S. Moshier)."""
    x = smaller(larger(given, splat(float32(-87.0))), splat(float32(88.0)))
    n = _rounded(mul(x, splat(float32(1.44269504))))
    r = fma(n, splat(float32(-0.693359375)), x)
    r = fma(n, splat(float32(2.12194440e-4)), r)
    p = splat(float32(1.9875691500e-4))
    p = fma(p, r, splat(float32(1.3981999507e-3)))
    p = fma(p, r, splat(float32(8.3334519073e-3)))
    p = fma(p, r, splat(float32(4.1665795894e-2)))
    p = fma(p, r, splat(float32(1.6666665459e-1)))
    p = fma(p, r, splat(float32(5.0000001201e-1)))
    p = add(fma(mul(p, r), r, r), splat(float32(1.0)))
    return _from(given, float32(-87.0), mul(p, _power(n)))


def flat(array: np.ndarray[Any, np.dtype[np.float32]]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A contiguous array as the flat one that `load` and `store` take."""
    return array.reshape(-1)
