"""The kernels under ``bars.match_bars``; the rules are described there.

Prices inside are signed (negated for a sell), so every order reads as a buy: lower is better, the
adverse extreme is up, the favourable one down.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from execution_core.jit import kernel
from execution_core.types import (
    NO_PRICE,
    CancelReason,
    Contingency,
    LiquidityFlag,
    OrderFlag,
    OrderState,
    OrderType,
    Side,
    TimeInForce,
    VenueEventKind,
)

Records = NDArray[np.void]

UNBOUNDED = 2**62
_MILLION = 1_000_000

# Plain integers: Numba compiles enumeration members slowly.
_BUY = int(Side.BUY)
_MARKET = int(OrderType.MARKET)
_STOP_MARKET = int(OrderType.STOP_MARKET)
_STOP_LIMIT = int(OrderType.STOP_LIMIT)
_TOUCH_MARKET = int(OrderType.MARKET_IF_TOUCHED)
_TRAIL_MARKET = int(OrderType.TRAILING_STOP_MARKET)
_TRAIL_LIMIT = int(OrderType.TRAILING_STOP_LIMIT)
_DAY = int(TimeInForce.DAY)
_IOC = int(TimeInForce.IOC)
_FOK = int(TimeInForce.FOK)
_GTD = int(TimeInForce.GTD)
_AT_OPEN = int(TimeInForce.AT_OPEN)
_AT_CLOSE = int(TimeInForce.AT_CLOSE)
_POST_ONLY = int(OrderFlag.POST_ONLY)
_RESTED = int(OrderFlag.RESTED)
_HAS_TRIGGERED = int(OrderFlag.HAS_TRIGGERED)
_STATE_TRIGGERED = int(OrderState.TRIGGERED)
_STATE_PARTIAL = int(OrderState.PARTIALLY_FILLED)
_STATE_FILLED = int(OrderState.FILLED)
_STATE_CANCELED = int(OrderState.CANCELED)
_STATE_EXPIRED = int(OrderState.EXPIRED)
_FILL = int(VenueEventKind.FILL)
_TRIGGERED = int(VenueEventKind.TRIGGERED)
_EXPIRED = int(VenueEventKind.EXPIRED)
_CANCELED = int(VenueEventKind.CANCELED)
_REDUCED = int(VenueEventKind.REDUCED)
_MAKER = int(LiquidityFlag.MAKER)
_TAKER = int(LiquidityFlag.TAKER)
_AUCTION = int(LiquidityFlag.AUCTION)
_REMAINDER = int(CancelReason.IMMEDIATE_REMAINDER)
_KILLED = int(CancelReason.FILL_OR_KILL)
_WOULD_CROSS = int(CancelReason.POST_ONLY_WOULD_CROSS)
_CONTINGENT = int(CancelReason.CONTINGENT_ORDER_FILLED)
_OCO = int(Contingency.ONE_CANCELS_OTHER)


@kernel
def share_up(amount: int, rate_ppm: int) -> int:
    """``ceil(|amount| * rate_ppm / 1e6)`` without overflow for |amount| < 2**53, rate <= 1e6."""
    size = abs(amount)
    return (size // _MILLION) * rate_ppm + ((size % _MILLION) * rate_ppm + _MILLION - 1) // _MILLION


@kernel
def root_participation_ppm(lots: int, volume: int) -> int:
    """``ceil(sqrt(lots / volume) * 1e6)``, at most 1e6; 1e6 for an empty bar."""
    while volume >= 2**30:
        volume >>= 1
        lots = (lots + 1) >> 1
    if lots >= volume:
        return _MILLION
    square = ((lots * 1_000_000_000 + volume - 1) // volume) * 1_000
    root = int(math.sqrt(square))
    while root * root > square:
        root -= 1
    while root * root < square:
        root += 1
    return root


@kernel
def half_spread(price: int, model: Any) -> int:
    """Half the spread at `price`, in ticks."""
    return int(model["half_spread_ticks"] + share_up(price, model["half_spread_ppm"]))


@kernel
def slippage(price: int, used: int, volume: int, model: Any) -> int:
    """Ticks that a taker pays beyond `price` when `used` lots of `volume` are ours."""
    rate = share_up(model["impact_ppm"], root_participation_ppm(used, volume))
    return int(half_spread(price, model) + share_up(price, rate))


@kernel
def _emit(
    events: Records,
    count: int,
    orders: Records,
    k: int,
    ts: int,
    kind: int,
    leg: int,
    price: int,
    lots: int,
    liquidity: int,
    reason: int,
) -> int:
    order, event = orders[k], events[count]
    event["ts_event_ns"] = ts
    event["order_id"] = order["order_id"]
    event["row"] = k
    event["price"] = price
    event["lots"] = lots
    event["leaves"] = order["leaves"]
    event["instrument"] = order["instrument"]
    event["kind"] = kind
    event["side"] = order["side"]
    event["liquidity"] = liquidity
    event["reason"] = reason
    event["leg"] = leg
    return count + 1


@kernel
def _close(orders: Records, k: int, ts: int, kind: int, leg: int, reason: int, events: Records, count: int) -> int:
    """End an order as EXPIRED or CANCELED; the event carries the lots that it gave up."""
    order = orders[k]
    lots = order["leaves"]
    order["leaves"] = 0
    order["state"] = _STATE_EXPIRED if kind == _EXPIRED else _STATE_CANCELED
    return int(_emit(events, count, orders, k, ts, kind, leg, 0, lots, 0, reason))


@kernel
def _update_group(orders: Records, k: int, lots: int, ts: int, leg: int, events: Records, count: int) -> int:
    """A fill of order `k` cancels or reduces the others of its group."""
    group = orders[k]["group"]
    for j in range(orders.shape[0]):
        other = orders[j]
        if j == k or other["group"] != group or other["leaves"] == 0:
            continue
        if orders[k]["contingency"] == _OCO or other["leaves"] <= lots:
            count = _close(orders, j, ts, _CANCELED, leg, _CONTINGENT, events, count)
        else:
            other["leaves"] -= lots
            count = _emit(events, count, orders, j, ts, _REDUCED, leg, 0, lots, 0, 0)
    return count


@kernel
def _execute(
    orders: Records,
    k: int,
    bars: Records,
    models: Records,
    caps: NDArray[np.int64],
    used: NDArray[np.int64],
    reference: int,
    limit: int,
    takes: bool,
    liquidity: int,
    leg: int,
    events: Records,
    count: int,
) -> int:
    """Fill what the cap allows. `reference` and `limit` are signed so that lower is better."""
    order = orders[k]
    i = order["instrument"]
    bar, model = bars[i], models[i]
    sign = 1 if order["side"] == _BUY else -1
    ts = bar["ts_event_ns"]
    lots = min(order["leaves"], caps[i] - used[i])
    if order["tif"] == _FOK and lots < order["leaves"]:
        return int(_close(orders, k, ts, _CANCELED, leg, _KILLED, events, count))
    if lots > 0:
        used[i] += lots
        paid = reference
        if takes:
            worst = bar["high"] if sign > 0 else -bar["low"]
            bound = worst + share_up(worst, model["slippage_bound_ppm"])
            paid = min(paid + slippage(reference, used[i], bar["volume"], model), bound)
        price = sign * min(paid, limit)
        if bar["low"] > 0 and price < 1:
            price = 1  # slippage must not give a positive instrument away for nothing
        order["leaves"] -= lots
        order["state"] = _STATE_PARTIAL if order["leaves"] > 0 else _STATE_FILLED
        count = _emit(events, count, orders, k, ts, _FILL, leg, price, lots, liquidity, 0)
        if order["group"] != 0:
            count = _update_group(orders, k, lots, ts, leg, events, count)
    if order["leaves"] > 0 and order["tif"] == _IOC:
        count = _close(orders, k, ts, _CANCELED, leg, _REMAINDER, events, count)
    return count


@kernel
def _is_market(kind: int) -> bool:
    return kind in (_MARKET, _STOP_MARKET, _TOUCH_MARKET, _TRAIL_MARKET)


@kernel
def _arrive(
    orders: Records,
    k: int,
    bars: Records,
    models: Records,
    caps: NDArray[np.int64],
    used: NDArray[np.int64],
    reference: int,
    leg: int,
    events: Records,
    count: int,
) -> int:
    """An order becomes active at `reference`: it takes, or a limit order stays to rest."""
    order = orders[k]
    i = order["instrument"]
    limit = UNBOUNDED
    if not _is_market(order["type"]):
        limit = order["price"] if order["side"] == _BUY else -order["price"]
        ts = bars[i]["ts_event_ns"]
        if reference + half_spread(reference, models[i]) > limit:
            if order["tif"] == _IOC:
                count = _close(orders, k, ts, _CANCELED, leg, _REMAINDER, events, count)
            elif order["tif"] == _FOK:
                count = _close(orders, k, ts, _CANCELED, leg, _KILLED, events, count)
            return count
        if order["flags"] & _POST_ONLY:
            return int(_close(orders, k, ts, _CANCELED, leg, _WOULD_CROSS, events, count))
    return int(_execute(orders, k, bars, models, caps, used, reference, limit, True, _TAKER, leg, events, count))


@kernel
def _auction(
    orders: Records,
    k: int,
    bars: Records,
    models: Records,
    caps: NDArray[np.int64],
    used: NDArray[np.int64],
    reference: int,
    leg: int,
    events: Records,
    count: int,
) -> int:
    """AT_OPEN and AT_CLOSE: one chance, the rest expires."""
    order = orders[k]
    limit = UNBOUNDED
    if not _is_market(order["type"]):
        limit = order["price"] if order["side"] == _BUY else -order["price"]
    if reference <= limit:
        count = _execute(
            orders,
            k,
            bars,
            models,
            caps,
            used,
            reference,
            limit,
            True,
            _AUCTION,
            leg,
            events,
            count,
        )
    if order["leaves"] > 0:
        ts = bars[order["instrument"]]["ts_event_ns"]
        count = _close(orders, k, ts, _EXPIRED, leg, 0, events, count)
    return count


@kernel
def _try_trigger(order: Any, sign: int, opened: int, adverse: int, favourable: int, closed: int, leg: int) -> int:
    """The signed price at which the order triggers in this leg, or ``UNBOUNDED``.

    Signed prices: a stop triggers when they rise to the trigger, a touch when they fall to it.
    Moves a trailing trigger after a leg that did not hit it.
    """
    kind = order["type"]
    trailing = kind in (_TRAIL_MARKET, _TRAIL_LIMIT)
    if trailing and order["trigger"] == NO_PRICE:
        order["trigger"] = sign * (opened + order["trail"])
    trigger: int = sign * order["trigger"]
    if trailing or kind in (_STOP_MARKET, _STOP_LIMIT):
        if leg == 0 and opened >= trigger:
            return opened
        if (leg == 1 and adverse >= trigger) or (leg == 3 and closed >= trigger):
            return trigger
        if trailing and leg in (0, 2):
            best = opened if leg == 0 else favourable
            order["trigger"] = sign * min(trigger, best + order["trail"])
    else:
        if leg == 0 and opened <= trigger:
            return opened
        if leg == 2 and favourable <= trigger:
            return trigger
    return UNBOUNDED


@kernel
def match(
    orders: Records,
    sequence: NDArray[np.int64],
    bars: Records,
    models: Records,
    session_start: bool,
    session_end: bool,
    caps: NDArray[np.int64],
    used: NDArray[np.int64],
    events: Records,
) -> int:
    count = 0
    for leg in range(4):
        for k in sequence:
            order = orders[k]
            i = order["instrument"]
            bar = bars[i]
            ts = bar["ts_event_ns"]
            if order["leaves"] == 0 or ts == 0:
                continue
            tif = order["tif"]
            if tif == _GTD and order["expire_ts_ns"] < ts:
                count = _close(orders, k, ts, _EXPIRED, leg, 0, events, count)
                continue
            sign = 1 if order["side"] == _BUY else -1
            opened, closed = sign * bar["open"], sign * bar["close"]
            adverse = bar["high"] if sign > 0 else -bar["low"]
            favourable = bar["low"] if sign > 0 else -bar["high"]
            if tif in (_AT_OPEN, _AT_CLOSE):
                if tif == _AT_OPEN and leg == 0 and session_start:
                    count = _auction(orders, k, bars, models, caps, used, opened, leg, events, count)
                elif tif == _AT_CLOSE and leg == 3 and session_end:
                    count = _auction(orders, k, bars, models, caps, used, closed, leg, events, count)
                continue

            kind = order["type"]
            conditional = _STOP_MARKET <= kind <= _TRAIL_LIMIT
            if conditional and not order["flags"] & _HAS_TRIGGERED:
                reference = _try_trigger(order, sign, opened, adverse, favourable, closed, leg)
                if reference == UNBOUNDED:
                    continue
                order["flags"] |= _HAS_TRIGGERED
                order["state"] = _STATE_TRIGGERED
                if kind == _TRAIL_LIMIT:
                    order["price"] = order["trigger"] + sign * order["limit_offset"]
                at = sign * reference
                count = _emit(events, count, orders, k, ts, _TRIGGERED, leg, at, 0, 0, 0)
                count = _arrive(orders, k, bars, models, caps, used, reference, leg, events, count)
            elif leg == 0 and (_is_market(kind) or not order["flags"] & _RESTED):
                count = _arrive(orders, k, bars, models, caps, used, opened, leg, events, count)
            elif leg == 0:
                limit = sign * order["price"]
                if opened <= limit - models[i]["through_ticks"]:
                    count = _execute(
                        orders, k, bars, models, caps, used,
                        opened, limit, False, _MAKER, leg, events, count,
                    )  # fmt: skip

            if leg == 2 and order["leaves"] > 0 and not _is_market(kind):
                limit = sign * order["price"]
                if favourable <= limit - models[i]["through_ticks"]:
                    # A limit beyond the whole bar still cannot trade outside it.
                    count = _execute(
                        orders, k, bars, models, caps, used,
                        min(limit, adverse), limit, False, _MAKER, leg, events, count,
                    )  # fmt: skip

    for k in sequence:
        order = orders[k]
        ts = bars[order["instrument"]]["ts_event_ns"]
        if order["leaves"] == 0 or ts == 0:
            continue
        order["flags"] |= _RESTED
        tif = order["tif"]
        day = tif in (_DAY, _IOC, _FOK)
        if (day and session_end) or (tif == _GTD and order["expire_ts_ns"] <= ts):
            count = _close(orders, k, ts, _EXPIRED, 3, 0, events, count)
    return count
