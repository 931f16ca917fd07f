"""A venue over a recorded L2 book, with latencies, queue positions and partial fills.

    tape = prepare(feed)
    venue = open_venue(tape, L2Model(queue=QueueModel.POWER), constant_latency(2_000_000, 1_000_000))
    while advance(venue, now_ns(venue) + 100_000_000):
        order_id = submit(venue, Side.BUY, OrderType.LIMIT, TimeInForce.GTC, best_bid(venue), 10, True)
    found = fills(venue)
    fees = fees_nano(found["lots"], notional_nano(found["price"], found["lots"], tick_value), found["liquidity"], model)

``advance``, ``submit``, ``cancel`` and the views are kernels: a strategy written under ``@kernel``
calls them without leaving compiled code, and Python can call them as well. Strategies see only what
has reached them: the feed by ``ts_init_ns`` and responses after their latency.

Queue position
--------------
A new order stands behind everything displayed at its price (``front`` lots). Trades at the price
move it up. RISK_AVERSE assumes that cancellations happen behind us, and only caps ``front`` at the
level's size. The probabilistic models split a decrease that trades do not explain: behind us with
probability f(back) / (f(back) + f(front)) (POWER: f = x**n; LOG: f = log(1 + x)),
f(back) / f(back + front) (.._OF_TOTAL), or 1 - f(front / (front + back)) (POWER_OF_SHARE). This is
the estimator of Rigtorp, Estimating Order Queue Position (2013), in the variants of hftbacktest's
documentation ("Order Fill", Probability Queue Models).

Fills
-----
A resting order fills when its turn comes in a trade at its price, when a trade goes beyond its
price, or when the other side's best reaches it. With ``partial_fills=False`` it then fills in full
at its price, and a taker in full at the best price: hftbacktest's NoPartialFillExchange. With
``partial_fills=True`` no displayed or traded lot is used twice: a trade's lots are shared by own
orders in price-time order, takers walk the levels, and what they took stays gone until the
recording shows the level below it. IOC and FOK remainders and crossing post-only orders are
CANCELED. MARKET and LIMIT are the order types; every time in force but IOC and FOK rests until it is
canceled.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.jit import kernel
from execution_core.simulation import l2_state
from execution_core.simulation.l2_clock import advance, cancel, submit
from execution_core.simulation.l2_state import KNOWN, ORDER, STATE, Records, Venue
from execution_core.simulation.l2_tape import Tape, prepare
from execution_core.types import (
    FEED_EVENT,
    L2_FILL,
    NO_PRICE,
    ORDER_LATENCY,
    FeedKind,
    OrderType,
    Side,
    TimeInForce,
)

__all__ = [
    "L2Model",
    "QueueModel",
    "Tape",
    "Venue",
    "advance",
    "best_ask",
    "best_bid",
    "cancel",
    "constant_latency",
    "fills",
    "known_lots",
    "now_ns",
    "open_venue",
    "position",
    "prepare",
    "submit",
]

_BUY = int(Side.BUY)


class QueueModel(IntEnum):
    RISK_AVERSE = l2_state.RISK_AVERSE
    POWER = l2_state.POWER
    POWER_OF_TOTAL = l2_state.POWER_OF_TOTAL
    POWER_OF_SHARE = l2_state.POWER_OF_SHARE
    LOG = l2_state.LOG
    LOG_OF_TOTAL = l2_state.LOG_OF_TOTAL


@dataclass(frozen=True, kw_only=True)
class L2Model:
    """How orders queue and fill.

    power      n of the power models; 1 is the identity, 2 the square
    lot_size   the quantity of a lot, in the unit that LOG's 1 + x means
    """

    queue: QueueModel = QueueModel.RISK_AVERSE
    power: float = 3.0
    lot_size: float = 1.0
    partial_fills: bool = True

    def __post_init__(self) -> None:
        for name in ("power", "lot_size"):
            if not 0 < getattr(self, name) < 1e9:
                raise InvalidValueError(name, "not a positive number", "see hftbacktest's defaults: 1 to 3")


def constant_latency(entry_ns: int, response_ns: int) -> Records:
    """An ``ORDER_LATENCY`` that never changes."""
    return np.array([(0, entry_ns, response_ns)], ORDER_LATENCY)


def open_venue(
    tape: Tape,
    model: L2Model,
    latency: Records,
    *,
    max_orders: int = 1 << 16,
    max_fills: int = 1 << 17,
) -> Venue:
    """A venue at the start of `tape`, without orders.

    Parameters
    ----------
    latency
        ``ORDER_LATENCY`` (n,), times ascending: a measured series, or ``constant_latency``.
        Messages never overtake each other.
    max_orders, max_fills
        Over the whole run. ``submit`` returns -1 beyond the first; the second raises CapacityError.
        At one time, 256 orders may be open and 1024 messages under way each way.
    """
    if not isinstance(latency, np.ndarray) or latency.dtype != ORDER_LATENCY or latency.ndim != 1 or not len(latency):
        raise InvalidArrayError("latency", "not an ORDER_LATENCY vector with rows", "use constant_latency")
    if (np.diff(latency["ts_ns"]) <= 0).any():
        raise InvalidValueError("latency", "times not ascending", "sort it, one row for each time")
    if (latency["entry_ns"] < 0).any() or (latency["response_ns"] < 0).any():
        raise InvalidValueError("latency", "negative", "give nanoseconds")
    for name, value in (("max_orders", max_orders), ("max_fills", max_fills)):
        if value < 1:
            raise InvalidValueError(name, "not positive", "give room for at least one")
    state = np.zeros(1, STATE)
    state["own"] = (l2_state.NEVER, l2_state.NOWHERE) * 2
    state["now"] = min(tape.exchange["ts_ns"][0], tape.local["ts_ns"][0])
    for name in ("best", "known"):
        state[name] = -1, tape.ticks, tape.ticks, -1, 0
    return Venue(
        exchange=tape.exchange,
        local=tape.local,
        books=np.zeros((3, 2, tape.ticks), np.int64),
        orders=np.zeros(max_orders, ORDER),
        fills=np.zeros(max_fills, L2_FILL),
        latency=np.ascontiguousarray(latency),
        state=state,
        base=tape.base,
        queue=int(model.queue),
        power=float(model.power),
        lot_size=float(model.lot_size),
        partial=model.partial_fills,
    )


@kernel
def now_ns(venue: Venue) -> int:
    """Where the simulation stands; at first, when the recording begins."""
    return int(venue.state[0]["now"])


@kernel
def best_bid(venue: Venue) -> int:
    """The best bid that the trader has seen, in ticks; NO_PRICE without one."""
    tick = venue.state[0]["known"][0]
    return int(venue.base + tick) if tick >= 0 else NO_PRICE


@kernel
def best_ask(venue: Venue) -> int:
    """The best ask that the trader has seen, in ticks; NO_PRICE without one."""
    tick = venue.state[0]["known"][1]
    return int(venue.base + tick) if tick < venue.books.shape[2] else NO_PRICE


@kernel
def known_lots(venue: Venue, side: int, price: int) -> int:
    """Lots at a level as the trader knows the book."""
    tick = price - venue.base
    if tick < 0 or tick >= venue.books.shape[2]:
        return 0
    return int(venue.books[KNOWN, 0 if side == _BUY else 1, tick])


@kernel
def position(venue: Venue) -> int:
    """Lots bought less lots sold, as far as the trader has heard."""
    return int(venue.state[0]["position"])


def fills(venue: Venue) -> Records:
    """``L2_FILL`` (n,): every fill so far, in the order in which it happened at the venue."""
    return venue.fills[: int(venue.state[0]["fills"])]


def warm() -> None:
    """Compile the kernels for the production types."""
    feed = np.zeros(2, FEED_EVENT)
    feed["ts_event_ns"], feed["ts_init_ns"] = (1, 2), (2, 3)
    feed["price"], feed["lots"], feed["kind"], feed["side"] = (9, 10), 5, FeedKind.DEPTH, (Side.BUY, Side.SELL)
    tape = prepare(feed)
    for partial in (False, True):
        venue = open_venue(tape, L2Model(partial_fills=partial), constant_latency(0, 0))
        advance(venue, 2)
        number: Any = submit(venue, Side.BUY, OrderType.LIMIT, TimeInForce.GTC, 9, 1, True)
        cancel(venue, number)
        now_ns(venue), best_bid(venue), best_ask(venue), position(venue), known_lots(venue, Side.BUY, 9)
        advance(venue, 3)
