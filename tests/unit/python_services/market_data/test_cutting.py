"""The cut: point in time, adjusted, with gaps left open."""

from __future__ import annotations

import numpy as np
import pytest

from python_services.market_data.cutting import NothingKnownError, cut, cut_rates
from python_services.market_data.history import FOREVER_NS, History
from python_services.market_data.universe import Universe, Universes

from .files import load, row

DAYS = [f"2009-07-{day:02}" for day in (1, 2, 6, 7, 8)]
CLOSES, ADJUSTED, VOLUMES = (40, 42, 21, 22, 23), (19, 20, 20, 21, 22), (100, 100, 200, 210, 220)
ROWS = [
    *(row("A", DAYS[i], CLOSES[i], adj=ADJUSTED[i], volume=VOLUMES[i]) for i in range(5)),
    *(row("B", DAYS[i], 10 + i) for i in (0, 1, 3)),
    row("C", "2009-07-03", 7),
]


def universe(*names: str) -> Universe:
    return Universes(History(load(ROWS))).get(names, FOREVER_NS)


def test_before_the_split_nothing_is_adjusted() -> None:
    found = universe("A")
    result = cut(found, int(found.close_ns[1]), 5)
    assert result.columns["close"][:, 0].tolist() == [pytest.approx(42.0 * 19 / 20, rel=1e-8), 42.0]  # a dividend
    assert result.columns["volume"][:, 0].tolist() == [100.0, 100.0]


def test_after_the_split_the_past_is() -> None:
    found = universe("A")
    result = cut(found, int(found.close_ns[2]), 5)
    assert result.columns["close"][1:, 0].tolist() == [21.0, 21.0]
    assert result.columns["volume"][:, 0].tolist() == [200.0, 200.0, 200.0]
    assert result.marks_e9 == [21_000_000_000]


def test_missing_bars_stay_open() -> None:
    found = universe("B", "A")
    result = cut(found, int(found.close_ns[4]), 3)
    assert np.isnan(result.columns["close"][:, 0]).tolist() == [True, False, True]
    assert not np.isnan(result.columns["close"][:, 1]).any()
    assert result.marks_e9 == [13_000_000_000, 23_000_000_000]
    assert result.mark_ts_ns == [int(found.close_ns[3]), int(found.close_ns[4])]
    assert result.bars_known == 8


def test_the_calendar_is_the_union_of_those_asked_for() -> None:
    assert len(universe("A", "B").close_ns) == 5
    assert len(universe("A", "C").close_ns) == 6
    assert len(universe("B").close_ns) == 3


def test_a_cut_between_two_closes() -> None:
    found = universe("A")
    early = cut(found, int(found.close_ns[3]) - 1, 2)
    assert early.ts_event_ns.tolist() == found.close_ns[1:3].tolist()
    exact = cut(found, int(found.close_ns[3]), 2)
    assert exact.ts_event_ns.tolist() == found.close_ns[2:4].tolist()


def test_history_shorter_than_the_lookback() -> None:
    found = universe("A")
    assert len(cut(found, int(found.close_ns[2]), 5000).ts_event_ns) == 3


def test_nothing_known_yet() -> None:
    found = universe("A", "C")
    for as_of in (1, int(found.close_ns[1])):
        with pytest.raises(NothingKnownError) as caught:
            cut(found, as_of, 10)
        assert caught.value.instrument_id == ("A" if as_of == 1 else "C")


def test_rates_are_the_last_closes_and_what_is_not_known_yet_is_left_out() -> None:
    found = universe("A", "B", "C")
    first = cut_rates(found, int(found.close_ns[1]))
    assert (first.instrument_ids, first.rate_e9) == (["A", "B"], [42_000_000_000, 11_000_000_000])
    assert first.rate_ts_ns == [int(found.close_ns[1])] * 2
    later = cut_rates(found, int(found.close_ns[-1]))
    assert dict(zip(later.instrument_ids, later.rate_e9, strict=True))["C"] == 7_000_000_000
    assert cut_rates(found, int(found.close_ns[0]) - 1).instrument_ids == []
