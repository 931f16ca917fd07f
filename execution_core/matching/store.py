"""Orders in their lists: allocation, first-in-first-out lists, prices, and the heap of expiry times."""

from __future__ import annotations

from typing import Any

import numpy as np

from execution_core.jit import kernel
from execution_core.matching.ladder import mark_empty, mark_used
from execution_core.matching.layout import (
    CAPACITY,
    CAPACITY_BITS,
    FALLING,
    FOREVER,
    GTD,
    HELD,
    ICEBERG,
    LEVEL_BITS,
    MARKET_LIST,
    PRICE_LEVELS,
    STEP_MASK,
    TRAILING_STOP_LIMIT,
    TRAILING_STOP_MARKET,
)
from execution_core.types import NO_PRICE


@kernel
def mirror(ladder: int) -> int:
    """What turns a distance from the ladder's lowest price into a step, and back, by exclusive or.

    Arithmetic, since a branch on the side of random orders is guessed wrong half the time.
    """
    return ((ladder & 1) - 1) & STEP_MASK


@kernel
def step_of(book: Any, ladder: int, price: int) -> int:
    """The step of a price that lies within the ladder."""
    return int((price - book.base) ^ mirror(ladder))


@kernel
def price_at(book: Any, ladder: int, step: int) -> int:
    """The price of a step."""
    return int(book.base + (step ^ mirror(ladder)))


@kernel
def limit_price(book: Any, slot: int) -> int:
    """The order's limit price; NO_PRICE where it has none."""
    level = np.int64(book.orders[slot].list)
    if level < FALLING * PRICE_LEVELS:
        return int(price_at(book, level >> LEVEL_BITS, level & STEP_MASK))
    if MARKET_LIST <= level < HELD:
        return NO_PRICE
    return int(book.terms[slot].price)


@kernel
def head(book: Any, level: int) -> int:
    """The slot of the first order in a list; 0 when it is empty."""
    # A cast, since Numba would compile every callee for uint32 slots too.
    return int(np.int64(book.lists[level].head))


@kernel
def find(book: Any, order_id: int, account: int) -> int:
    """The slot of a live order of this account; 0 when there is none."""
    slot = order_id & (CAPACITY - 1)
    order = book.orders[slot]
    if order_id <= 0 or order.id != order_id or order.account != account:
        return 0
    return slot


@kernel
def allocate(book: Any) -> int:
    """A slot with a new id. The caller has made sure of room."""
    slot = book.free
    if slot != 0:
        book.free = book.orders[slot].next
    else:
        slot = book.high_water
        book.high_water = slot + 1
    book.live += 1
    book.sequence += 1
    book.orders[slot].id = (book.sequence << CAPACITY_BITS) | slot
    return int(slot)


@kernel
def release(book: Any, slot: int) -> None:
    """Give back the slot of an order that is in no list any more."""
    order = book.orders[slot]
    if order.time_in_force == GTD:
        heap_remove(book, slot)
    if order.type == ICEBERG:
        book.icebergs -= 1
    order.id = 0
    order.next = book.free
    book.free = slot
    book.live -= 1


@kernel
def append(book: Any, level: int, slot: int) -> None:
    """Put the order at the end of list `level`."""
    order = book.orders[slot]
    queue = book.lists[level]
    tail = queue.tail
    order.list = level
    order.previous = tail
    order.next = 0
    queue.tail = slot
    if tail != 0:
        book.orders[tail].next = slot
        return
    queue.head = slot
    if level < MARKET_LIST:
        mark_used(book, level)


@kernel
def unlink(book: Any, slot: int) -> None:
    """Take the order out of its list."""
    order = book.orders[slot]
    level = np.int64(order.list)
    queue = book.lists[level]
    following = order.next
    previous = order.previous
    if following != 0:
        book.orders[following].previous = previous
    else:
        queue.tail = previous
    if previous != 0:
        book.orders[previous].next = following
        return
    queue.head = following
    if following == 0 and level < MARKET_LIST:
        mark_empty(book, level)


@kernel
def detach(book: Any, slot: int) -> None:
    """Take a live order out of wherever it waits, trigger bookkeeping included."""
    order = book.orders[slot]
    level = np.int64(order.list)
    unlink(book, slot)
    if FALLING * PRICE_LEVELS <= level < MARKET_LIST:
        book.pending -= 1
        if order.type == TRAILING_STOP_MARKET or order.type == TRAILING_STOP_LIMIT:
            trail_remove(book, slot)


@kernel
def trail_append(book: Any, slot: int) -> None:
    """Trailing orders of each side are also chained in order of acceptance."""
    side = book.orders[slot].side - 1
    tail = book.trail_tail[side]
    book.terms[slot].trail_previous = tail
    book.terms[slot].trail_next = 0
    if tail != 0:
        book.terms[tail].trail_next = slot
    else:
        book.trail_head[side] = slot
    book.trail_tail[side] = slot


@kernel
def trail_remove(book: Any, slot: int) -> None:
    side = book.orders[slot].side - 1
    following = book.terms[slot].trail_next
    previous = book.terms[slot].trail_previous
    if following != 0:
        book.terms[following].trail_previous = previous
    else:
        book.trail_tail[side] = previous
    if previous != 0:
        book.terms[previous].trail_next = following
    else:
        book.trail_head[side] = following


@kernel
def rest_list(book: Any, side: int, price: int) -> int:
    """The list where an order of this side and limit price rests."""
    ladder = side - 1
    return int((ladder << LEVEL_BITS) | step_of(book, ladder, price))


# --- expiry: a binary heap of slots by (expire time, id) ---


@kernel
def expires_before(book: Any, one: int, other: int) -> bool:
    if book.terms[one].expire_time_ns != book.terms[other].expire_time_ns:
        return bool(book.terms[one].expire_time_ns < book.terms[other].expire_time_ns)
    return bool(book.orders[one].id < book.orders[other].id)


@kernel
def heap_place(book: Any, position: int, slot: int) -> None:
    """Sift the order up or down from `position` to where it belongs."""
    heap = book.heap
    while position > 0:
        parent = (position - 1) >> 1
        if not expires_before(book, slot, heap[parent]):
            break
        heap[position] = heap[parent]
        book.terms[heap[position]].heap_position = position
        position = parent
    while True:
        child = 2 * position + 1
        if child >= book.heap_size:
            break
        if child + 1 < book.heap_size and expires_before(book, heap[child + 1], heap[child]):
            child += 1
        if not expires_before(book, heap[child], slot):
            break
        heap[position] = heap[child]
        book.terms[heap[position]].heap_position = position
        position = child
    heap[position] = slot
    book.terms[slot].heap_position = position
    book.next_expiry = book.terms[heap[0]].expire_time_ns


@kernel
def heap_add(book: Any, slot: int) -> None:
    book.heap_size += 1
    heap_place(book, book.heap_size - 1, slot)


@kernel
def heap_remove(book: Any, slot: int) -> None:
    book.heap_size -= 1
    position = book.terms[slot].heap_position
    moved = book.heap[book.heap_size]
    if moved != slot:
        heap_place(book, position, moved)
    elif book.heap_size == 0:
        book.next_expiry = FOREVER
