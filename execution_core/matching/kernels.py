"""The entry points that Python calls: one command, a batch of commands, the book's depth."""

from __future__ import annotations

from typing import Any, Final

from execution_core.jit import kernel
from execution_core.matching.admission import new_order
from execution_core.matching.amendment import UNKNOWN_ORDER, replace
from execution_core.matching.ladder import next_step
from execution_core.matching.layout import BOOK, EVENTS, EVENTS_PER_COMMAND, LEVEL_BITS, PRICE_LEVELS, UNPRICED, code
from execution_core.matching.report import APPLIED, CANCELED, NONE, answer, refuse, withdraw
from execution_core.matching.session import (
    advance_time,
    by_acceptance,
    mass_cancel,
    rebase,
    set_band,
    set_phase,
    set_position,
    set_reference,
)
from execution_core.matching.store import find, limit_price, price_at
from execution_core.matching.triggers import is_conditional, stop_price_of
from execution_core.types import CommandKind, MatchReason

NEW: Final = int(CommandKind.NEW)
REPLACE: Final = int(CommandKind.REPLACE)
CANCEL: Final = int(CommandKind.CANCEL)
MASS_CANCEL: Final = int(CommandKind.MASS_CANCEL)
SET_PHASE: Final = int(CommandKind.SET_PHASE)
SET_BAND: Final = int(CommandKind.SET_BAND)
SET_REFERENCE: Final = int(CommandKind.SET_REFERENCE)
SET_POSITION: Final = int(CommandKind.SET_POSITION)
ADVANCE_TIME: Final = int(CommandKind.ADVANCE_TIME)
REBASE: Final = int(CommandKind.REBASE)
UNKNOWN_COMMAND: Final = code(MatchReason.UNKNOWN_COMMAND)
REQUESTED: Final = code(MatchReason.REQUESTED)


@kernel(forceinline=True)
def cancel(book: Any, command: Any) -> None:
    """Cancel one order, whatever the phase."""
    slot = find(book, command.order_id, command.account)
    if slot == 0:
        refuse(book, command, UNKNOWN_ORDER)
    else:
        withdraw(book, slot, CANCELED, REQUESTED)


@kernel
def control(book: Any, command: Any) -> None:
    """The commands that are not about one order."""
    if command.kind == MASS_CANCEL:
        mass_cancel(book, command)
    elif command.kind == SET_PHASE:
        set_phase(book, command)
    elif command.kind == SET_BAND:
        set_band(book, command)
    elif command.kind == SET_REFERENCE:
        set_reference(book, command)
    elif command.kind == SET_POSITION:
        set_position(book, command)
    elif command.kind == ADVANCE_TIME:
        answer(book, command, APPLIED, NONE, UNPRICED, 0)
    elif command.kind == REBASE:
        rebase(book, command)
    else:
        refuse(book, command, UNKNOWN_COMMAND)


@kernel
def execute(book: Any, command: Any) -> None:
    """Carry out one command; its events go to the outbox."""
    if command.ts_event_ns > book.now:
        advance_time(book, command.ts_event_ns)
    if command.kind == NEW:
        new_order(book, command)
    elif command.kind == CANCEL:
        cancel(book, command)
    elif command.kind == REPLACE:
        replace(book, command)
    else:
        control(book, command)


@kernel
def run_one(memory: Any) -> int:
    """Carry out the command in the inbox; returns the number of events. `memory`: the book's bytes as int64."""
    book = memory.view(BOOK)[0]
    book.event_count = 0
    execute(book, book.inbox)
    return int(book.event_count)


@kernel
def run_batch(memory: Any, commands: Any, ends: Any, start: int) -> int:
    """Carry out commands from `start` while the outbox has room for any; returns the next one to do.

    ``ends[i]`` becomes the number of events in the outbox after command i.
    """
    book = memory.view(BOOK)[0]
    book.event_count = 0
    for index in range(start, len(commands)):
        if book.event_count > EVENTS - EVENTS_PER_COMMAND:
            return index
        execute(book, commands[index])
        ends[index] = book.event_count
    return len(commands)


@kernel
def read_orders(memory: Any, rows: Any) -> None:
    """Fill `rows` (OPEN_ORDER, one for each live order) in order of acceptance."""
    book = memory.view(BOOK)[0]
    slots = by_acceptance(book)
    for index in range(len(slots)):
        slot = slots[index]
        order = book.orders[slot]
        row = rows[index]
        row.order_id = order.id
        row.client_tag = order.client_tag
        row.price = limit_price(book, slot)
        row.stop_price = stop_price_of(book, slot) if is_conditional(order.type) else UNPRICED
        row.quantity = order.quantity
        row.leaves = order.leaves + order.hidden
        row.shown = order.leaves
        row.account = order.account
        row.side = order.side
        row.order_type = order.type
        row.time_in_force = order.time_in_force
        row.flags = order.flags


@kernel
def read_depth(memory: Any, ladder: int, levels: Any) -> int:
    """Fill `levels` (price, shown quantity, orders) from the best price on; returns how many there are."""
    book = memory.view(BOOK)[0]
    count = 0
    step = book.best[ladder]
    while step < PRICE_LEVELS and count < len(levels):
        level = levels[count]
        level.price = price_at(book, ladder, step)
        level.quantity = 0
        level.orders = 0
        slot = book.lists[(ladder << LEVEL_BITS) | step].head
        while slot != 0:
            level.quantity += book.orders[slot].leaves
            level.orders += 1
            slot = book.orders[slot].next
        count += 1
        step = next_step(book, ladder, step)
    return count
