"""Continuous matching: an incoming order against the other side, in price-time priority."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from execution_core.jit import kernel
from execution_core.matching.ladder import next_step
from execution_core.matching.layout import (
    BUY,
    CANCEL_BOTH,
    CANCEL_NEWEST,
    CANCEL_OLDEST,
    FOK,
    ICEBERG,
    IOC,
    LEVEL_BITS,
    MARKET,
    POST_ONLY,
    PRICE_LEVELS,
    REDUCE_ONLY,
    STEP_MASK,
    code,
)
from execution_core.matching.report import (
    CANCELED,
    MAKER,
    NONE,
    REPLACED,
    TAKER,
    end,
    fill,
    report,
    withdraw,
)
from execution_core.matching.store import append, head, limit_price, price_at, release, step_of, unlink
from execution_core.types import NO_PRICE, MatchReason

PRICE_BAND: Final = code(MatchReason.PRICE_BAND)
POST_ONLY_WOULD_CROSS: Final = code(MatchReason.POST_ONLY_WOULD_CROSS)
REDUCE_ONLY_WOULD_INCREASE: Final = code(MatchReason.REDUCE_ONLY_WOULD_INCREASE)
NO_LIQUIDITY: Final = code(MatchReason.NO_LIQUIDITY)
IMMEDIATE_OR_CANCEL: Final = code(MatchReason.IMMEDIATE_OR_CANCEL)
FILL_OR_KILL: Final = code(MatchReason.FILL_OR_KILL)
SELF_TRADE: Final = code(MatchReason.SELF_TRADE)


@kernel
def reducible(book: Any, account: int, side: int) -> int:
    """How many lots an order of this side can trade before the position reaches zero."""
    position = book.positions[account]
    return int(max(-position, 0) if side == BUY else max(position, 0))


@kernel
def outside_band(book: Any, side: int, price: int) -> bool:
    """Whether a limit reaches beyond the price that its side may pay."""
    if book.lower <= price <= book.upper:
        return False
    return bool(price > book.upper if side == BUY else price < book.lower)


@kernel
def book_trade(book: Any, maker: Any, taker: Any, traded: int) -> None:
    """Number a trade and move both positions."""
    book.trade_id += 1
    signed = traded if taker.side == BUY else -traded
    book.positions[taker.account] += signed
    book.positions[maker.account] -= signed


@kernel
def fillable(book: Any, slot: int, opposite: int, limit: int) -> bool:
    """Whether a FOK order is sure to fill in full.

    Reduce-only makers count nothing, since what they can trade depends on the fills before them.
    """
    taker = book.orders[slot]
    needed = taker.leaves
    if taker.flags & REDUCE_ONLY and reducible(book, taker.account, taker.side) < needed:
        return False
    step = book.best[opposite]
    while step <= limit:
        shown = 0
        total = 0
        maker_slot = head(book, (opposite << LEVEL_BITS) | step)
        while maker_slot != 0:
            maker = book.orders[maker_slot]
            if taker.self_trade != 0 and maker.account == taker.account:
                if taker.self_trade != CANCEL_OLDEST:
                    # The match stops here, before icebergs ahead show their next slice.
                    return bool(shown >= needed)
            elif not maker.flags & REDUCE_ONLY:
                shown += maker.leaves
                total += maker.leaves + maker.hidden
            maker_slot = np.int64(maker.next)
        needed -= total
        if needed <= 0:
            return True
        step = next_step(book, opposite, step)
    return False


@kernel
def prevent_self_trade(book: Any, slot: int, maker_slot: int) -> int:
    """Apply the taker's mode. Returns its leaves, or -1 when the rest of it must be canceled."""
    taker = book.orders[slot]
    maker = book.orders[maker_slot]
    mode = taker.self_trade
    if mode == CANCEL_NEWEST:
        return -1
    if mode in (CANCEL_OLDEST, CANCEL_BOTH):
        withdraw(book, maker_slot, CANCELED, SELF_TRADE)
        return -1 if mode == CANCEL_BOTH else taker.leaves
    waiting = maker.leaves + maker.hidden
    cut = min(taker.leaves, waiting)
    if cut == waiting:
        withdraw(book, maker_slot, CANCELED, SELF_TRADE)
    else:
        maker.quantity -= cut
        maker.leaves = min(maker.leaves, waiting - cut)
        maker.hidden = waiting - cut - maker.leaves
        report(book, REPLACED, SELF_TRADE, maker_slot, limit_price(book, maker_slot), maker.quantity, waiting - cut)
    taker.leaves -= cut
    if taker.leaves == 0:
        report(book, CANCELED, SELF_TRADE, slot, limit_price(book, slot), cut, 0)
    else:
        taker.quantity -= cut
        report(book, REPLACED, SELF_TRADE, slot, limit_price(book, slot), taker.quantity, taker.leaves)
    return int(taker.leaves)


@kernel(forceinline=True)
def cross(book: Any, slot: int, opposite: int, limit: int) -> tuple[int, int]:
    """Trade order `slot` against ladder `opposite` up to step `limit`.

    Returns the price of the first trade (NO_PRICE for none) and the reason to cancel what is left
    (NONE for none). ``book.last`` holds the price of the last trade.
    """
    taker = book.orders[slot]
    leaves = taker.leaves
    first = NO_PRICE
    while leaves > 0:
        step = book.best[opposite]
        if step > limit:
            break
        maker_slot = head(book, (opposite << LEVEL_BITS) | step)
        maker = book.orders[maker_slot]
        if taker.self_trade != 0 and maker.account == taker.account:
            taker.leaves = leaves
            leaves = prevent_self_trade(book, slot, maker_slot)
            if leaves < 0:
                return first, SELF_TRADE
            continue
        traded = min(leaves, maker.leaves)
        reducing = (maker.flags | taker.flags) & REDUCE_ONLY
        if reducing:
            if maker.flags & REDUCE_ONLY:
                traded = min(traded, reducible(book, maker.account, maker.side))
                if traded == 0:
                    withdraw(book, maker_slot, CANCELED, REDUCE_ONLY_WOULD_INCREASE)
                    continue
            if taker.flags & REDUCE_ONLY:
                traded = min(traded, reducible(book, taker.account, taker.side))
                if traded == 0:
                    taker.leaves = leaves
                    return first, REDUCE_ONLY_WOULD_INCREASE
        price = price_at(book, opposite, step)
        if first == NO_PRICE:
            first = price
        book.last = price
        leaves -= traded
        maker.leaves -= traded
        book_trade(book, maker, taker, traded)
        fill(book, maker_slot, MAKER, price, traded, maker.leaves + maker.hidden)
        fill(book, slot, TAKER, price, traded, leaves)
        if maker.leaves == 0:
            unlink(book, maker_slot)
            if maker.hidden == 0:
                release(book, maker_slot)
                continue
            # The next slice of an iceberg queues behind the orders that were shown before it.
            maker.leaves = min(book.terms[maker_slot].display, maker.hidden)
            maker.hidden -= maker.leaves
            append(book, (opposite << LEVEL_BITS) | step, maker_slot)
        if reducing and maker.flags & REDUCE_ONLY and reducible(book, maker.account, maker.side) == 0:
            withdraw(book, maker_slot, CANCELED, REDUCE_ONLY_WOULD_INCREASE)
    taker.leaves = leaves
    return first, NONE


@kernel
def rest(book: Any, slot: int) -> None:
    """Queue an order in the list that its ``list`` field names; an iceberg shows its first slice."""
    order = book.orders[slot]
    if order.type == ICEBERG:
        total = order.leaves + order.hidden
        order.leaves = min(book.terms[slot].display, total)
        order.hidden = total - order.leaves
    append(book, np.int64(order.list), slot)


@kernel
def enter(book: Any, slot: int) -> int:
    """Continuous trading: match an order that is in no list, then let it rest or end it.

    Its leaves are its whole remainder and its ``list`` is where it would rest. Returns the price of
    its first trade or NO_PRICE.
    """
    order = book.orders[slot]
    opposite = 2 - order.side
    if order.type == MARKET:
        limit = step_of(book, opposite, book.upper if order.side == BUY else book.lower)
    else:
        limit = STEP_MASK - (order.list & STEP_MASK)
        # Only an order that a trigger released can fail these two; the others were refused.
        if outside_band(book, order.side, price_at(book, opposite, limit)):
            end(book, slot, CANCELED, PRICE_BAND)
            return NO_PRICE
        if order.flags & POST_ONLY and book.best[opposite] <= limit:
            end(book, slot, CANCELED, POST_ONLY_WOULD_CROSS)
            return NO_PRICE
    if order.time_in_force == FOK and not fillable(book, slot, opposite, limit):
        end(book, slot, CANCELED, FILL_OR_KILL)
        return NO_PRICE
    first = NO_PRICE
    reason = NONE
    if book.best[opposite] <= limit:
        first, reason = cross(book, slot, opposite, limit)
        if order.leaves == 0:
            release(book, slot)
            return int(first)
    if reason == NONE:
        if order.type == MARKET:
            reason = PRICE_BAND if book.best[opposite] < PRICE_LEVELS else NO_LIQUIDITY
        elif order.time_in_force == IOC:
            reason = IMMEDIATE_OR_CANCEL
        else:
            rest(book, slot)
            return first
    end(book, slot, CANCELED, reason)
    return first
