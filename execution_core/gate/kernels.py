"""The kernels that Python calls: each gets the state's address and does one whole request.

Bad input is answered by a negative number before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final, NamedTuple

import numba
import numpy as np

from execution_core.gate.exposure import (
    close,
    fill,
    forget_oldest,
    lift,
    put_back,
    quote_all,
    recount,
    release,
    replace_facts,
    rest,
    revalue,
    slot_of,
    undo_reserve,
)
from execution_core.gate.judge import ALL, BAD_NOW, EACH, Order, judge
from execution_core.gate.layout import FAR, INSTRUMENT, TIME_MAX
from execution_core.gate.memory import instrument_of, lowest_bit, reservation_of, side_of
from execution_core.gate.rules import BUY, SELL, is_known, open_call
from execution_core.jit import kernel
from execution_core.types import GATE_ORDER, GATE_PRICE, VERDICT

# An answer of `exchange` that is none of `check`.
NO_RESERVATION: Final = -(2**40)

# What is wrong with a call about one reservation or fill.
STALE: Final = -1
MISMATCH: Final = -2
OUT_OF_RANGE: Final = -3
UNKNOWN: Final = -4


@kernel
def undo(block: int, verdicts: Any, n: int) -> None:
    """Take back what the first `n` verdicts of this call reserved, newest first."""
    for k in range(n - 1, -1, -1):
        if verdicts[k].reservation != 0:
            undo_reserve(block, verdicts[k].reservation)
            verdicts[k].reservation = 0


@kernel
def check(block: int, orders: Any, verdicts: Any, now_ns: int, mode: int, keep: int) -> int:
    """Judge `orders` in their row order into `verdicts`, each seeing the reservations of those before.

    keep != 0: leave the approved lots reserved. Returns how many orders were approved (in mode ALL:
    all or 0), or -(1 + 8 * row + code) for the first malformed order,
    or -(1 + BAD_NOW) (the state is then unchanged).
    """
    if now_ns < 0 or now_ns > TIME_MAX:
        return -1 - BAD_NOW
    n = len(orders)
    see = keep != 0 or n > 1
    call = open_call(block, now_ns, n, mode, see)
    approved = 0
    for k in range(n):
        verdict = verdicts[k]
        mask, lots, handle = judge(block, orders[k], call, approved)
        if mask < 0:
            undo(block, verdicts, k)
            return int(mask - 8 * k)
        verdict.mask = mask
        verdict.lots = lots
        verdict.reservation = handle
        verdict.reason = lowest_bit(mask) if mask != 0 else 0
        approved += lots > 0
    refused = mode == ALL and approved < n
    if see and (keep == 0 or refused):
        undo(block, verdicts, n)
    if refused:
        approved = 0
        for k in range(n):
            verdicts[k].lots = 0
    if keep != 0:
        forget_oldest(block)
    reservation_of(block, 0).previous = 0
    return approved


@kernel
def check_one(
    block: int,
    instrument: int,
    side: int,
    kind: int,
    lots: int,
    price: int,
    trigger: int,
    time_in_force: int,
    flags: int,
    expire_ns: int,
    client_order_hash: int,
    now_ns: int,
    mode: int,
    keep: int,
) -> tuple[int, int, int]:
    """One order given as numbers: (mask, lots, handle). The mask is negative for a malformed order."""
    order = Order(client_order_hash, lots, price, trigger, expire_ns, instrument, side, kind, time_in_force, flags)
    if now_ns < 0 or now_ns > TIME_MAX:
        return -1 - BAD_NOW, 0, 0
    call = open_call(block, now_ns, 1, mode, keep != 0)
    verdict: tuple[int, int, int] = judge(block, order, call, 0)
    if verdict[2] != 0:
        forget_oldest(block)
        reservation_of(block, 0).previous = 0
    return verdict


@kernel
def exchange(block: int, handle: int, orders: Any, verdicts: Any, now_ns: int) -> int:
    """Judge orders[0] as if the reservation were not there, and let it take the reservation's place if it
    is approved; otherwise nothing changes. Returns what `check` returns; NO_RESERVATION if there is
    none of this handle."""
    slot = slot_of(block, handle)
    if slot == 0:
        return NO_RESERVATION
    rested_at = lift(block, slot)
    result = check(block, orders, verdicts, now_ns, EACH, 1)
    if result == 1:
        close(block, slot)
    else:
        put_back(block, slot, rested_at)
    return int(result)


@kernel
def fill_one(block: int, handle: int, index: int, side: int, lots: int, price: int, fee: int) -> int:
    """A fill of a reservation (or of none: a late or unsolicited one). Returns the lots that no
    reservation covered, or a negative problem (nothing is written then)."""
    if not is_known(block, index):
        return UNKNOWN
    slot = slot_of(block, handle)
    if slot > 0:
        r = reservation_of(block, slot)
        if r.instrument != index or r.side != side:
            return MISMATCH
    uncovered = fill(block, slot, index, side, lots, price, fee)
    return uncovered if uncovered >= 0 else OUT_OF_RANGE


@kernel
def release_one(block: int, handle: int, lots: int) -> int:
    """Release up to `lots` of a reservation, 0 for all. Returns the lots released, STALE if there
    is no such reservation."""
    slot = slot_of(block, handle)
    if slot == 0:
        return STALE
    held = reservation_of(block, slot).lots
    given = held if lots == 0 else min(lots, held)
    release(block, slot, given)
    return int(given)


@kernel
def release_many(block: int, handles: Any) -> int:
    """Release whole reservations in order. Returns their number, or -(1 + row) of the first that is closed
    (those before it are released then)."""
    for k in range(len(handles)):
        slot = slot_of(block, handles[k])
        if slot == 0:
            return -(1 + k)
        release(block, slot, reservation_of(block, slot).lots)
    return len(handles)


@kernel
def rest_one(block: int, handle: int, price: int) -> int:
    """A reservation's order now rests in the market at `price` (0: it does not)."""
    slot = slot_of(block, handle)
    if slot == 0:
        return STALE
    rest(block, slot, price)
    return 0


@kernel
def price_one(block: int, index: int, price: int, ts_ns: int, best_bid: int, best_ask: int) -> int:
    """A new mark and the market's best prices."""
    if not is_known(block, index):
        return UNKNOWN
    i = instrument_of(block, index)
    if not revalue(block, index, price, i.position, BUY, 0):
        return OUT_OF_RANGE
    note_quotes(block, index, ts_ns, best_bid, best_ask)
    return 0


@kernel
def note_quotes(block: int, index: int, ts_ns: int, best_bid: int, best_ask: int) -> None:
    """When the mark was made, and the market's best prices then."""
    instrument_of(block, index).mark_ts_ns = ts_ns
    side_of(block, index, BUY).best = best_bid if best_bid > 0 else -FAR
    side_of(block, index, SELL).best = best_ask if best_ask > 0 else FAR


@kernel
def price_many(block: int, updates: Any) -> int:
    """``price_one`` for each update, in order. Returns their number, or -(1 + row) of the first that
    the gate cannot take (nothing is written then)."""
    for k in range(len(updates)):
        if not is_known(block, updates[k].instrument):
            return -(1 + k)
    old_marks = np.empty(len(updates), np.int64)
    for k in range(len(updates)):
        u = updates[k]
        i = instrument_of(block, u.instrument)
        old_marks[k] = i.mark
        if not revalue(block, u.instrument, u.price, i.position, BUY, 0):
            for done in range(k - 1, -1, -1):
                index = updates[done].instrument
                i = instrument_of(block, index)
                revalue(block, index, old_marks[done], i.position, BUY, 0)
            return -(1 + k)
    for k in range(len(updates)):
        u = updates[k]
        note_quotes(block, u.instrument, u.ts_ns, u.best_bid, u.best_ask)
    return len(updates)


@kernel
def position_one(block: int, index: int, position: int) -> int:
    """Set a position (start, reconciliation)."""
    if not is_known(block, index):
        return UNKNOWN
    i = instrument_of(block, index)
    return 0 if revalue(block, index, i.mark, position, BUY, 0) else OUT_OF_RANGE


@kernel
def recount_all(block: int) -> int:
    """Recompute everything that follows from something else. 0, or OUT_OF_RANGE (the state is then
    unusable: restore a copy)."""
    return 0 if recount(block) else OUT_OF_RANGE


@kernel
def quotes_all(block: int) -> int:
    """Make every best own price exact, so that equal states have equal bytes."""
    quote_all(block)
    return 0


@kernel
def facts_one(block: int, index: int, before: Any, after: Any) -> int:
    """See ``replace_facts``. 0, or OUT_OF_RANGE."""
    return 0 if replace_facts(block, index, before, after) else OUT_OF_RANGE


# Its type stubs are stricter than it is.
_numba: Any = numba


class Calls(NamedTuple):
    """The kernels' entry points. Called directly they save Numba's dispatch, 400 ns a call; in return
    they believe that every argument is of the type given in `calls`."""

    check: Callable[..., int]
    check_one: Callable[..., tuple[int, int, int]]
    exchange: Callable[..., int]
    fill: Callable[..., int]
    release: Callable[..., int]
    releases: Callable[..., int]
    rest: Callable[..., int]
    price: Callable[..., int]
    prices: Callable[..., int]
    position: Callable[..., int]
    facts: Callable[..., int]
    recount: Callable[..., int]
    quotes: Callable[..., int]


def records(dtype: np.dtype[Any], layout: str = "A") -> Any:
    """The Numba type of a 1-d array of records, by default of any stride."""
    return _numba.types.Array(_numba.from_dtype(dtype), 1, layout, aligned=True)


@cache
def calls() -> Calls:
    """Compile the kernels, or load them from the cache."""
    i = _numba.types.int64
    orders, verdicts = records(GATE_ORDER), records(VERDICT)
    rows = records(INSTRUMENT, "C")
    return Calls(
        check=check.compile((i, orders, verdicts, i, i, i)),
        check_one=check_one.compile((i,) * 14),
        exchange=exchange.compile((i, i, orders, verdicts, i)),
        fill=fill_one.compile((i,) * 7),
        release=release_one.compile((i,) * 3),
        releases=release_many.compile((i, _numba.types.Array(i, 1, "C"))),
        rest=rest_one.compile((i,) * 3),
        price=price_one.compile((i,) * 6),
        prices=price_many.compile((i, records(GATE_PRICE))),
        position=position_one.compile((i,) * 3),
        facts=facts_one.compile((i, i, rows, rows)),
        recount=recount_all.compile((i,)),
        quotes=quotes_all.compile((i,)),
    )
