"""Fill resting orders against one bar per instrument.

An order never sees the bar that produced its signal: submit it after that bar, and the next call
matches it. All arithmetic is int64 (ticks and lots), so the same input gives the same bytes on
every machine.

The path inside a bar
---------------------
A bar does not say whether its high or its low came first. Each order therefore takes the path
that hurts its owner: open, then the adverse extreme (the high for a buy, the low for a sell), then
the favourable extreme, then the close. So a sell stop is hit before the sell limit of the same
bracket, and a trailing stop is tested against its old level before a new extreme may move it.
Events come out by leg of that path (0 open, 1 adverse, 2 favourable, 3 close), and within a leg
in arrival order; the volume cap and contingency groups are served in that same order.

Prices
------
Market orders, AT_OPEN and triggered market orders take: reference (open, close or trigger; the
open where the bar gapped through the trigger) plus slippage against the trader, where
``slippage = half_spread_ticks + price x half_spread_ppm + price x impact_ppm x sqrt(used/volume)``
(square-root impact: Almgren, Thum, Hauptmann, Li 2005; Toth et al. 2011) with every term rounded
up to the tick. ``used`` counts all lots filled on that instrument in this bar including this fill,
so cutting an order in pieces does not escape the impact. Slippage may push a price beyond the
bar's high (buy) or low (sell), by ``slippage_bound_ppm`` of that extreme at the most.

A limit order that is new (or newly triggered) takes when reference + half spread <= limit, and then
pays min(limit, reference + slippage); POST_ONLY is CANCELED instead. Otherwise it rests, and fills
as maker at its limit once the bar trades `through_ticks` beyond it (0: a touch fills), or at the
open where the bar opens that far beyond it. AT_OPEN and AT_CLOSE limits fill when the auction
price is at the limit or better.

Lifetime
--------
IOC and FOK act at the open of their first bar, or when triggered. DAY expires at `session_end`,
the rest of AT_OPEN and AT_CLOSE after their auction. A GTD order takes part in every bar that
closes no later than its expiry. What the volume cap leaves of a market order is tried again at the
next open. ICEBERG is a limit order here: a bar says nothing of the queue that display size costs.
REDUCE_ONLY is the gate's business: the venue knows no positions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.simulation.bar_kernels import UNBOUNDED, Records, match
from execution_core.types import (
    BAR,
    FILL_MODEL,
    NO_PRICE,
    RESTING_ORDER,
    VENUE_EVENT,
    Contingency,
    OrderType,
    Side,
    TimeInForce,
)

# `participation_cap_ppm` for bars without volume (foreign exchange): fill everything.
UNCAPPED = -1

_MILLION = 1_000_000
_PRICE_LIMIT = 2**53
_VOLUME_LIMIT = 2**43
_AUCTIONS = (TimeInForce.AT_OPEN, TimeInForce.AT_CLOSE)
_TRAILING = (OrderType.TRAILING_STOP_MARKET, OrderType.TRAILING_STOP_LIMIT)


def _require_records(field: str, array: Any, dtype: np.dtype[np.void]) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim != 1:
        raise InvalidArrayError(field, "not a one-dimensional array of the dtype", f"use {dtype}")
    if not array.flags.c_contiguous or not array.flags.writeable:
        raise InvalidArrayError(field, "not contiguous and writable", "pass a copy")


def _require(ok: Any, field: str, problem: str, remedy: str) -> None:
    if not np.all(ok):
        raise InvalidValueError(field, problem, remedy)


def validate_models(models: Records) -> None:
    """Refuse fill models whose rates or ticks are out of range."""
    _require_records("models", models, FILL_MODEL)
    for name in ("half_spread_ppm", "impact_ppm", "slippage_bound_ppm"):
        rate = models[name]
        _require((rate >= 0) & (rate <= _MILLION), name, "outside [0, 1e6]", "give parts per million")
    cap = models["participation_cap_ppm"]
    valid = ((cap >= 0) & (cap <= _MILLION)) | (cap == UNCAPPED)
    _require(valid, "participation_cap_ppm", "outside [0, 1e6]", "give ppm, or UNCAPPED")
    for name in ("half_spread_ticks", "through_ticks"):
        ticks = models[name]
        _require((ticks >= 0) & (ticks < 2**31), name, "negative or huge", "give a few ticks")


def validate_bars(bars: Records) -> None:
    """Refuse bars that cannot be: low above open, negative volume, prices beyond 2**53 ticks."""
    _require_records("bars", bars, BAR)
    low, high = bars["low"], bars["high"]
    inside = (low <= bars["open"]) & (bars["open"] <= high)
    inside &= (low <= bars["close"]) & (bars["close"] <= high)
    _require(inside, "bars", "open or close outside [low, high]", "repair the bar")
    _require((low > -_PRICE_LIMIT) & (high < _PRICE_LIMIT), "bars", "price beyond 2**53", "check ticks")
    volume = bars["volume"]
    _require((volume >= 0) & (volume < _VOLUME_LIMIT), "bars.volume", "outside [0, 2**43)", "check lots")
    _require(bars["ts_event_ns"] >= 0, "bars.ts_event_ns", "negative", "0 means no bar")


def validate_orders(orders: Records, instruments: int) -> None:
    """Refuse orders that the matching cannot read."""
    _require_records("orders", orders, RESTING_ORDER)
    kind, tif = orders["type"], orders["tif"]
    _require((kind >= 1) & (kind <= 9), "type", "unknown", "use OrderType")
    _require(np.isin(orders["side"], list(Side)), "side", "unknown", "use Side")
    _require((tif >= 1) & (tif <= 7), "tif", "unknown", "use TimeInForce")
    i = orders["instrument"]
    _require((i >= 0) & (i < instruments), "instrument", "no such bar", "index the bars")
    leaves = orders["leaves"]
    _require((leaves >= 0) & (leaves < _VOLUME_LIMIT), "leaves", "outside [0, 2**43)", "check lots")
    for name in ("price", "limit_offset", "trail"):
        value = orders[name]
        _require((value > -_PRICE_LIMIT) & (value < _PRICE_LIMIT), name, "beyond 2**53", "check ticks")
    trailing = (kind == _TRAILING[0]) | (kind == _TRAILING[1])
    _require(~trailing | (orders["trail"] >= 1), "trail", "not positive", "give at least one tick")
    trigger = orders["trigger"]
    sane = (trigger > -_PRICE_LIMIT) & (trigger < _PRICE_LIMIT)
    _require(sane | (trailing & (trigger == NO_PRICE)), "trigger", "beyond 2**53", "check ticks")
    auction = (tif == _AUCTIONS[0]) | (tif == _AUCTIONS[1])
    conditional = (kind >= OrderType.STOP_MARKET) & (kind <= OrderType.TRAILING_STOP_LIMIT)
    _require(~(auction & conditional), "tif", "an auction order with a trigger", "use DAY or GTC")
    grouped = orders["group"] != 0
    contingent = np.isin(orders["contingency"], [Contingency.ONE_CANCELS_OTHER, Contingency.ONE_UPDATES_OTHER])
    _require(grouped == contingent, "group", "group and contingency disagree", "set both or neither")


def match_bars(
    orders: Records,
    bars: Records,
    models: Records,
    *,
    session_start: bool = True,
    session_end: bool = True,
) -> Records:
    """Match resting orders against the next bar of each instrument.

    Parameters
    ----------
    orders
        ``RESTING_ORDER`` (n,), any order; changed in place: leaves, state, flags, trailing
        triggers and limits. Closed orders have ``leaves == 0`` and are skipped by later calls.
    bars
        ``BAR`` (instruments,). ``ts_event_ns == 0`` means that the instrument has no bar now: its
        orders are left alone.
    models
        ``FILL_MODEL`` (instruments,).
    session_start, session_end
        Whether these bars open and close a session. Daily bars do both.

    Returns
    -------
    ``VENUE_EVENT`` (m,) in the order in which they happened. CANCELED and EXPIRED carry in `lots`
    what the order gave up, REDUCED what a sibling's fill took from it.

    Raises
    ------
    InvalidArrayError, InvalidValueError
        Before anything is changed.
    """
    validate_bars(bars)
    validate_models(models)
    if len(models) != len(bars):
        raise InvalidArrayError("models", "not one for each bar", f"give {len(bars)} rows")
    validate_orders(orders, len(bars))

    cap = models["participation_cap_ppm"]
    caps = np.where(cap == UNCAPPED, UNBOUNDED, bars["volume"] * np.maximum(cap, 0) // _MILLION)
    sequence = np.argsort(orders["arrival_seq"], kind="stable")
    capacity = 3 * len(orders)
    groups = orders["group"][orders["group"] != 0]
    if len(groups):
        sizes = np.unique(groups, return_counts=True)[1]
        capacity += int((sizes * (sizes - 1)).sum())
    events = np.zeros(capacity, VENUE_EVENT)
    used = np.zeros(len(bars), np.int64)
    count = match(orders, sequence, bars, models, session_start, session_end, caps, used, events)
    return events[:count]


def fill_models(instruments: int, **fields: int) -> Records:
    """One ``FILL_MODEL`` for all of `instruments`; fields not named are zero, the cap 10 %."""
    models = np.zeros(instruments, FILL_MODEL)
    models["participation_cap_ppm"] = 100_000
    models["slippage_bound_ppm"] = 50_000
    for name, value in fields.items():
        if name not in (FILL_MODEL.names or ()):
            raise InvalidValueError(name, "no such field", f"use one of {FILL_MODEL.names}")
        models[name] = value
    validate_models(models)
    return models


def warm() -> None:
    """Compile the kernels for the production types."""
    orders = np.zeros(1, RESTING_ORDER)
    orders["type"], orders["side"], orders["tif"], orders["leaves"] = 1, 1, 1, 1
    bars = np.array([(1, 10, 11, 9, 10, 100)], BAR)
    match_bars(orders, bars, fill_models(1))
