"""Writing events into the book's outbox."""

from __future__ import annotations

from typing import Any, Final

from execution_core.jit import kernel
from execution_core.matching.layout import code
from execution_core.matching.store import detach, limit_price, release
from execution_core.types import CommandKind, LiquidityFlag, MatchEventKind, MatchReason

ACCEPTED: Final = code(MatchEventKind.ACCEPTED)
REJECTED: Final = code(MatchEventKind.REJECTED)
FILL: Final = code(MatchEventKind.FILL)
CANCELED: Final = code(MatchEventKind.CANCELED)
EXPIRED: Final = code(MatchEventKind.EXPIRED)
TRIGGERED: Final = code(MatchEventKind.TRIGGERED)
REPLACED: Final = code(MatchEventKind.REPLACED)
REPLACE_REJECTED: Final = code(MatchEventKind.REPLACE_REJECTED)
CANCEL_REJECTED: Final = code(MatchEventKind.CANCEL_REJECTED)
APPLIED: Final = code(MatchEventKind.APPLIED)

MAKER: Final = code(LiquidityFlag.MAKER)
TAKER: Final = code(LiquidityFlag.TAKER)
AUCTION: Final = code(LiquidityFlag.AUCTION)

CANCEL: Final = int(CommandKind.CANCEL)
REPLACE: Final = int(CommandKind.REPLACE)
NONE: Final = code(MatchReason.NONE)


@kernel
def fill(book: Any, slot: int, liquidity: int, price: int, quantity: int, leaves: int) -> None:
    """One side of trade number ``book.trade_id``."""
    order = book.orders[slot]
    event = book.events[book.event_count]
    book.event_count += 1
    event.kind = FILL
    event.reason = NONE
    event.liquidity = liquidity
    event.side = order.side
    event.account = order.account
    event.order_id = order.id
    event.client_tag = order.client_tag
    event.price = price
    event.quantity = quantity
    event.leaves = leaves
    event.trade_id = book.trade_id
    event.ts_event_ns = book.now


@kernel
def report(book: Any, kind: int, reason: int, slot: int, price: int, quantity: int, leaves: int) -> None:
    """Something happened to a live order whose limit is `price`."""
    order = book.orders[slot]
    event = book.events[book.event_count]
    book.event_count += 1
    event.kind = kind
    event.reason = reason
    event.liquidity = 0
    event.side = order.side
    event.account = order.account
    event.order_id = order.id
    event.client_tag = order.client_tag
    event.price = price
    event.quantity = quantity
    event.leaves = leaves
    event.trade_id = 0
    event.ts_event_ns = book.now


@kernel
def answer(book: Any, command: Any, kind: int, reason: int, price: int, quantity: int) -> None:
    """A command as such was refused or applied."""
    event = book.events[book.event_count]
    book.event_count += 1
    event.kind = kind
    event.reason = reason
    event.liquidity = 0
    event.side = command.side
    # An account that does not fit is UNKNOWN_ACCOUNT anyway.
    event.account = command.account if -1 <= command.account < 2**31 else -1
    event.order_id = command.order_id if command.kind == CANCEL or command.kind == REPLACE else 0
    event.client_tag = command.client_tag
    event.price = price
    event.quantity = quantity
    event.leaves = 0
    event.trade_id = 0
    event.ts_event_ns = book.now


@kernel
def refuse(book: Any, command: Any, reason: int) -> None:
    """Refuse the command with the kind of event that its sender waits for."""
    kind = REJECTED
    if command.kind == CANCEL:
        kind = CANCEL_REJECTED
    elif command.kind == REPLACE:
        kind = REPLACE_REJECTED
    answer(book, command, kind, reason, command.price, command.quantity)


@kernel
def end(book: Any, slot: int, kind: int, reason: int) -> None:
    """Cancel or expire an order that is in no list."""
    order = book.orders[slot]
    report(book, kind, reason, slot, limit_price(book, slot), order.leaves + order.hidden, 0)
    release(book, slot)


@kernel
def withdraw(book: Any, slot: int, kind: int, reason: int) -> None:
    """Cancel or expire an order that waits in a list."""
    order = book.orders[slot]
    report(book, kind, reason, slot, limit_price(book, slot), order.leaves + order.hidden, 0)
    detach(book, slot)
    release(book, slot)
