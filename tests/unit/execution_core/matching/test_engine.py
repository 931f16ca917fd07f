"""The Python boundary: batches, bad input, full pools, snapshots, and that nothing compiles in use."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pytest

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.matching import MatchingEngine, kernels, warm
from execution_core.matching.layout import CAPACITY, MAX_ICEBERGS, STATE_BYTES
from execution_core.types import COMMAND, MATCH_EVENT, NO_PRICE, CommandKind, OrderType, Side
from tests.unit.execution_core.matching.streams import Pair, Stream


def recorded(seed: int, steps: int) -> tuple[Any, list[Any]]:
    """A random stream of commands and its events."""
    pair, stream = Pair(), Stream(random.Random(seed))
    for _ in range(steps):
        pair.step(stream.draw(pair))
    return pair.commands(), pair.events


def orders(count: int, **fields: int) -> Any:
    commands = np.zeros(count, COMMAND)
    commands["kind"] = CommandKind.NEW
    commands["side"] = Side.BUY
    commands["order_type"] = OrderType.LIMIT
    commands["time_in_force"] = 2
    commands["quantity"] = 1
    commands["price"] = 100
    for name, value in fields.items():
        commands[name] = value
    return commands


@pytest.mark.parametrize("size", [1, 7, 500])
def test_batches_do_what_single_commands_do_to_the_last_byte(size: int) -> None:
    commands, events = recorded(7, 500)
    engine = MatchingEngine()
    one_by_one = MatchingEngine()
    count = 0
    for start in range(0, len(commands), size):
        batch = engine.process(commands[start : start + size])
        assert batch.events.dtype == MATCH_EVENT
        copied, ends = batch.events.copy(), batch.ends.tolist()
        singles = [one_by_one.process(commands[i : i + 1]).events.copy() for i in range(start, start + len(ends))]
        assert ends == list(itertools.accumulate(len(single) for single in singles))
        assert (copied == np.concatenate(singles)).all()
        count += len(copied)
    assert count == len(events)
    assert (engine.snapshot() == one_by_one.snapshot()).all()


def test_an_empty_batch() -> None:
    batch = MatchingEngine().process(np.zeros(0, COMMAND))
    assert len(batch.events) == len(batch.ends) == 0


def test_named_calls_are_the_same_as_rows() -> None:
    by_call, by_row = MatchingEngine(), MatchingEngine()
    rows = orders(4, account=3, client_tag=9, ts_event_ns=5)
    rows["order_type"] = [OrderType.LIMIT, OrderType.STOP_LIMIT, OrderType.ICEBERG, OrderType.TRAILING_STOP_LIMIT]
    rows["side"] = [1, 2, 1, 2]
    rows["quantity"] = 20
    rows["stop_price"] = [NO_PRICE, 90, NO_PRICE, 95]
    rows["display_quantity"] = [0, 0, 5, 0]
    rows["trailing_offset"] = [0, 0, 0, 4]
    rows["limit_offset"] = [0, 0, 0, 2]
    for row in rows:
        fields = {name: int(row[name]) for name in COMMAND.names or ()}
        wanted = ("side", "quantity", "price", "account", "ts_event_ns", "client_tag", "order_type", "time_in_force")
        terms = ("stop_price", "display_quantity", "trailing_offset", "limit_offset")
        by_call.submit(**{name: fields[name] for name in wanted + terms})
    by_row.process(rows)
    assert (by_call.snapshot() == by_row.snapshot()).all()
    assert by_call.order_count == 4


@pytest.mark.parametrize(
    "commands",
    [
        np.zeros(3),
        np.zeros(3, np.int64),
        np.zeros((2, 2), COMMAND),
        np.zeros((), COMMAND),
        np.zeros(3, np.dtype([("kind", np.uint8)])),
        np.zeros(3, MATCH_EVENT),
    ],
)
def test_arrays_of_another_kind_are_refused(commands: Any) -> None:
    engine = MatchingEngine()
    before = engine.snapshot()
    with pytest.raises(InvalidArrayError, match="commands"):
        engine.process(commands)
    assert (engine.snapshot() == before).all()


@pytest.mark.parametrize("value", [1.5, float("nan"), "7", None, 2**63, -(2**63) - 1])
@pytest.mark.parametrize("field", ["quantity", "price", "account", "client_tag", "ts_event_ns"])
def test_values_that_fit_no_field_are_refused(field: str, value: Any) -> None:
    engine = MatchingEngine()
    fields: dict[str, Any] = {"side": 1, "quantity": 5, "price": 100, field: value}
    with pytest.raises(InvalidValueError):
        engine.submit(**fields)
    assert engine.order_count == 0
    with pytest.raises(InvalidValueError):
        engine.cancel(value)


@pytest.mark.parametrize("field", ["side", "order_type", "time_in_force", "flags", "self_trade"])
@pytest.mark.parametrize("value", [-1, 256, 1.0, None])
def test_codes_that_fit_no_byte_are_refused(field: str, value: Any) -> None:
    fields: dict[str, Any] = {"side": 1, "quantity": 5, "price": 100, field: value}
    with pytest.raises(InvalidValueError):
        MatchingEngine().submit(**fields)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="base_price"):
        MatchingEngine(base_price=2**60)
    with pytest.raises(InvalidValueError, match="reference_price"):
        MatchingEngine(reference_price=262_144)
    with pytest.raises(InvalidValueError, match="account"):
        MatchingEngine().position(4096)
    with pytest.raises(InvalidValueError, match="levels"):
        MatchingEngine().depth(Side.BUY, -1)


def test_layouts_of_commands_are_all_read_without_compiling() -> None:
    warm()
    compiled = len(kernels.run_batch.signatures)
    engine = MatchingEngine()
    rows = orders(8)
    read_only = np.frombuffer(rows.tobytes(), COMMAND)
    strided = np.repeat(rows, 2)[::2]
    unaligned = np.frombuffer(b"x" + rows.tobytes(), COMMAND, offset=1)
    for commands in (rows, read_only, strided, unaligned):
        assert len(engine.process(commands).events) == 8
    assert len(kernels.run_batch.signatures) == compiled == 1
    assert len(kernels.run_one.signatures) == 1


def test_a_full_pool_rejects_and_goes_on() -> None:
    engine = MatchingEngine()
    events = engine.process(orders(CAPACITY + 3)).events.copy()
    assert (events["kind"][: CAPACITY - 1] == 1).all()
    assert events["reason"][CAPACITY - 1 :].tolist() == [15] * 4
    assert engine.order_count == CAPACITY - 1
    engine.check()
    assert len(engine.cancel(int(events["order_id"][5]))) == 1
    assert engine.submit(Side.BUY, 1, 100)["kind"].tolist() == [1]
    assert engine.submit(Side.BUY, 1, 100)["reason"].tolist() == [15]
    # One order sweeps the whole pool away.
    engine.cancel(int(events["order_id"][6]))
    swept = engine.submit(Side.SELL, CAPACITY, 100)
    assert len(swept) == 1 + 2 * (CAPACITY - 2)
    assert engine.order_count == 1
    engine.check()


def test_the_largest_burst_of_events_fits_the_outbox() -> None:
    engine = MatchingEngine()
    icebergs = orders(MAX_ICEBERGS + 1, order_type=OrderType.ICEBERG, quantity=100, display_quantity=1)
    assert engine.process(icebergs).events["reason"].tolist() == [0] * MAX_ICEBERGS + [15]
    stops = orders(8000, side=Side.SELL, order_type=OrderType.STOP_MARKET, stop_price=100)
    engine.process(stops)
    events = engine.submit(Side.SELL, 100 * MAX_ICEBERGS - 8000, 100)
    assert len(events) == 1 + 2 * 100 * MAX_ICEBERGS + 8000
    assert engine.order_count == 0
    engine.check()


def test_a_batch_larger_than_the_outbox() -> None:
    unknown = np.zeros(600_000, COMMAND)
    unknown["kind"] = CommandKind.CANCEL
    unknown["client_tag"] = np.arange(len(unknown))
    batch = MatchingEngine().process(unknown)
    assert (batch.events["client_tag"] == unknown["client_tag"]).all()
    assert (batch.ends == np.arange(1, len(unknown) + 1)).all()


def test_a_restored_engine_goes_on_as_if_nothing_had_happened() -> None:
    commands, _ = recorded(3, 400)
    straight = MatchingEngine()
    straight.process(commands[:200])
    snapshot = straight.snapshot()
    restored = MatchingEngine.restore(snapshot)
    first, second = straight.process(commands[200:]), restored.process(commands[200:])
    assert (first.events == second.events).all()
    assert (straight.snapshot() == restored.snapshot()).all()
    assert (MatchingEngine.restore(snapshot).snapshot() == snapshot).all()


def test_a_snapshot_is_a_copy() -> None:
    engine = MatchingEngine()
    snapshot = engine.snapshot()
    engine.submit(Side.BUY, 1, 100)
    assert MatchingEngine.restore(snapshot).order_count == 0


@pytest.mark.parametrize(
    "snapshot", [np.zeros(STATE_BYTES, np.uint8), np.zeros(STATE_BYTES - 8, np.uint8), np.zeros(STATE_BYTES, np.int8)]
)
def test_what_is_no_snapshot_is_refused(snapshot: Any) -> None:
    with pytest.raises(InvalidArrayError, match="snapshot"):
        MatchingEngine.restore(snapshot)


def test_damaged_snapshots_are_refused_or_harmless() -> None:
    """Whatever bytes are damaged, the engine either refuses them or still obeys its rules."""
    commands, _ = recorded(11, 300)
    engine = MatchingEngine()
    engine.process(commands)
    good = engine.snapshot()
    used = np.flatnonzero(good)
    generator = np.random.Generator(np.random.SFC64(5))
    refused = 0
    for _ in range(120):
        damaged = good.copy()
        damaged[generator.choice(used, 3)] ^= generator.integers(1, 256, 3).astype(np.uint8)
        try:
            survivor = MatchingEngine.restore(damaged)
        except InvalidArrayError:
            refused += 1
        else:
            survivor.process(commands[:50])
            survivor.check()
    assert refused > 30
