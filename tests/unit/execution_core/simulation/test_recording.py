"""The converter of Binance recordings, line by line."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from examples.order_book.recording import align_clocks, rows
from execution_core.types import FEED_EVENT, FeedKind, Side

TICK, LOT = Decimal("0.1"), Decimal("0.001")
MS = 1_000_000
DEPTH = b'7000000 {"stream":"x","data":{"e":"depthUpdate","E":9,"T":5,"b":[["10.1","0.020"]],"a":[["10.3","0.000"]]}}'
TRADE = b'8000000 {"stream":"x","data":{"e":"trade","E":9,"T":6,"p":"10.2","q":"0.003","X":"MARKET","m":true}}'
FUND = b'8000000 {"stream":"x","data":{"e":"trade","E":9,"T":6,"p":"10.2","q":"0.003","X":"INSURANCE_FUND","m":true}}'
QUOTE = b'9000000 {"stream":"x","data":{"e":"bookTicker","b":"10.1","B":"0.5","a":"10.2","A":"0.6","T":7,"E":7}}'
SNAPSHOT = (
    b'9500000 {"lastUpdateId":1,"E":8,"T":8,"bids":[["10.1","1.000"],["10.0","2.000"]],"asks":[["10.2","3.000"]]}'
)


def test_each_kind_of_line() -> None:
    lines = [DEPTH, TRADE, FUND, QUOTE, SNAPSHOT]
    assert list(rows(lines, TICK, LOT, quotes=True)) == [
        (5 * MS, 7 * MS, 101, 20, FeedKind.DEPTH, Side.BUY),
        (5 * MS, 7 * MS, 103, 0, FeedKind.DEPTH, Side.SELL),
        (6 * MS, 8 * MS, 102, 3, FeedKind.TRADE, Side.SELL),  # the buyer was the maker
        (7 * MS, 9 * MS, 101, 500, FeedKind.QUOTE, Side.BUY),
        (7 * MS, 9 * MS, 102, 600, FeedKind.QUOTE, Side.SELL),
        (8 * MS, 9_500_000, 100, 0, FeedKind.CLEAR, Side.BUY),
        (8 * MS, 9_500_000, 101, 1_000, FeedKind.DEPTH, Side.BUY),
        (8 * MS, 9_500_000, 100, 2_000, FeedKind.DEPTH, Side.BUY),
        (8 * MS, 9_500_000, 102, 0, FeedKind.CLEAR, Side.SELL),
        (8 * MS, 9_500_000, 102, 3_000, FeedKind.DEPTH, Side.SELL),
    ]
    assert len(list(rows([QUOTE], TICK, LOT, quotes=False))) == 0


def test_off_the_increment_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple"):
        list(rows([TRADE.replace(b"10.2", b"10.25")], TICK, LOT, quotes=False))


def test_a_clock_that_is_ahead_is_moved() -> None:
    feed = np.zeros(2, FEED_EVENT)
    feed["ts_event_ns"], feed["ts_init_ns"] = (100, 200), (70, 190)
    assert align_clocks(feed, 5)["ts_init_ns"].tolist() == [105, 225]
    feed["ts_init_ns"] = 110, 210
    assert align_clocks(feed, 5)["ts_init_ns"].tolist() == [110, 210]
