"""What trades in the replay: a market maker, and a parent order worked by each execution algorithm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from execution_core.algorithms.almgren_chriss import ImpactModel
from execution_core.algorithms.schedule import (
    due_lots,
    iceberg_due_lots,
    implementation_shortfall,
    pov_due_lots,
    twap,
    volume_profile,
    vwap,
)
from execution_core.jit import kernel
from execution_core.simulation.l2 import Venue, advance, best_ask, best_bid, cancel, fills, position, submit
from execution_core.types import FeedKind, OrderState, OrderType, Side, TimeInForce

Records = NDArray[np.void]

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
STEP_NS = 100_000_000
TICK, LOT = 0.1, 0.001  # USDT, BTC
MAKER_LOTS, MAKER_LIMIT = 10, 100

_BUY, _SELL = int(Side.BUY), int(Side.SELL)
_LIMIT, _GTC, _IOC = int(OrderType.LIMIT), int(TimeInForce.GTC), int(TimeInForce.IOC)
_MARKET = int(OrderType.MARKET)
_ACCEPTED = int(OrderState.ACCEPTED)


@kernel
def make_market(venue: Venue, seen: NDArray[np.int64], queue: NDArray[np.float64]) -> int:
    """Every 100 ms: one post-only order a side at the best price, canceled when the price moved.

    seen: int64 (steps, 4): time, best bid, best ask, position; queue: float64 (steps,): estimated lots
    ahead of the resting buy order, NaN without one. Returns the number of steps.
    """
    state = venue.state[0]
    step = 0
    while step < len(seen) and advance(venue, state["now"] + STEP_NS):
        bid, ask, held = best_bid(venue), best_ask(venue), position(venue)
        seen[step, 0], seen[step, 1], seen[step, 2], seen[step, 3] = state["now"], bid, ask, held
        queue[step] = np.nan
        buying = selling = False
        for k in range(state["open_count"]):
            order = venue.orders[state["open"][k]]
            price = venue.base + order["tick"]
            settled = order["known_state"] == _ACCEPTED and not order["cancel_pending"]
            if order["side"] == 0:
                buying = True
                if settled and price == bid:
                    queue[step] = order["front"]
                elif settled:
                    cancel(venue, state["open"][k])
            else:
                selling = True
                if settled and price != ask:
                    cancel(venue, state["open"][k])
        if not buying and held < MAKER_LIMIT and bid > 0:
            submit(venue, _BUY, _LIMIT, _GTC, bid, MAKER_LOTS, True)
        if not selling and held > -MAKER_LIMIT and ask > 0:
            submit(venue, _SELL, _LIMIT, _GTC, ask, MAKER_LOTS, True)
        step += 1
    return step


@dataclass
class Execution:
    """How a parent was worked: what was seen when, and what was filled."""

    name: str
    start_ns: int
    arrival: float
    end_price: float = 0.0
    sent: list[tuple[int, int]] = field(default_factory=list)
    fills: Records = field(default_factory=lambda: np.zeros(0))


# Lots to send now, from (now, committed lots, filled lots, working lots).
Due = Callable[[int, int, int, int], int]


def work_parent(venue: Venue, name: str, start_ns: int, end_ns: int, due: Due, *, passive: bool) -> Execution:
    """Buys what `due` says, asked once a second. Aggressive children are IOC market orders; passive ones rest
    at the bid, one at a time."""
    advance(venue, start_ns)
    execution = Execution(name, start_ns, (int(best_bid(venue)) + int(best_ask(venue))) / 2)
    now, resting = start_ns, -1
    while now < end_ns and advance(venue, now):
        filled = int(fills(venue)["lots"].sum())
        working = 0
        if resting >= 0:
            order = venue.orders[resting]
            working = int(order["known_leaves"])
            if working and int(venue.base + order["tick"]) != int(best_bid(venue)):
                cancel(venue, resting)
        amount = due(now, filled + working, filled, working)
        if amount:
            execution.sent.append((now, amount))
            if passive:
                resting = int(submit(venue, _BUY, _LIMIT, _GTC, int(best_bid(venue)), amount, True))
            else:
                submit(venue, _BUY, _MARKET, _IOC, 0, amount, False)
        now += SECOND
    if resting >= 0:
        cancel(venue, resting)
    advance(venue, end_ns)
    execution.end_price = (int(best_bid(venue)) + int(best_ask(venue))) / 2
    execution.fills = fills(venue).copy()
    return execution


def schedules(feed: Records, lots: int, start_ns: int, end_ns: int) -> dict[str, tuple[Due, bool]]:
    """Every algorithm on the recording: its due function, and whether it rests.

    VWAP's profile is the recording's own volume by slice, which a trader would take from other days:
    six minutes have no other day.
    """
    trades = feed[feed["kind"] == FeedKind.TRADE]
    slices = 20
    edges = np.linspace(start_ns, end_ns, slices + 1)
    by_slice = np.histogram(trades["ts_event_ns"], edges, weights=trades["lots"])[0].astype(np.int64)
    recorded = (int(trades["ts_event_ns"][-1]) - int(trades["ts_event_ns"][0])) / MINUTE
    steps = np.diff(trades["price"][:: max(len(trades) // 300, 1)]) * TICK
    # USDT, BTC and minutes; buying a BTC a minute is taken to cost 5 USDT a BTC.
    impact = ImpactModel(
        volatility=float(steps.std() * np.sqrt(len(steps) / recorded)),
        permanent=0.0,
        temporary=5.0,
        half_spread=TICK / 2,
    )
    plans = {
        "TWAP": twap(lots, start_ns, end_ns, slices),
        "VWAP": vwap(lots, start_ns, end_ns, volume_profile(by_slice[None, :])),
        "IMPLEMENTATION_SHORTFALL": implementation_shortfall(
            lots,
            start_ns,
            end_ns,
            slices,
            impact,
            shares_per_lot=LOT,
            horizon=(end_ns - start_ns) / MINUTE,
            risk_aversion=3e-4,
        ),
    }

    def scheduled(plan: Records) -> Due:
        return lambda now, committed, _filled, _working: due_lots(plan, now, committed)

    def market_lots(now: int) -> int:
        seen = trades[(trades["ts_init_ns"] > start_ns) & (trades["ts_init_ns"] <= now)]
        return int(seen["lots"].sum())

    return {name: (scheduled(plan), False) for name, plan in plans.items()} | {
        "POV 1%": (
            lambda now, committed, _filled, _working: pov_due_lots(lots, committed, market_lots(now), 10_000),
            False,
        ),
        "ICEBERG": (lambda _now, _committed, filled, working: iceberg_due_lots(lots, filled, working, 200), True),
    }
