"""IngestBars and questions as of past moments, as callers meet them: versions, errors, restarts, expiry."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import grpc
import pytest

from alphamesh.marketdata.v1 import marketdata_pb2
from python_services.kit.config import ConfigError
from python_services.kit.snapshots import decode
from tests.unit.python_services.market_data.files import INSTRUMENTS, row, write

from .test_market_data import refused
from .two_services import CLOSE_2009_07_01, UNIVERSE, cut_request, market_data, system

E9 = 10**9
HOUR_NS = 3_600 * E9
DAY_NS = 24 * HOUR_NS
SESSION_NS = 23_400 * E9
MOMENT = CLOSE_2009_07_01
SPLIT_NS = 1_109_624_400 * E9  # close of 2005-02-28, when AAPL split 2:1


def version(close_cents: int, known_at_ns: int = MOMENT + HOUR_NS, **fields: Any) -> marketdata_pb2.BarVersion:
    """A flat bar of AAPL for 2009-07-01, but for `fields`."""
    price = close_cents * E9 // 100
    values: dict[str, Any] = {
        "instrument_id": "AAPL",
        "ts_event_ns": MOMENT,
        "known_at_ns": known_at_ns,
        "open_e9": price,
        "high_e9": price,
        "low_e9": price,
        "close_e9": price,
        "volume_e9": 1000 * E9,
    } | fields
    return marketdata_pb2.BarVersion(**{"ts_open_ns": values["ts_event_ns"] - SESSION_NS} | values)


def ingest(*bars: marketdata_pb2.BarVersion, **fields: Any) -> marketdata_pb2.IngestBarsRequest:
    """A request with a key of its own."""
    settings: dict[str, Any] = {"request_id": str(uuid.uuid4()), "stream": "vendor", "bars": bars}
    return marketdata_pb2.IngestBarsRequest(**settings | fields)


async def closes(service: Any, known_at_ns: int | None = None, name: str = "AAPL") -> list[tuple[int, int]]:
    """(close in cents, known since) of the bars of 2009-07-01 and the two days after."""
    request = marketdata_pb2.ListBarsRequest(
        instrument_ids=[name], start_ns=MOMENT - 1, end_ns=MOMENT + 2 * DAY_NS, known_at_ns=known_at_ns
    )
    return [(bar.close_e9 * 100 // E9, bar.known_at_ns) for bar in (await service.ListBars(request)).bars]


async def test_a_restated_bar_is_a_new_version_and_the_old_one_stays_readable(tmp_path: Path) -> None:
    request = ingest(version(20_000, MOMENT + HOUR_NS), version(20_100, MOMENT + 2 * HOUR_NS))
    for start in range(2):  # the same again after a restart
        async with system(tmp_path) as running:
            service = market_data(running)
            answer = await service.IngestBars(request)
            assert (answer.accepted, answer.duplicates, answer.held) == (2, 0, 2), start
            assert (await closes(service))[0] == (20_100, MOMENT + 2 * HOUR_NS)
            assert (await closes(service, MOMENT + 2 * HOUR_NS - 1))[0] == (20_000, MOMENT + HOUR_NS)
            assert (await closes(service, MOMENT + HOUR_NS - 1)) == [(14_283, MOMENT)]


async def test_every_version_of_a_bar_can_be_listed_with_the_steps_in_force(tmp_path: Path) -> None:
    first = version(20_000, MOMENT + HOUR_NS, adjustment_step=2.0, split_ratio=2.0)
    second = version(20_100, MOMENT + 2 * HOUR_NS)  # says nothing of the split, so it stands
    request = marketdata_pb2.ListBarsRequest(
        instrument_ids=["IBM", "AAPL"], start_ns=MOMENT - 1, end_ns=MOMENT + DAY_NS, all_versions=True
    )
    async with system(tmp_path) as running:
        service = market_data(running)
        await service.IngestBars(ingest(second, first))
        listed = (await service.ListBars(request)).bars
        request.known_at_ns = MOMENT + HOUR_NS
        earlier = (await service.ListBars(request)).bars
        request.all_versions = False
        in_force = (await service.ListBars(request)).bars
        split = marketdata_pb2.ListBarsRequest(
            instrument_ids=["AAPL"], start_ns=SPLIT_NS - 4 * DAY_NS, end_ns=SPLIT_NS + DAY_NS
        )
        loaded = {bar.ts_event_ns: bar for bar in (await service.ListBars(split)).bars}
    said = [(bar.instrument_id, bar.close_e9 * 100 // E9, bar.known_at_ns, bar.split_ratio) for bar in listed[:3]]
    assert said == [
        ("AAPL", 14_283, MOMENT, 0.0),
        ("AAPL", 20_000, MOMENT + HOUR_NS, 2.0),
        ("AAPL", 20_100, MOMENT + 2 * HOUR_NS, 2.0),
    ]
    assert not listed[0].HasField("adjustment_step")
    assert [bar.adjustment_step for bar in listed[1:3]] == [2.0, 2.0]
    assert [bar.known_at_ns for bar in earlier if bar.instrument_id == "AAPL"] == [MOMENT, MOMENT + HOUR_NS]
    assert [bar.split_ratio for bar in in_force if bar.instrument_id == "AAPL"] == [2.0]
    assert [bar.split_ratio for bar in loaded.values() if bar.HasField("split_ratio")] == [2.0]
    assert loaded[SPLIT_NS].split_ratio == 2.0


async def test_a_snapshot_shows_what_was_known_at_its_moment(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        service = market_data(running)
        before = (await service.CutSnapshot(cut_request(MOMENT))).header
        await service.IngestBars(ingest(version(20_000, MOMENT + HOUR_NS)))
        assert (await service.CutSnapshot(cut_request(MOMENT))).header == before
        assert (await service.CutSnapshot(cut_request(MOMENT + HOUR_NS - 1))).header.mark_e9 == before.mark_e9
        after = (await service.CutSnapshot(cut_request(MOMENT + HOUR_NS))).header
    assert after.mark_e9[0] == 200 * E9
    assert after.mark_e9[1:] == before.mark_e9[1:]
    assert dict(after.watermark) == {"bars": 8270, "vendor": 1}
    async with system(tmp_path) as running:  # rebuilt from the journal
        request = marketdata_pb2.GetSnapshotRequest(snapshot_id=after.snapshot_id)
        again = decode(after.snapshot_id, (await market_data(running).GetSnapshot(request)).arrow_ipc)
        assert again.marks_e9 == tuple(after.mark_e9)


async def test_a_bar_of_a_new_day_and_its_split(tmp_path: Path) -> None:
    """The day after the data set ends, 2:1: earlier prices are halved, earlier volumes doubled, marks are as traded."""
    config = write(tmp_path / "files", [row("A", day, 10, volume=100) for day in ("2009-06-29", "2009-06-30")])
    async with system(tmp_path, market_data=config) as running:
        service = market_data(running)
        split = version(500, MOMENT, instrument_id="A", adjustment_step=2.0, split_ratio=2.0)
        await service.IngestBars(ingest(split))
        listed = await service.ListInstruments(marketdata_pb2.ListInstrumentsRequest())
        assert listed.instruments[0].last_ts_ns == MOMENT
        days = marketdata_pb2.ListTradingDaysRequest(start_ns=1, end_ns=MOMENT + 1, instrument_ids=["A"])
        assert (await service.ListTradingDays(days)).close_ns[-1] == MOMENT
        header = (await service.CutSnapshot(cut_request(MOMENT, ["A"], 3))).header
        fetched = await service.GetSnapshot(marketdata_pb2.GetSnapshotRequest(snapshot_id=header.snapshot_id))
    snapshot = decode(header.snapshot_id, fetched.arrow_ipc)
    assert snapshot.close[:, 0].tolist() == [5.0, 5.0, 5.0]
    assert snapshot.volume[:, 0].tolist() == [200.0, 200.0, 1000.0]
    assert list(header.mark_e9) == [5 * E9]


async def test_a_late_bar_adds_no_trading_day_to_the_past(tmp_path: Path) -> None:
    config = write(tmp_path / "files", [row("A", day) for day in ("2009-06-29", "2009-06-30", "2009-07-02")])
    days = marketdata_pb2.ListTradingDaysRequest(start_ns=1, end_ns=MOMENT + 30 * DAY_NS, instrument_ids=["A"])
    async with system(tmp_path, market_data=config) as running:
        service = market_data(running)
        before = list((await service.ListTradingDays(days)).close_ns)
        await service.IngestBars(ingest(version(1_000, MOMENT + 3 * DAY_NS, instrument_id="A")))
        assert list((await service.ListTradingDays(days)).close_ns) == before
        assert len(await closes(service, name="A")) == 2


async def test_what_is_sealed_cannot_be_known_differently_later(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        service = market_data(running)
        await service.CutSnapshot(cut_request(MOMENT + 2 * HOUR_NS))
        late = await refused(service.IngestBars(ingest(version(20_000, MOMENT + 2 * HOUR_NS))))
        assert (late.code, late.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LATE_KNOWLEDGE")
        assert late.metadata == {"field": "bars[0].known_at_ns", "watermark_ns": str(MOMENT + 2 * HOUR_NS)}
        assert (await service.IngestBars(ingest(version(20_000, MOMENT + 2 * HOUR_NS + 1)))).accepted == 1
    async with system(tmp_path) as running:  # the promise outlives the process
        assert (await refused(market_data(running).IngestBars(ingest(version(1, MOMENT + 1))))).reason == late.reason


async def test_a_cut_that_failed_seals_nothing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    config = write(tmp_path / "files", [row("A", "2009-06-30")])
    async with system(tmp_path, market_data=config) as running:
        service = market_data(running)
        early, late = (version(1_000 + h, MOMENT + h * HOUR_NS, instrument_id="A") for h in (2, 20))
        await service.IngestBars(ingest(early, late))
        error = await refused(service.CutSnapshot(cut_request(MOMENT + 25 * HOUR_NS, ["A", "C"], 2)))
        assert error.reason == "NO_DATA"
        await service.IngestBars(ingest(version(700, MOMENT + HOUR_NS, instrument_id="C")))
        header = (await service.CutSnapshot(cut_request(MOMENT + 3 * HOUR_NS, ["A", "C"], 2))).header
    assert list(header.mark_e9) == [1_002 * E9 // 100, 7 * E9]


async def test_a_cut_far_in_the_future_cannot_seal_everything(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        service = market_data(running)
        error = await refused(service.CutSnapshot(cut_request(MOMENT + 3_000 * DAY_NS)))
        assert (error.code, error.reason) == (grpc.StatusCode.OUT_OF_RANGE, "AS_OF_TOO_LATE")
        assert (await service.IngestBars(ingest(version(20_000)))).accepted == 1


async def test_watermarks_by_stream(tmp_path: Path) -> None:
    """A source out of order within what it has not sealed; the answer says from when on it is final."""
    async with system(tmp_path) as running:
        service = market_data(running)
        await service.IngestBars(ingest(version(20_000, MOMENT + 5 * HOUR_NS), stream="slow"))
        sealed = await service.IngestBars(
            ingest(
                version(20_300, MOMENT + 3 * HOUR_NS),
                version(20_100, MOMENT + HOUR_NS),
                watermark_ns=MOMENT + 9 * HOUR_NS,
            )
        )
        assert sealed.watermark_ns == MOMENT + 9 * HOUR_NS
        assert (await refused(service.IngestBars(ingest(version(1, MOMENT + 9 * HOUR_NS))))).reason == "LATE_KNOWLEDGE"
        assert (await service.IngestBars(ingest(version(20_200, MOMENT + 2 * HOUR_NS), stream="slow"))).accepted == 1
        listing = marketdata_pb2.ListBarsRequest(instrument_ids=["AAPL"], start_ns=MOMENT - 1, end_ns=MOMENT)
        assert (await service.ListBars(listing)).watermark_ns == 0  # "slow" has promised nothing
        await service.IngestBars(ingest(stream="slow", watermark_ns=MOMENT + 6 * HOUR_NS))
        assert (await service.ListBars(listing)).watermark_ns == MOMENT + 6 * HOUR_NS
        known = [(await closes(service, MOMENT + hour * HOUR_NS))[0][0] for hour in range(7)]
        assert known == [14_283, 20_100, 20_200, 20_300, 20_300, 20_000, 20_000]
        new = await refused(service.IngestBars(ingest(version(1, MOMENT + 6 * HOUR_NS), stream="third")))
        assert new.reason == "LATE_KNOWLEDGE"


async def test_repetitions_are_counted_and_contradictions_refused(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        service = market_data(running)
        await service.IngestBars(ingest(version(20_000)))
        again = await service.IngestBars(ingest(version(20_000), version(20_000, MOMENT + 2 * HOUR_NS)))
        assert (again.accepted, again.duplicates) == (1, 1)
        for bars in (
            [version(20_001)],
            [version(7, MOMENT + DAY_NS), version(8, MOMENT + DAY_NS)],
            [version(1, MOMENT)],
        ):
            error = await refused(service.IngestBars(ingest(*bars)))
            assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "BAR_CONFLICT")
            assert error.metadata["field"] == f"bars[{len(bars) - 1}]"
        assert len({known for _, known in await closes(service)}) == 2  # nothing of a refused request is kept


@pytest.mark.parametrize(
    ("bar", "field"),
    [
        (version(100, close_e9=0), "close_e9"),
        (version(100, high_e9=E9 // 2), "high_e9"),
        (version(100, open_e9=2 * E9), "open_e9"),
        (version(100, volume_e9=-1), "volume_e9"),
        (version(100, MOMENT - 1), "known_at_ns"),
        (version(100, ts_event_ns=MOMENT + 1), "ts_event_ns"),
        (version(100, ts_open_ns=MOMENT - 1), "ts_open_ns"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_bad_bar_is_named_and_nothing_of_its_batch_is_kept(
    tmp_path: Path, bar: marketdata_pb2.BarVersion, field: str
) -> None:
    async with system(tmp_path) as running:
        error = await refused(market_data(running).IngestBars(ingest(version(20_000), bar)))
        assert (error.code, error.violations[0][0]) == (grpc.StatusCode.INVALID_ARGUMENT, f"bars[1].{field}")
        assert (await closes(market_data(running)))[0][0] == 14_283


async def test_bounds_and_names(tmp_path: Path) -> None:
    async with system(tmp_path, market_data={"ingested_bars_limit": 2}) as running:
        service = market_data(running)
        unknown = await refused(service.IngestBars(ingest(version(1, instrument_id="ZZZZ"))))
        assert (unknown.code, unknown.metadata) == (grpc.StatusCode.NOT_FOUND, {"instrument": "ZZZZ"})
        for fields in ({"stream": "bars"}, {"stream": "Vendor A"}, {"request_id": "1"}):
            assert (await refused(service.IngestBars(ingest(version(1), **fields)))).reason == "VALIDATION"
        many = [version(100, MOMENT + 1 + i) for i in range(5001)]
        assert (await refused(service.IngestBars(ingest(*many)))).reason == "VALIDATION"
        full = await refused(service.IngestBars(ingest(*many[:3])))
        assert (full.code, full.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "INGESTED_BARS_LIMIT")
        assert (await service.IngestBars(ingest(*many[:2]))).held == 2


async def test_an_instrument_that_is_listed_no_more_stops_the_start_with_a_remedy(tmp_path: Path) -> None:
    config = write(tmp_path / "files", [row(name, "2009-06-30") for name in "AB"])
    async with system(tmp_path, market_data=config) as running:
        await market_data(running).IngestBars(ingest(version(1_000, instrument_id="C")))
    (tmp_path / "files" / "instruments.yaml").write_bytes(INSTRUMENTS.replace(b"instrument_id: C", b"instrument_id: D"))
    with pytest.raises(ConfigError, match=r"'C'.*add it there"):
        async with system(tmp_path, market_data=config):
            raise AssertionError("it must not start")


async def test_an_expired_snapshot_says_so_and_cutting_it_again_gives_the_same_id(tmp_path: Path) -> None:
    async with system(tmp_path, market_data={"snapshots_retained": 2}) as running:
        service = market_data(running)
        first, *_ = [
            (await service.CutSnapshot(cut_request(MOMENT + day * DAY_NS, lookback_bars=2))).header for day in range(3)
        ]
        request = marketdata_pb2.GetSnapshotRequest(snapshot_id=first.snapshot_id)
        error = await refused(service.GetSnapshot(request))
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SNAPSHOT_EXPIRED")
        assert error.metadata == {"snapshot_id": first.snapshot_id, "as_of_ns": str(MOMENT)}
        assert "CutSnapshot" in error.message
    async with system(tmp_path, market_data={"snapshots_retained": 2}) as running:
        service = market_data(running)
        assert (await refused(service.GetSnapshot(request))).reason == "SNAPSHOT_EXPIRED"
        again = (await service.CutSnapshot(cut_request(MOMENT, UNIVERSE, 2))).header
        assert again == first
        assert decode(first.snapshot_id, (await service.GetSnapshot(request)).arrow_ipc).as_of_ns == first.as_of_ns
