"""Market making over six minutes of BTCUSDT: nanoseconds a feed row, against hftbacktest 2.4.4.

The peer needs NumPy < 2.3 and so its own environment, which `make bench-peers` installs.

Both sides run the same compiled strategy over the same rows within the same window of ticks (the
peer in its fastest mode, ROIVectorMarketDepth, data in memory), and must agree on every fill:
order, side, price and venue time. Timed is the run alone, on a venue opened before.
"""

from __future__ import annotations

import time
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.client import Peer
from benchmarks.runner import Case
from examples.order_book.recording import RECORDING, load
from execution_core.jit import kernel
from execution_core.simulation.l2 import (
    L2Model,
    QueueModel,
    Tape,
    Venue,
    advance,
    best_ask,
    best_bid,
    cancel,
    constant_latency,
    fills,
    now_ns,
    open_venue,
    position,
    prepare,
    submit,
)
from execution_core.types import FeedKind, OrderState, OrderType, Side, TimeInForce

WINDOW = 580_000, 650_000
STEP_NS, SIZE, LIMIT_LOTS = 100_000_000, 10, 100
ENTRY_NS, RESPONSE_NS = 2_000_000, 1_000_000

_BUY, _SELL = int(Side.BUY), int(Side.SELL)
_LIMIT, _GTC = int(OrderType.LIMIT), int(TimeInForce.GTC)
_ACCEPTED = int(OrderState.ACCEPTED)


@kernel
def make_market(venue: Venue) -> int:
    """Every 100 ms: one post-only order on each side at the best price, canceled when it moved."""
    state = venue.state[0]
    steps = 0
    while advance(venue, now_ns(venue) + STEP_NS):
        steps += 1
        bid, ask, held = best_bid(venue), best_ask(venue), position(venue)
        buying = selling = False
        for k in range(state["open_count"]):
            order = venue.orders[state["open"][k]]
            price = venue.base + order["tick"]
            settled = order["known_state"] == _ACCEPTED and not order["cancel_pending"]
            if order["side"] == 0:
                buying = True
                if settled and price != bid:
                    cancel(venue, state["open"][k])
            else:
                selling = True
                if settled and price != ask:
                    cancel(venue, state["open"][k])
        if not buying and held < LIMIT_LOTS and bid > 0:
            submit(venue, _BUY, _LIMIT, _GTC, bid, SIZE, True)
        if not selling and held > -LIMIT_LOTS and ask > 0:
            submit(venue, _SELL, _LIMIT, _GTC, ask, SIZE, True)
    return steps


@cache
def feed() -> NDArray[np.void]:
    """The recording's rows within the window."""
    rows = load(RECORDING)
    inside = (rows["price"] >= WINDOW[0]) & (rows["price"] <= WINDOW[1])
    kept: NDArray[np.void] = rows[inside | (rows["kind"] != FeedKind.DEPTH)]
    return kept


@cache
def tape() -> Tape:
    return prepare(feed(), window=WINDOW)


def run(model: L2Model) -> tuple[float, NDArray[np.void]]:
    """Seconds and fills of one run."""
    venue = open_venue(tape(), model, constant_latency(ENTRY_NS, RESPONSE_NS))
    started = time.perf_counter()
    make_market(venue)
    return time.perf_counter() - started, fills(venue)


def ours(model: L2Model) -> float:
    return run(model)[0] / len(feed()) * 1e9


PEER = Peer(
    "hftbacktest", "hftbacktest_replay.py", 'uv pip install -p .bench/hftbacktest hftbacktest==2.4.4 "numpy<2.3"'
)


def heard(rows: NDArray[np.void], until: int) -> list[tuple[int, ...]]:
    """Our fills as the peer reports them: those that the strategy has heard of, order ids from 1."""
    known = rows[rows["ts_init_ns"] <= until]
    return sorted(
        (int(row["order_id"]) + 1, int(row["side"]), int(row["price"]), int(row["ts_event_ns"])) for row in known
    )


def peer(queue: str, model: L2Model) -> float:
    """One run of the peer, compared with one of ours."""
    seconds, answer, _ = PEER.run(queue, {"feed": feed(), "window": np.array(WINDOW)})
    expected = sorted(tuple(map(int, row)) for row in answer["fills"])
    last_step = max(row[3] for row in expected) + RESPONSE_NS + STEP_NS
    found = heard(run(model)[1], last_step)
    if found != expected:
        different = sorted(set(found) ^ set(expected))
        raise AssertionError(f"{len(different)} fills differ of {len(expected)}, first {different[:3]}")
    return seconds / len(feed()) * 1e9


def cases() -> list[Case]:
    """Replays with the models that both have, and ours with partial fills."""
    both = {"risk_averse": QueueModel.RISK_AVERSE, "power": QueueModel.POWER}
    rows = [
        Case(
            name=f"market making, {queue} queue, {goal}",
            unit="ns/row",
            ours=partial(ours, L2Model(queue=both[queue], partial_fills=False)),
            peer=partial(peer, queue, L2Model(queue=both[queue], partial_fills=False)),
            peer_name="hftbacktest 2.4.4 ROIVector",
            goal=goal,
        )
        for queue, goal in (("risk_averse", "ours <= 29"), ("power", "ratio >= 2.5"))
    ]
    partial_fills = Case(
        name="market making, power queue, partial fills",
        unit="ns/row",
        ours=partial(ours, L2Model(queue=QueueModel.POWER)),
        goal="ours <= 29",
    )
    return [*rows, partial_fills]
