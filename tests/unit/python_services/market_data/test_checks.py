"""What each check finds, and what is done about it."""

from __future__ import annotations

import pytest

from python_services.market_data.findings import DatasetError, Finding, Kind

from .files import load, row

DAYS = [f"2009-07-{day:02}" for day in (1, 2, 6, 7, 8, 9, 10)]
GOOD = [row(name, day) for name in "AB" for day in DAYS]


def found(rows: list[str], kind: Kind) -> list[Finding]:
    return [finding for finding in load(rows).findings if finding.kind is kind]


def test_good_data_has_no_findings() -> None:
    data = load(GOOD)
    assert data.findings == ()
    assert data.bar_count == 14


def test_gap_is_reported_once_and_not_filled() -> None:
    rows = [text for text in GOOD if not text.startswith(("A,2009-07-06", "A,2009-07-07", "A,2009-07-09"))]
    gaps = found(rows, Kind.GAP)
    assert [gap.detail for gap in gaps] == [
        "2 trading days without a bar, 2009-07-06 to 2009-07-07",
        "1 trading day without a bar, 2009-07-09 to 2009-07-09",
    ]
    assert load(rows).bar_count == 11


def test_a_later_start_is_no_gap() -> None:
    assert found([*GOOD, *(row("C", day) for day in DAYS[3:5])], Kind.GAP) == []


def test_exact_duplicate_is_dropped() -> None:
    rows = [*GOOD[:3], GOOD[2], *GOOD[3:]]
    assert [(f.instrument_id, f.action) for f in found(rows, Kind.DUPLICATE)] == [
        ("A", "The repetition was dropped; one bar is kept.")
    ]
    assert load(rows).bar_count == 14


def test_conflicting_duplicate_is_refused() -> None:
    with pytest.raises(
        DatasetError, match=r"row 15 \(A 2009-07-06\) contradicts row 3 .*in close, adj_close"
    ) as caught:
        load([*GOOD, "A,2009-07-06,10,10,10,9,1000,9"])
    assert caught.value.reason == "CONFLICTING_DUPLICATE"


@pytest.mark.parametrize(
    ("bar", "why"),
    [
        ("9,10,11,9,5,9", "high is below low"),
        ("12,11,9,10,5,10", "open is outside"),
        ("10,11,9,8,5,8", "close is outside"),
        ("0,11,0,10,5,10", "a price is not positive"),
        ("10,11,9,10,-5,10", "volume is negative"),
        ("10,11,9,10,5,0", "adj_close is not positive"),
    ],
)
def test_bad_bar_is_left_out(bar: str, why: str) -> None:
    rows = [*GOOD[:2], f"A,{DAYS[2]},{bar}", *GOOD[3:]]
    (finding,) = found(rows, Kind.BAD_BAR)
    assert why in finding.detail
    assert load(rows).bar_count == 13
    assert found(rows, Kind.GAP) == []  # the file has a row: one finding is enough


def test_nothing_but_bad_bars() -> None:
    with pytest.raises(DatasetError, match="every bar is bad"):
        load([row("A", DAYS[0], -1)])


def test_off_tick_is_kept() -> None:
    rows = [*GOOD[:2], f"A,{DAYS[2]},10,10.005,9.99,10,5,10", *GOOD[3:]]
    (finding,) = found(rows, Kind.OFF_TICK)
    assert finding.detail == "high 10.005 off the tick of 0.01"
    assert load(rows).bars["high"][0, 2] == 10_005_000_000


def test_zero_volume_is_kept() -> None:
    assert len(found([*GOOD, row("C", DAYS[0], volume=0)], Kind.ZERO_VOLUME)) == 1


def test_out_of_order_rows_are_sorted() -> None:
    backwards = [row("A", day, 10 + i, adj=10 + i) for i, day in reversed(list(enumerate(DAYS)))]
    data = load([*backwards, *GOOD[7:]])
    (finding,) = [f for f in data.findings if f.kind is Kind.OUT_OF_ORDER]
    assert finding.detail == "6 rows step back in time, the first at row 2 of its file"
    assert (data.bars["close"][0] // 10**9).tolist() == list(range(10, 17))


def test_a_day_of_bad_bars_only_still_has_its_time() -> None:
    data = load([row("A", DAYS[0]), row("A", DAYS[1], -1), row("A", DAYS[2])])
    assert len(data.days) == 2
    assert data.finding_ns == (data.close_ns[0] + 86_400 * 10**9,)
