"""The book simulation by hand. Ticks around 100, times in nanoseconds from 1000."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from execution_core.errors import CapacityError, InvalidArrayError, InvalidValueError
from execution_core.simulation.l2 import (
    L2Model,
    QueueModel,
    Venue,
    advance,
    best_ask,
    best_bid,
    cancel,
    constant_latency,
    fills,
    known_lots,
    open_venue,
    position,
    prepare,
    submit,
)
from execution_core.simulation.l2_queue import behind_probability
from execution_core.simulation.l2_state import latency_at
from execution_core.types import (
    FEED_EVENT,
    NO_PRICE,
    ORDER_LATENCY,
    FeedKind,
    LiquidityFlag,
    OrderState,
    OrderType,
    Side,
    TimeInForce,
)

BUY, SELL = Side.BUY, Side.SELL
DEPTH, TRADE, QUOTE, CLEAR = FeedKind.DEPTH, FeedKind.TRADE, FeedKind.QUOTE, FeedKind.CLEAR
LIMIT, MARKET, GTC = OrderType.LIMIT, OrderType.MARKET, TimeInForce.GTC
NOW = constant_latency(0, 0)

# Bid 99 x 10, 98 x 20; ask 101 x 10, 102 x 20, all from the start.
BOOK = [
    (1000, 99, 10, DEPTH, BUY),
    (1000, 98, 20, DEPTH, BUY),
    (1000, 101, 10, DEPTH, SELL),
    (1000, 102, 20, DEPTH, SELL),
]


def recording(*rows: tuple[int, int, int, int, int], delay: int = 0) -> Any:
    events = [(ts, ts + delay, *rest) for ts, *rest in [*BOOK, *rows]]
    return np.array(events, FEED_EVENT)


def venue_of(
    *rows: tuple[int, int, int, int, int], model: L2Model | None = None, latency: Any = NOW, delay: int = 0
) -> Venue:
    tape = prepare(recording(*rows, delay=delay), window=(90, 110))
    return open_venue(tape, model or L2Model(), latency)


def limit(venue: Venue, side: Side, price: int, lots: int, tif: TimeInForce = GTC, post_only: bool = False) -> int:
    return int(submit(venue, side, LIMIT, tif, price, lots, post_only))


def story(venue: Venue) -> list[tuple[int, ...]]:
    return [(f["ts_event_ns"], f["order_id"], f["price"], f["lots"], f["leaves"]) for f in fills(venue)]


def test_the_trader_sees_the_feed_after_its_delay() -> None:
    venue = venue_of((2000, 100, 5, DEPTH, BUY), delay=300)
    advance(venue, 1299)
    assert (best_bid(venue), best_ask(venue)) == (NO_PRICE, NO_PRICE)
    advance(venue, 2299)
    assert (best_bid(venue), best_ask(venue), known_lots(venue, BUY, 100)) == (99, 101, 0)
    assert not advance(venue, 2300)
    assert (best_bid(venue), known_lots(venue, BUY, 100)) == (100, 5)


def test_orders_and_answers_take_their_time() -> None:
    venue = venue_of((1450, 99, 11, TRADE, SELL), (1500, 99, 11, TRADE, SELL), latency=constant_latency(500, 70))
    advance(venue, 1000)
    order = limit(venue, BUY, 99, 1)
    advance(venue, 1499)
    assert venue.orders["state"][order] == OrderState.SUBMITTED
    advance(venue, 1500)  # data before orders at one time: it stands behind the 10 of both trades' level
    assert venue.orders["state"][order] == OrderState.ACCEPTED
    assert venue.orders["known_state"][order] == OrderState.SUBMITTED
    advance(venue, 1570)
    assert venue.orders["known_state"][order] == OrderState.ACCEPTED
    assert story(venue) == []


def test_position_is_known_when_the_answer_arrives() -> None:
    venue = venue_of((1200, 98, 1, TRADE, SELL), latency=constant_latency(0, 100))
    advance(venue, 1000)
    limit(venue, BUY, 99, 1)
    advance(venue, 1299)
    assert (story(venue), position(venue)) == ([(1200, 0, 99, 1, 0)], 0)
    advance(venue, 1300)
    assert position(venue) == 1
    assert fills(venue)["ts_init_ns"].tolist() == [1300]


def test_latency_is_interpolated() -> None:
    measured = np.array([(100, 10, 7), (200, 30, 3), (300, 30, 3)], ORDER_LATENCY)
    assert [latency_at(measured, ts, False) for ts in (0, 100, 125, 199, 250, 900)] == [10, 10, 15, 29, 30, 30]
    assert [latency_at(measured, ts, True) for ts in (0, 150, 199, 900)] == [7, 5, 3, 3]


def test_messages_never_overtake() -> None:
    falling = np.array([(1000, 100, 0), (1010, 5, 0)], ORDER_LATENCY)
    venue = venue_of(latency=falling)
    advance(venue, 1000)
    first = limit(venue, BUY, 99, 1)
    advance(venue, 1010)
    second = limit(venue, BUY, 99, 1)
    advance(venue, 1099)
    assert venue.orders["state"][[first, second]].tolist() == [OrderState.SUBMITTED] * 2
    advance(venue, 1100)
    assert venue.orders["state"][[first, second]].tolist() == [OrderState.ACCEPTED] * 2


def test_risk_averse_queue_by_hand() -> None:
    # 10 ahead; 4 trade: 6; the level falls to 5 by cancellations: 5 at most; 5 trade: front; 2 trade: ours.
    venue = venue_of(
        (1100, 99, 4, TRADE, SELL), (1200, 99, 5, DEPTH, BUY), (1300, 99, 5, TRADE, SELL), (1400, 99, 2, TRADE, SELL)
    )
    advance(venue, 1000)
    limit(venue, BUY, 99, 3)
    advance(venue, 1300)
    assert venue.orders["front"][0] == 0.0
    advance(venue, 1400)
    assert story(venue) == [(1400, 0, 99, 2, 1)]


def test_power_queue_by_hand() -> None:
    # 10 ahead, then 6 join behind: 16. 4 go without a trade; behind us with f(6) / (f(6) + f(10)), f = x**2:
    # 36 / 136. So 4 x 100/136 = 2.941 of them stood in front.
    venue = venue_of(
        (1100, 99, 16, DEPTH, BUY), (1200, 99, 12, DEPTH, BUY), model=L2Model(queue=QueueModel.POWER, power=2.0)
    )
    advance(venue, 1000)
    limit(venue, BUY, 99, 3)
    advance(venue, 1200)
    assert venue.orders["front"][0] == pytest.approx(10 - 4 * 100 / 136)


def test_trades_are_not_counted_again_in_the_level() -> None:
    # 4 trade (6 ahead); the level then shows those 4 gone and nothing else.
    venue = venue_of(
        (1100, 99, 4, TRADE, SELL), (1200, 99, 6, DEPTH, BUY), model=L2Model(queue=QueueModel.POWER, power=2.0)
    )
    advance(venue, 1000)
    limit(venue, BUY, 99, 3)
    advance(venue, 1200)
    assert venue.orders["front"][0] == 6.0


@pytest.mark.parametrize(
    ("queue", "expected"),
    [
        (QueueModel.POWER, 6**2 / (6**2 + 10**2)),
        (QueueModel.POWER_OF_TOTAL, 6**2 / 16**2),
        (QueueModel.POWER_OF_SHARE, 1 - (10 / 16) ** 2),
        (QueueModel.LOG, np.log1p(6) / (np.log1p(6) + np.log1p(10))),
        (QueueModel.LOG_OF_TOTAL, np.log1p(6) / np.log1p(16)),
    ],
)
def test_probabilities_as_published(queue: QueueModel, expected: float) -> None:
    venue = venue_of(model=L2Model(queue=queue, power=2.0))
    assert behind_probability(venue, 10.0, 6.0) == pytest.approx(expected)


def test_a_clear_does_not_move_the_queue_but_a_quote_does() -> None:
    again = (1100, 98, 0, CLEAR, BUY), (1100, 99, 10, DEPTH, BUY)
    for rows, front in ((again, 10.0), (((1100, 98, 20, QUOTE, BUY),), 0.0)):
        venue = venue_of(*rows)
        advance(venue, 1000)
        limit(venue, BUY, 99, 3)
        advance(venue, 1100)
        assert venue.orders["front"][0] == front


def test_own_orders_share_a_trade_in_price_time_order() -> None:
    venue = venue_of((1100, 99, 25, TRADE, SELL))
    advance(venue, 1000)
    behind, ahead, later = limit(venue, BUY, 99, 8), limit(venue, BUY, 100, 6), limit(venue, BUY, 99, 8)
    advance(venue, 1100)
    # 6 at the better price. Of 25 at 99, 10 went to those ahead and 6 are spent: 9 are left for our two.
    assert story(venue) == [(1100, ahead, 100, 6, 0), (1100, behind, 99, 8, 0), (1100, later, 99, 1, 7)]


def test_a_trade_through_the_price_fills_no_more_than_was_traded() -> None:
    venue = venue_of((1100, 98, 5, TRADE, SELL))
    advance(venue, 1000)
    limit(venue, BUY, 99, 8)
    advance(venue, 1100)
    assert story(venue) == [(1100, 0, 99, 5, 3)]


def test_without_partial_fills_an_order_fills_at_once() -> None:
    venue = venue_of((1100, 98, 5, TRADE, SELL), model=L2Model(partial_fills=False))
    advance(venue, 1000)
    limit(venue, BUY, 99, 8)
    limit(venue, SELL, 99, 500, TimeInForce.IOC)
    advance(venue, 1100)
    assert story(venue) == [(1000, 1, 99, 500, 0), (1100, 0, 99, 8, 0)]


def test_a_taker_walks_the_book_and_takes_each_lot_once() -> None:
    venue = venue_of((1100, 101, 12, DEPTH, SELL), (1200, 101, 0, DEPTH, SELL), (1300, 101, 9, DEPTH, SELL))
    advance(venue, 1000)
    first = limit(venue, BUY, 102, 15)
    advance(venue, 1000)
    assert story(venue) == [(1000, first, 101, 10, 5), (1000, first, 102, 5, 0)]
    assert fills(venue)["liquidity"].tolist() == [LiquidityFlag.TAKER] * 2
    # Two lots joined at 101 since; the ten we took do not come back until the level has been empty.
    advance(venue, 1100)
    second = limit(venue, BUY, 101, 15, TimeInForce.IOC)
    advance(venue, 1200)
    assert story(venue)[2:] == [(1100, second, 101, 2, 13)]
    assert venue.orders["state"][second] == OrderState.CANCELED
    advance(venue, 1300)
    third = limit(venue, BUY, 101, 15, TimeInForce.IOC)
    advance(venue, 1300)
    assert story(venue)[3:] == [(1300, third, 101, 9, 6)]


def test_a_resting_order_trades_with_the_other_side_that_comes_to_it() -> None:
    venue = venue_of((1100, 100, 4, DEPTH, SELL), (1200, 99, 7, DEPTH, SELL))
    advance(venue, 1000)
    limit(venue, BUY, 100, 9)
    advance(venue, 1200)
    assert story(venue) == [(1100, 0, 100, 4, 5), (1200, 0, 100, 5, 0)]
    assert set(fills(venue)["liquidity"].tolist()) == {LiquidityFlag.MAKER}


def test_market_fill_or_kill_and_post_only() -> None:
    venue = venue_of()
    advance(venue, 1000)
    killed = limit(venue, BUY, 102, 31, TimeInForce.FOK)
    whole = limit(venue, BUY, 102, 30, TimeInForce.FOK)
    shy = limit(venue, SELL, 99, 1, GTC, True)
    rests = limit(venue, SELL, 100, 1, GTC, True)
    market = int(submit(venue, SELL, MARKET, GTC, 0, 35, False))
    advance(venue, 1000)
    states = venue.orders["state"][[killed, whole, shy, rests, market]].tolist()
    canceled, filled = OrderState.CANCELED, OrderState.FILLED
    assert states == [canceled, filled, canceled, OrderState.ACCEPTED, canceled]
    assert story(venue) == [
        (1000, whole, 101, 10, 20),
        (1000, whole, 102, 20, 0),
        (1000, market, 99, 10, 25),
        (1000, market, 98, 20, 5),
    ]


def test_cancel_stops_fills_and_is_asked_once() -> None:
    venue = venue_of((1100, 98, 50, TRADE, SELL), latency=constant_latency(10, 10))
    advance(venue, 1000)
    order = limit(venue, BUY, 99, 8)
    advance(venue, 1050)
    assert cancel(venue, order)
    assert not cancel(venue, order)
    advance(venue, 1100)
    assert (story(venue), venue.orders["known_state"][order]) == ([], OrderState.CANCELED)
    assert not cancel(venue, order)
    assert not cancel(venue, 99)


def test_a_fill_can_cross_a_cancel_under_way() -> None:
    venue = venue_of((1055, 98, 50, TRADE, SELL), latency=constant_latency(10, 10))
    advance(venue, 1000)
    order = limit(venue, BUY, 99, 8)
    advance(venue, 1050)
    cancel(venue, order)
    advance(venue, 1100)
    assert story(venue) == [(1055, order, 99, 8, 0)]
    assert venue.orders["known_state"][order] == OrderState.FILLED


def test_room_runs_out_with_a_word() -> None:
    tape = prepare(recording((1100, 98, 50, TRADE, SELL)), window=(90, 110))
    venue = open_venue(tape, L2Model(), NOW, max_orders=2, max_fills=1)
    advance(venue, 1000)
    assert [limit(venue, BUY, 99, 1) for _ in range(3)] == [0, 1, -1]
    assert limit(venue, BUY, 200, 1) == -1
    with pytest.raises(CapacityError, match="max_fills"):
        advance(venue, 1100)


def test_bad_input_is_refused() -> None:
    good = recording()
    for field, value in (("kind", 9), ("side", 0), ("lots", -1), ("price", 2**60), ("ts_event_ns", 0)):
        bad = good.copy()
        bad[field][1] = value
        with pytest.raises(InvalidValueError):
            prepare(bad)
    early = good.copy()
    early["ts_init_ns"] -= 1
    with pytest.raises(InvalidValueError, match="ts_init_ns"):
        prepare(early)
    with pytest.raises(CapacityError):
        prepare(good, window=(0, 2**26))
    with pytest.raises(InvalidArrayError):
        prepare(good, feed_latency_ns=np.zeros(2, np.int64))
    tape = prepare(good, feed_latency_ns=5)
    assert (tape.local["ts_ns"] - tape.exchange["ts_ns"]).tolist() == [5] * 4
    for latency in (np.zeros(0, ORDER_LATENCY), np.zeros(3, FEED_EVENT)):
        with pytest.raises(InvalidArrayError):
            open_venue(tape, L2Model(), latency)
    for rows in ([(1, -1, 0)], [(5, 0, 0), (4, 0, 0)]):
        with pytest.raises(InvalidValueError):
            open_venue(tape, L2Model(), np.array(rows, ORDER_LATENCY))
    with pytest.raises(InvalidValueError, match="power"):
        L2Model(power=0)
