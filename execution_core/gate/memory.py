"""How kernels reach the records of a gate's block, and the four machine instructions that NumPy lacks."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.extending import intrinsic

from execution_core.gate.layout import (
    ACCOUNT,
    INSTRUMENT,
    INSTRUMENT_BYTES,
    RECENT,
    RECENT_BYTES,
    RESERVATION,
    RESERVATION_BYTES,
    SATURATED,
    SECTOR,
    SECTOR_BYTES,
    SEEN_BYTES,
    SIDE,
    SIDE_BYTES,
    SIDES_AT,
    WORD,
)
from execution_core.jit import kernel

# For what the hot loop calls: LLVM leaves large functions out of line, and a call costs more than they do.
inline = kernel(forceinline=True)
# For what seldom runs. Said aloud, because Numba lets it inherit the option from an inline caller.
aside = kernel(forceinline=False)

# Their type stubs are stricter than they are.
_intrinsic: Any = intrinsic
_numba: Any = numba
carray = _numba.carray
types = _numba.types


@_intrinsic
def pointer(typing_context: Any, block: Any, offset: Any) -> Any:
    """A C pointer to `offset` bytes into the memory at address `block`, for ``carray``.

    The two stay apart: of an address that was summed up as an integer LLVM may take the constant part for
    the object, the address for the index, and then assume that nothing else points there.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        base = builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))
        return builder.gep(base, [arguments[1]])

    return types.voidptr(types.int64, types.int64), generate


@_intrinsic
def _multiply(typing_context: Any, a: Any, b: Any) -> Any:
    """(low 64 bits of a * b, whether int64 overflowed): one multiplication and a flag."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        both = builder.smul_with_overflow(arguments[0], arguments[1])
        product, overflow = builder.extract_value(both, 0), builder.extract_value(both, 1)
        return context.make_tuple(builder, signature.return_type, (product, overflow))

    return types.Tuple((types.int64, types.boolean))(types.int64, types.int64), generate


@_intrinsic
def lowest_bit(typing_context: Any, mask: Any) -> Any:
    """Number of the lowest set bit of an int64; 64 for 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], context.get_constant(types.boolean, False))

    return types.int64(types.int64), generate


@_intrinsic
def divide(typing_context: Any, a: Any, b: Any) -> Any:
    """a // b for a >= 0 and b > 0: without the steps that floor a negative quotient."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.udiv(arguments[0], arguments[1])

    return types.int64(types.int64, types.int64), generate


@inline
def money(a: int, b: int) -> int:
    """a * b for a, b >= 0; SATURATED where that is more than MONEY_MAX."""
    product, overflow = _multiply(a, b)
    # In this order: the flag is gone after the comparison, and LLVM would multiply again.
    product = SATURATED if overflow else product
    return min(product, SATURATED)


@inline
def account_of(block: int) -> Any:
    """The account's record in the block at this address."""
    return carray(pointer(block, 0), (1,), ACCOUNT)[0]


@inline
def instrument_of(block: int, index: int) -> Any:
    """An instrument's record."""
    at = account_of(block).at_instruments + index * INSTRUMENT_BYTES
    return carray(pointer(block, at), (1,), INSTRUMENT)[0]


@inline
def instruments_of(block: int) -> Any:
    """All instruments."""
    a = account_of(block)
    return carray(pointer(block, a.at_instruments), (a.capacity_instruments,), INSTRUMENT)


@inline
def side_of(block: int, index: int, side: int) -> Any:
    """One side (BUY or SELL) of an instrument. Any other number gets one of the two, not foreign memory: the
    quick gear looks before it knows the order to be well-formed."""
    at = account_of(block).at_instruments + index * INSTRUMENT_BYTES + SIDES_AT
    return carray(pointer(block, at + ((int(side) >> 1) & 1) * SIDE_BYTES), (1,), SIDE)[0]


@inline
def sector_of(block: int, index: int) -> Any:
    """A sector's record."""
    return carray(pointer(block, account_of(block).at_sectors + index * SECTOR_BYTES), (1,), SECTOR)[0]


@inline
def reservation_of(block: int, slot: int) -> Any:
    """A slot's record."""
    at = account_of(block).at_reservations + slot * RESERVATION_BYTES
    return carray(pointer(block, at), (1,), RESERVATION)[0]


@inline
def recent_of(block: int, number: int) -> Any:
    """The ring's record of the order with this running number."""
    a = account_of(block)
    at = a.at_recent + (number & (a.capacity_recent - 1)) * RECENT_BYTES
    return carray(pointer(block, at), (1,), RECENT)[0]


@inline
def free_of(block: int, at: int) -> Any:
    """A place on the stack of free slots, as an array of one."""
    return carray(pointer(block, account_of(block).at_free + at * WORD), (1,), np.int64)


@inline
def seen_of(block: int, at: int) -> Any:
    """A cell of the hash table of the recent ids, as an array of one: 1 + place in the ring, 0 empty."""
    return carray(pointer(block, account_of(block).at_seen + at * SEEN_BYTES), (1,), np.int32)
