"""One order's verdict: the quick gear first, then rule by rule."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from execution_core.gate.exposure import quote, reserve
from execution_core.gate.layout import LOTS_MAX, PRICE_MAX
from execution_core.gate.memory import aside, inline
from execution_core.gate.rules import (
    BUY,
    CONDITIONAL_TYPES,
    GTD,
    HIGHEST_TIME_IN_FORCE,
    HIGHEST_TYPE,
    INSTRUMENT_UNKNOWN,
    LIMITED_TYPES,
    MINIMUMS,
    POST_ONLY,
    PRICED_TYPES,
    REDUCE_ONLY,
    SELL,
    effect,
    find_seen,
    is_index,
    is_known,
    order_bits,
    terms,
    type_bit,
)

# See Mode in gate.py.
EACH: Final = 0
ALL: Final = 1
FIT: Final = 2

# What is wrong with a malformed order.
BAD_SIDE: Final = 0
BAD_LOTS: Final = 1
BAD_PRICE: Final = 2
BAD_TRIGGER: Final = 3
BAD_TYPE: Final = 4
BAD_EXPIRE: Final = 5
BAD_FLAGS: Final = 6
BAD_TIME_IN_FORCE: Final = 7
NO_PROBLEM: Final = -1
# Not the order's fault.
BAD_NOW: Final = 2**40


class Order(NamedTuple):
    """A row of GATE_ORDER as single numbers: what it takes to judge one order without an array."""

    client_order_hash: int
    lots: int
    price: int
    trigger: int
    expire_ns: int
    instrument: int
    side: int
    type: int
    time_in_force: int
    flags: int


@aside
def problem_of(order: Any) -> int:
    """The code of what is wrong with a malformed order; NO_PROBLEM for any other.

    Fields that mean nothing for the order's type or time in force may hold anything.
    """
    kind = type_bit(order)
    if order.type < 1 or order.type > HIGHEST_TYPE:
        return BAD_TYPE
    if order.side != BUY and order.side != SELL:
        return BAD_SIDE
    if order.lots < 1 or order.lots > LOTS_MAX:
        return BAD_LOTS
    if (kind & LIMITED_TYPES) != 0 and (order.price < 0 or order.price > PRICE_MAX):
        return BAD_PRICE
    if (kind & PRICED_TYPES) != 0 and order.price == 0:
        return BAD_PRICE
    if (kind & CONDITIONAL_TYPES) != 0 and (order.trigger < 0 or order.trigger > PRICE_MAX):
        return BAD_TRIGGER
    if order.time_in_force < 1 or order.time_in_force > HIGHEST_TIME_IN_FORCE:
        return BAD_TIME_IN_FORCE
    if order.time_in_force == GTD and order.expire_ns < 0:
        return BAD_EXPIRE
    return BAD_FLAGS if order.flags < 0 or order.flags > POST_ONLY | REDUCE_ONLY else NO_PROBLEM


@aside
def largest_fit(block: int, order: Any, t: Any) -> tuple[int, int]:
    """(lots, mask): the most lots of an order that violate nothing, or 0 and what the most that
    keep within every maximum still violate: a minimum.

    The rules but the minimums are monotone in the lots (all that pass come before all that fail),
    so a bisection finds them.
    """
    low, high = 0, order.lots
    while low < high:
        middle = low + (high - low + 1) // 2
        if effect(block, order, middle, t, True).mask & ~MINIMUMS == 0:
            low = middle
        else:
            high = middle - 1
    mask = effect(block, order, low, t, True).mask if low > 0 else 0
    return (low, mask) if mask == 0 else (0, mask)


@aside
def judge_exactly(block: int, order: Any, call: Any, approved: int) -> tuple[int, int, int]:
    """``judge`` rule by rule."""
    problem = problem_of(order)
    if problem != NO_PROBLEM:
        return -1 - problem, 0, 0
    seen_at = find_seen(block, order.client_order_hash)
    hard, soft = order_bits(block, order, call, approved, seen_at, True)
    hard |= call.hard
    soft |= call.soft
    if not is_known(block, order.instrument):
        return hard | soft | (1 << INSTRUMENT_UNKNOWN), 0, 0
    quote(block, order.instrument, 3 - order.side)
    t = terms(block, order, call, hard, soft, True)
    mask = effect(block, order, order.lots, t, True).mask
    lots = 0
    handle = 0
    if mask == 0:
        lots = order.lots
    elif call.mode == FIT and t.hard == 0:
        lots, short = largest_fit(block, order, t)
        mask |= short
    if call.see and lots > 0:
        handle = reserve(block, order, lots, t, effect(block, order, lots, t, True), seen_at, call.stamp_ns)
    return mask, lots, handle


@inline
def judge(block: int, order: Any, call: Any, approved: int) -> tuple[int, int, int]:
    """(mask, approved lots, handle); a malformed order has the mask -1 - its code and changes nothing.

    `approved` counts the orders that this call has approved so far.
    """
    if (call.hard | call.soft) == 0 and is_index(block, order.instrument):
        seen_at = find_seen(block, order.client_order_hash)
        hard, soft = order_bits(block, order, call, approved, seen_at, False)
        t = terms(block, order, call, hard, soft, False)
        e = effect(block, order, order.lots, t, False)
        if e.mask >= 0:
            return 0, order.lots, reserve(block, order, order.lots, t, e, seen_at, call.stamp_ns) if call.see else 0
    exact: tuple[int, int, int] = judge_exactly(block, order, call, approved)
    return exact
