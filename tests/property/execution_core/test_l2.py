"""The book simulation against its twin, and what holds on every feed."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from execution_core.simulation.l2 import (
    L2Model,
    QueueModel,
    advance,
    best_ask,
    best_bid,
    cancel,
    constant_latency,
    fills,
    open_venue,
    prepare,
    submit,
)
from execution_core.types import FEED_EVENT, NO_PRICE, FeedKind, OrderType, Side, TimeInForce
from tests.unit.execution_core.simulation.reference_l2 import Action, Book, simulate_slowly

EXAMPLES = int(os.environ.get("ALPHAMESH_PROPERTY_EXAMPLES", "60"))
LOW, HIGH = 100, 111


def random_feed(generator: np.random.Generator, size: int) -> Any:
    feed = np.zeros(size, FEED_EVENT)
    feed["ts_event_ns"] = 1_000 + np.sort(generator.integers(0, size, size))
    feed["ts_init_ns"] = feed["ts_event_ns"] + generator.integers(0, 12, size)
    feed["side"] = generator.integers(1, 3, size)
    kinds = [FeedKind.DEPTH, FeedKind.TRADE, FeedKind.QUOTE, FeedKind.CLEAR]
    feed["kind"] = generator.choice(kinds, size, p=[0.6, 0.3, 0.08, 0.02])
    middle = 105 + np.cumsum(generator.integers(-1, 2, size)) // 3
    away = np.where(feed["side"] == Side.BUY, -1, 1) * generator.integers(-1, 4, size)
    feed["price"] = np.clip(middle + away, LOW - 1, HIGH + 1)
    feed["lots"] = generator.integers(0, 25, size) * (generator.random(size) > 0.15)
    feed["lots"] = np.where((feed["kind"] != FeedKind.DEPTH) & (feed["lots"] == 0), 1, feed["lots"])
    return feed


def random_actions(generator: np.random.Generator, size: int, end: int) -> list[Action]:
    times = np.sort(generator.choice(np.arange(1_000, end), size, replace=False))
    actions: list[Action] = []
    sent = 0
    for ts in times.tolist():
        if sent and generator.random() < 0.3:
            actions.append((ts, "cancel", int(generator.integers(0, sent))))
            continue
        side = Side(int(generator.integers(1, 3)))
        kind = OrderType.MARKET if generator.random() < 0.1 else OrderType.LIMIT
        tif = TimeInForce(int(generator.choice([TimeInForce.GTC] * 4 + [TimeInForce.IOC, TimeInForce.FOK])))
        price = int(generator.integers(LOW + 2, HIGH - 1))
        post_only = bool(generator.random() < 0.3) and kind == OrderType.LIMIT
        actions.append((ts, "submit", (side, kind, tif, price, int(generator.integers(1, 20)), post_only)))
        sent += 1
    return actions


def run(feed: Any, model: L2Model, latency: tuple[int, int], actions: list[Action]) -> Any:
    venue = open_venue(prepare(feed, window=(LOW, HIGH)), model, constant_latency(*latency))
    asked: set[int] = set()
    done: list[Action] = []
    for ts, verb, what in actions:
        advance(venue, ts)
        ts = int(venue.state["now"][0])  # the clock starts with the recording
        if verb == "submit":
            assert submit(venue, *what) >= 0
            done.append((ts, verb, what))
        elif cancel(venue, what):
            assert what not in asked
            asked.add(what)
            done.append((ts, verb, what))
    assert not advance(venue, 10**12)
    return venue, done


MODELS = st.builds(
    L2Model,
    queue=st.sampled_from(QueueModel),
    power=st.sampled_from([1.0, 2.0, 3.0]),
    lot_size=st.sampled_from([1.0, 0.001]),
    partial_fills=st.booleans(),
)
LATENCIES = st.tuples(st.integers(0, 15), st.integers(0, 15))


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 2**32), MODELS, LATENCIES)
def test_equals_the_twin(seed: int, model: L2Model, latency: tuple[int, int]) -> None:
    generator = np.random.default_rng(seed)
    feed = random_feed(generator, 300)
    venue, done = run(feed, model, latency, random_actions(generator, 30, 1_290))
    twin = simulate_slowly(feed, model, *latency, done, (LOW, HIGH))
    assert [tuple(map(int, fill)) for fill in fills(venue).tolist()] == twin.fills
    sent = int(venue.state["orders"][0])
    truth = [(int(o["state"]), int(o["leaves"]), int(o["known_state"])) for o in venue.orders[:sent]]
    assert truth == [(order.state, order.leaves, order.state) for order in twin.orders]


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 2**32), MODELS, LATENCIES)
def test_lots_are_conserved_and_no_price_is_better_than_the_limit(
    seed: int, model: L2Model, latency: tuple[int, int]
) -> None:
    generator = np.random.default_rng(seed)
    feed = random_feed(generator, 300)
    venue, done = run(feed, model, latency, random_actions(generator, 30, 1_290))
    orders = [what for _, verb, what in done if verb == "submit"]
    filled = np.zeros(len(orders), np.int64)
    for fill in fills(venue):
        side, kind, _, price, lots, _ = orders[fill["order_id"]]
        filled[fill["order_id"]] += fill["lots"]
        assert filled[fill["order_id"]] + fill["leaves"] == lots
        if kind == OrderType.LIMIT:
            assert fill["price"] <= price if side == Side.BUY else fill["price"] >= price
    signed = sum(f if o[0] == Side.BUY else -f for f, o in zip(filled.tolist(), orders, strict=True))
    assert signed == venue.state["position"][0]


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 2**32), LATENCIES)
def test_with_partial_fills_trades_and_levels_are_used_once(seed: int, latency: tuple[int, int]) -> None:
    """Orders at one price against a feed of trades only share each trade's lots."""
    generator = np.random.default_rng(seed)
    feed = np.zeros(80, FEED_EVENT)
    feed["ts_event_ns"] = feed["ts_init_ns"] = 2_000 + np.arange(80)
    feed["kind"], feed["side"], feed["price"] = FeedKind.TRADE, Side.SELL, 105
    feed["lots"] = generator.integers(1, 9, 80)
    feed[0] = (500, 500, 104, 1, FeedKind.DEPTH, Side.BUY)
    actions = [(600 + k, "submit", (Side.BUY, OrderType.LIMIT, TimeInForce.GTC, 105, 40, False)) for k in range(12)]
    venue, _ = run(feed, L2Model(), latency, actions)
    found = fills(venue)
    for ts in np.unique(found["ts_event_ns"]):
        traded = feed["lots"][feed["ts_event_ns"] == ts].sum()
        assert found["lots"][found["ts_event_ns"] == ts].sum() <= traded
    assert found["lots"].sum() == min(12 * 40, feed["lots"][1:].sum())
    assert (np.diff(found["order_id"]) >= 0).all()


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.integers(0, 2**32))
def test_the_trader_sees_the_feed_of_its_own_clock(seed: int) -> None:
    feed = random_feed(np.random.default_rng(seed), 200)
    venue = open_venue(prepare(feed, window=(LOW, HIGH)), L2Model(), constant_latency(0, 0))
    book = Book()
    rows = feed[np.argsort(feed["ts_init_ns"], kind="stable")]
    for k, row in enumerate(rows):
        side, price = Side(int(row["side"])), int(row["price"])
        if row["kind"] in (FeedKind.QUOTE, FeedKind.CLEAR):
            for gone in book.quote(side, price, including=row["kind"] == FeedKind.CLEAR):
                book.set(side, gone, 0)
        if row["kind"] in (FeedKind.DEPTH, FeedKind.QUOTE) and LOW <= price <= HIGH:
            book.set(side, price, int(row["lots"]))
        if k + 1 == len(rows) or rows["ts_init_ns"][k + 1] > row["ts_init_ns"]:
            advance(venue, int(row["ts_init_ns"]))
            seen = [NO_PRICE if best is None else best for best in (book.best[Side.BUY], book.best[Side.SELL])]
            assert [best_bid(venue), best_ask(venue)] == seen
