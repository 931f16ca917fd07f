"""Nothing that happens after as_of can influence a snapshot."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from python_services.kit.journal import Journal
from python_services.market_data import dataset, instruments, reading
from python_services.market_data.store import SnapshotStore
from tests.unit.python_services.market_data.files import INSTRUMENTS, NAMES, csv

DAYS = [f"2009-{month:02}-{day:02}" for month in (6, 7) for day in range(1, 13)]
Bar = tuple[int, int, int, int, int]  # close in cents, body, wick, volume, adjustment in per mille

bars = st.tuples(
    st.integers(500, 5_000), st.integers(-50, 50), st.integers(0, 50), st.integers(0, 10**6), st.integers(100, 2_000)
)
series = st.lists(st.one_of(st.none(), bars), min_size=len(DAYS), max_size=len(DAYS))
market = st.tuples(*(series for _ in NAMES))


def line(name: str, day: str, bar: Bar) -> str:
    close, body, wick, volume, adjustment = bar
    opening = close + body
    prices = (opening, max(opening, close) + wick, min(opening, close) - wick, close)
    return ",".join((name, day, *(f"{p / 100:.2f}" for p in prices), str(volume), repr(close * adjustment / 1e5)))


def snapshot_id(folder: Path, lines: list[str], asked: tuple[str, ...], as_of_ns: int) -> str:
    """Id of the snapshot that a service with these rows cuts."""
    specs, session = instruments.parse(INSTRUMENTS, "instruments.yaml")
    rows = reading.parse(csv(lines), "bars.csv", NAMES)
    data = dataset.build(rows, specs, session, sha256="0" * 64, where=("bars.csv",))
    journal = Journal(folder / f"{len(list(folder.iterdir()))}.db", "market_data", "0", lambda _error: None)
    try:
        return SnapshotStore(data, journal).cut(as_of_ns, asked, 10).snapshot_id
    finally:
        journal.close()


@settings(max_examples=40, deadline=None)
@given(past=market, future=market, other=market, cut=st.integers(3, len(DAYS) - 1), scale=st.sampled_from([1, 2, 10]))
def test_the_future_is_not_inside(
    past: tuple[list[Bar | None], ...],
    future: tuple[list[Bar | None], ...],
    other: tuple[list[Bar | None], ...],
    cut: int,
    scale: int,
) -> None:
    known = [
        line(name, day, bar)
        for name, bars in zip(NAMES, past, strict=True)
        for day, bar in zip(DAYS[:cut], bars, strict=False)
        if bar is not None
    ]
    asked = tuple(dict.fromkeys(text.partition(",")[0] for text in known))
    if not asked:
        return

    def later(market: tuple[list[Bar | None], ...]) -> list[str]:
        return [
            line(name, day, bar)
            for name, bars in zip(NAMES, market, strict=True)
            for day, bar in list(zip(DAYS, bars, strict=True))[cut:]
            if bar is not None
        ]

    specs, session = instruments.parse(INSTRUMENTS, "instruments.yaml")
    last = dataset.build(reading.parse(csv(known), "x.csv", NAMES), specs, session, sha256="", where=("x.csv",))
    as_of_ns = int(last.close_ns[-1])
    # A source that knows of a later action has scaled every adj_close of the past.
    rescaled = [f"{text.rpartition(',')[0]},{float(text.rpartition(',')[2]) * scale!r}" for text in known]
    with tempfile.TemporaryDirectory() as folder:
        versions = (known, known + later(future), later(other) + known, rescaled + later(other))
        ids = {snapshot_id(Path(folder), lines, asked, as_of_ns) for lines in versions}
    assert len(ids) == 1
