"""The recorded book: reading the tape, and telling own orders what happens at their prices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from execution_core.jit import kernel
from execution_core.simulation.l2_queue import level_changed
from execution_core.simulation.l2_state import NEVER, NOWHERE, TAKEN, VENUE, Records, Venue
from execution_core.simulation.l2_tape import ASK, BID, BUY_TRADE, CLEAR, SELL_TRADE, TAPE_ROW


@kernel
def _bid_below(books: NDArray[np.int64], which: int, tick: int, low: int) -> int:
    tick -= 1
    while tick >= low and books[which, 0, tick] == 0:
        tick -= 1
    return tick if tick >= low else -1


@kernel
def _ask_above(books: NDArray[np.int64], which: int, tick: int, high: int) -> int:
    tick += 1
    while tick <= high and books[which, 1, tick] == 0:
        tick += 1
    return tick if tick <= high else books.shape[2]


@kernel
def scan(
    rows: Records,
    n: int,
    until: int,
    books: NDArray[np.int64],
    which: int,
    best: NDArray[np.int64],
    buy_low: int,
    buy_high: int,
    sell_low: int,
    sell_high: int,
    took: bool,
) -> tuple[int, bool]:
    """Apply rows from `n` on, up to `until` or to one that meets own orders or is a quote.

    Returns the row after the last one read, and whether that one wants attention: a depth row
    (applied; ``best[4]`` is what its level held) at own prices or crossing them, a trade that
    reaches them, a quote or a clear (not applied). This loop is where the time goes: 4 ns a row,
    and four times that when the two sides share code through a helper that returns tuples.

    In a crossed book the newer side wins: the other side's best moves behind it, and levels so
    hidden come back with their next update.
    """
    bid, ask, low, high = best[0], best[1], best[2], best[3]
    end = rows.shape[0]
    stopped = False
    while n < end:
        row = rows[n]
        if row["ts_ns"] > until:
            break
        n += 1
        code = row["code"]
        tick = np.int64(row["tick"])
        lots = row["lots"]
        if code == BID:
            previous = books[which, 0, tick]
            books[which, 0, tick] = lots
            if lots > 0:
                low = min(low, tick)
                if tick > bid:
                    bid = tick
                    if tick >= ask:
                        ask = _ask_above(books, which, tick, high)
            elif tick == bid:
                bid = _bid_below(books, which, tick, low)
            if buy_low <= tick <= buy_high or bid >= sell_low or (took and books[TAKEN, 0, tick] > 0):
                best[4] = previous
                stopped = True
                break
        elif code == ASK:
            previous = books[which, 1, tick]
            books[which, 1, tick] = lots
            if lots > 0:
                high = max(high, tick)
                if tick < ask:
                    ask = tick
                    if tick <= bid:
                        bid = _bid_below(books, which, tick, low)
            elif tick == ask:
                ask = _ask_above(books, which, tick, high)
            if sell_low <= tick <= sell_high or ask <= buy_high or (took and books[TAKEN, 1, tick] > 0):
                best[4] = previous
                stopped = True
                break
        elif code == BUY_TRADE:
            if tick >= sell_low:
                stopped = True
                break
        elif code == SELL_TRADE:
            if tick <= buy_high:
                stopped = True
                break
        else:
            stopped = True
            break
    best[0], best[1], best[2], best[3] = bid, ask, low, high
    return n, stopped


@kernel
def touch(v: Venue, side: int, tick: int, previous: int, lots: int) -> None:
    """A level changed where we have orders or took lots."""
    s = v.state[0]
    if s["taken_levels"] > 0 and v.books[TAKEN, side, tick] > 0:
        # What we took never comes back: only lots beyond it are new.
        v.books[TAKEN, side, tick] = min(v.books[TAKEN, side, tick], lots)
        s["taken_levels"] -= v.books[TAKEN, side, tick] == 0
    if s["own"][2 * side] <= tick <= s["own"][2 * side + 1]:
        for k in range(s["live_count"]):
            order = v.orders[v.state[0]["live"][k]]
            if order["tick"] == tick and order["side"] == side:
                level_changed(v, order, previous, lots)


@kernel
def _set_level(v: Venue, which: int, best: NDArray[np.int64], side: int, tick: int, lots: int, tells: bool) -> None:
    """Set one level as ``_scan`` does; `tells` own orders there."""
    row = np.zeros(1, TAPE_ROW)
    row[0]["tick"], row[0]["lots"], row[0]["code"] = tick, lots, side
    previous = v.books[which, side, tick]
    scan(row, 0, 0, v.books, which, best, NEVER, NOWHERE, NEVER, NOWHERE, False)
    if tells:
        touch(v, side, tick, previous, lots)


@kernel
def requote(v: Venue, which: int, best: NDArray[np.int64], code: int, tick: int, lots: int) -> None:
    """A quote or a clear: the levels that it says are gone, then the quote's own.

    A clear comes before a snapshot. It says that the recorder starts afresh, not that the orders
    ahead of ours are gone, so queues stay as they are.
    """
    side = code & 1
    ticks = v.books.shape[2]
    step = -1 if side == 0 else 1
    tells = which == VENUE and code < CLEAR
    gone = best[side]
    last = tick if code >= CLEAR else tick - step
    while 0 <= gone < ticks and step * gone <= step * last:
        if v.books[which, side, gone] > 0:
            _set_level(v, which, best, side, gone, 0, tells)
        gone += step
    if code < CLEAR and 0 <= tick < ticks:
        _set_level(v, which, best, side, tick, lots, tells)
