"""Every order type, time in force and flag, by example."""

from __future__ import annotations

from typing import Any

import pytest

from execution_core.types import NO_PRICE, OrderFlag, SelfTradePrevention
from tests.unit.execution_core.matching.venue import TIF, TYPE, Venue

POST_ONLY, REDUCE_ONLY = OrderFlag.POST_ONLY, OrderFlag.REDUCE_ONLY


def test_orders_trade_by_price_then_time_at_the_resting_price() -> None:
    venue = Venue()
    assert venue.sell("worse", 5, 102) == []
    assert venue.sell("first", 5, 101) == []
    assert venue.sell("second", 5, 101) == []
    assert venue.buy("taker", 12, 103) == [
        "FILL first 5@101 leaves 0 MAKER",
        "FILL taker 5@101 leaves 7 TAKER",
        "FILL second 5@101 leaves 0 MAKER",
        "FILL taker 5@101 leaves 2 TAKER",
        "FILL worse 2@102 leaves 3 MAKER",
        "FILL taker 2@102 leaves 0 TAKER",
    ]
    assert venue.depth() == ([], [(102, 3, 1)])


def test_an_events_fields() -> None:
    venue = Venue()
    engine = venue.engine
    engine.submit(2, 4, 100, account=7, client_tag=70, ts_event_ns=11)
    accepted, maker, taker = engine.submit(1, 9, 105, account=8, client_tag=80, ts_event_ns=12).tolist()
    #                   kind reason liquidity side account id            tag price qty leaves trade ts
    assert accepted[:5] == (1, 0, 0, 1, 8)
    assert accepted[6:] == (80, 105, 9, 9, 0, 12)
    assert maker[:5] == (3, 0, 1, 2, 7)
    assert maker[6:] == (70, 100, 4, 0, 1, 12)
    assert taker[:5] == (3, 0, 2, 1, 8)
    assert taker[6:] == (80, 100, 4, 5, 1, 12)
    assert taker[5] == accepted[5] > maker[5]


def test_a_limit_rests_with_what_it_could_not_trade() -> None:
    venue = Venue()
    venue.sell("a", 3, 100)
    venue.buy("b", 10, 100)
    assert venue.depth() == ([(100, 7, 1)], [])


def test_a_market_order_never_rests() -> None:
    venue = Venue()
    assert venue.buy("early", 5) == ["CANCELED early 5 NO_LIQUIDITY"]
    venue.sell("a", 3, 100)
    assert venue.buy("b", 5)[-1] == "CANCELED b 2 NO_LIQUIDITY"


def test_immediate_or_cancel() -> None:
    venue = Venue()
    venue.sell("a", 3, 100)
    assert venue.buy("b", 5, 100, time_in_force=TIF.IOC)[-1] == "CANCELED b 2 IMMEDIATE_OR_CANCEL"
    assert venue.buy("c", 5, 100, time_in_force=TIF.IOC) == ["CANCELED c 5 IMMEDIATE_OR_CANCEL"]


def test_fill_or_kill_is_all_or_nothing_within_its_limit() -> None:
    venue = Venue()
    venue.sell("a", 3, 100)
    venue.sell("b", 4, 101)
    venue.sell("c", 9, 102)
    assert venue.buy("d", 8, 101, time_in_force=TIF.FOK) == ["CANCELED d 8 FILL_OR_KILL"]
    assert venue.depth()[1] == [(100, 3, 1), (101, 4, 1), (102, 9, 1)]
    assert venue.trades(venue.buy("e", 7, 101, time_in_force=TIF.FOK)) == [
        "FILL a 3@100 leaves 0 MAKER",
        "FILL b 4@101 leaves 0 MAKER",
    ]


def test_fill_or_kill_counts_what_icebergs_hide() -> None:
    venue = Venue()
    venue.sell("a", 20, 100, order_type=TYPE.ICEBERG, display_quantity=5)
    assert len(venue.buy("b", 20, 100, time_in_force=TIF.FOK)) == 8


@pytest.mark.parametrize(("quantity", "fills"), [(5, True), (6, False)])
def test_fill_or_kill_counts_only_what_is_shown_ahead_of_an_own_order(quantity: int, fills: bool) -> None:
    """Self-trade prevention stops the match at the own order, before the iceberg shows its next slice."""
    venue = Venue()
    venue.sell("ice", 20, 100, account=2, order_type=TYPE.ICEBERG, display_quantity=5)
    venue.sell("own", 5, 100, account=1)
    mode = SelfTradePrevention.CANCEL_NEWEST
    happened = venue.buy("taker", quantity, 100, account=1, self_trade=mode, time_in_force=TIF.FOK)
    if fills:
        assert happened[-1] == "FILL taker 5@100 leaves 0 TAKER"
    else:
        assert happened == ["CANCELED taker 6 FILL_OR_KILL"]


def test_good_till_date_expires_at_its_instant_before_the_next_command() -> None:
    venue = Venue()
    assert venue.buy("past", 5, 100, time_in_force=TIF.GTD, expire_time_ns=10, ts_event_ns=10) == [
        "REJECTED EXPIRE_TIME_IN_PAST"
    ]
    venue.buy("late", 5, 100, time_in_force=TIF.GTD, expire_time_ns=30, ts_event_ns=10)
    venue.buy("soon", 5, 100, time_in_force=TIF.GTD, expire_time_ns=20, ts_event_ns=10)
    assert venue.sell("a", 1, 100, ts_event_ns=19)[0] == "FILL late 1@100 leaves 4 MAKER"
    assert venue.sell("b", 1, 100, ts_event_ns=20)[0] == "EXPIRED soon 5"
    assert venue.read(venue.engine.advance_time(30)) == ["EXPIRED late 3", "APPLIED 0@market"]
    assert venue.engine.order_count == 0


def test_time_never_runs_backwards() -> None:
    venue = Venue()
    venue.buy("a", 5, 100, ts_event_ns=50)
    event = venue.engine.submit(1, 5, 100, ts_event_ns=40)[0]
    assert event["ts_event_ns"] == 50


def test_an_iceberg_shows_a_slice_and_queues_again_with_the_next() -> None:
    venue = Venue()
    venue.sell("ice", 12, 100, order_type=TYPE.ICEBERG, display_quantity=5)
    venue.sell("plain", 4, 100)
    assert venue.depth()[1] == [(100, 9, 2)]
    assert venue.trades(venue.buy("a", 11, 100)) == [
        "FILL ice 5@100 leaves 7 MAKER",
        "FILL plain 4@100 leaves 0 MAKER",
        "FILL ice 2@100 leaves 5 MAKER",
    ]
    assert venue.depth()[1] == [(100, 3, 1)]
    assert venue.trades(venue.buy("b", 9, 100)) == ["FILL ice 3@100 leaves 2 MAKER", "FILL ice 2@100 leaves 0 MAKER"]


def test_an_incoming_iceberg_trades_its_whole_quantity_then_shows_a_slice() -> None:
    venue = Venue()
    venue.buy("a", 7, 100)
    assert (
        venue.sell("ice", 20, 100, order_type=TYPE.ICEBERG, display_quantity=5)[-1] == "FILL ice 7@100 leaves 13 TAKER"
    )
    assert venue.depth() == ([], [(100, 5, 1)])


@pytest.mark.parametrize("display", [0, -1, 11, 2**62])
def test_an_iceberg_shows_between_one_lot_and_all(display: int) -> None:
    refused = Venue().sell("ice", 10, 100, order_type=TYPE.ICEBERG, display_quantity=display)
    assert refused == ["REJECTED INVALID_DISPLAY_QUANTITY"]


def test_an_iceberg_shows_at_least_a_hundredth() -> None:
    iceberg = {"order_type": TYPE.ICEBERG, "display_quantity": 2}
    assert Venue().sell("ice", 200, 100, **iceberg) == []
    assert Venue().sell("ice", 201, 100, **iceberg) == ["REJECTED INVALID_DISPLAY_QUANTITY"]


def with_last_price(price: int) -> Venue:
    venue = Venue()
    venue.sell("x", 1, price)
    venue.buy("y", 1, price)
    return venue


@pytest.mark.parametrize(
    ("side", "order_type", "quiet", "fires"),
    [
        ("buy", TYPE.STOP_MARKET, 104, 105),
        ("sell", TYPE.STOP_MARKET, 106, 105),
        ("buy", TYPE.MARKET_IF_TOUCHED, 106, 105),
        ("sell", TYPE.MARKET_IF_TOUCHED, 104, 105),
    ],
)
def test_conditional_orders_fire_at_their_price_and_not_before(
    side: str, order_type: TYPE, quiet: int, fires: int
) -> None:
    # The first trade is on the side of the price where the order stays quiet.
    venue = with_last_price(quiet)
    getattr(venue, side)("wait", 3, order_type=order_type, stop_price=105)
    venue.sell("s1", 1, quiet)
    assert venue.buy("b1", 1, quiet)[-1].startswith("FILL b1")
    venue.sell("s2", 1, fires)
    lines = venue.buy("b2", 1, fires)
    assert lines[-2:] == ["TRIGGERED wait @market", "CANCELED wait 3 NO_LIQUIDITY"]


def test_a_stop_limit_becomes_its_limit_order() -> None:
    venue = with_last_price(100)
    venue.buy("stop", 5, 107, order_type=TYPE.STOP_LIMIT, stop_price=105)
    venue.sell("a", 1, 105)
    venue.sell("b", 2, 107)
    venue.sell("c", 9, 108)
    assert venue.buy("d", 1) == [
        "FILL a 1@105 leaves 0 MAKER",
        "FILL d 1@105 leaves 0 TAKER",
        "TRIGGERED stop @107",
        "FILL b 2@107 leaves 0 MAKER",
        "FILL stop 2@107 leaves 3 TAKER",
    ]
    assert venue.depth() == ([(107, 3, 1)], [(108, 9, 1)])


def test_a_limit_if_touched_waits_for_the_better_price() -> None:
    venue = with_last_price(100)
    venue.buy("touch", 5, 96, order_type=TYPE.LIMIT_IF_TOUCHED, stop_price=95)
    venue.buy("a", 1, 95)
    assert venue.sell("b", 1, 95)[-1] == "TRIGGERED touch @96"
    assert venue.depth()[0] == [(96, 5, 1)]


def test_a_stop_beyond_the_last_price_fires_at_once() -> None:
    venue = with_last_price(100)
    assert venue.buy("stop", 5, order_type=TYPE.STOP_MARKET, stop_price=99) == [
        "TRIGGERED stop @market",
        "CANCELED stop 5 NO_LIQUIDITY",
    ]


def test_stops_fire_in_a_chain_and_in_order() -> None:
    venue = with_last_price(100)
    venue.sell("a", 1, 101)
    venue.sell("b", 1, 102)
    venue.sell("c", 1, 103)
    venue.buy("third", 1, order_type=TYPE.STOP_MARKET, stop_price=102)
    venue.buy("second", 1, order_type=TYPE.STOP_MARKET, stop_price=101)
    venue.buy("fourth", 1, order_type=TYPE.STOP_MARKET, stop_price=102)
    assert [line for line in venue.buy("first", 1) if "FILL" not in line or "MAKER" in line] == [
        "FILL a 1@101 leaves 0 MAKER",
        "TRIGGERED second @market",
        "FILL b 1@102 leaves 0 MAKER",
        "TRIGGERED third @market",
        "FILL c 1@103 leaves 0 MAKER",
        "TRIGGERED fourth @market",
        "CANCELED fourth 1 NO_LIQUIDITY",
    ]


def test_every_price_of_a_sweep_fires_triggers() -> None:
    venue = with_last_price(110)
    venue.sell("low", 1, 100)
    venue.sell("high", 1, 112)
    # Fires at the first trade (100), though the last one is at 112.
    venue.sell("stop", 2, order_type=TYPE.STOP_MARKET, stop_price=105)
    assert "TRIGGERED stop @market" in venue.buy("sweep", 2)


def test_a_trailing_stop_follows_the_price_and_never_goes_back() -> None:
    venue = with_last_price(100)
    venue.sell("trail", 2, order_type=TYPE.TRAILING_STOP_MARKET, trailing_offset=5)
    for number, price in enumerate((103, 108, 104)):
        venue.sell(f"s{number}", 1, price)
        assert venue.buy(f"b{number}", 1, price)[-1].startswith("FILL")
    assert venue.engine.orders()["stop_price"].tolist() == [103]
    venue.sell("s", 1, 103)
    assert venue.buy("b", 1, 103)[-2:] == ["TRIGGERED trail @market", "CANCELED trail 2 NO_LIQUIDITY"]


def test_a_trailing_stop_limit_takes_its_limit_from_the_stop() -> None:
    venue = with_last_price(100)
    venue.buy("trail", 2, order_type=TYPE.TRAILING_STOP_LIMIT, trailing_offset=5, limit_offset=2)
    venue.sell("s", 1, 90)
    venue.buy("b", 1, 90)
    venue.sell("s2", 1, 95)
    assert venue.buy("b2", 1, 95)[-1] == "TRIGGERED trail @97"
    assert venue.depth()[0] == [(97, 2, 1)]


def test_a_trailing_stop_needs_a_price_to_start_from() -> None:
    trailing = {"order_type": TYPE.TRAILING_STOP_MARKET, "trailing_offset": 5}
    assert Venue().sell("a", 1, **trailing) == ["REJECTED NO_REFERENCE_PRICE"]
    assert Venue().sell("a", 1, stop_price=90, **trailing) == []
    venue = Venue(reference_price=100)
    assert venue.sell("a", 1, **trailing) == []
    assert venue.engine.orders()["stop_price"].tolist() == [95]


def test_a_fired_order_keeps_its_time_in_force() -> None:
    venue = with_last_price(100)
    venue.sell("thin", 2, 101)
    stop = {"order_type": TYPE.STOP_LIMIT, "stop_price": 100}
    assert venue.buy("fok", 5, 101, time_in_force=TIF.FOK, **stop)[-1] == "CANCELED fok 5 FILL_OR_KILL"
    assert venue.buy("ioc", 5, 101, time_in_force=TIF.IOC, **stop)[-1] == "CANCELED ioc 3 IMMEDIATE_OR_CANCEL"


def test_post_only_never_takes() -> None:
    venue = Venue()
    venue.sell("a", 5, 100)
    assert venue.buy("b", 5, 100, flags=POST_ONLY) == ["REJECTED POST_ONLY_WOULD_CROSS"]
    assert venue.buy("c", 5, 99, flags=POST_ONLY) == []
    venue.sell("x", 1, 99)
    stop = {"order_type": TYPE.STOP_LIMIT, "stop_price": 99}
    assert venue.buy("d", 5, 100, flags=POST_ONLY, **stop)[-1] == "CANCELED d 5 POST_ONLY_WOULD_CROSS"


@pytest.mark.parametrize(
    "fields",
    [
        {"price": 100, "time_in_force": TIF.IOC},
        {"price": 100, "time_in_force": TIF.FOK},
        {},
        {"order_type": TYPE.STOP_MARKET, "stop_price": 105},
    ],
)
def test_post_only_needs_an_order_that_can_rest(fields: dict[str, Any]) -> None:
    assert Venue().buy("a", 5, flags=POST_ONLY, **fields) == ["REJECTED INVALID_FLAGS"]


def test_reduce_only_stops_at_a_flat_position() -> None:
    venue = Venue()
    assert venue.sell("none", 5, 100, account=1, flags=REDUCE_ONLY) == ["REJECTED REDUCE_ONLY_WOULD_INCREASE"]
    venue.engine.set_position(1, 8)
    assert venue.buy("more", 5, 100, account=1, flags=REDUCE_ONLY) == ["REJECTED REDUCE_ONLY_WOULD_INCREASE"]
    venue.buy("a", 20, 100)
    assert venue.sell("out", 12, 100, account=1, flags=REDUCE_ONLY)[-2:] == [
        "FILL out 8@100 leaves 4 TAKER",
        "CANCELED out 4 REDUCE_ONLY_WOULD_INCREASE",
    ]
    assert venue.engine.position(1) == 0


def test_a_resting_reduce_only_order_is_cut_when_the_position_went_elsewhere() -> None:
    venue = Venue()
    venue.engine.set_position(1, 10)
    venue.sell("exit", 10, 101, account=1, flags=REDUCE_ONLY)
    venue.sell("later", 5, 101)
    venue.buy("bid", 7, 100)
    venue.sell("partial", 7, 100, account=1)
    assert venue.engine.position(1) == 3
    assert [line for line in venue.buy("a", 5, 101) if "TAKER" not in line] == [
        "FILL exit 3@101 leaves 7 MAKER",
        "CANCELED exit 7 REDUCE_ONLY_WOULD_INCREASE",
        "FILL later 2@101 leaves 3 MAKER",
    ]


def test_fill_or_kill_does_not_trust_reduce_only_makers() -> None:
    venue = Venue()
    venue.engine.set_position(1, 10)
    venue.sell("exit", 10, 101, account=1, flags=REDUCE_ONLY)
    assert venue.buy("a", 5, 101, time_in_force=TIF.FOK) == ["CANCELED a 5 FILL_OR_KILL"]


@pytest.mark.parametrize(
    ("mode", "lines", "left"),
    [
        (0, ["FILL own 4@100 leaves 0 MAKER", "FILL other 3@101 leaves 2 MAKER"], [(101, 2, 1)]),
        (SelfTradePrevention.CANCEL_NEWEST, ["CANCELED taker 7 SELF_TRADE"], [(100, 4, 1), (101, 5, 1)]),
        (
            SelfTradePrevention.CANCEL_OLDEST,
            ["CANCELED own 4 SELF_TRADE", "FILL other 5@101 leaves 0 MAKER"],
            [],
        ),
        (SelfTradePrevention.CANCEL_BOTH, ["CANCELED own 4 SELF_TRADE", "CANCELED taker 7 SELF_TRADE"], [(101, 5, 1)]),
        (
            SelfTradePrevention.DECREMENT_AND_CANCEL,
            [
                "CANCELED own 4 SELF_TRADE",
                "REPLACED taker 3@101 leaves 3 SELF_TRADE",
                "FILL other 3@101 leaves 2 MAKER",
            ],
            [(101, 2, 1)],
        ),
    ],
)
def test_self_trade_prevention(mode: int, lines: list[str], left: list[tuple[int, int, int]]) -> None:
    venue = Venue()
    venue.sell("own", 4, 100, account=1)
    venue.sell("other", 5, 101, account=2)
    happened = venue.buy("taker", 7, 101, account=1, self_trade=mode)
    assert [line for line in happened if "TAKER" not in line] == lines
    assert venue.depth()[1] == left


def test_decrement_leaves_the_larger_resting_order() -> None:
    venue = Venue()
    venue.sell("own", 9, 100, account=1)
    mode = SelfTradePrevention.DECREMENT_AND_CANCEL
    assert venue.buy("taker", 4, 100, account=1, self_trade=mode) == [
        "REPLACED own 5@100 leaves 5 SELF_TRADE",
        "CANCELED taker 4 SELF_TRADE",
    ]
    assert venue.engine.last_price is None


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"order_type": 0}, "INVALID_ORDER_TYPE"),
        ({"order_type": 10}, "INVALID_ORDER_TYPE"),
        ({"time_in_force": 0}, "INVALID_TIME_IN_FORCE"),
        ({"time_in_force": TIF.GTD, "price": NO_PRICE}, "INVALID_TIME_IN_FORCE"),
        ({"time_in_force": TIF.AT_OPEN, "order_type": TYPE.ICEBERG}, "INVALID_TIME_IN_FORCE"),
        ({"time_in_force": TIF.AT_CLOSE, "order_type": TYPE.STOP_LIMIT}, "INVALID_TIME_IN_FORCE"),
        ({"flags": 4}, "INVALID_FLAGS"),
        ({"self_trade": 5}, "INVALID_SELF_TRADE_MODE"),
        ({"quantity": 0}, "INVALID_QUANTITY"),
        ({"quantity": -5}, "INVALID_QUANTITY"),
        ({"quantity": 2**40 + 1}, "INVALID_QUANTITY"),
        ({"account": -1}, "UNKNOWN_ACCOUNT"),
        ({"account": 4096}, "UNKNOWN_ACCOUNT"),
        ({"price": -1}, "INVALID_PRICE"),
        ({"price": 262_144}, "INVALID_PRICE"),
        ({"order_type": TYPE.LIMIT, "price": NO_PRICE}, "INVALID_PRICE"),
        ({"order_type": TYPE.STOP_MARKET}, "INVALID_STOP_PRICE"),
        ({"order_type": TYPE.STOP_LIMIT, "stop_price": 262_144}, "INVALID_STOP_PRICE"),
        ({"order_type": TYPE.TRAILING_STOP_MARKET, "stop_price": 90}, "INVALID_OFFSET"),
        (
            {"order_type": TYPE.TRAILING_STOP_LIMIT, "stop_price": 90, "trailing_offset": 1, "limit_offset": -1},
            "INVALID_OFFSET",
        ),
        ({"time_in_force": TIF.AT_OPEN}, "WRONG_PHASE"),
    ],
)  # fmt: skip
def test_what_makes_no_order_is_rejected_with_its_reason(fields: dict[str, Any], reason: str) -> None:
    venue = Venue()
    quantity = fields.pop("quantity", 5)
    price = fields.pop("price", 100)
    assert venue.buy("a", quantity, price, **fields) == [f"REJECTED {reason}"]
    assert venue.engine.order_count == 0
