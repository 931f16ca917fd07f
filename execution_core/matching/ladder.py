"""Which price levels are in use: a bitmap of three storeys over each ladder, 64 bits a word.

A set bit upstairs says that the word below it is not zero, so the next used level is found with at
most three counts of trailing zeros, however far away it is.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from execution_core.jit import kernel
from execution_core.matching.layout import LEVEL_BITS, PRICE_LEVELS, STEP_MASK


def _count_trailing_zeros(typing_context: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


# Position of the lowest set bit of a word that is not zero.
lowest_bit: Any = intrinsic(_count_trailing_zeros)


@kernel
def mark_used(book: Any, level: int) -> None:
    """The list `level` got its first order."""
    word = level >> 6
    before = book.low[word]
    book.low[word] = before | (1 << (level & 63))
    if before == 0:
        book.middle[level >> 12] |= 1 << (word & 63)
        book.top[level >> LEVEL_BITS] |= 1 << ((level >> 12) & 63)
    ladder = level >> LEVEL_BITS
    step = level & STEP_MASK
    if step < book.best[ladder]:
        book.best[ladder] = step


@kernel
def mark_empty(book: Any, level: int) -> None:
    """The list `level` lost its last order."""
    word = level >> 6
    left = book.low[word] & ~(1 << (level & 63))
    book.low[word] = left
    ladder = level >> LEVEL_BITS
    if left != 0:
        if book.best[ladder] == level & STEP_MASK:
            book.best[ladder] = ((word << 6) | lowest_bit(left)) & STEP_MASK
        return
    upper = level >> 12
    left = book.middle[upper] & ~(1 << (word & 63))
    book.middle[upper] = left
    if left == 0:
        book.top[ladder] &= ~(1 << (upper & 63))
    if book.best[ladder] == level & STEP_MASK:
        book.best[ladder] = first_step(book, ladder)


@kernel
def first_step(book: Any, ladder: int) -> int:
    """The lowest used step of a ladder; PRICE_LEVELS when there is none."""
    if book.top[ladder] == 0:
        return PRICE_LEVELS
    upper = (ladder << 6) | lowest_bit(book.top[ladder])
    word = (upper << 6) | lowest_bit(book.middle[upper])
    return int((word << 6) | lowest_bit(book.low[word])) & STEP_MASK


@kernel
def next_step(book: Any, ladder: int, step: int) -> int:
    """The lowest used step above `step`; PRICE_LEVELS when there is none."""
    level = (ladder << LEVEL_BITS) | step
    word = level >> 6
    above = book.low[word] & (-2 << (level & 63))
    if above == 0:
        upper = word >> 6
        above = book.middle[upper] & (-2 << (word & 63))
        if above == 0:
            above = book.top[ladder] & (-2 << (upper & 63))
            if above == 0:
                return PRICE_LEVELS
            upper = (ladder << 6) | lowest_bit(above)
            above = book.middle[upper]
        word = (upper << 6) | lowest_bit(above)
        above = book.low[word]
    return int((word << 6) | lowest_bit(above)) & STEP_MASK
