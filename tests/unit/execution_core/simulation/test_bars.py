"""Bar matching by hand: bar open 100, high 110, low 90, close 105, volume 1000; half spread 1 tick."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.simulation.bar_kernels import root_participation_ppm, share_up
from execution_core.simulation.bars import UNCAPPED, fill_models, match_bars
from execution_core.types import (
    BAR,
    FILL_MODEL,
    NO_PRICE,
    RESTING_ORDER,
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

BUY, SELL = Side.BUY, Side.SELL
FILL, TRIGGERED = VenueEventKind.FILL, VenueEventKind.TRIGGERED
CANCELED, EXPIRED, REDUCED = VenueEventKind.CANCELED, VenueEventKind.EXPIRED, VenueEventKind.REDUCED
MAKER, TAKER, AUCTION = LiquidityFlag.MAKER, LiquidityFlag.TAKER, LiquidityFlag.AUCTION
RESTED = OrderFlag.RESTED


def bar(*, opened: int = 100, high: int = 110, low: int = 90, close: int = 105, volume: int = 1000) -> Any:
    return np.array([(10, opened, high, low, close, volume)], BAR)


def order(kind: OrderType, side: Side = BUY, /, **fields: int) -> Any:
    row = np.zeros(1, RESTING_ORDER)
    row["type"], row["side"], row["tif"] = kind, side, TimeInForce.DAY
    row["leaves"], row["state"] = 50, OrderState.ACCEPTED
    for name, value in fields.items():
        row[name] = value
    return row


def book(*rows: Any) -> Any:
    orders = np.concatenate(rows)
    orders["arrival_seq"] = np.arange(len(orders))
    return orders


def story(orders: Any, the_bar: Any = None, *, start: bool = True, end: bool = True, **model: int) -> Any:
    models = fill_models(1, **({"half_spread_ticks": 1} | model))
    the_bar = bar() if the_bar is None else the_bar
    events = match_bars(orders, the_bar, models, session_start=start, session_end=end)
    return [(e["kind"], e["leg"], e["price"], e["lots"], e["liquidity"]) for e in events]


@pytest.mark.parametrize(
    ("orders", "expected"),
    [
        # Market: open plus half the spread, against the trader on both sides.
        (order(OrderType.MARKET), [(FILL, 0, 101, 50, TAKER)]),
        (order(OrderType.MARKET, SELL), [(FILL, 0, 99, 50, TAKER)]),
        # Limit: takes at the open if it crosses, rests and fills at its limit otherwise.
        (order(OrderType.LIMIT, price=102), [(FILL, 0, 101, 50, TAKER)]),
        (order(OrderType.LIMIT, price=101), [(FILL, 0, 101, 50, TAKER)]),
        (order(OrderType.LIMIT, price=100), [(FILL, 2, 100, 50, MAKER)]),
        (order(OrderType.LIMIT, price=95), [(FILL, 2, 95, 50, MAKER)]),
        (order(OrderType.LIMIT, price=90), [(FILL, 2, 90, 50, MAKER)]),
        (order(OrderType.LIMIT, price=89), [(EXPIRED, 3, 0, 50, 0)]),
        (order(OrderType.LIMIT, SELL, price=110), [(FILL, 2, 110, 50, MAKER)]),
        (order(OrderType.LIMIT, SELL, price=111), [(EXPIRED, 3, 0, 50, 0)]),
        (order(OrderType.ICEBERG, price=95, display=5), [(FILL, 2, 95, 50, MAKER)]),
        # It rested before this bar, and the bar opened through it: the open, without slippage.
        (order(OrderType.LIMIT, price=103, flags=RESTED), [(FILL, 0, 100, 50, MAKER)]),
        # Stops: at the trigger, or at the open where the bar gapped through.
        (order(OrderType.STOP_MARKET, trigger=107), [(TRIGGERED, 1, 107, 0, 0), (FILL, 1, 108, 50, TAKER)]),
        (order(OrderType.STOP_MARKET, trigger=98), [(TRIGGERED, 0, 100, 0, 0), (FILL, 0, 101, 50, TAKER)]),
        (order(OrderType.STOP_MARKET, SELL, trigger=95), [(TRIGGERED, 1, 95, 0, 0), (FILL, 1, 94, 50, TAKER)]),
        (order(OrderType.STOP_MARKET, SELL, trigger=89), [(EXPIRED, 3, 0, 50, 0)]),
        # Slippage beyond the bar's low: allowed within the bound.
        (order(OrderType.STOP_MARKET, SELL, trigger=90), [(TRIGGERED, 1, 90, 0, 0), (FILL, 1, 89, 50, TAKER)]),
        # Stop limit: crosses when triggered, or rests for the favourable leg.
        (
            order(OrderType.STOP_LIMIT, trigger=107, price=109),
            [(TRIGGERED, 1, 107, 0, 0), (FILL, 1, 108, 50, TAKER)],
        ),
        (
            order(OrderType.STOP_LIMIT, trigger=107, price=104),
            [(TRIGGERED, 1, 107, 0, 0), (FILL, 2, 104, 50, MAKER)],
        ),
        (
            order(OrderType.STOP_LIMIT, SELL, trigger=92, price=95),
            [(TRIGGERED, 1, 92, 0, 0), (FILL, 2, 95, 50, MAKER)],
        ),
        # If touched: on the favourable leg.
        (order(OrderType.MARKET_IF_TOUCHED, trigger=92), [(TRIGGERED, 2, 92, 0, 0), (FILL, 2, 93, 50, TAKER)]),
        (
            order(OrderType.LIMIT_IF_TOUCHED, SELL, trigger=106, price=108),
            [(TRIGGERED, 2, 106, 0, 0), (FILL, 2, 108, 50, MAKER)],
        ),
        # Trailing: tested against its old level before the high may raise it to 110 - 5.
        (
            order(OrderType.TRAILING_STOP_MARKET, SELL, trigger=99, trail=5),
            [(TRIGGERED, 1, 99, 0, 0), (FILL, 1, 98, 50, TAKER)],
        ),
        # The open raises it to 100 - 4; the low then hits it.
        (
            order(OrderType.TRAILING_STOP_MARKET, SELL, trigger=80, trail=4),
            [(TRIGGERED, 1, 96, 0, 0), (FILL, 1, 95, 50, TAKER)],
        ),
        # Armed at the open at 112, pulled to 90 + 12 by the low, hit on the way to the close.
        (
            order(OrderType.TRAILING_STOP_MARKET, BUY, trigger=NO_PRICE, trail=12),
            [(TRIGGERED, 3, 102, 0, 0), (FILL, 3, 103, 50, TAKER)],
        ),
        (
            order(OrderType.TRAILING_STOP_LIMIT, BUY, trigger=NO_PRICE, trail=12, limit_offset=0),
            [(TRIGGERED, 3, 102, 0, 0), (EXPIRED, 3, 0, 50, 0)],
        ),
        # Auctions.
        (order(OrderType.MARKET, tif=TimeInForce.AT_OPEN), [(FILL, 0, 101, 50, AUCTION)]),
        (order(OrderType.MARKET, tif=TimeInForce.AT_CLOSE), [(FILL, 3, 106, 50, AUCTION)]),
        (order(OrderType.LIMIT, price=99, tif=TimeInForce.AT_OPEN), [(EXPIRED, 0, 0, 50, 0)]),
        (order(OrderType.LIMIT, price=105, tif=TimeInForce.AT_CLOSE), [(FILL, 3, 105, 50, AUCTION)]),
        # Immediate orders, when the cap leaves 100 lots.
        (
            order(OrderType.MARKET, leaves=130, tif=TimeInForce.IOC),
            [(FILL, 0, 101, 100, TAKER), (CANCELED, 0, 0, 30, 0)],
        ),
        (order(OrderType.MARKET, leaves=130, tif=TimeInForce.FOK), [(CANCELED, 0, 0, 130, 0)]),
        (order(OrderType.MARKET, leaves=100, tif=TimeInForce.FOK), [(FILL, 0, 101, 100, TAKER)]),
        (order(OrderType.LIMIT, price=95, tif=TimeInForce.IOC), [(CANCELED, 0, 0, 50, 0)]),
        (order(OrderType.MARKET, leaves=130), [(FILL, 0, 101, 100, TAKER), (EXPIRED, 3, 0, 30, 0)]),
        (order(OrderType.MARKET, leaves=130, tif=TimeInForce.GTC), [(FILL, 0, 101, 100, TAKER)]),
        # Post-only.
        (order(OrderType.LIMIT, price=101, flags=OrderFlag.POST_ONLY), [(CANCELED, 0, 0, 50, 0)]),
        (order(OrderType.LIMIT, price=100, flags=OrderFlag.POST_ONLY), [(FILL, 2, 100, 50, MAKER)]),
        # Good till date: the bar closes at 10.
        (order(OrderType.MARKET, tif=TimeInForce.GTD, expire_ts_ns=9), [(EXPIRED, 0, 0, 50, 0)]),
        (order(OrderType.LIMIT, price=80, tif=TimeInForce.GTD, expire_ts_ns=10), [(EXPIRED, 3, 0, 50, 0)]),
        (order(OrderType.LIMIT, price=80, tif=TimeInForce.GTD, expire_ts_ns=11), []),
    ],
)  # fmt: skip
def test_one_order_one_bar(orders: Any, expected: Any) -> None:
    assert story(orders) == expected


def test_trade_through_is_asked_for_where_a_touch_is_not_enough() -> None:
    assert story(order(OrderType.LIMIT, price=90), through_ticks=1) == [(EXPIRED, 3, 0, 50, 0)]
    assert story(order(OrderType.LIMIT, price=91), through_ticks=1) == [(FILL, 2, 91, 50, MAKER)]


def test_volume_cap_is_shared_in_arrival_order_and_the_rest_waits() -> None:
    waits = order(OrderType.MARKET, leaves=70, tif=TimeInForce.GTC)
    orders = book(waits, waits)
    assert story(orders) == [(FILL, 0, 101, 70, TAKER), (FILL, 0, 101, 30, TAKER)]
    assert orders["leaves"].tolist() == [0, 40]
    assert story(orders) == [(FILL, 0, 101, 40, TAKER)]
    assert orders["state"].tolist() == [OrderState.FILLED, OrderState.FILLED]


def test_square_root_impact_by_hand() -> None:
    # 100 of 1000 lots at 10 %: sqrt(0.1) = 316228 ppm up; 31623 ppm of 10_000 ticks = 316.23 -> 317; half spread 1.
    scaled = bar(opened=10_000, high=11_000, low=9_000, close=10_000)
    assert story(order(OrderType.MARKET, leaves=100), scaled, impact_ppm=100_000) == [(FILL, 0, 10_318, 100, TAKER)]
    # Cut in two, the second half pays for the first: sqrt(0.05) = 223607 ppm -> 22361 ppm -> 223.61 -> 224.
    halves = book(order(OrderType.MARKET), order(OrderType.MARKET))
    fills = story(halves, scaled, impact_ppm=100_000)
    assert fills == [(FILL, 0, 10_225, 50, TAKER), (FILL, 0, 10_318, 50, TAKER)]


def test_slippage_beyond_the_bar_stops_at_the_bound() -> None:
    for side, bound_ppm, price in ((BUY, 0, 110), (BUY, 50_000, 116), (SELL, 50_000, 85)):
        fills = story(order(OrderType.MARKET, side), half_spread_ticks=30, slippage_bound_ppm=bound_ppm)
        assert fills == [(FILL, 0, price, 50, TAKER)]


def test_market_order_never_gets_a_better_price_than_the_open() -> None:
    assert story(order(OrderType.MARKET), half_spread_ticks=0) == [(FILL, 0, 100, 50, TAKER)]


def test_bracket_takes_the_stop_before_the_target() -> None:
    links = {"group": 7, "contingency": Contingency.ONE_CANCELS_OTHER}
    target = order(OrderType.LIMIT, SELL, price=108, **links)
    stop = order(OrderType.STOP_MARKET, SELL, trigger=92, **links)
    orders = book(target, stop)
    assert story(orders) == [(TRIGGERED, 1, 92, 0, 0), (FILL, 1, 91, 50, TAKER), (CANCELED, 1, 0, 50, 0)]
    assert orders["state"].tolist() == [OrderState.CANCELED, OrderState.FILLED]


def test_one_updates_other_shrinks_and_cancels_at_zero() -> None:
    links = {"group": 7, "contingency": Contingency.ONE_UPDATES_OTHER, "tif": TimeInForce.GTC}
    target = order(OrderType.LIMIT, SELL, price=108, leaves=150, **links)
    stop = order(OrderType.STOP_MARKET, SELL, trigger=80, leaves=150, **links)
    orders = book(target, stop)
    assert story(orders) == [(FILL, 2, 108, 100, MAKER), (REDUCED, 2, 0, 100, 0)]
    assert orders["leaves"].tolist() == [50, 50]
    events = match_bars(orders, bar(opened=109), fill_models(1))
    assert [(e["kind"], e["lots"], e["reason"]) for e in events] == [
        (FILL, 50, CancelReason.NONE),
        (CANCELED, 50, CancelReason.CONTINGENT_ORDER_FILLED),
    ]


def test_sessions_of_intraday_bars() -> None:
    orders = book(
        order(OrderType.LIMIT, price=80),
        order(OrderType.MARKET, tif=TimeInForce.AT_OPEN),
        order(OrderType.MARKET, tif=TimeInForce.AT_CLOSE),
    )
    assert story(orders, start=False, end=False) == []
    assert story(orders, start=False, end=True) == [(FILL, 3, 106, 50, AUCTION), (EXPIRED, 3, 0, 50, 0)]
    assert orders["leaves"].tolist() == [0, 50, 0]
    assert story(orders, start=True, end=False) == [(FILL, 0, 101, 50, AUCTION)]


def test_an_instrument_without_a_bar_is_left_alone() -> None:
    missing = bar()
    missing["ts_event_ns"] = 0
    orders = order(OrderType.MARKET)
    before = orders.tobytes()
    assert story(orders, missing) == []
    assert orders.tobytes() == before


def test_uncapped_model_fills_bars_without_volume() -> None:
    orders = order(OrderType.MARKET)
    assert story(orders, bar(volume=0)) == [(EXPIRED, 3, 0, 50, 0)]
    assert story(order(OrderType.MARKET), bar(volume=0), participation_cap_ppm=UNCAPPED) == [(FILL, 0, 101, 50, TAKER)]


@pytest.mark.parametrize("volume", [1, 7, 999_983, 2**29, 2**31 + 11, 2**42])
@pytest.mark.parametrize("share", [0.0, 1e-6, 0.013, 0.5, 1.0])
def test_root_of_participation_is_at_least_the_exact_one_and_close(volume: int, share: float) -> None:
    lots = int(volume * share)
    exact = math.sqrt(lots / volume) * 1e6
    assert exact - 1e-6 <= root_participation_ppm(lots, volume) <= exact + 40


def test_share_up_is_exact_where_the_product_overflows() -> None:
    for amount in (0, 1, 999_999, 2**52 + 12_345, -(2**52)):
        for rate in (0, 1, 333_333, 1_000_000):
            assert share_up(amount, rate) == -(-abs(amount) * rate // 1_000_000)


@pytest.mark.parametrize(
    ("field", "value"),
    [("type", 0), ("type", 10), ("side", 3), ("tif", 8), ("instrument", 1), ("instrument", -1), ("leaves", -1),
     ("price", 2**53), ("trigger", NO_PRICE), ("group", 3)],
)  # fmt: skip
def test_bad_orders_are_refused_before_anything_changes(field: str, value: int) -> None:
    orders = book(order(OrderType.MARKET), order(OrderType.LIMIT, price=95))
    orders[field][1] = value
    before = orders.tobytes()
    with pytest.raises(InvalidValueError):
        match_bars(orders, bar(), fill_models(1))
    assert orders.tobytes() == before


def test_bad_bars_models_and_arrays_are_refused() -> None:
    orders, models = order(OrderType.MARKET), fill_models(1)
    with pytest.raises(InvalidValueError, match="open or close"):
        match_bars(orders, bar(opened=111), models)
    with pytest.raises(InvalidValueError, match="volume"):
        match_bars(orders, bar(volume=-1), models)
    with pytest.raises(InvalidValueError, match="tif"):
        match_bars(order(OrderType.STOP_MARKET, tif=TimeInForce.AT_OPEN), bar(), models)
    with pytest.raises(InvalidValueError, match="trail"):
        match_bars(order(OrderType.TRAILING_STOP_MARKET), bar(), models)
    with pytest.raises(InvalidValueError, match="impact_ppm"):
        fill_models(1, impact_ppm=-1)
    with pytest.raises(InvalidValueError, match="no such field"):
        fill_models(1, impact=1)
    with pytest.raises(InvalidArrayError, match="models"):
        match_bars(orders, bar(), np.zeros(2, FILL_MODEL))
    with pytest.raises(InvalidArrayError, match="orders"):
        match_bars(np.zeros(3, BAR), bar(), models)
    with pytest.raises(InvalidArrayError, match="contiguous"):
        match_bars(np.zeros(4, RESTING_ORDER)[::2], bar(), models)
