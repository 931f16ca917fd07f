"""The kernels of the book simulation; models and rules are described in ``l2``.

Sides are 0 for buy and 1 for sell. ``sign`` turns prices so that for one's own orders higher is
more aggressive: an own buy at a higher, an own sell at a lower tick trades first.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from execution_core.errors import CapacityError
from execution_core.jit import kernel
from execution_core.simulation.l2_tape import ASK, BID, BUY_TRADE, CLEAR, SELL_TRADE, TAPE_ROW, TRADE
from execution_core.types import LiquidityFlag, OrderState, OrderType, Side, TimeInForce

Records = NDArray[np.void]

# Open orders, and messages each way, at one time.
MAX_OPEN, IN_FLIGHT = 256, 1024

RISK_AVERSE, POWER, POWER_OF_TOTAL, POWER_OF_SHARE, LOG, LOG_OF_TOTAL = 0, 1, 2, 3, 4, 5

NEVER = 2**63 - 1
# Below the tick of a trade under the window (-1): the upper bound of no orders.
NOWHERE = -2
VENUE, KNOWN, TAKEN = 0, 1, 2
_BUY = int(Side.BUY)
_SELL = int(Side.SELL)
_MARKET = int(OrderType.MARKET)
_IOC = int(TimeInForce.IOC)
_FOK = int(TimeInForce.FOK)
_SUBMITTED = int(OrderState.SUBMITTED)
_ACCEPTED = int(OrderState.ACCEPTED)
_PARTIAL = int(OrderState.PARTIALLY_FILLED)
_FILLED = int(OrderState.FILLED)
_CANCELED = int(OrderState.CANCELED)
_MAKER = int(LiquidityFlag.MAKER)
_TAKER = int(LiquidityFlag.TAKER)

# An order. `state` and `leaves` are the venue's truth; `known_*` what the trader has heard of.
# `front` is the estimated lots ahead in the queue, `traded` those traded since the level changed.
ORDER = np.dtype(
    [
        ("front", np.float64),
        ("traded", np.float64),
        ("leaves", np.int64),
        ("known_leaves", np.int64),
        ("tick", np.int32),
        ("side", np.int8),
        ("type", np.int8),
        ("tif", np.int8),
        ("post_only", np.int8),
        ("state", np.int8),
        ("known_state", np.int8),
        ("cancel_pending", np.int8),
    ],
    align=True,
)

# A message between trader and venue. `lots` is what a response reports as filled.
MESSAGE = np.dtype(
    [
        ("ts_ns", np.int64),
        ("order", np.int64),
        ("lots", np.int64),
        ("leaves", np.int64),
        ("cancels", np.int8),
        ("state", np.int8),
    ],
    align=True,
)

# Where a simulation stands. Bounds are ticks; empty: low above high. The lists are inside it because
# each array that a compiled function receives costs it two atomic reference counts, 10 ns.
STATE = np.dtype(
    [
        ("now", np.int64),
        ("next_exchange", np.int64),
        ("next_local", np.int64),
        ("orders", np.int64),
        ("fills", np.int64),
        ("live_count", np.int64),
        ("open_count", np.int64),
        ("request_head", np.int64),
        ("request_tail", np.int64),
        ("response_head", np.int64),
        ("response_tail", np.int64),
        ("position", np.int64),
        # lowest and highest own buy, lowest and highest own sell
        ("own", np.int64, 4),
        # orders at the venue, and those that the trader believes open; by arrival
        ("live", np.int64, MAX_OPEN),
        ("open", np.int64, MAX_OPEN),
        ("requests", MESSAGE, IN_FLIGHT),
        ("responses", MESSAGE, IN_FLIGHT),
        ("taken_levels", np.int64),
        # best bid, best ask, how low bids and how high asks have been, and `_scan`'s fifth
        ("best", np.int64, 5),
        ("known", np.int64, 5),
    ],
    align=True,
)


class Venue(NamedTuple):
    """A simulation as plain arrays, so that compiled strategies can hold it. See ``l2.open_venue``.

    ``books[VENUE]`` is the book at the venue, ``books[KNOWN]`` as the trader knows it, and
    ``books[TAKEN]`` the lots that we took from the former; each (side, tick).
    """

    exchange: Records
    local: Records
    books: NDArray[np.int64]
    orders: Records
    fills: Records
    latency: Records
    state: Records
    base: int
    queue: int
    power: float
    lot_size: float
    partial: bool


@kernel
def _latency(rows: Records, ts: int, back: bool) -> int:
    """Latency at `ts`, linear between rows and constant beyond them."""
    last = rows.shape[0] - 1
    if ts <= rows[0]["ts_ns"] or last == 0:
        return int(rows[0]["response_ns"] if back else rows[0]["entry_ns"])
    if ts >= rows[last]["ts_ns"]:
        return int(rows[last]["response_ns"] if back else rows[last]["entry_ns"])
    low, high = 0, last
    while high - low > 1:
        middle = (low + high) >> 1
        if rows[middle]["ts_ns"] <= ts:
            low = middle
        else:
            high = middle
    a, b = rows[low], rows[high]
    start = a["response_ns"] if back else a["entry_ns"]
    rise = (b["response_ns"] if back else b["entry_ns"]) - start
    share = (ts - a["ts_ns"]) / (b["ts_ns"] - a["ts_ns"])
    return int(start + math.floor(rise * share))


@kernel
def _shape(v: Venue, x: float) -> float:
    if v.queue >= LOG:
        return math.log(1.0 + x * v.lot_size)
    return float(x**v.power)


@kernel
def behind_probability(v: Venue, front: float, back: float) -> float:
    """The probability that a cancellation happened behind us, with `front` and `back` lots around."""
    if v.queue == POWER_OF_SHARE:
        probability = 1.0 - _shape(v, front / (front + back))
    elif v.queue in (POWER_OF_TOTAL, LOG_OF_TOTAL):
        probability = _shape(v, back) / _shape(v, back + front)
    else:
        probability = _shape(v, back) / (_shape(v, back) + _shape(v, front))
    return probability if math.isfinite(probability) else 1.0


@kernel
def _level_changed(v: Venue, order: Any, previous: int, lots: int) -> None:
    """Move an order up its queue when its level went from `previous` to `lots`."""
    front = order["front"]
    if v.queue == RISK_AVERSE:
        order["front"] = min(front, float(lots))
        return
    change = previous - lots - order["traded"]
    order["traded"] = 0.0
    if change < 0:
        order["front"] = min(front, float(lots))
        return
    back = previous - front
    probability = behind_probability(v, front, back)
    estimate = front - (1.0 - probability) * change + min(back - probability * change, 0.0)
    order["front"] = min(estimate, float(lots))


@kernel
def _bounds(v: Venue, side: int) -> None:
    """Recompute the lowest and highest own price of a side."""
    low, high = NEVER, NOWHERE
    for k in range(v.state[0]["live_count"]):
        order = v.orders[v.state[0]["live"][k]]
        if order["side"] == side:
            low = min(low, order["tick"])
            high = max(high, order["tick"])
    v.state[0]["own"][2 * side] = low
    v.state[0]["own"][2 * side + 1] = high


@kernel
def _drop_live(v: Venue, order_id: int) -> None:
    """Take an order off the venue's list, keeping the order of arrival."""
    count = v.state[0]["live_count"]
    k = 0
    while k < count and v.state[0]["live"][k] != order_id:
        k += 1
    if k == count:
        return
    for j in range(k, count - 1):
        v.state[0]["live"][j] = v.state[0]["live"][j + 1]
    v.state[0]["live_count"] = count - 1
    _bounds(v, v.orders[order_id]["side"])


@kernel
def _respond(v: Venue, order_id: int, ts: int, lots: int, cancels: bool) -> int:
    """Send the order's state to the trader; returns when it will be heard. Messages stay in order."""
    s = v.state[0]
    if s["response_tail"] - s["response_head"] >= IN_FLIGHT:
        raise CapacityError("in_flight", "more responses on their way than fit", "give a larger in_flight")
    arrival = ts + _latency(v.latency, ts, True)
    if s["response_tail"] > s["response_head"]:
        arrival = max(arrival, s["responses"][(s["response_tail"] - 1) % IN_FLIGHT]["ts_ns"])
    message = s["responses"][s["response_tail"] % IN_FLIGHT]
    message["ts_ns"] = arrival
    message["order"] = order_id
    message["lots"] = lots
    message["leaves"] = v.orders[order_id]["leaves"]
    message["cancels"] = cancels
    message["state"] = v.orders[order_id]["state"]
    s["response_tail"] += 1
    return int(arrival)


@kernel
def _fill(v: Venue, order_id: int, lots: int, tick: int, ts: int, liquidity: int) -> None:
    order = v.orders[order_id]
    if v.state[0]["fills"] >= v.fills.shape[0]:
        raise CapacityError("max_fills", "no room for another fill", "give a larger max_fills")
    order["leaves"] -= lots
    order["state"] = _PARTIAL if order["leaves"] > 0 else _FILLED
    heard = _respond(v, order_id, ts, lots, False)
    fill = v.fills[v.state[0]["fills"]]
    fill["ts_event_ns"] = ts
    fill["ts_init_ns"] = heard
    fill["order_id"] = order_id
    fill["price"] = v.base + tick
    fill["lots"] = lots
    fill["leaves"] = order["leaves"]
    fill["side"] = _BUY if order["side"] == 0 else _SELL
    fill["liquidity"] = liquidity
    v.state[0]["fills"] += 1


@kernel
def _next_own(v: Venue, side: int, after: int, through: int) -> int:
    """The next own price of `side` beyond `after`, most aggressive first, no further than `through`.

    Returns a tick, or -(2**31) when there is none.
    """
    sign = 1 if side == 0 else -1
    found = -(2**31)
    for k in range(v.state[0]["live_count"]):
        order = v.orders[v.state[0]["live"][k]]
        tick = order["tick"]
        if order["side"] != side or sign * tick < sign * through or sign * tick >= sign * after:
            continue
        if found == -(2**31) or sign * tick > sign * found:
            found = tick
    return int(found)


@kernel
def _traded(v: Venue, side: int, tick: int, lots: int, ts: int) -> None:
    """A trade of `lots` at `tick` against own orders of `side`, best price first, then arrival."""
    sign = 1 if side == 0 else -1
    left = lots
    after = sign * 2**31
    while True:
        level = _next_own(v, side, after, tick)
        if level == -(2**31):
            return
        after = level
        k = 0
        while k < v.state[0]["live_count"]:
            order_id = v.state[0]["live"][k]
            order = v.orders[order_id]
            k += 1
            if order["side"] != side or order["tick"] != level:
                continue
            executable = lots
            if level == tick:
                order["front"] -= lots
                order["traded"] += lots
                executable = math.floor(0.5 - order["front"])
                if executable > 0:
                    order["front"] = 0.0
            if executable <= 0:
                continue
            size = order["leaves"]
            if v.partial:
                # What is past the queue ahead, less what our other orders had of this trade.
                size = min(size, executable - (lots - left))
                left -= max(size, 0)
            if size > 0:
                _fill(v, order_id, size, level, ts, _MAKER)
                if order["leaves"] == 0:
                    _drop_live(v, order_id)
                    k -= 1


@kernel
def _take(v: Venue, order_id: int, limit: int, best: int, price: int, ts: int, liquidity: int) -> None:
    """Fill from the other side's levels between `best` and `limit`, each lot once.

    `price` < 0 pays each level's own price (a taker); otherwise that price (a resting order).
    """
    order = v.orders[order_id]
    other = 1 - order["side"]
    step = 1 if order["side"] == 0 else -1
    tick = best
    while order["leaves"] > 0 and 0 <= tick < v.books.shape[2] and step * tick <= step * limit:
        available = v.books[VENUE, other, tick] - v.books[TAKEN, other, tick]
        if available > 0:
            size = min(available, order["leaves"])
            if v.books[TAKEN, other, tick] == 0:
                v.state[0]["taken_levels"] += 1
            v.books[TAKEN, other, tick] += size
            _fill(v, order_id, size, tick if price < 0 else price, ts, liquidity)
        tick += step


@kernel
def _crossed(v: Venue, side: int, best: int, ts: int) -> None:
    """The other side's best reached own orders of `side`: they trade at their own price."""
    sign = 1 if side == 0 else -1
    after = sign * 2**31
    while True:
        level = _next_own(v, side, after, best)
        if level == -(2**31):
            return
        after = level
        k = 0
        while k < v.state[0]["live_count"]:
            order_id = v.state[0]["live"][k]
            order = v.orders[order_id]
            k += 1
            if order["side"] != side or order["tick"] != level:
                continue
            if v.partial:
                _take(v, order_id, level, best, level, ts, _MAKER)
            else:
                _fill(v, order_id, order["leaves"], level, ts, _MAKER)
            if order["leaves"] == 0:
                _drop_live(v, order_id)
                k -= 1


@kernel
def _fillable(v: Venue, side: int, limit: int, best: int, lots: int) -> bool:
    """Whether the visible, unconsumed levels from `best` to `limit` hold `lots`."""
    other, step = 1 - side, 1 if side == 0 else -1
    tick, found = best, 0
    while found < lots and 0 <= tick < v.books.shape[2] and step * tick <= step * limit:
        found += max(v.books[VENUE, other, tick] - v.books[TAKEN, other, tick], 0)
        tick += step
    return bool(found >= lots)


@kernel
def _accept(v: Venue, order_id: int, ts: int) -> None:
    """A new order reaches the venue: it takes, rests, or is canceled."""
    s = v.state[0]
    order = v.orders[order_id]
    side = order["side"]
    ticks = v.books.shape[2]
    best = s["best"][1 - side]
    market = order["type"] == _MARKET
    limit = order["tick"]
    if market:
        limit = ticks - 1 if side == 0 else 0
    sign = 1 if side == 0 else -1
    exists = 0 <= best < ticks
    crosses = exists and sign * limit >= sign * best
    order["state"] = _ACCEPTED
    immediate = market or order["tif"] in (_IOC, _FOK)
    if crosses and order["post_only"]:
        order["state"] = _CANCELED
    elif crosses:
        if not v.partial:
            _fill(v, order_id, order["leaves"], best, ts, _TAKER)
            return
        if order["tif"] != _FOK or _fillable(v, side, limit, best, order["leaves"]):
            _take(v, order_id, limit, best, -1, ts, _TAKER)
            if order["leaves"] == 0:
                return
    if order["state"] != _CANCELED and immediate:
        order["state"] = _CANCELED
    if order["state"] == _CANCELED:
        order["leaves"] = 0
    else:
        order["front"] = v.books[VENUE, side, order["tick"]]
        order["traded"] = 0.0
        v.state[0]["live"][s["live_count"]] = order_id
        s["live_count"] += 1
        _bounds(v, side)
    _respond(v, order_id, ts, 0, False)


@kernel
def _request(v: Venue) -> None:
    """The venue handles its next request."""
    s = v.state[0]
    message = s["requests"][s["request_head"] % IN_FLIGHT]
    s["request_head"] += 1
    order_id, ts = message["order"], message["ts_ns"]
    if not message["cancels"]:
        _accept(v, order_id, ts)
        return
    order = v.orders[order_id]
    if order["state"] in (_ACCEPTED, _PARTIAL):
        order["state"] = _CANCELED
        order["leaves"] = 0
        _drop_live(v, order_id)
    _respond(v, order_id, ts, 0, True)


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
def _scan(
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
def _set_level(v: Venue, which: int, best: NDArray[np.int64], side: int, tick: int, lots: int, tells: bool) -> None:
    """Set one level as ``_scan`` does; `tells` own orders there."""
    row = np.zeros(1, TAPE_ROW)
    row[0]["tick"], row[0]["lots"], row[0]["code"] = tick, lots, side
    previous = v.books[which, side, tick]
    _scan(row, 0, 0, v.books, which, best, NEVER, NOWHERE, NEVER, NOWHERE, False)
    if tells:
        _touch(v, side, tick, previous, lots)


@kernel
def _requote(v: Venue, which: int, best: NDArray[np.int64], code: int, tick: int, lots: int) -> None:
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


@kernel
def _touch(v: Venue, side: int, tick: int, previous: int, lots: int) -> None:
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
                _level_changed(v, order, previous, lots)


@kernel
def _meet(v: Venue, n: int) -> None:
    """The venue's event before row `n` meets own orders, or is a quote."""
    best = v.state[0]["best"]
    own = v.state[0]["own"]
    row = v.exchange[n - 1]
    code, tick, ts = row["code"], row["tick"], row["ts_ns"]
    if code == BUY_TRADE:
        _traded(v, 1, tick, row["lots"], ts)
    elif code == SELL_TRADE:
        _traded(v, 0, tick, row["lots"], ts)
    elif code < TRADE:
        _touch(v, code, tick, best[4], row["lots"])
    else:
        _requote(v, VENUE, best, code, tick, row["lots"])
    if code in (BUY_TRADE, SELL_TRADE):
        return
    if code & 1 and best[1] <= own[1]:
        _crossed(v, 0, best[1], ts)
    elif not code & 1 and best[0] >= own[2]:
        _crossed(v, 1, best[0], ts)


@kernel
def _hear(v: Venue, until: int) -> None:
    """The responses up to `until` reach the trader."""
    s = v.state[0]
    while s["response_head"] < s["response_tail"]:
        message = s["responses"][s["response_head"] % IN_FLIGHT]
        if message["ts_ns"] > until:
            break
        s["response_head"] += 1
        order = v.orders[message["order"]]
        order["known_state"] = message["state"]
        order["known_leaves"] = message["leaves"]
        if message["cancels"]:
            order["cancel_pending"] = 0
        s["position"] += message["lots"] if order["side"] == 0 else -message["lots"]
        if message["state"] in (_FILLED, _CANCELED):
            _drop_open(v, message["order"])


@kernel
def _drop_open(v: Venue, order_id: int) -> None:
    count = v.state[0]["open_count"]
    k = 0
    while k < count and v.state[0]["open"][k] != order_id:
        k += 1
    if k < count:
        for j in range(k, count - 1):
            v.state[0]["open"][j] = v.state[0]["open"][j + 1]
        v.state[0]["open_count"] = count - 1


@kernel
def advance(v: Venue, until: int) -> bool:
    """Let time pass to `until`; False once nothing is left to happen after it."""
    s = v.state[0]
    own, best, known = s["own"], s["best"], s["known"]
    n, end = s["next_exchange"], v.exchange.shape[0]
    while True:
        arrival = NEVER
        if s["request_head"] < s["request_tail"]:
            arrival = s["requests"][s["request_head"] % IN_FLIGHT]["ts_ns"]
        horizon = min(until, arrival)
        while n < end and v.exchange[n]["ts_ns"] <= horizon:
            took = s["taken_levels"] > 0
            n, stopped = _scan(v.exchange, n, horizon, v.books, VENUE, best, own[0], own[1], own[2], own[3], took)
            if stopped:
                _meet(v, n)
        if arrival > until:
            break
        _request(v)
    s["next_exchange"] = n

    m, end_local = s["next_local"], v.local.shape[0]
    while m < end_local and v.local[m]["ts_ns"] <= until:
        m, stopped = _scan(v.local, m, until, v.books, KNOWN, known, NEVER, NOWHERE, NEVER, NOWHERE, False)
        if stopped:
            row = v.local[m - 1]
            _requote(v, KNOWN, known, row["code"], row["tick"], row["lots"])
    s["next_local"] = m
    if s["response_head"] < s["response_tail"]:
        _hear(v, until)
    s["now"] = max(s["now"], until)
    waiting = s["request_head"] < s["request_tail"] or s["response_head"] < s["response_tail"]
    return bool(waiting or n < end or m < end_local)


@kernel
def _send(v: Venue, order_id: int, cancels: bool) -> None:
    s = v.state[0]
    arrival = s["now"] + _latency(v.latency, s["now"], False)
    if s["request_tail"] > s["request_head"]:
        arrival = max(arrival, s["requests"][(s["request_tail"] - 1) % IN_FLIGHT]["ts_ns"])
    message = s["requests"][s["request_tail"] % IN_FLIGHT]
    message["ts_ns"] = arrival
    message["order"] = order_id
    message["cancels"] = cancels
    s["request_tail"] += 1


@kernel
def submit(v: Venue, side: int, kind: int, tif: int, price: int, lots: int, post_only: bool) -> int:
    """Send a new order; returns its id, or -1 if it is out of the window or the venue is full."""
    s = v.state[0]
    order_id = s["orders"]
    tick = price - v.base
    inside = kind == _MARKET or 0 <= tick < v.books.shape[2]
    full = order_id >= v.orders.shape[0] or s["request_tail"] - s["request_head"] >= IN_FLIGHT
    if lots <= 0 or not inside or full or s["open_count"] >= MAX_OPEN:
        return -1
    order = v.orders[order_id]
    order["leaves"] = lots
    order["known_leaves"] = lots
    order["tick"] = tick if kind != _MARKET else 0
    order["side"] = 0 if side == _BUY else 1
    order["type"] = kind
    order["tif"] = tif
    order["post_only"] = post_only
    order["state"] = _SUBMITTED
    order["known_state"] = _SUBMITTED
    order["cancel_pending"] = 0
    s["orders"] = order_id + 1
    v.state[0]["open"][s["open_count"]] = order_id
    s["open_count"] += 1
    _send(v, order_id, False)
    return int(order_id)


@kernel
def cancel(v: Venue, order_id: int) -> bool:
    """Ask to cancel an order that the trader believes open and has not asked to cancel yet."""
    s = v.state[0]
    if order_id < 0 or order_id >= s["orders"]:
        return False
    order = v.orders[order_id]
    known = order["known_state"]
    full = s["request_tail"] - s["request_head"] >= IN_FLIGHT
    if known in (_FILLED, _CANCELED) or order["cancel_pending"] or full:
        return False
    order["cancel_pending"] = 1
    _send(v, order_id, True)
    return True
