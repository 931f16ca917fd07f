"""The simulated venue: own orders arrive, rest, and meet the recorded market.

``sign`` turns prices so that for own orders higher is more aggressive: an own buy at a higher, an
own sell at a lower tick trades first.
"""

from __future__ import annotations

import math

from execution_core.errors import CapacityError
from execution_core.jit import kernel
from execution_core.simulation.l2_book import requote, touch
from execution_core.simulation.l2_state import IN_FLIGHT, NEVER, NOWHERE, TAKEN, VENUE, Venue, latency_at
from execution_core.simulation.l2_tape import BUY_TRADE, SELL_TRADE, TRADE
from execution_core.types import LiquidityFlag, OrderState, OrderType, Side, TimeInForce

_BUY = int(Side.BUY)
_SELL = int(Side.SELL)
_MARKET = int(OrderType.MARKET)
_IOC = int(TimeInForce.IOC)
_FOK = int(TimeInForce.FOK)
_ACCEPTED = int(OrderState.ACCEPTED)
_PARTIAL = int(OrderState.PARTIALLY_FILLED)
_FILLED = int(OrderState.FILLED)
_CANCELED = int(OrderState.CANCELED)
_MAKER = int(LiquidityFlag.MAKER)
_TAKER = int(LiquidityFlag.TAKER)


@kernel
def set_bounds(v: Venue, side: int) -> None:
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
def drop_live(v: Venue, order_id: int) -> None:
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
    set_bounds(v, v.orders[order_id]["side"])


@kernel
def respond(v: Venue, order_id: int, ts: int, lots: int, cancels: bool) -> int:
    """Send the order's state to the trader; returns when it will be heard. Messages stay in order."""
    s = v.state[0]
    if s["response_tail"] - s["response_head"] >= IN_FLIGHT:
        raise CapacityError("in_flight", "more responses on their way than fit", "give a larger in_flight")
    arrival = ts + latency_at(v.latency, ts, True)
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
def fill_order(v: Venue, order_id: int, lots: int, tick: int, ts: int, liquidity: int) -> None:
    order = v.orders[order_id]
    if v.state[0]["fills"] >= v.fills.shape[0]:
        raise CapacityError("max_fills", "no room for another fill", "give a larger max_fills")
    order["leaves"] -= lots
    order["state"] = _PARTIAL if order["leaves"] > 0 else _FILLED
    heard = respond(v, order_id, ts, lots, False)
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
def traded(v: Venue, side: int, tick: int, lots: int, ts: int) -> None:
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
                fill_order(v, order_id, size, level, ts, _MAKER)
                if order["leaves"] == 0:
                    drop_live(v, order_id)
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
            fill_order(v, order_id, size, tick if price < 0 else price, ts, liquidity)
        tick += step


@kernel
def crossed(v: Venue, side: int, best: int, ts: int) -> None:
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
                fill_order(v, order_id, order["leaves"], level, ts, _MAKER)
            if order["leaves"] == 0:
                drop_live(v, order_id)
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
def accept(v: Venue, order_id: int, ts: int) -> None:
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
            fill_order(v, order_id, order["leaves"], best, ts, _TAKER)
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
        set_bounds(v, side)
    respond(v, order_id, ts, 0, False)


@kernel
def handle_request(v: Venue) -> None:
    """The venue handles its next request."""
    s = v.state[0]
    message = s["requests"][s["request_head"] % IN_FLIGHT]
    s["request_head"] += 1
    order_id, ts = message["order"], message["ts_ns"]
    if not message["cancels"]:
        accept(v, order_id, ts)
        return
    order = v.orders[order_id]
    if order["state"] in (_ACCEPTED, _PARTIAL):
        order["state"] = _CANCELED
        order["leaves"] = 0
        drop_live(v, order_id)
    respond(v, order_id, ts, 0, True)


@kernel
def meet(v: Venue, n: int) -> None:
    """The venue's event before row `n` meets own orders, or is a quote."""
    best = v.state[0]["best"]
    own = v.state[0]["own"]
    row = v.exchange[n - 1]
    code, tick, ts = row["code"], row["tick"], row["ts_ns"]
    if code == BUY_TRADE:
        traded(v, 1, tick, row["lots"], ts)
    elif code == SELL_TRADE:
        traded(v, 0, tick, row["lots"], ts)
    elif code < TRADE:
        touch(v, code, tick, best[4], row["lots"])
    else:
        requote(v, VENUE, best, code, tick, row["lots"])
    if code in (BUY_TRADE, SELL_TRADE):
        return
    if code & 1 and best[1] <= own[1]:
        crossed(v, 0, best[1], ts)
    elif not code & 1 and best[0] >= own[2]:
        crossed(v, 1, best[0], ts)
