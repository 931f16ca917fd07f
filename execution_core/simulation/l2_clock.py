"""Time, and what a strategy may do in it: ``advance``, ``submit`` and ``cancel``."""

from __future__ import annotations

from execution_core.jit import kernel
from execution_core.simulation.l2_book import requote, scan
from execution_core.simulation.l2_match import handle_request, meet
from execution_core.simulation.l2_state import IN_FLIGHT, KNOWN, MAX_OPEN, NEVER, NOWHERE, VENUE, Venue, latency_at
from execution_core.types import OrderState, OrderType, Side

_BUY = int(Side.BUY)
_MARKET = int(OrderType.MARKET)
_SUBMITTED = int(OrderState.SUBMITTED)
_FILLED = int(OrderState.FILLED)
_CANCELED = int(OrderState.CANCELED)


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
            n, stopped = scan(v.exchange, n, horizon, v.books, VENUE, best, own[0], own[1], own[2], own[3], took)
            if stopped:
                meet(v, n)
        if arrival > until:
            break
        handle_request(v)
    s["next_exchange"] = n

    m, end_local = s["next_local"], v.local.shape[0]
    while m < end_local and v.local[m]["ts_ns"] <= until:
        m, stopped = scan(v.local, m, until, v.books, KNOWN, known, NEVER, NOWHERE, NEVER, NOWHERE, False)
        if stopped:
            row = v.local[m - 1]
            requote(v, KNOWN, known, row["code"], row["tick"], row["lots"])
    s["next_local"] = m
    if s["response_head"] < s["response_tail"]:
        _hear(v, until)
    s["now"] = max(s["now"], until)
    waiting = s["request_head"] < s["request_tail"] or s["response_head"] < s["response_tail"]
    return bool(waiting or n < end or m < end_local)


@kernel
def _send(v: Venue, order_id: int, cancels: bool) -> None:
    s = v.state[0]
    arrival = s["now"] + latency_at(v.latency, s["now"], False)
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
