"""New orders: every check that can refuse one, and its way into the book."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from execution_core.jit import kernel
from execution_core.matching.crossing import enter, outside_band, reducible, rest
from execution_core.matching.layout import (
    ACCOUNTS,
    AT_CLOSE,
    AT_OPEN,
    BUY,
    CAPACITY,
    CLOSED,
    CLOSING_AUCTION,
    CONTINUOUS,
    FOK,
    GTD,
    HALTED,
    HELD,
    ICEBERG,
    IOC,
    LIMIT,
    LIMIT_IF_TOUCHED,
    MARKET,
    MARKET_LIST,
    MAX_ICEBERGS,
    MAX_QUANTITY,
    MAX_SLICES,
    OPENING_AUCTION,
    POST_ONLY,
    PRICE_LEVELS,
    REDUCE_ONLY,
    SELL,
    STEP_MASK,
    STOP_LIMIT,
    TRAILING_STOP_LIMIT,
    UNPRICED,
    code,
)
from execution_core.matching.report import ACCEPTED, NONE, refuse, report
from execution_core.matching.store import allocate, heap_add, rest_list, step_of
from execution_core.matching.triggers import is_conditional, is_trailing, observe, run_fired, settle, wait_for
from execution_core.types import NO_PRICE, MatchReason, OrderType, TimeInForce

INVALID_SIDE: Final = code(MatchReason.INVALID_SIDE)
INVALID_ORDER_TYPE: Final = code(MatchReason.INVALID_ORDER_TYPE)
INVALID_TIME_IN_FORCE: Final = code(MatchReason.INVALID_TIME_IN_FORCE)
INVALID_FLAGS: Final = code(MatchReason.INVALID_FLAGS)
INVALID_SELF_TRADE_MODE: Final = code(MatchReason.INVALID_SELF_TRADE_MODE)
INVALID_QUANTITY: Final = code(MatchReason.INVALID_QUANTITY)
INVALID_PRICE: Final = code(MatchReason.INVALID_PRICE)
INVALID_STOP_PRICE: Final = code(MatchReason.INVALID_STOP_PRICE)
INVALID_DISPLAY_QUANTITY: Final = code(MatchReason.INVALID_DISPLAY_QUANTITY)
INVALID_OFFSET: Final = code(MatchReason.INVALID_OFFSET)
UNKNOWN_ACCOUNT: Final = code(MatchReason.UNKNOWN_ACCOUNT)
BOOK_FULL: Final = code(MatchReason.BOOK_FULL)
MARKET_CLOSED: Final = code(MatchReason.MARKET_CLOSED)
TRADING_HALTED: Final = code(MatchReason.TRADING_HALTED)
WRONG_PHASE: Final = code(MatchReason.WRONG_PHASE)
PRICE_BAND: Final = code(MatchReason.PRICE_BAND)
POST_ONLY_WOULD_CROSS: Final = code(MatchReason.POST_ONLY_WOULD_CROSS)
REDUCE_ONLY_WOULD_INCREASE: Final = code(MatchReason.REDUCE_ONLY_WOULD_INCREASE)
EXPIRE_TIME_IN_PAST: Final = code(MatchReason.EXPIRE_TIME_IN_PAST)
NO_REFERENCE_PRICE: Final = code(MatchReason.NO_REFERENCE_PRICE)


def _allowed() -> np.ndarray[Any, np.dtype[np.int64]]:
    """Bits of the times in force that each order type may have, by its number."""
    always = {TimeInForce.DAY, TimeInForce.GTC}
    passing = {TimeInForce.IOC, TimeInForce.FOK}
    auction = {TimeInForce.AT_OPEN, TimeInForce.AT_CLOSE}
    table = np.zeros(16, np.int64)
    for order_type in OrderType:
        times = always | {TimeInForce.GTD}
        if order_type is OrderType.MARKET:
            times = always | passing | auction
        elif order_type is OrderType.LIMIT:
            times = times | passing | auction
        elif order_type is not OrderType.ICEBERG:
            times = times | passing
        table[order_type] = sum(1 << time for time in times)
    return table


ALLOWED: Final = _allowed()


@kernel
def has_limit(order_type: int) -> bool:
    """Whether the order is sent with a limit price."""
    return order_type in (LIMIT, ICEBERG, STOP_LIMIT, LIMIT_IF_TOUCHED)


@kernel
def on_ladder(book: Any, price: int) -> bool:
    return bool(book.base <= price <= book.base + STEP_MASK)


@kernel
def would_cross(book: Any, side: int, price: int) -> bool:
    opposite = 2 - side
    return bool(book.best[opposite] <= step_of(book, opposite, price))


@kernel(forceinline=True)
def fields_refused(book: Any, command: Any) -> int:
    """The reason why a NEW command's fields make no order, or NONE."""
    order_type = command.order_type
    tif = command.time_in_force
    if command.side != BUY and command.side != SELL:
        return INVALID_SIDE
    if order_type < MARKET or order_type > ICEBERG:
        return INVALID_ORDER_TYPE
    if tif > AT_CLOSE or not (ALLOWED[order_type] >> tif) & 1:
        return INVALID_TIME_IN_FORCE
    if command.flags != 0:
        if command.flags > POST_ONLY | REDUCE_ONLY:
            return INVALID_FLAGS
        resting = tif != IOC and tif != FOK and (has_limit(order_type) or order_type == TRAILING_STOP_LIMIT)
        if command.flags & POST_ONLY and not resting:
            return INVALID_FLAGS
    if command.self_trade > 4:
        return INVALID_SELF_TRADE_MODE
    if command.quantity < 1 or command.quantity > MAX_QUANTITY:
        return INVALID_QUANTITY
    if command.account < 0 or command.account >= ACCOUNTS:
        return UNKNOWN_ACCOUNT
    if has_limit(order_type) and not on_ladder(book, command.price):
        return INVALID_PRICE
    if order_type == ICEBERG and not display_fits(command.display_quantity, command.quantity):
        return INVALID_DISPLAY_QUANTITY
    if is_trailing(order_type):
        if command.trailing_offset < 1 or command.trailing_offset > PRICE_LEVELS:
            return INVALID_OFFSET
        if order_type == TRAILING_STOP_LIMIT and (command.limit_offset < 0 or command.limit_offset > PRICE_LEVELS):
            return INVALID_OFFSET
    if tif == GTD and command.expire_time_ns <= book.now:
        return EXPIRE_TIME_IN_PAST
    return NONE


@kernel
def display_fits(display: int, quantity: int) -> bool:
    return 1 <= display <= quantity and display * MAX_SLICES >= quantity


@kernel(forceinline=True)
def phase_refused(book: Any, command: Any) -> int:
    """The reason why an order cannot be taken in this phase, or NONE."""
    phase = book.phase
    tif = command.time_in_force
    if phase == CONTINUOUS:
        return WRONG_PHASE if tif == AT_OPEN else NONE
    if phase == CLOSED:
        return MARKET_CLOSED
    if phase == HALTED:
        return TRADING_HALTED
    if tif == AT_OPEN and phase != OPENING_AUCTION:
        return WRONG_PHASE
    if (tif in (IOC, FOK)) and not is_conditional(command.order_type):
        return WRONG_PHASE
    return NONE


@kernel(forceinline=True)
def book_refused(book: Any, command: Any) -> int:
    """The reason why an order that is no conditional one cannot enter this book, or NONE."""
    if command.order_type != MARKET:
        if outside_band(book, command.side, command.price):
            return PRICE_BAND
        if (
            command.flags & POST_ONLY
            and book.phase == CONTINUOUS
            and command.time_in_force != AT_CLOSE
            and would_cross(book, command.side, command.price)
        ):
            return POST_ONLY_WOULD_CROSS
    if command.flags & REDUCE_ONLY and reducible(book, command.account, command.side) == 0:
        return REDUCE_ONLY_WOULD_INCREASE
    if command.order_type == ICEBERG and book.icebergs == MAX_ICEBERGS:
        return BOOK_FULL
    return NONE


@kernel
def first_stop(book: Any, command: Any) -> int:
    """The stop price of a new conditional order; NO_PRICE when a trailing order has nothing to start from."""
    if command.stop_price != NO_PRICE or not is_trailing(command.order_type):
        return int(command.stop_price)
    start = book.last if book.last != NO_PRICE else book.reference
    if start == NO_PRICE:
        return NO_PRICE
    return int(start + command.trailing_offset if command.side == BUY else start - command.trailing_offset)


@kernel(forceinline=True)
def new_order(book: Any, command: Any) -> None:
    """Check a NEW command, then accept it and let it act."""
    stop = NO_PRICE
    conditional = is_conditional(command.order_type)
    reason = fields_refused(book, command)
    if reason == NONE:
        reason = phase_refused(book, command)
    if reason == NONE:
        if conditional:
            stop = first_stop(book, command)
            if stop == NO_PRICE and is_trailing(command.order_type):
                reason = NO_REFERENCE_PRICE
            elif not on_ladder(book, stop):
                reason = INVALID_STOP_PRICE
        else:
            reason = book_refused(book, command)
    if reason == NONE and book.live == CAPACITY - 1:
        reason = BOOK_FULL
    if reason != NONE:
        refuse(book, command, reason)
        return
    slot = allocate(book)
    order = book.orders[slot]
    order.leaves = command.quantity
    order.hidden = 0
    order.quantity = command.quantity
    order.client_tag = command.client_tag
    order.account = command.account
    order.side = command.side
    order.type = command.order_type
    order.time_in_force = command.time_in_force
    order.flags = command.flags
    order.self_trade = command.self_trade
    if order.type == ICEBERG:
        book.icebergs += 1
        book.terms[slot].display = command.display_quantity
    if order.time_in_force == GTD:
        book.terms[slot].expire_time_ns = command.expire_time_ns
        heap_add(book, slot)
    if conditional:
        new_conditional(book, command, slot, stop)
        return
    price = UNPRICED if order.type == MARKET else command.price
    held = order.time_in_force == AT_CLOSE and book.phase != CLOSING_AUCTION
    if held:
        book.terms[slot].price = price
        order.list = HELD
    elif order.type == MARKET:
        order.list = MARKET_LIST + order.side - 1
    else:
        order.list = rest_list(book, order.side, price)
    report(book, ACCEPTED, NONE, slot, price, order.quantity, order.quantity)
    if book.phase == CONTINUOUS and not held:
        settle(book, enter(book, slot))
    else:
        rest(book, slot)


@kernel
def new_conditional(book: Any, command: Any, slot: int, stop: int) -> None:
    """Let a new conditional order wait for its price; one whose price is already there acts at once."""
    order = book.orders[slot]
    terms = book.terms[slot]
    terms.price = command.price if has_limit(order.type) else NO_PRICE
    terms.trailing_offset = command.trailing_offset
    terms.limit_offset = command.limit_offset
    wait_for(book, slot, stop)
    report(book, ACCEPTED, NONE, slot, terms.price, order.quantity, order.quantity)
    if book.phase == CONTINUOUS and book.last != NO_PRICE:
        observe(book, book.last)
        run_fired(book)
