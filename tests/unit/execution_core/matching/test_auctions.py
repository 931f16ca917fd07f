"""Opening, intraday and closing auctions: the price rules one by one, and who takes part."""

from __future__ import annotations

import pytest

from execution_core.types import OrderFlag, SessionPhase
from tests.unit.execution_core.matching.venue import TIF, TYPE, Venue

Book = list[tuple[int, int | None]]  # (quantity, price), None for a market order
OPENING, CONTINUOUS, CLOSING = SessionPhase.OPENING_AUCTION, SessionPhase.CONTINUOUS, SessionPhase.CLOSING_AUCTION


def call(bids: Book, asks: Book, reference: int | None = None) -> Venue:
    venue = Venue(phase=OPENING, reference_price=reference)
    for side, orders in ((venue.buy, bids), (venue.sell, asks)):
        for number, (quantity, price) in enumerate(orders):
            limit = {} if price is None else {"price": price}
            assert side(f"{side.__name__}{number}", quantity, **limit) == []
    return venue


def uncross(venue: Venue, phase: SessionPhase = CONTINUOUS) -> list[str]:
    return venue.read(venue.engine.set_phase(phase))


def result(lines: list[str]) -> str:
    return next(line for line in lines if line.startswith("APPLIED"))


@pytest.mark.parametrize(
    ("rule", "bids", "asks", "reference", "expected"),
    [
        ("largest volume", [(200, 202), (200, 201), (300, 200)], [(100, 198), (200, 199), (300, 200)], None, "600@200"),
        ("smallest surplus", [(300, 202), (100, 201)], [(250, 200), (50, 201), (150, 202)], None, "300@201"),
        ("surplus of buys: highest", [(400, 202)], [(300, 199)], None, "300@202"),
        ("surplus of sells: lowest", [(300, 202)], [(400, 199)], None, "300@199"),
        ("no surplus, reference inside", [(300, 202)], [(300, 199)], 200, "300@200"),
        ("no surplus, reference above", [(300, 202)], [(300, 199)], 250, "300@202"),
        ("no surplus, reference below", [(300, 202)], [(300, 199)], 100, "300@199"),
        ("no surplus, no reference: the middle", [(300, 202)], [(300, 199)], None, "300@200"),
        ("surplus on both sides", [(100, None), (100, 199)], [(100, None), (100, 202)], 200, "100@200"),
        ("both sides, reference above", [(100, None), (100, 199)], [(100, None), (100, 202)], 205, "100@202"),
        ("both sides, reference below", [(100, None), (100, 199)], [(100, None), (100, 202)], 190, "100@199"),
        ("market orders alone", [(90, None)], [(80, None)], 200, "80@200"),
        ("market orders alone, nothing to price them", [(90, None)], [(80, None)], None, "0@market"),
        ("market against limits", [(900, None)], [(500, 195), (200, 196)], None, "700@196"),
        ("no crossing", [(80, 199)], [(90, 201)], 200, "0@market"),
        ("one side only", [(80, 199)], [], 200, "0@market"),
        ("nobody", [], [], 200, "0@market"),
    ],
)  # fmt: skip
def test_price_rules(rule: str, bids: Book, asks: Book, reference: int | None, expected: str) -> None:
    lines = uncross(call(bids, asks, reference))
    assert result(lines) == f"APPLIED {expected}", rule


def test_everybody_trades_at_one_price_in_price_time_order_market_orders_first() -> None:
    venue = call([(5, 101), (5, 102), (5, 102), (3, None)], [(12, 100)])
    assert [line for line in uncross(venue) if line.startswith("FILL buy")] == [
        "FILL buy3 3@102 leaves 0 AUCTION",
        "FILL buy1 5@102 leaves 0 AUCTION",
        "FILL buy2 4@102 leaves 1 AUCTION",
    ]
    assert venue.depth() == ([(102, 1, 1), (101, 5, 1)], [])


def test_the_book_may_cross_during_the_call_and_nothing_trades() -> None:
    venue = call([(5, 105)], [(5, 100)])
    assert venue.depth() == ([(105, 5, 1)], [(100, 5, 1)])
    assert venue.engine.last_price is None


def test_orders_that_cannot_wait_are_refused_in_a_call() -> None:
    venue = call([], [])
    assert venue.buy("ioc", 5, 100, time_in_force=TIF.IOC) == ["REJECTED WRONG_PHASE"]
    assert venue.buy("fok", 5, 100, time_in_force=TIF.FOK) == ["REJECTED WRONG_PHASE"]


def test_market_orders_left_over_are_canceled() -> None:
    assert uncross(call([(9, None)], [(5, 100)]))[-2:] == ["CANCELED buy0 4 NO_LIQUIDITY", "APPLIED 5@100"]


def test_at_open_orders_live_for_the_opening_auction_only() -> None:
    venue = call([(5, 100)], [])
    venue.sell("open", 9, 100, time_in_force=TIF.AT_OPEN)
    assert uncross(venue)[-2:] == ["EXPIRED open 4", "APPLIED 5@100"]
    assert venue.sell("late", 9, 100, time_in_force=TIF.AT_OPEN) == ["REJECTED WRONG_PHASE"]
    venue.engine.set_phase(CLOSING)
    assert venue.sell("later", 9, 100, time_in_force=TIF.AT_OPEN) == ["REJECTED WRONG_PHASE"]


def test_at_close_orders_wait_unseen_for_the_closing_auction() -> None:
    venue = Venue()
    assert venue.sell("moc", 6, time_in_force=TIF.AT_CLOSE) == []
    assert venue.sell("loc", 6, 99, time_in_force=TIF.AT_CLOSE) == []
    assert venue.buy("a", 3, 100) == []
    assert venue.depth() == ([(100, 3, 1)], [])
    venue.engine.set_phase(CLOSING)
    venue.buy("b", 5, 98)
    assert uncross(venue, SessionPhase.CLOSED) == [
        "FILL a 3@98 leaves 0 AUCTION",
        "FILL moc 3@98 leaves 3 AUCTION",
        "FILL b 3@98 leaves 2 AUCTION",
        "FILL moc 3@98 leaves 0 AUCTION",
        "EXPIRED loc 6",
        "APPLIED 6@98",
    ]


def test_closing_expires_day_orders_and_keeps_the_others() -> None:
    venue = Venue()
    venue.buy("day", 5, 100, time_in_force=TIF.DAY)
    venue.buy("gtc", 5, 100)
    venue.sell("stop", 5, order_type=TYPE.STOP_MARKET, stop_price=90, time_in_force=TIF.DAY)
    venue.sell("moc", 5, time_in_force=TIF.AT_CLOSE)
    assert uncross(venue, SessionPhase.CLOSED) == [
        "EXPIRED day 5",
        "EXPIRED stop 5",
        "EXPIRED moc 5",
        "APPLIED 0@market",
    ]
    assert venue.depth()[0] == [(100, 5, 1)]


def test_an_iceberg_takes_part_with_all_it_has() -> None:
    venue = call([(30, 100)], [])
    venue.sell("ice", 40, 100, order_type=TYPE.ICEBERG, display_quantity=5)
    assert "FILL ice 30@100 leaves 10 AUCTION" in uncross(venue)
    assert venue.depth()[1] == [(100, 5, 1)]


def test_the_auction_price_fires_stops_when_trading_starts() -> None:
    venue = call([(5, 100)], [(5, 100)])
    venue.sell("stop", 5, order_type=TYPE.STOP_MARKET, stop_price=101)
    assert uncross(venue)[-3:] == ["APPLIED 5@100", "TRIGGERED stop @market", "CANCELED stop 5 NO_LIQUIDITY"]


def test_the_auction_price_stays_inside_the_band() -> None:
    venue = Venue(phase=OPENING, reference_price=100)
    venue.engine.set_band(95, 105)
    venue.buy("far bid", 5, 80)
    venue.sell("far ask", 5, 120)
    venue.buy("market", 9)
    assert result(uncross(venue)) == "APPLIED 0@market"
    venue.engine.set_phase(OPENING)
    venue.buy("m1", 9)
    venue.sell("m2", 9)
    venue.engine.set_reference(110)
    assert result(uncross(venue)) == "APPLIED 9@105"


def test_reduce_only_orders_take_no_more_than_the_position() -> None:
    venue = Venue(phase=OPENING)
    venue.engine.set_position(1, 4)
    venue.sell("exit", 10, 100, account=1, flags=OrderFlag.REDUCE_ONLY)
    venue.sell("other", 3, 100)
    venue.buy("a", 10, 100)
    lines = uncross(venue)
    assert "CANCELED exit 6 REDUCE_ONLY_WOULD_INCREASE" in lines
    assert result(lines) == "APPLIED 7@100"
    assert venue.engine.position(1) == 0


def test_a_reduce_only_order_that_falls_out_does_not_leave_the_book_crossed() -> None:
    venue = Venue(phase=OPENING)
    venue.engine.set_position(1, 1)
    venue.sell("exit", 100, 100, account=1, flags=OrderFlag.REDUCE_ONLY)
    venue.buy("a", 100, 110)
    venue.sell("b", 5, 105)
    uncross(venue)
    assert venue.depth() == ([(110, 94, 1)], [])
    venue.engine.check()


def test_an_intraday_auction_can_interrupt_trading() -> None:
    venue = Venue()
    venue.sell("a", 5, 101)
    venue.engine.set_phase(SessionPhase.INTRADAY_AUCTION)
    assert venue.buy("b", 5, 101) == []
    assert result(uncross(venue)) == "APPLIED 5@101"
