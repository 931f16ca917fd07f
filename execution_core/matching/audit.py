"""A full check of a book's memory, safe on any bytes: run when a snapshot comes back, and by the tests.

A kernel trusts the indices that it reads, so bytes that were damaged in storage must not get that far.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from execution_core.jit import kernel
from execution_core.matching.ladder import first_step
from execution_core.matching.layout import (
    ACCOUNTS,
    ASKS,
    AT_CLOSE,
    BIDS,
    BOOK,
    BUY,
    CAPACITY,
    CAPACITY_BITS,
    CONTINUOUS,
    DAY,
    FALLING,
    FIRED,
    FOREVER,
    GTD,
    HALTED,
    HELD,
    ICEBERG,
    LADDERS,
    LEVEL_BITS,
    LISTS,
    MAGIC,
    MARKET,
    MARKET_LIST,
    MAX_ICEBERGS,
    MAX_PRICE,
    MAX_QUANTITY,
    OPENING_AUCTION,
    POST_ONLY,
    PRICE_LEVELS,
    REDUCE_ONLY,
    STEP_MASK,
    TRAILING_STOP_LIMIT,
)
from execution_core.matching.store import expires_before, head, price_at
from execution_core.matching.triggers import is_conditional, is_trailing, trigger_list
from execution_core.types import NO_PRICE

FAULTS = (
    "",
    "the layout's magic number",
    "a header field out of its range",
    "the chain of free slots",
    "an order's own fields",
    "a list's links",
    "the bitmap of used levels",
    "the count of live, waiting or iceberg orders",
    "the heap of expiry times",
    "the chain of trailing orders",
    "a crossed book",
    "an order beyond the price band",
)


@kernel
def header_holds(book: Any) -> bool:
    top = book.base + STEP_MASK
    return bool(
        OPENING_AUCTION <= book.phase <= HALTED
        and -MAX_PRICE <= book.base <= MAX_PRICE
        and book.base <= book.lower <= book.upper <= top
        and (book.last == NO_PRICE or book.base <= book.last <= top)
        and (book.reference == NO_PRICE or book.base <= book.reference <= top)
        and 0 <= book.sequence < 1 << (62 - CAPACITY_BITS)
        and book.trade_id >= 0
        and 1 <= book.high_water <= CAPACITY
        and 0 <= book.free < book.high_water
        and 0 <= book.heap_size < CAPACITY
        and book.orders[0].id == 0
    )


@kernel
def free_chain_holds(book: Any) -> bool:
    count = 0
    slot = book.free
    while slot != 0:
        if slot >= book.high_water or book.orders[slot].id != 0 or count >= book.high_water:
            return False
        count += 1
        slot = np.int64(book.orders[slot].next)
    return bool(count + book.live == book.high_water - 1)


@kernel
def order_holds(book: Any, slot: int) -> bool:
    order = book.orders[slot]
    terms = book.terms[slot]
    level = np.int64(order.list)
    ladder = level >> LEVEL_BITS
    if (
        order.id < 0
        or order.id & (CAPACITY - 1) != slot
        or order.id >> CAPACITY_BITS > book.sequence
        or order.leaves < 1
        or order.hidden < 0
        or order.quantity > MAX_QUANTITY
        or order.hidden > MAX_QUANTITY
        or order.leaves + order.hidden > order.quantity
        or order.account < 0
        or order.account >= ACCOUNTS
        or order.side < 1
        or order.side > 2
        or order.type < MARKET
        or order.type > ICEBERG
        or order.time_in_force < DAY
        or order.time_in_force > AT_CLOSE
        or order.flags > POST_ONLY | REDUCE_ONLY
        or order.self_trade > 4
        or level >= FIRED
    ):
        return False
    if order.type == ICEBERG and (terms.display < 1 or terms.display > MAX_QUANTITY):
        return False
    if order.type != ICEBERG and order.hidden != 0:
        return False
    if is_conditional(order.type):
        stop = price_at(book, ladder, level & STEP_MASK)
        return bool(
            FALLING * PRICE_LEVELS <= level < MARKET_LIST
            and trigger_list(book, order.type, order.side, stop) == level
            and (not is_trailing(order.type) or 1 <= terms.trailing_offset <= PRICE_LEVELS)
            and (order.type != TRAILING_STOP_LIMIT or 0 <= terms.limit_offset <= PRICE_LEVELS)
            and (terms.price == NO_PRICE or book.base <= terms.price <= book.base + STEP_MASK)
        )
    if level == HELD:
        return bool(terms.price == NO_PRICE or book.base <= terms.price <= book.base + STEP_MASK)
    if order.type == MARKET:
        return bool(level == MARKET_LIST + order.side - 1)
    return bool(ladder == order.side - 1)


@kernel
def list_holds(book: Any, level: int) -> int:
    """The number of orders in a list whose links are right; -1 when they are not."""
    count = 0
    before = 0
    slot = head(book, level)
    while slot != 0:
        if slot >= book.high_water or count >= book.high_water:
            return -1
        order = book.orders[slot]
        if order.id == 0 or order.list != level or order.previous != before:
            return -1
        count += 1
        before = slot
        slot = np.int64(order.next)
    return count if book.lists[level].tail == before else -1


@kernel
def bitmap_holds(book: Any) -> bool:
    for level in range(LADDERS * PRICE_LEVELS):
        used = (book.low[level >> 6] >> (level & 63)) & 1
        if (used == 1) != (book.lists[level].head != 0):
            return False
    for word in range(len(book.low)):
        if ((book.middle[word >> 6] >> (word & 63)) & 1 == 1) != (book.low[word] != 0):
            return False
    for word in range(len(book.middle)):
        if ((book.top[word >> 6] >> (word & 63)) & 1 == 1) != (book.middle[word] != 0):
            return False
    wrong = 0
    for ladder in range(LADDERS):
        wrong += book.best[ladder] != first_step(book, ladder)
    return wrong == 0


@kernel
def counts_hold(book: Any) -> bool:
    waiting = 0
    icebergs = 0
    for slot in range(1, book.high_water):
        if book.orders[slot].id != 0:
            waiting += is_conditional(book.orders[slot].type)
            icebergs += book.orders[slot].type == ICEBERG
    return bool(waiting == book.pending and icebergs == book.icebergs and icebergs <= MAX_ICEBERGS)


@kernel
def heap_holds(book: Any) -> bool:
    count = 0
    for slot in range(1, book.high_water):
        order = book.orders[slot]
        if order.id != 0 and order.time_in_force == GTD:
            count += 1
            position = book.terms[slot].heap_position
            if position < 0 or position >= book.heap_size or book.heap[position] != slot:
                return False
    if count != book.heap_size:
        return False
    for position in range(1, book.heap_size):
        if not expires_before(book, book.heap[(position - 1) >> 1], book.heap[position]):
            return False
    first = book.terms[book.heap[0]].expire_time_ns if count > 0 else FOREVER
    return bool(book.next_expiry == first)


@kernel
def trails_hold(book: Any) -> bool:
    chained = 0
    for side in range(2):
        before = 0
        slot = book.trail_head[side]
        while slot != 0:
            if slot < 0 or slot >= book.high_water or chained >= book.high_water:
                return False
            order = book.orders[slot]
            if order.id == 0 or not is_trailing(order.type) or order.side != side + 1:
                return False
            if book.terms[slot].trail_previous != before or (before != 0 and book.orders[before].id > order.id):
                return False
            level = int(np.int64(order.list))
            stop = price_at(book, level >> LEVEL_BITS, level & STEP_MASK)
            offset = book.terms[slot].trailing_offset
            if order.side == BUY and stop - offset > book.trail_mark[0]:
                return False
            if order.side != BUY and stop + offset < book.trail_mark[1]:
                return False
            chained += 1
            before = slot
            slot = book.terms[slot].trail_next
        if book.trail_tail[side] != before:
            return False
    for slot in range(1, book.high_water):
        chained -= book.orders[slot].id != 0 and is_trailing(book.orders[slot].type)
    return chained == 0


@kernel
def fault(memory: Any) -> int:
    """The index into FAULTS of the first rule that a book's memory breaks; 0 when it is sound."""
    book = memory.view(BOOK)[0]
    if book.magic != MAGIC:
        return 1
    if not header_holds(book):
        return 2
    if not free_chain_holds(book):
        return 3
    for slot in range(1, book.high_water):
        if book.orders[slot].id != 0 and not order_holds(book, slot):
            return 4
    total = 0
    for level in range(LISTS):
        count = list_holds(book, level)
        if count < 0:
            return 5
        total += count
    if total != book.live:
        return 5
    if not bitmap_holds(book):
        return 6
    if not counts_hold(book):
        return 7
    if not heap_holds(book):
        return 8
    if not trails_hold(book):
        return 9
    bid = price_at(book, BIDS, book.best[BIDS])
    ask = price_at(book, ASKS, book.best[ASKS])
    has_bid = book.best[BIDS] < PRICE_LEVELS
    has_ask = book.best[ASKS] < PRICE_LEVELS
    if book.phase == CONTINUOUS and has_bid and has_ask and bid >= ask:
        return 10
    if (has_bid and bid > book.upper) or (has_ask and ask < book.lower):
        return 11
    return 0
