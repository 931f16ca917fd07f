"""REPLACE: amending an order, and what it does to its place in the queue.

A smaller quantity at the same price keeps the order's place. A larger quantity or another price
sends it to the end of the queue, as if it had just arrived: it may trade at once. The new quantity
is a total; below what is filled it counts as what is filled, which closes the order.
"""

from __future__ import annotations

from typing import Any, Final

from execution_core.jit import kernel
from execution_core.matching.admission import (
    INVALID_DISPLAY_QUANTITY,
    INVALID_PRICE,
    INVALID_QUANTITY,
    INVALID_STOP_PRICE,
    MARKET_CLOSED,
    POST_ONLY_WOULD_CROSS,
    PRICE_BAND,
    TRADING_HALTED,
    display_fits,
    has_limit,
    on_ladder,
    would_cross,
)
from execution_core.matching.crossing import enter, outside_band, rest
from execution_core.matching.layout import (
    CLOSED,
    CONTINUOUS,
    FALLING,
    HALTED,
    HELD,
    ICEBERG,
    MARKET_LIST,
    MAX_QUANTITY,
    POST_ONLY,
    PRICE_LEVELS,
    code,
)
from execution_core.matching.report import NONE, REPLACED, refuse, report
from execution_core.matching.store import append, detach, find, limit_price, release, rest_list, unlink
from execution_core.matching.triggers import (
    is_conditional,
    is_trailing,
    mark_trail,
    observe,
    run_fired,
    settle,
    stop_price_of,
    trigger_list,
)
from execution_core.types import NO_PRICE, MatchReason

UNKNOWN_ORDER: Final = code(MatchReason.UNKNOWN_ORDER)


@kernel
def amendment_refused(book: Any, command: Any, slot: int) -> int:
    """The reason why a live order cannot be amended like this, or NONE."""
    order = book.orders[slot]
    waiting = is_conditional(order.type)
    if book.phase == CLOSED:
        return MARKET_CLOSED
    if book.phase == HALTED:
        return TRADING_HALTED
    if command.quantity < 0 or command.quantity > MAX_QUANTITY:
        return INVALID_QUANTITY
    if order.type == ICEBERG and command.quantity != 0:
        filled = order.quantity - order.leaves - order.hidden
        if command.quantity > filled and not slices_fit(book.terms[slot].display, command.quantity - filled):
            return INVALID_DISPLAY_QUANTITY
    if command.price != NO_PRICE:
        if not has_limit(order.type) or not on_ladder(book, command.price):
            return INVALID_PRICE
        if not waiting and outside_band(book, order.side, command.price):
            return PRICE_BAND
        if (
            order.flags & POST_ONLY
            and order.list < FALLING * PRICE_LEVELS
            and book.phase == CONTINUOUS
            and would_cross(book, order.side, command.price)
        ):
            return POST_ONLY_WOULD_CROSS
    if command.stop_price != NO_PRICE and (not waiting or not on_ladder(book, command.stop_price)):
        return INVALID_STOP_PRICE
    return NONE


@kernel
def slices_fit(display: int, leaves: int) -> bool:
    return bool(display_fits(min(display, leaves), leaves))


@kernel
def replace(book: Any, command: Any) -> None:
    """Amend the order that a REPLACE command names."""
    slot = find(book, command.order_id, command.account)
    if slot == 0:
        refuse(book, command, UNKNOWN_ORDER)
        return
    reason = amendment_refused(book, command, slot)
    if reason != NONE:
        refuse(book, command, reason)
        return
    order = book.orders[slot]
    left = order.leaves + order.hidden
    filled = order.quantity - left
    quantity = max(command.quantity, filled) if command.quantity != 0 else order.quantity
    if quantity == filled:
        order.quantity = quantity
        report(book, REPLACED, NONE, slot, limit_price(book, slot), quantity, 0)
        detach(book, slot)
        release(book, slot)
    elif is_conditional(order.type):
        replace_conditional(book, command, slot, quantity)
    else:
        replace_resting(book, command, slot, quantity, quantity - filled)


@kernel
def replace_resting(book: Any, command: Any, slot: int, quantity: int, leaves: int) -> None:
    """Amend an order in the book or one that is held for the close."""
    order = book.orders[slot]
    moved = command.price != NO_PRICE and command.price != limit_price(book, slot)
    if not moved and quantity <= order.quantity:
        order.quantity = quantity
        order.leaves = min(order.leaves, leaves)
        order.hidden = leaves - order.leaves
        report(book, REPLACED, NONE, slot, limit_price(book, slot), quantity, leaves)
        return
    unlink(book, slot)
    order.quantity = quantity
    order.leaves = leaves
    order.hidden = 0
    if order.list == HELD:
        if moved:
            book.terms[slot].price = command.price
    elif moved:
        order.list = rest_list(book, order.side, command.price)
    report(book, REPLACED, NONE, slot, limit_price(book, slot), quantity, leaves)
    if book.phase == CONTINUOUS and order.list < MARKET_LIST:
        settle(book, enter(book, slot))
    else:
        rest(book, slot)


@kernel
def replace_conditional(book: Any, command: Any, slot: int, quantity: int) -> None:
    """Amend a waiting conditional order; only another stop price moves it."""
    order = book.orders[slot]
    order.quantity = quantity
    order.leaves = quantity
    if command.price != NO_PRICE:
        book.terms[slot].price = command.price
    report(book, REPLACED, NONE, slot, limit_price(book, slot), quantity, quantity)
    if command.stop_price == NO_PRICE or command.stop_price == stop_price_of(book, slot):
        return
    unlink(book, slot)
    append(book, trigger_list(book, order.type, order.side, command.stop_price), slot)
    if is_trailing(order.type):
        mark_trail(book, slot, command.stop_price, False)
    if book.phase == CONTINUOUS and book.last != NO_PRICE:
        observe(book, book.last)
        run_fired(book)
