"""Commands that are not about one order: phases, bands, positions, time, mass cancels, moving the ladder."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from execution_core.jit import kernel
from execution_core.matching.admission import (
    INVALID_PRICE,
    INVALID_QUANTITY,
    PRICE_BAND,
    UNKNOWN_ACCOUNT,
    on_ladder,
)
from execution_core.matching.auction import uncross
from execution_core.matching.crossing import NO_LIQUIDITY, outside_band, rest
from execution_core.matching.ladder import mark_empty, mark_used, next_step
from execution_core.matching.layout import (
    ACCOUNTS,
    ASKS,
    AT_CLOSE,
    AT_OPEN,
    BIDS,
    CAPACITY,
    CLOSED,
    CLOSING_AUCTION,
    CONTINUOUS,
    DAY,
    FALLING,
    HALTED,
    HELD,
    INTRADAY_AUCTION,
    LADDERS,
    LEVEL_BITS,
    MARKET,
    MARKET_LIST,
    MAX_POSITION,
    MAX_PRICE,
    OPENING_AUCTION,
    PRICE_LEVELS,
    STEP_MASK,
    UNPRICED,
    code,
)
from execution_core.matching.report import APPLIED, CANCELED, EXPIRED, NONE, answer, refuse, withdraw
from execution_core.matching.store import head, price_at, rest_list, unlink
from execution_core.matching.triggers import observe, run_fired
from execution_core.types import NO_PRICE, MatchReason

INVALID_PHASE: Final = code(MatchReason.INVALID_PHASE)
MASS_CANCEL: Final = code(MatchReason.MASS_CANCEL)


@kernel
def advance_time(book: Any, ts_event_ns: int) -> None:
    """Move the clock forward, never backward, and expire the GTD orders whose time has come."""
    if ts_event_ns > book.now:
        book.now = ts_event_ns
    while book.heap_size > 0 and book.now >= book.next_expiry:
        withdraw(book, book.heap[0], EXPIRED, NONE)


@kernel
def by_acceptance(book: Any) -> Any:
    """The slots of all live orders, the first accepted first (int64 array)."""
    ids = np.empty(book.live, np.int64)
    count = 0
    for slot in range(1, book.high_water):
        if book.orders[slot].id != 0:
            ids[count] = book.orders[slot].id
            count += 1
    ids.sort()
    return ids & (CAPACITY - 1)


@kernel
def mass_cancel(book: Any, command: Any) -> None:
    """Cancel every order of one account, or of all with account -1."""
    if command.account < -1 or command.account >= ACCOUNTS:
        refuse(book, command, UNKNOWN_ACCOUNT)
        return
    count = 0
    for slot in by_acceptance(book):
        if command.account == -1 or book.orders[slot].account == command.account:
            withdraw(book, slot, CANCELED, MASS_CANCEL)
            count += 1
    answer(book, command, APPLIED, NONE, UNPRICED, count)


@kernel
def clean_up(book: Any, phase: int) -> None:
    """End the orders whose session is over when trading starts (CONTINUOUS) or stops (CLOSED)."""
    for slot in by_acceptance(book):
        order = book.orders[slot]
        tif = order.time_in_force
        closing = tif == AT_CLOSE and (phase == CLOSED or order.list != HELD)
        if tif == AT_OPEN or closing or (phase == CLOSED and tif == DAY):
            withdraw(book, slot, EXPIRED, NONE)
        elif order.type == MARKET and order.list != HELD:
            withdraw(book, slot, CANCELED, NO_LIQUIDITY)


@kernel
def join_closing_auction(book: Any) -> None:
    """The orders held for the close enter the book, in the order in which they came."""
    while head(book, HELD) != 0:
        slot = head(book, HELD)
        order = book.orders[slot]
        if order.type == MARKET:
            unlink(book, slot)
            order.list = MARKET_LIST + order.side - 1
        elif outside_band(book, order.side, book.terms[slot].price):
            withdraw(book, slot, CANCELED, PRICE_BAND)
            continue
        else:
            unlink(book, slot)
            order.list = rest_list(book, order.side, book.terms[slot].price)
        rest(book, slot)


@kernel
def is_call(phase: int) -> bool:
    return phase in (OPENING_AUCTION, CLOSING_AUCTION, INTRADAY_AUCTION)


@kernel
def set_phase(book: Any, command: Any) -> None:
    """Change the phase. Continuous trading begins, and an auction call closes, with uncrossing."""
    phase = np.int64(command.phase)
    if phase < OPENING_AUCTION or phase > HALTED:
        refuse(book, command, INVALID_PHASE)
        return
    price = NO_PRICE
    traded = 0
    before = book.phase
    if phase == CONTINUOUS or (phase == CLOSED and is_call(before)):
        price, traded = uncross(book)
    book.phase = phase
    if phase in (CONTINUOUS, CLOSED):
        clean_up(book, phase)
    if phase == CLOSING_AUCTION:
        join_closing_auction(book)
    answer(book, command, APPLIED, NONE, price, traded)
    if phase == CONTINUOUS and book.last != NO_PRICE:
        observe(book, book.last)
        run_fired(book)


@kernel
def set_band(book: Any, command: Any) -> None:
    """Set the price band and cancel the resting orders beyond it; NO_PRICE: the ladder's end."""
    lower = command.price if command.price != NO_PRICE else book.base
    upper = command.stop_price if command.stop_price != NO_PRICE else book.base + STEP_MASK
    if not on_ladder(book, lower) or not on_ladder(book, upper) or lower > upper:
        refuse(book, command, INVALID_PRICE)
        return
    book.lower = lower
    book.upper = upper
    count = 0
    for ladder in (BIDS, ASKS):
        while book.best[ladder] < PRICE_LEVELS:
            if not outside_band(book, ladder + 1, price_at(book, ladder, book.best[ladder])):
                break
            withdraw(book, head(book, (ladder << LEVEL_BITS) | book.best[ladder]), CANCELED, PRICE_BAND)
            count += 1
    answer(book, command, APPLIED, NONE, UNPRICED, count)


@kernel
def set_reference(book: Any, command: Any) -> None:
    """Set the price that auctions and trailing stops start from; NO_PRICE: none."""
    if command.price != NO_PRICE and not on_ladder(book, command.price):
        refuse(book, command, INVALID_PRICE)
        return
    book.reference = command.price
    answer(book, command, APPLIED, NONE, command.price, 0)


@kernel
def set_position(book: Any, command: Any) -> None:
    """Tell the engine an account's position (signed lots), which its own trades then move."""
    if command.account < 0 or command.account >= ACCOUNTS:
        refuse(book, command, UNKNOWN_ACCOUNT)
    elif command.quantity < -MAX_POSITION or command.quantity > MAX_POSITION:
        refuse(book, command, INVALID_QUANTITY)
    else:
        book.positions[command.account] = command.quantity
        answer(book, command, APPLIED, NONE, UNPRICED, command.quantity)


@kernel
def rebase(book: Any, command: Any) -> None:
    """Move the ladder so that `price` is its lowest tick.

    Refused when a live order, the band, the last trade or the reference would fall off it.
    """
    base = command.price
    if base < -MAX_PRICE or base > MAX_PRICE:
        refuse(book, command, INVALID_PRICE)
        return
    top = base + STEP_MASK
    # An end of the band that is the ladder's end moves with it.
    lower = base if book.lower == book.base else max(book.lower, base)
    upper = top if book.upper == book.base + STEP_MASK else min(book.upper, top)
    keeps_last = book.last == NO_PRICE or base <= book.last <= top
    keeps_reference = book.reference == NO_PRICE or base <= book.reference <= top
    if lower > upper or not keeps_last or not keeps_reference:
        refuse(book, command, INVALID_PRICE)
        return
    for slot in range(1, book.high_water):
        order = book.orders[slot]
        if order.id == 0:
            continue
        level = np.int64(order.list)
        price = base
        if level < MARKET_LIST:
            price = price_at(book, level >> LEVEL_BITS, level & STEP_MASK)
        waiting = FALLING * PRICE_LEVELS <= level < MARKET_LIST or level == HELD
        limit = book.terms[slot].price if waiting else NO_PRICE
        if price < base or price > top or (limit != NO_PRICE and (limit < base or limit > top)):
            refuse(book, command, INVALID_PRICE)
            return
    shift = base - book.base
    for ladder in range(LADDERS):
        move_ladder(book, ladder, -shift if ladder & 1 else shift)
    book.base = base
    book.lower = lower
    book.upper = upper
    answer(book, command, APPLIED, NONE, base, 0)


@kernel
def move_ladder(book: Any, ladder: int, shift: int) -> None:
    """Renumber the used levels of a ladder by `shift` steps."""
    count = 0
    steps = np.empty(book.live, np.int64)
    heads = np.empty(book.live, np.int64)
    step = book.best[ladder]
    while step < PRICE_LEVELS:
        level = (ladder << LEVEL_BITS) | step
        steps[count] = step
        heads[count] = book.lists[level].head
        count += 1
        following = next_step(book, ladder, step)
        book.lists[level].head = 0
        book.lists[level].tail = 0
        mark_empty(book, level)
        step = following
    for index in range(count):
        level = (ladder << LEVEL_BITS) | (steps[index] + shift)
        slot = heads[index]
        book.lists[level].head = slot
        while slot != 0:
            book.orders[slot].list = level
            book.lists[level].tail = slot
            slot = book.orders[slot].next
        mark_used(book, level)
