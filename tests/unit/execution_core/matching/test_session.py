"""Cancels, amendments, halts, bands, mass cancels and the moving ladder, by example."""

from __future__ import annotations

from typing import Any

import pytest

from execution_core.types import OrderFlag, SessionPhase
from tests.unit.execution_core.matching.venue import TIF, TYPE, Venue


def test_cancel() -> None:
    venue = Venue()
    venue.buy("a", 5, 100)
    assert venue.cancel("a") == ["CANCELED a 5 REQUESTED"]
    assert venue.cancel("a") == ["CANCEL_REJECTED UNKNOWN_ORDER"]
    assert venue.depth() == ([], [])


def test_only_the_owner_cancels_or_amends() -> None:
    venue = Venue()
    venue.buy("a", 5, 100, account=1)
    order = venue.ids["a"]
    assert venue.read(venue.engine.cancel(order, account=2)) == ["CANCEL_REJECTED UNKNOWN_ORDER"]
    assert venue.read(venue.engine.replace(order, account=2, quantity=1)) == ["REPLACE_REJECTED UNKNOWN_ORDER"]


@pytest.mark.parametrize("order_id", [0, -1, 1, 2**62, -(2**63), 2**63 - 1])
def test_ids_that_never_were_are_unknown(order_id: int) -> None:
    venue = Venue()
    venue.buy("a", 5, 100, account=0)
    event = venue.engine.cancel(order_id)[0]
    assert (event["kind"], event["order_id"]) == (9, order_id)
    assert venue.engine.order_count == 1


def test_a_reused_slot_does_not_revive_the_old_id() -> None:
    venue = Venue()
    venue.buy("a", 5, 100, account=1)
    venue.cancel("a")
    venue.buy("b", 5, 100, account=1)
    assert venue.cancel("a") == ["CANCEL_REJECTED UNKNOWN_ORDER"]
    assert venue.engine.order_count == 1


def two_bids() -> Venue:
    venue = Venue()
    venue.buy("first", 10, 100)
    venue.buy("second", 10, 100)
    return venue


def test_a_smaller_quantity_keeps_its_place() -> None:
    venue = two_bids()
    assert venue.replace("first", quantity=4) == ["REPLACED first 4@100 leaves 4"]
    assert venue.sell("a", 4, 100)[0] == "FILL first 4@100 leaves 0 MAKER"


@pytest.mark.parametrize("change", [{"quantity": 11}, {"price": 99}, {"price": 101}])
def test_more_quantity_or_another_price_goes_to_the_end(change: dict[str, Any]) -> None:
    venue = two_bids()
    venue.buy("worse", 10, 99)
    venue.buy("better", 10, 101)
    venue.replace("first", **change)
    queue = venue.trades(venue.sell("a", 100, 99))
    after = {100: "second", 99: "worse", 101: "better"}[change.get("price", 100)]
    names = [line.split()[1] for line in queue]
    assert names.index("first") == names.index(after) + 1


def test_an_unchanged_amendment_keeps_its_place() -> None:
    venue = two_bids()
    assert venue.replace("first", quantity=10, price=100) == ["REPLACED first 10@100 leaves 10"]
    assert venue.sell("a", 4, 100)[0] == "FILL first 4@100 leaves 6 MAKER"


def test_the_new_quantity_counts_what_is_filled() -> None:
    venue = two_bids()
    venue.sell("a", 6, 100)
    assert venue.replace("first", quantity=8) == ["REPLACED first 8@100 leaves 2"]
    assert venue.replace("first", quantity=3) == ["REPLACED first 6@100 leaves 0"]
    assert venue.cancel("first") == ["CANCEL_REJECTED UNKNOWN_ORDER"]
    assert venue.depth()[0] == [(100, 10, 1)]


def test_an_amended_price_trades_at_once() -> None:
    venue = two_bids()
    venue.sell("a", 4, 105)
    assert venue.replace("second", price=106) == [
        "REPLACED second 10@106 leaves 10",
        "FILL a 4@105 leaves 0 MAKER",
        "FILL second 4@105 leaves 6 TAKER",
    ]


def test_an_iceberg_gives_up_its_reserve_first() -> None:
    venue = Venue()
    venue.buy("ice", 20, 100, order_type=TYPE.ICEBERG, display_quantity=5)
    venue.replace("ice", quantity=12)
    assert venue.depth()[0] == [(100, 5, 1)]
    venue.replace("ice", quantity=3)
    assert venue.depth()[0] == [(100, 3, 1)]
    assert venue.replace("ice", quantity=501) == ["REPLACE_REJECTED INVALID_DISPLAY_QUANTITY"]


def test_a_waiting_stop_moves_with_its_stop_price() -> None:
    venue = Venue()
    venue.buy("stop", 5, 110, order_type=TYPE.STOP_LIMIT, stop_price=105)
    assert venue.replace("stop", stop_price=103, quantity=7, price=111) == ["REPLACED stop 7@111 leaves 7"]
    venue.sell("a", 1, 103)
    assert "TRIGGERED stop @111" in venue.buy("b", 1, 103)


@pytest.mark.parametrize(
    ("fields", "change", "reason"),
    [
        ({}, {"quantity": -1}, "INVALID_QUANTITY"),
        ({}, {"quantity": 2**40 + 1}, "INVALID_QUANTITY"),
        ({}, {"price": -1}, "INVALID_PRICE"),
        ({}, {"stop_price": 101}, "INVALID_STOP_PRICE"),
        ({"order_type": TYPE.STOP_LIMIT, "stop_price": 200}, {"stop_price": 2**40}, "INVALID_STOP_PRICE"),
        ({"order_type": TYPE.STOP_MARKET, "stop_price": 200}, {"price": 100}, "INVALID_PRICE"),
        ({"flags": OrderFlag.POST_ONLY}, {"price": 150}, "POST_ONLY_WOULD_CROSS"),
    ],
)
def test_a_refused_amendment_changes_nothing(fields: dict[str, Any], change: dict[str, Any], reason: str) -> None:
    venue = Venue()
    venue.sell("ask", 5, 120)
    venue.buy("a", 5, 100, **fields)
    before = venue.engine.snapshot()
    assert venue.replace("a", **change) == [f"REPLACE_REJECTED {reason}"]
    assert (venue.engine.snapshot() == before).all()


def test_a_halt_takes_cancels_only() -> None:
    venue = two_bids()
    venue.engine.set_phase(SessionPhase.HALTED)
    assert venue.sell("a", 5, 100) == ["REJECTED TRADING_HALTED"]
    assert venue.replace("first", quantity=5) == ["REPLACE_REJECTED TRADING_HALTED"]
    assert venue.cancel("first") == ["CANCELED first 10 REQUESTED"]
    venue.engine.set_phase(SessionPhase.CONTINUOUS)
    assert venue.sell("b", 5, 100)[0] == "FILL second 5@100 leaves 5 MAKER"


def test_a_closed_market_takes_cancels_only() -> None:
    venue = two_bids()
    venue.engine.set_phase(SessionPhase.CLOSED)
    assert venue.sell("a", 5, 100) == ["REJECTED MARKET_CLOSED"]
    assert venue.replace("first", quantity=5) == ["REPLACE_REJECTED MARKET_CLOSED"]
    assert venue.cancel("first") == ["CANCELED first 10 REQUESTED"]


def test_a_crossed_book_that_was_halted_uncrosses_when_trading_resumes() -> None:
    venue = Venue(phase=SessionPhase.OPENING_AUCTION)
    venue.buy("a", 5, 105)
    venue.sell("b", 5, 105)
    assert venue.read(venue.engine.set_phase(SessionPhase.HALTED)) == ["APPLIED 0@market"]
    assert venue.read(venue.engine.set_phase(SessionPhase.CONTINUOUS))[-1] == "APPLIED 5@105"


@pytest.mark.parametrize("phase", [0, 1, 8, 255])
def test_unknown_phases_are_refused(phase: int) -> None:
    venue = Venue()
    assert venue.read(venue.engine.set_phase(phase)) == ["REJECTED INVALID_PHASE"]
    assert venue.engine.phase == SessionPhase.CONTINUOUS


def test_a_band_refuses_aggressive_limits_and_stops_market_orders() -> None:
    venue = Venue()
    venue.engine.set_band(95, 105)
    assert venue.buy("a", 5, 106) == ["REJECTED PRICE_BAND"]
    assert venue.sell("b", 5, 94) == ["REJECTED PRICE_BAND"]
    assert venue.buy("passive", 5, 90) == []
    venue.sell("c", 3, 105)
    venue.sell("d", 3, 106)
    assert venue.buy("e", 9)[-1] == "CANCELED e 6 PRICE_BAND"
    assert venue.depth()[1] == [(106, 3, 1)]


def test_a_new_band_cancels_what_lies_beyond_it() -> None:
    venue = Venue()
    venue.buy("high", 5, 104)
    venue.buy("low", 5, 100)
    venue.sell("ask", 5, 110)
    assert venue.read(venue.engine.set_band(98, 103)) == ["CANCELED high 5 PRICE_BAND", "APPLIED 1@market"]
    assert venue.depth() == ([(100, 5, 1)], [(110, 5, 1)])
    assert venue.read(venue.engine.set_band(None, None)) == ["APPLIED 0@market"]
    assert venue.buy("b", 5, 109) == []


@pytest.mark.parametrize(("lower", "upper"), [(100, 99), (-1, 100), (0, 262_144)])
def test_impossible_bands_are_refused(lower: int, upper: int) -> None:
    venue = Venue()
    assert venue.read(venue.engine.set_band(lower, upper)) == ["REJECTED INVALID_PRICE"]


def test_mass_cancel() -> None:
    venue = Venue()
    venue.buy("a", 5, 100, account=1)
    venue.buy("b", 5, 100, account=2)
    venue.sell("stop", 5, order_type=TYPE.STOP_MARKET, stop_price=90, account=1)
    venue.sell("moc", 5, time_in_force=TIF.AT_CLOSE, account=1)
    assert venue.read(venue.engine.mass_cancel(1)) == [
        "CANCELED a 5 MASS_CANCEL",
        "CANCELED stop 5 MASS_CANCEL",
        "CANCELED moc 5 MASS_CANCEL",
        "APPLIED 3@market",
    ]
    assert venue.read(venue.engine.mass_cancel())[-1] == "APPLIED 1@market"
    assert venue.read(venue.engine.mass_cancel(4096)) == ["REJECTED UNKNOWN_ACCOUNT"]


def test_prices_may_be_negative() -> None:
    venue = Venue(base_price=-1000)
    venue.buy("a", 5, -37)
    assert venue.sell("b", 5, -40)[0] == "FILL a 5@-37 leaves 0 MAKER"


def test_the_ladder_moves_and_keeps_prices_and_queues() -> None:
    venue = two_bids()
    venue.sell("ask", 5, 120)
    venue.sell("stop", 5, 80, order_type=TYPE.STOP_LIMIT, stop_price=90)
    venue.sell("touch", 5, order_type=TYPE.MARKET_IF_TOUCHED, stop_price=130)
    before = venue.depth()
    for base in (50, -100_000, 79):
        assert venue.read(venue.engine.rebase(base)) == [f"APPLIED 0@{base}"]
        assert venue.depth() == before
        venue.engine.check()
    assert venue.sell("a", 10, 100)[0] == "FILL first 10@100 leaves 0 MAKER"
    assert venue.buy("low", 5, 78) == ["REJECTED INVALID_PRICE"]


@pytest.mark.parametrize("base", [101, 81, 10**6, -(10**6), 2**60, -(2**63)])
def test_the_ladder_does_not_drop_orders(base: int) -> None:
    venue = two_bids()
    venue.sell("stop", 5, 80, order_type=TYPE.STOP_LIMIT, stop_price=95)
    assert venue.read(venue.engine.rebase(base)) == ["REJECTED INVALID_PRICE"]


def test_positions_follow_trades() -> None:
    venue = Venue()
    venue.engine.set_position(1, -3)
    venue.buy("a", 5, 100, account=1)
    venue.sell("b", 2, 100, account=2)
    assert (venue.engine.position(1), venue.engine.position(2)) == (-1, -2)
    assert venue.read(venue.engine.set_position(1, 2**61)) == ["REJECTED INVALID_QUANTITY"]


def test_the_end_of_time_expires_nothing_that_is_not_there() -> None:
    venue = Venue()
    venue.buy("a", 5, 100)
    assert venue.read(venue.engine.advance_time(2**63 - 1)) == ["APPLIED 0@market"]
    assert venue.engine.order_count == 1
