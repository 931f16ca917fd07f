"""The matching engine under random commands: equal to its reference twin, and true to its promises.

More and longer streams: ALPHAMESH_PROPERTY_EXAMPLES=2000.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from execution_core.matching import MatchingEngine
from execution_core.matching.layout import CAPACITY_BITS
from execution_core.types import COMMAND, MatchEventKind, OrderFlag, SessionPhase, Side
from tests.unit.execution_core.matching.reference_engine import Command, Event
from tests.unit.execution_core.matching.streams import MIDDLE, Pair, Stream

EXAMPLES = int(os.environ.get("ALPHAMESH_PROPERTY_EXAMPLES", "40"))
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
Kind = MatchEventKind

phases = st.sampled_from([SessionPhase.CONTINUOUS, SessionPhase.OPENING_AUCTION, SessionPhase.CLOSED])
bases = st.sampled_from([0, -5000, MIDDLE - 200, MIDDLE - 262_000])
references = st.sampled_from([None, MIDDLE])
calms = st.sampled_from([0.1, 0.3, 0.7])


@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 2**32), base=bases, phase=phases, reference=references, calm=calms)
def test_the_engine_equals_its_twin(
    seed: int, base: int, phase: SessionPhase, reference: int | None, calm: float
) -> None:
    pair = Pair(base, phase, reference)
    stream = Stream(random.Random(seed), calm)
    for step in range(120):
        pair.step(stream.draw(pair))
        if step % 40 == 39:
            pair.check_state()
    # The same commands in one batch end in the same bytes.
    engine = MatchingEngine(**pair.settings)
    events = engine.process(pair.commands()).events
    assert len(events) == len(pair.events)
    assert (engine.snapshot() == pair.engine.snapshot()).all()


@settings(max_examples=max(EXAMPLES // 4, 10), deadline=None, suppress_health_check=SLOW)
@given(source=st.randoms(use_true_random=False), phase=phases, reference=references)
def test_the_engine_equals_its_twin_and_shrinks(
    source: random.Random, phase: SessionPhase, reference: int | None
) -> None:
    """The same, drawn by Hypothesis throughout, so that a failure comes down to a few commands."""
    pair = Pair(0, phase, reference)
    stream = Stream(source)
    for _ in range(12):
        pair.step(stream.draw(pair))
    pair.check_state()


def replay(events: list[Event], orders: dict[int, int], sides: dict[int, list[Event]]) -> None:
    """Account for every lot: `orders` maps a live order to its leaves, `sides` a trade to its fills."""
    for event in events:
        if event.kind == Kind.ACCEPTED:
            assert event.order not in orders
            orders[event.order] = event.quantity
        elif event.kind == Kind.FILL:
            orders[event.order] -= event.quantity
            assert event.leaves == orders[event.order] >= 0
            assert event.quantity > 0
            sides[event.trade_id].append(event)
        elif event.kind in (Kind.CANCELED, Kind.EXPIRED):
            assert event.quantity == orders[event.order] > 0
            orders[event.order] = 0
        elif event.kind == Kind.REPLACED:
            orders[event.order] = event.leaves
        if event.kind in (Kind.FILL, Kind.CANCELED, Kind.EXPIRED, Kind.REPLACED):
            assert event.leaves == orders[event.order] >= 0
            if event.leaves == 0:
                del orders[event.order]


@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 2**32), phase=phases, calm=calms)
def test_lots_are_conserved_and_limits_positions_and_bands_hold(seed: int, phase: SessionPhase, calm: float) -> None:
    pair = Pair(0, phase)
    stream = Stream(random.Random(seed), calm)
    leaves: dict[int, int] = {}
    sent: dict[int, Command] = {}
    limits: dict[int, int | None] = {}
    positions: dict[int, int] = defaultdict(int)
    for _ in range(120):
        command = stream.draw(pair)
        lower, upper = pair.twin.lower, pair.twin.upper
        trades: dict[int, list[Event]] = defaultdict(list)
        events = pair.step(command)
        for event in events:
            if event.kind == Kind.ACCEPTED:
                sent[event.order] = command
            if event.kind in (Kind.ACCEPTED, Kind.REPLACED, Kind.TRIGGERED):
                limits[event.order] = event.price
            if event.kind == Kind.FILL:
                limit = limits[event.order]
                assert event.price is not None
                assert lower <= event.price <= upper
                bought = event.side == Side.BUY
                assert limit is None or (event.price <= limit if bought else event.price >= limit)
        replay(events, leaves, trades)
        for fills in trades.values():
            one, other = fills
            assert {one.side, other.side} == {Side.BUY, Side.SELL}
            assert (one.price, one.quantity) == (other.price, other.quantity)
            for fill in fills:
                before = positions[fill.account]
                positions[fill.account] += fill.quantity if fill.side == Side.BUY else -fill.quantity
                reduces = sent[fill.order].flags & OrderFlag.REDUCE_ONLY and one.account != other.account
                assert not reduces or abs(positions[fill.account]) == abs(before) - fill.quantity
        if command.kind == 8 and events[-1].kind == Kind.APPLIED:
            positions[command.account] = command.quantity
        bids, asks = pair.engine.depth(Side.BUY, 1), pair.engine.depth(Side.SELL, 1)
        if pair.engine.phase == SessionPhase.CONTINUOUS and len(bids) and len(asks):
            assert bids["price"][0] < asks["price"][0]
        assert pair.engine.order_count == len(leaves)
        assert (pair.engine.orders()["leaves"] > 0).all()


@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_first_come_first_served_within_a_price(seed: int) -> None:
    """Plain orders, cancels and amendments against queues that are kept from the events alone."""
    pair = Pair()
    stream = Stream(random.Random(seed), calm=1.0)
    queues: dict[tuple[int, int | None], list[int]] = defaultdict(list)
    resting: dict[int, tuple[int, int | None]] = {}
    quantities: dict[int, int] = {}
    for _ in range(120):
        command = stream.draw(pair)
        if command.kind > 3:
            continue
        taker = 0
        for event in pair.step(command):
            if event.kind in (Kind.ACCEPTED, Kind.REPLACED):
                place = (event.side, event.price)
                stays = resting.get(event.order) == place and event.quantity <= quantities[event.order]
                quantities[event.order] = event.quantity
                if event.order in resting and not stays:
                    queues[resting.pop(event.order)].remove(event.order)
                if not stays:
                    queues[place].append(event.order)
                    resting[event.order] = place
                taker = event.order
            if event.kind == Kind.FILL and event.order != taker:
                queue = queues[resting[event.order]]
                assert queue[0] == event.order
                better = [price for (side, price), waiting in queues.items() if side == event.side and waiting]
                best = max if event.side == Side.BUY else min
                assert event.price == best(price for price in better if price is not None)
            refused = event.kind in (Kind.CANCEL_REJECTED, Kind.REPLACE_REJECTED)
            if event.order in resting and event.leaves == 0 and not refused:
                queues[resting.pop(event.order)].remove(event.order)


@settings(max_examples=EXAMPLES, deadline=None)
@given(seed=st.integers(0, 2**32), shape=st.sampled_from(["bytes", "kinds", "orders"]))
def test_any_bytes_are_answered_and_nothing_breaks(seed: int, shape: str) -> None:
    generator = np.random.Generator(np.random.SFC64(seed))
    commands = np.frombuffer(generator.bytes(200 * COMMAND.itemsize), COMMAND).copy()
    if shape != "bytes":
        commands["kind"] = generator.integers(1, 11, 200)
    if shape == "orders":
        # Fields that are right more often than not, so that the wrong ones meet a filled book.
        commands["kind"] = generator.choice([1, 1, 1, 1, 2, 3, 5, 6, 8, 10], 200)
        extremes = np.array([0, -1, 2**63 - 1, -(2**63), 2**53, 2**40])
        for name, low, high in (
            ("side", 1, 3), ("order_type", 1, 10), ("time_in_force", 1, 8), ("flags", 0, 4), ("self_trade", 0, 5),
            ("phase", 2, 8), ("account", 0, 3), ("price", 100, 110), ("quantity", 1, 50), ("stop_price", 95, 115),
            ("display_quantity", 1, 50), ("trailing_offset", 1, 9), ("limit_offset", 0, 5), ("expire_time_ns", 0, 300),
            ("ts_event_ns", 0, 200),
        ):  # fmt: skip
            wild = generator.random(200) < 0.03
            others = generator.choice(extremes, 200) if COMMAND[name] == np.int64 else commands[name].copy()
            commands[name] = generator.integers(low, high, 200)
            commands[name][wild] = others[wild]
        # As long as no slot was used twice, the n-th order has slot n.
        numbers = generator.integers(1, 60, 200)
        commands["order_id"] = (numbers << CAPACITY_BITS) | numbers
    engine, alone = MatchingEngine(), MatchingEngine()
    batch = engine.process(commands)
    assert (np.diff(batch.ends, prepend=0) >= 1).all()
    assert np.isin(batch.events["kind"], [kind.value for kind in Kind]).all()
    engine.check()
    for index in range(len(commands)):
        alone.process(commands[index : index + 1])
    assert (alone.snapshot() == engine.snapshot()).all()
    # Once it is open and empty again, it takes a plain order.
    engine.set_phase(SessionPhase.CONTINUOUS)
    engine.mass_cancel()
    engine.set_band(None, None)
    base = int(engine._book["base"])
    assert engine.submit(Side.BUY, 1, base + 5)["kind"].tolist() == [Kind.ACCEPTED]
    engine.check()
