"""Bars against the tick-by-tick twin, and what holds for every order book and every bar."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from execution_core.simulation.bars import UNCAPPED, match_bars
from execution_core.types import (
    BAR,
    FILL_MODEL,
    NO_PRICE,
    RESTING_ORDER,
    LiquidityFlag,
    OrderState,
    OrderType,
    Side,
    TimeInForce,
    VenueEventKind,
)
from tests.unit.execution_core.simulation.reference_bars import as_rows, match_bars_slowly

EXAMPLES = int(os.environ.get("ALPHAMESH_PROPERTY_EXAMPLES", "200"))
PRICES = st.integers(40, 60)


@st.composite
def bars(draw: st.DrawFn, count: int) -> Any:
    rows = np.zeros(count, BAR)
    for k in range(count):
        prices = sorted(draw(st.tuples(PRICES, PRICES, PRICES, PRICES)))
        opened, closed = draw(st.permutations(prices[1:3]))
        ts = draw(st.sampled_from([0, 10, 10, 10]))
        rows[k] = (ts, opened, prices[3], prices[0], closed, draw(st.integers(0, 60)))
    return rows


@st.composite
def models(draw: st.DrawFn, count: int) -> Any:
    rows = np.zeros(count, FILL_MODEL)
    for k in range(count):
        rows[k] = (
            draw(st.integers(0, 2)),
            draw(st.sampled_from([0, 30_000])),
            draw(st.sampled_from([0, 100_000])),
            draw(st.sampled_from([UNCAPPED, 0, 100_000, 500_000, 1_000_000])),
            draw(st.integers(0, 1)),
            draw(st.sampled_from([0, 20_000, 1_000_000])),
        )
    return rows


@st.composite
def orders(draw: st.DrawFn, instruments: int) -> Any:
    size = draw(st.integers(1, 6))
    rows = np.zeros(size, RESTING_ORDER)
    sequence = draw(st.permutations(range(size)))
    for k, row in enumerate(rows):
        kind = draw(st.sampled_from(OrderType))
        trailing = kind in (OrderType.TRAILING_STOP_MARKET, OrderType.TRAILING_STOP_LIMIT)
        conditional = OrderType.STOP_MARKET <= kind <= OrderType.TRAILING_STOP_LIMIT
        tifs = [t for t in TimeInForce if not (conditional and t >= TimeInForce.AT_OPEN)]
        row["order_id"] = 100 + k
        row["arrival_seq"] = sequence[k]
        row["expire_ts_ns"] = draw(st.integers(9, 11))
        row["price"] = draw(PRICES)
        row["trigger"] = draw(st.sampled_from([NO_PRICE])) if trailing and draw(st.booleans()) else draw(PRICES)
        row["trail"] = draw(st.integers(1, 8))
        row["limit_offset"] = draw(st.integers(-2, 3))
        row["leaves"] = draw(st.integers(0, 12))
        row["instrument"] = draw(st.integers(0, instruments - 1))
        row["type"] = kind
        row["side"] = draw(st.sampled_from(Side))
        row["tif"] = draw(st.sampled_from(tifs))
        row["flags"] = draw(st.sampled_from([0, 1, 4, 5]))
        row["state"] = OrderState.ACCEPTED
        if draw(st.booleans()):
            row["group"] = draw(st.integers(1, 2))
            row["contingency"] = row["group"]
    return rows


@st.composite
def scenes(draw: st.DrawFn) -> Any:
    count = draw(st.integers(1, 2))
    return draw(orders(count)), [draw(bars(count)) for _ in range(2)], draw(models(count))


@settings(max_examples=EXAMPLES, deadline=None)
@given(scenes(), st.booleans(), st.booleans())
def test_equals_the_tick_by_tick_twin_over_two_bars(scene: Any, start: bool, end: bool) -> None:
    book, path, model = scene
    for bar in path:
        expected_events, expected_book = match_bars_slowly(book, bar, model, session_start=start, session_end=end)
        events = match_bars(book, bar, model, session_start=start, session_end=end)
        assert as_rows(events) == expected_events
        assert as_rows(book) == expected_book


@settings(max_examples=EXAMPLES, deadline=None)
@given(scenes(), st.booleans())
def test_lots_are_conserved_and_the_cap_holds(scene: Any, end: bool) -> None:
    book, path, model = scene
    for bar in path:
        before = book["leaves"].copy()
        events = match_bars(book, bar, model, session_end=end)
        moved = events["kind"] != VenueEventKind.TRIGGERED
        gone = np.bincount(events["row"][moved], events["lots"][moved], len(book)).astype(np.int64)
        np.testing.assert_array_equal(before - gone, book["leaves"])
        fills = events[events["kind"] == VenueEventKind.FILL]
        for i in range(len(bar)):
            cap = model["participation_cap_ppm"][i]
            if cap != UNCAPPED:
                filled = fills["lots"][fills["instrument"] == i].sum()
                assert filled * 1_000_000 <= cap * bar["volume"][i]
        closed = book["state"] >= OrderState.FILLED
        assert (book["leaves"][closed] == 0).all()


@settings(max_examples=EXAMPLES, deadline=None)
@given(scenes())
def test_no_fill_is_better_than_the_bar_or_worse_than_limit_and_bound(scene: Any) -> None:
    book, path, model = scene
    for bar in path:
        events = match_bars(book, bar, model)
        for fill in events[events["kind"] == VenueEventKind.FILL]:
            i, order = fill["instrument"], book[fill["row"]]
            low, high = int(bar["low"][i]), int(bar["high"][i])
            bound = int(model["slippage_bound_ppm"][i])
            buys = fill["side"] == Side.BUY
            if buys:
                assert low <= fill["price"] <= high + -(-high * bound // 1_000_000)
            else:
                assert low - -(-low * bound // 1_000_000) <= max(fill["price"], 0)
                assert fill["price"] <= high
            if order["type"] in (OrderType.LIMIT, OrderType.ICEBERG):
                assert fill["price"] <= order["price"] if buys else fill["price"] >= order["price"]
            if fill["liquidity"] == LiquidityFlag.MAKER:
                assert low <= fill["price"] <= high


@settings(max_examples=EXAMPLES, deadline=None)
@given(scenes())
def test_same_input_gives_the_same_bytes_whatever_the_rows_order(scene: Any) -> None:
    book, path, model = scene
    again, shuffled = book.copy(), book[::-1].copy()
    grouped = (book["group"] != 0).any()
    for bar in path:
        first = match_bars(book, bar, model)
        assert match_bars(again, bar, model).tobytes() == first.tobytes()
        if not grouped:  # a fill tells its siblings in row order
            other = match_bars(shuffled, bar, model)
            names = [name for name in first.dtype.names or () if name != "row"]
            assert other[names].tolist() == first[names].tolist()
