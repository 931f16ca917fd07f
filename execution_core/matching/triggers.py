"""Conditional orders: stops, if-touched and trailing orders wait on trigger ladders until a trade fires them.

Only trades fire triggers. The prices of one incoming order's trades run in one direction, so looking
at its first and its last trade is the same as looking at each of them. Fired orders act one after
the other, in the order in which they fired, each after the order before it is done.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from execution_core.jit import kernel
from execution_core.matching.crossing import enter
from execution_core.matching.layout import (
    BUY,
    FALLING,
    FIRED,
    LEVEL_BITS,
    LIMIT,
    LIMIT_IF_TOUCHED,
    MARKET,
    MARKET_IF_TOUCHED,
    MARKET_LIST,
    RISING,
    SELL,
    STEP_MASK,
    STOP_MARKET,
    TRAILING_STOP_LIMIT,
    TRAILING_STOP_MARKET,
)
from execution_core.matching.report import NONE, TRIGGERED, report
from execution_core.matching.store import (
    append,
    detach,
    head,
    limit_price,
    price_at,
    rest_list,
    step_of,
    trail_append,
    unlink,
)
from execution_core.types import NO_PRICE


@kernel
def is_trailing(order_type: int) -> bool:
    return order_type in (TRAILING_STOP_MARKET, TRAILING_STOP_LIMIT)


@kernel
def is_conditional(order_type: int) -> bool:
    return STOP_MARKET <= order_type <= TRAILING_STOP_LIMIT


@kernel
def trigger_list(book: Any, order_type: int, side: int, stop_price: int) -> int:
    """The list where a conditional order waits for its price."""
    touched = order_type in (MARKET_IF_TOUCHED, LIMIT_IF_TOUCHED)
    ladder = RISING if (side == BUY) != touched else FALLING
    return int((ladder << LEVEL_BITS) | step_of(book, ladder, stop_price))


@kernel
def wait_for(book: Any, slot: int, stop_price: int) -> None:
    """Put a conditional order that is in no list on its trigger ladder."""
    order = book.orders[slot]
    append(book, trigger_list(book, order.type, order.side, stop_price), slot)
    book.pending += 1
    if is_trailing(order.type):
        lone = book.trail_head[order.side - 1] == 0
        trail_append(book, slot)
        mark_trail(book, slot, stop_price, lone)


@kernel
def mark_trail(book: Any, slot: int, stop_price: int, lone: bool) -> None:
    """Keep ``trail_mark`` true after a trailing stop was set by hand."""
    offset = book.terms[slot].trailing_offset
    if book.orders[slot].side == SELL:
        seen = stop_price + offset
        book.trail_mark[1] = seen if lone else min(book.trail_mark[1], seen)
    else:
        seen = stop_price - offset
        book.trail_mark[0] = seen if lone else max(book.trail_mark[0], seen)


@kernel
def stop_price_of(book: Any, slot: int) -> int:
    """The stop price of a waiting conditional order."""
    level = np.int64(book.orders[slot].list)
    return int(price_at(book, level >> LEVEL_BITS, level & STEP_MASK))


@kernel
def ratchet(book: Any, price: int) -> None:
    """Let the trailing stops follow a trade; the moved ones queue behind those already at the price."""
    if book.trail_head[1] != 0 and price > book.trail_mark[1]:
        book.trail_mark[1] = price
        slot = book.trail_head[1]
        while slot != 0:
            stop = price - book.terms[slot].trailing_offset
            if stop > stop_price_of(book, slot):
                unlink(book, slot)
                append(book, (FALLING << LEVEL_BITS) | step_of(book, FALLING, stop), slot)
            slot = book.terms[slot].trail_next
    if book.trail_head[0] != 0 and price < book.trail_mark[0]:
        book.trail_mark[0] = price
        slot = book.trail_head[0]
        while slot != 0:
            stop = price + book.terms[slot].trailing_offset
            if stop < stop_price_of(book, slot):
                unlink(book, slot)
                append(book, (RISING << LEVEL_BITS) | step_of(book, RISING, stop), slot)
            slot = book.terms[slot].trail_next


@kernel
def fire(book: Any, slot: int) -> None:
    """Move a waiting order to the fired ones and fix a trailing stop's limit."""
    order = book.orders[slot]
    if order.type == TRAILING_STOP_LIMIT:
        stop = stop_price_of(book, slot)
        offset = book.terms[slot].limit_offset
        top = book.base + STEP_MASK
        book.terms[slot].price = min(stop + offset, top) if order.side == BUY else max(stop - offset, book.base)
    detach(book, slot)
    append(book, FIRED, slot)


@kernel
def observe(book: Any, price: int) -> None:
    """Fire what a trade at `price` fires."""
    if book.pending == 0:
        return
    ratchet(book, price)
    for ladder in (RISING, FALLING):
        limit = step_of(book, ladder, price)
        while book.best[ladder] <= limit:
            fire(book, head(book, (ladder << LEVEL_BITS) | book.best[ladder]))


@kernel
def run_fired(book: Any) -> None:
    """Let the fired orders act, and those that their trades fire."""
    while head(book, FIRED) != 0:
        slot = head(book, FIRED)
        order = book.orders[slot]
        unlink(book, slot)
        if order.type == STOP_MARKET or order.type == MARKET_IF_TOUCHED or order.type == TRAILING_STOP_MARKET:
            order.type = MARKET
            order.list = MARKET_LIST + order.side - 1
        else:
            order.type = LIMIT
            order.list = rest_list(book, order.side, book.terms[slot].price)
        report(book, TRIGGERED, NONE, slot, limit_price(book, slot), order.quantity, order.leaves)
        first = enter(book, slot)
        if first != NO_PRICE:
            observe(book, first)
            observe(book, book.last)


@kernel
def settle(book: Any, first: int) -> None:
    """After an order traded, from price `first` to ``book.last``: triggers and all that follows."""
    if first != NO_PRICE and book.pending != 0:
        observe(book, first)
        observe(book, book.last)
        run_fired(book)
