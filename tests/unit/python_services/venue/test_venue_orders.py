"""Orders of several accounts in the venue's books: what each type, time in force and flag comes to."""

from __future__ import annotations

from pathlib import Path

import pytest

from alphamesh.type.v1 import trading_pb2
from python_services.kit.errors import ServiceError
from python_services.kit.journal import Journal
from python_services.venue.bars.desk import Desk as BarsDesk
from python_services.venue.config import Config

from .venue_floor import CENT, E9, Floor, Mode, Phase, Tif, Type, instruments, order

BUY, SELL = trading_pb2.SIDE_BUY, trading_pb2.SIDE_SELL
GTC, IOC, FOK, GTD = (Tif.Value(f"TIME_IN_FORCE_{name}") for name in ("GTC", "IOC", "FOK", "GTD"))


@pytest.fixture
def floor(tmp_path: Path) -> Floor:
    return Floor(tmp_path)


def test_orders_of_two_accounts_trade_at_the_makers_price_first_come_first_served(floor: Floor) -> None:
    assert floor.sell("a/1", 30, 10_001) == ["ACCEPTED a/1"]
    assert floor.sell("b/1", 30, 10_001) == ["ACCEPTED b/1"]
    assert floor.sell("b/2", 10, 10_000) == ["ACCEPTED b/2"]
    assert floor.buy("c/1", 50, 10_005) == [
        "ACCEPTED c/1",
        "FILL b/2 10@10000 leaves 0 MAKER",
        "FILL c/1 10@10000 leaves 40 TAKER",
        "FILL a/1 30@10001 leaves 0 MAKER",
        "FILL c/1 30@10001 leaves 10 TAKER",
        "FILL b/1 10@10001 leaves 20 MAKER",
        "FILL c/1 10@10001 leaves 0 TAKER",
    ]
    assert floor.depth() == ([], [(10_001, 20, 1)])
    fills = [report for report in floor.desk.reports if report.trade_id]
    assert [fill.trade_id for fill in fills[:2]] == ["IBM-1-S", "IBM-1-B"]
    assert [(t.trade_id, t.price_e9, t.quantity_e9, t.aggressor_side) for t in floor.desk.trades] == [
        ("IBM-1", 10_000 * CENT, 10 * E9, BUY),
        ("IBM-2", 10_001 * CENT, 30 * E9, BUY),
        ("IBM-3", 10_001 * CENT, 10 * E9, BUY),
    ]


def test_a_known_order_is_answered_with_its_first_report(floor: Floor) -> None:
    [first] = floor.desk.submit([order("a/1", BUY, 10, 10_000)])
    floor.sell("b/1", 10, 10_000)
    assert floor.desk.submit([order("a/1", BUY, 99, 9_000), order("a/1", BUY, 1)]) == [first, first]
    assert floor.depth() == ([], [])


def test_times_in_force(floor: Floor) -> None:
    floor.sell("m/1", 10, 10_000, time_in_force=GTC)
    assert floor.buy("a/1", 20, 10_000, time_in_force=FOK) == ["ACCEPTED a/1", "CANCELED a/1 FILL_OR_KILL"]
    assert floor.buy("a/2", 20, 10_000, time_in_force=IOC)[-2:] == [
        "FILL a/2 10@10000 leaves 10 TAKER",
        "CANCELED a/2 IMMEDIATE_OR_CANCEL",
    ]
    assert floor.buy("a/3", 5)[-1] == "CANCELED a/3 NO_LIQUIDITY"
    assert floor.buy("a/4", 5, 9_000, time_in_force=GTD, expire_time_ns=100) == ["ACCEPTED a/4"]
    assert floor.buy("a/5", 5, 9_000, time_in_force=GTD, expire_time_ns=1) == ["REJECTED a/5 EXPIRE_TIME_IN_PAST"]
    assert floor.advance(99) == []
    assert floor.advance(100) == ["EXPIRED a/4"]
    floor.buy("a/6", 5, 9_000)
    floor.buy("a/7", 5, 9_000, time_in_force=GTC)
    assert floor.phase(Phase.SESSION_PHASE_CLOSED) == ["EXPIRED a/6"]
    assert floor.buy("a/8", 5, 9_000) == ["REJECTED a/8 MARKET_CLOSED"]


def test_conditional_orders_fire_on_trades(floor: Floor) -> None:
    floor.buy("m/1", 100, 9_990, time_in_force=GTC)
    floor.sell("a/stop", 10, trigger=9_995, order_type=Type.ORDER_TYPE_STOP_MARKET)
    floor.buy("a/touch", 5, 9_980, trigger=9_990, order_type=Type.ORDER_TYPE_LIMIT_IF_TOUCHED)
    assert floor.sell("b/1", 1, 9_990)[1:] == [
        "FILL m/1 1@9990 leaves 99 MAKER",
        "FILL b/1 1@9990 leaves 0 TAKER",
        "TRIGGERED a/stop",
        "FILL m/1 10@9990 leaves 89 MAKER",
        "FILL a/stop 10@9990 leaves 0 TAKER",
        "TRIGGERED a/touch",
    ]
    assert floor.depth()[0] == [(9_990, 89, 1), (9_980, 5, 1)]


def test_a_trailing_stop_follows_the_market(floor: Floor) -> None:
    floor.limits(reference=10_000)
    trailing = {"order_type": Type.ORDER_TYPE_TRAILING_STOP_LIMIT, "trail": 10, "limit_offset": 2}
    assert floor.sell("a/t", 5, **trailing) == ["ACCEPTED a/t"]
    floor.sell("m/1", 1, 10_020)
    assert floor.buy("n/2", 1, 10_020)[-1] == "FILL n/2 1@10020 leaves 0 TAKER"
    floor.buy("b/1", 5, 10_009)
    floor.sell("m/3", 1, 10_010)
    # 10 below the best price since, 10,020: the stop is at 10,010, its limit 2 lower.
    assert floor.buy("b/2", 1, 10_010)[-3:] == [
        "TRIGGERED a/t",
        "FILL b/1 5@10009 leaves 0 MAKER",
        "FILL a/t 5@10009 leaves 0 TAKER",
    ]


def test_an_iceberg_shows_a_slice(floor: Floor) -> None:
    floor.sell("a/1", 30, 10_000, order_type=Type.ORDER_TYPE_ICEBERG, display=10)
    assert floor.depth()[1] == [(10_000, 10, 1)]
    assert floor.buy("b/1", 15, 10_000)[-1] == "FILL b/1 5@10000 leaves 0 TAKER"
    assert floor.depth()[1] == [(10_000, 5, 1)]
    [key] = floor.desk.orders("a", open_only=True)
    status = floor.desk.status(key)
    assert (status.leaves_quantity_e9, status.cumulative_quantity_e9) == (15 * E9, 15 * E9)


def test_post_only_and_reduce_only(floor: Floor) -> None:
    floor.sell("a/1", 10, 10_000)
    assert floor.buy("b/1", 10, 10_000, post_only=True) == ["REJECTED b/1 POST_ONLY_WOULD_CROSS"]
    assert floor.sell("c/1", 10, 9_999, reduce_only=True) == ["REJECTED c/1 REDUCE_ONLY_WOULD_INCREASE"]
    floor.buy("c/2", 10)
    floor.buy("b/2", 30, 9_990)
    # Long 10: the reduction of 25 ends at zero.
    assert floor.sell("c/3", 25, reduce_only=True)[1:] == [
        "FILL b/2 10@9990 leaves 20 MAKER",
        "FILL c/3 10@9990 leaves 15 TAKER",
        "CANCELED c/3 REDUCE_ONLY_WOULD_INCREASE",
    ]


def test_self_trade_prevention_is_the_orders_or_the_venues(floor: Floor, tmp_path: Path) -> None:
    floor.sell("a/1", 10, 10_000)
    assert floor.buy("a/2", 5, 10_000)[1:] == ["CANCELED a/2 SELF_TRADE"]
    oldest = Mode.SELF_TRADE_PREVENTION_CANCEL_OLDEST
    decrement = Mode.SELF_TRADE_PREVENTION_DECREMENT_AND_CANCEL
    assert floor.buy("a/3", 4, 10_000, self_trade_prevention=decrement)[1:] == [
        "REPLACED a/1 6@10000 leaves 6 SELF_TRADE",
        "CANCELED a/3 SELF_TRADE",
    ]
    assert floor.buy("a/4", 5, 10_000, self_trade_prevention=oldest)[1:] == ["CANCELED a/1 SELF_TRADE"]
    (tmp_path / "free").mkdir()
    free = Floor(tmp_path / "free", self_trade_prevention="NONE")
    free.sell("a/1", 10, 10_000)
    assert free.buy("a/2", 10)[1:] == ["FILL a/1 10@10000 leaves 0 MAKER", "FILL a/2 10@10000 leaves 0 TAKER"]
    ids = [report.trade_id for report in free.desk.reports if report.trade_id]
    assert ids == ["IBM-1-S", "IBM-1-B"]  # two fills of one account: two ids


def test_auctions(floor: Floor) -> None:
    floor.phase(Phase.SESSION_PHASE_OPENING_AUCTION)
    floor.buy("a/1", 10, 10_010, time_in_force=Tif.TIME_IN_FORCE_AT_OPEN)
    floor.buy("a/2", 10, 9_000, time_in_force=Tif.TIME_IN_FORCE_AT_OPEN)
    floor.sell("b/1", 6, 9_990)
    floor.sell("b/2", 4, time_in_force=Tif.TIME_IN_FORCE_AT_CLOSE)
    assert floor.sell("b/3", 4, 9_000, time_in_force=IOC) == ["REJECTED b/3 WRONG_PHASE"]
    [outcome] = floor.desk.set_phase(["IBM"], Phase.SESSION_PHASE_CONTINUOUS)
    assert (outcome.auction_price_e9, outcome.auction_quantity_e9) == (10_010 * CENT, 6 * E9)
    assert floor.news() == [
        "FILL a/1 6@10010 leaves 4 AUCTION",
        "FILL b/1 6@10010 leaves 0 AUCTION",
        "EXPIRED a/1",
        "EXPIRED a/2",
    ]
    assert [(trade.trade_id, trade.aggressor_side) for trade in floor.desk.trades] == [("IBM-1", 0)]
    floor.buy("c/1", 4, 10_000, time_in_force=GTC)
    assert floor.phase(Phase.SESSION_PHASE_CLOSING_AUCTION) == []
    assert floor.phase(Phase.SESSION_PHASE_CLOSED) == [
        "FILL c/1 4@10000 leaves 0 AUCTION",
        "FILL b/2 4@10000 leaves 0 AUCTION",
    ]
    [nothing] = floor.desk.set_phase(["MSFT"], Phase.SESSION_PHASE_OPENING_AUCTION)
    assert not nothing.HasField("auction_price_e9")


def test_a_halt_stops_everything_but_cancels(floor: Floor) -> None:
    floor.buy("a/1", 10, 10_000)
    floor.phase(Phase.SESSION_PHASE_HALTED)
    assert floor.sell("b/1", 10, 10_000) == ["REJECTED b/1 TRADING_HALTED"]
    assert floor.replace("a/1", BUY, 5, 10_000) == ["REPLACE_REJECTED a/1 TRADING_HALTED"]
    assert floor.cancel("a/1") == ["CANCELED a/1 REQUESTED"]


def test_price_limits(floor: Floor) -> None:
    floor.buy("a/1", 10, 10_100)
    assert floor.limits(9_900, 10_050, 10_000) == ["CANCELED a/1 PRICE_BAND"]
    assert floor.buy("a/2", 10, 10_051) == ["REJECTED a/2 PRICE_BAND"]
    limits = floor.desk.book("IBM", 0).limits
    assert (limits.lower_price_e9, limits.upper_price_e9) == (9_900 * CENT, 10_050 * CENT)
    assert limits.reference_price_e9 == 10_000 * CENT
    floor.limits()
    assert floor.buy("a/3", 10, 10_051) == ["ACCEPTED a/3"]
    with pytest.raises(ServiceError, match="swap them"):
        floor.limits(2, 1)


def test_the_ladder_follows_the_market_where_that_loses_nothing(floor: Floor) -> None:
    far = 5_000_000
    assert floor.buy("a/1", 10, 10_000) == ["ACCEPTED a/1"]
    assert floor.buy("a/2", 10, far) == ["REJECTED a/2 INVALID_PRICE"]
    with pytest.raises(ServiceError, match="cancel the orders"):
        floor.limits(reference=far)
    floor.cancel("a/1")
    floor.limits(9_000, 11_000)
    assert floor.buy("a/3", 10, far) == ["REJECTED a/3 INVALID_PRICE"]
    assert floor.limits(reference=far) == []
    assert floor.buy("a/4", 10, far) == ["ACCEPTED a/4"]
    assert floor.buy("a/5", 10, 10_000) == ["REJECTED a/5 INVALID_PRICE"]


def test_replace_changes_quantity_and_prices_only(floor: Floor) -> None:
    floor.buy("a/1", 10, 10_000)
    floor.buy("b/1", 10, 10_000)
    # A smaller quantity keeps the place in the queue, another price loses it.
    assert floor.replace("a/1", BUY, 6, 10_000) == ["REPLACED a/1 6@10000 leaves 6"]
    assert floor.sell("c/1", 2, 10_000)[1] == "FILL a/1 2@10000 leaves 4 MAKER"
    assert floor.replace("a/1", BUY, 6, 9_999) == ["REPLACED a/1 6@9999 leaves 4"]
    # Below what is filled: the order ends with what it has.
    assert floor.replace("a/1", BUY, 1, order_type=Type.ORDER_TYPE_LIMIT) == ["REPLACED a/1 2@9999 leaves 0"]
    assert floor.replace("a/1", BUY, 3, 9_999) == ["REPLACE_REJECTED a/1 the order is closed"]
    assert floor.replace("b/1", SELL, 5, 10_000) == ["REPLACE_REJECTED b/1 instrument and side cannot change"]
    refused = floor.replace("b/1", BUY, 5, 10_000, post_only=True)
    assert refused == ["REPLACE_REJECTED b/1 only quantity, price and trigger price can change"]
    assert floor.replace("x/1", BUY, 5, 10_000) == ["REPLACE_REJECTED x/1 the order is not known here"]


def test_what_cannot_be_is_refused_by_name(floor: Floor) -> None:
    assert floor.buy("a/1", 1, 100, instrument_id="TSLA") == ["REJECTED a/1 instrument 'TSLA' is not traded here"]
    assert floor.cancel("a/1") == ["CANCEL_REJECTED a/1 the order is not known here"]
    before = floor.journal.last_seq
    with pytest.raises(ServiceError, match=r"orders\[1\]\.price_e9.*100\.01"):
        floor.desk.submit([order("a/2", BUY, 1, 100), order("a/3", BUY, 1, None, price_e9=100_005_000_000)])
    with pytest.raises(ServiceError, match="out of range"):
        floor.desk.submit([order("a/4", BUY, 1, None, price_e9=2**63 - 1)])
    with pytest.raises(ServiceError, match="TSLA"):
        floor.desk.set_phase(["IBM", "TSLA"], Phase.SESSION_PHASE_HALTED)
    assert floor.journal.last_seq == before
    assert floor.buy("a/5", 1, None, order_type=Type.ORDER_TYPE_LIMIT) == ["REJECTED a/5 INVALID_PRICE"]


def test_there_is_room_for_so_many_accounts(floor: Floor) -> None:
    for number in range(4096):
        floor.desk.submit([order(f"account-{number}/1", BUY, 1, 9_000)])
    floor.news()
    assert floor.sell("one-more/1", 1, 10_000) == ["REJECTED one-more/1 UNKNOWN_ACCOUNT"]
    assert floor.sell("account-7/2", 1, 10_000) == ["ACCEPTED account-7/2"]


def test_a_batch_with_an_order_off_its_increment_leaves_nothing_behind_on_bars_either(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db", "venue", "test", lambda error: None)
    desk = BarsDesk(Config(), journal, instruments())
    with pytest.raises(ServiceError, match="price_e9"):
        desk.submit([order("a/1", BUY, 1, 100), order("a/2", BUY, 1, None, price_e9=100_005_000_000)])
    assert (desk.reports, desk.orders("a", open_only=False), journal.last_seq) == ([], [], 0)
    desk.submit([order("a/1", BUY, 1, 100)])
    assert desk.orders("a", open_only=True) == [("a", "1")]
