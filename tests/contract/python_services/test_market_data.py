"""MarketDataService as its callers meet it: the contract, the errors, restarts."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable
from pathlib import Path

import grpc
import pytest

from alphamesh.marketdata.v1 import events_pb2, marketdata_pb2
from python_services.kit import snapshots
from python_services.kit.config import ConfigError
from python_services.kit.errors import ServiceError, from_rpc_error
from python_services.kit.journal import Journal
from python_services.market_data import store
from tests.unit.python_services.market_data.files import row, write

from .two_services import CLOSE_2009_07_01, UNIVERSE, cut_request, market_data, system

DAY_NS = 86_400 * 10**9


async def refused(call: Awaitable[object]) -> ServiceError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


def journalled(run_dir: Path) -> list[tuple[str, str]]:
    """(kind, snapshot id or data set hash, causation id) of every event in the journal."""
    journal = Journal(run_dir / "data" / "market_data" / "journal.db", "market_data", "0.1.0", lambda _error: None)
    try:
        found = []
        for envelope in (envelope for frame in journal.read(1) for envelope in frame.events):
            kind = envelope.schema.rpartition(".")[2]
            if kind == "SnapshotCut":
                found.append((kind, events_pb2.SnapshotCut.FromString(envelope.payload).snapshot_id))
            elif kind == "UniverseNamed":
                found.append((kind, events_pb2.UniverseNamed.FromString(envelope.payload).universe_id))
            else:
                found.append((kind, events_pb2.DatasetLoaded.FromString(envelope.payload).dataset_sha256))
        return found
    finally:
        journal.close()


async def test_a_snapshot_of_the_demo(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        service = market_data(running)
        header = (await service.CutSnapshot(cut_request())).header
        fetched = await service.GetSnapshot(marketdata_pb2.GetSnapshotRequest(snapshot_id=header.snapshot_id))
    assert list(header.mark_e9) == [142_830_000_000, 24_040_000_000, 104_840_000_000, 418_990_000_000]
    assert set(header.mark_ts_ns) == {CLOSE_2009_07_01}
    assert header.lookback_bars == 126
    assert dict(header.watermark) == {"bars": 8270}
    snapshot = snapshots.decode(header.snapshot_id, fetched.arrow_ipc)
    assert snapshot.close.shape == (126, 4)
    assert snapshot.close[-1].tolist() == [142.83, 24.04, 104.84, 418.99]
    assert snapshot.ts_event_ns[-1] == CLOSE_2009_07_01


async def test_the_same_cut_has_the_same_id_and_one_event(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        service = market_data(running)
        first = await service.CutSnapshot(cut_request())
        again = await service.CutSnapshot(cut_request())
        reordered = await service.CutSnapshot(cut_request(instrument_ids=UNIVERSE[::-1]))
    assert first == again
    assert reordered.header.snapshot_id != first.header.snapshot_id
    assert [kind for kind, _ in journalled(tmp_path)] == [
        "DatasetLoaded", "UniverseNamed", "SnapshotCut", "UniverseNamed", "SnapshotCut",
    ]  # fmt: skip


async def test_a_repeated_request_gets_the_first_answer_and_other_content_is_refused(tmp_path: Path) -> None:
    request = cut_request()
    async with system(tmp_path) as running:
        first = await market_data(running).CutSnapshot(request)
    async with system(tmp_path) as running:
        assert await market_data(running).CutSnapshot(request) == first
        request.lookback_bars = 5
        assert (await refused(market_data(running).CutSnapshot(request))).reason == "REQUEST_ID_REUSED"


async def test_snapshots_survive_a_restart(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        header = (await market_data(running).CutSnapshot(cut_request())).header
        request = marketdata_pb2.GetSnapshotRequest(snapshot_id=header.snapshot_id)
        before = await market_data(running).GetSnapshot(request)
    async with system(tmp_path) as running:
        assert await market_data(running).GetSnapshot(request) == before
        assert (await market_data(running).CutSnapshot(cut_request())).header == header
    assert [kind for kind, _ in journalled(tmp_path)] == ["DatasetLoaded", "UniverseNamed", "SnapshotCut"]


async def test_snapshots_that_left_memory_are_cut_again(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        service = market_data(running)
        first = (await service.CutSnapshot(cut_request())).header
        for day in range(1, store.KEPT + 2):
            await service.CutSnapshot(cut_request(CLOSE_2009_07_01 + day * DAY_NS, lookback_bars=2))
        again = await service.GetSnapshot(marketdata_pb2.GetSnapshotRequest(snapshot_id=first.snapshot_id))
    opened = snapshots.decode(first.snapshot_id, again.arrow_ipc)
    assert (opened.marks_e9, opened.ts_event_ns[-1]) == (tuple(first.mark_e9), CLOSE_2009_07_01)


async def test_a_changed_data_set_is_noted_and_old_ids_are_not_given_other_content(tmp_path: Path) -> None:
    days = [f"2009-07-{day:02}" for day in (1, 2, 6, 7)]
    config = write(tmp_path / "files", [row("A", day) for day in days])
    early, late = cut_request(CLOSE_2009_07_01, ["A"], 3), cut_request(CLOSE_2009_07_01 + 5 * DAY_NS, ["A"], 3)
    async with system(tmp_path, market_data=config) as running:
        ids = [(await market_data(running).CutSnapshot(request)).header.snapshot_id for request in (early, late)]
    write(tmp_path / "files", [row("A", day, 10 + (day > "2009-07-02")) for day in days])
    async with system(tmp_path, market_data=config) as running:
        fetched = await market_data(running).GetSnapshot(marketdata_pb2.GetSnapshotRequest(snapshot_id=ids[0]))
        assert snapshots.decode(ids[0], fetched.arrow_ipc).close[-1] == 10.0  # the change lies after this cut
        lost = marketdata_pb2.GetSnapshotRequest(snapshot_id=ids[1])
        error = await refused(market_data(running).GetSnapshot(lost))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "DATASET_CHANGED")
    assert [kind for kind, _ in journalled(tmp_path)].count("DatasetLoaded") == 2


async def test_typed_errors(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        service = market_data(running)
        never = await refused(service.GetSnapshot(marketdata_pb2.GetSnapshotRequest(snapshot_id="0" * 64)))
        assert (never.code, never.reason) == (grpc.StatusCode.NOT_FOUND, "SNAPSHOT_NOT_FOUND")
        unknown = await refused(service.CutSnapshot(cut_request(instrument_ids=["AAPL", "ZZZZ"])))
        assert (unknown.code, unknown.metadata) == (grpc.StatusCode.NOT_FOUND, {"instrument": "ZZZZ"})
        early = await refused(service.CutSnapshot(cut_request(CLOSE_2009_07_01, ["AAPL", "FB"])))
        assert early.code is grpc.StatusCode.OUT_OF_RANGE
        assert early.metadata["first"] == "2012-05-18T20:00:00Z"
        assert "FB has no bar at or before 2009-07-01T20:00:00Z" in early.message
        for bad in (cut_request(0), cut_request(lookback_bars=0), cut_request(instrument_ids=[])):
            assert (await refused(service.CutSnapshot(bad))).reason == "VALIDATION"


async def test_trading_days(tmp_path: Path) -> None:
    first, last = CLOSE_2009_07_01, CLOSE_2009_07_01 + 364 * DAY_NS
    async with system(tmp_path) as running:
        service = market_data(running)
        request = marketdata_pb2.ListTradingDaysRequest(start_ns=first, end_ns=last + 1, instrument_ids=UNIVERSE)
        days = list((await service.ListTradingDays(request)).close_ns)
        assert (len(days), days[0], days[-1]) == (252, first, last)
        request.end_ns = last
        assert len((await service.ListTradingDays(request)).close_ns) == 251  # the end is exclusive
        nothing = marketdata_pb2.ListTradingDaysRequest(start_ns=1, end_ns=2, instrument_ids=["IBM", "FB"])
        error = await refused(service.ListTradingDays(nothing))
    assert (error.code, error.reason) == (grpc.StatusCode.OUT_OF_RANGE, "NO_DATA_IN_RANGE")
    assert (error.metadata["first"], error.metadata["last"]) == ("2000-03-01T21:00:00Z", "2013-03-01T21:00:00Z")


async def test_bars_are_as_traded_and_the_range_is_half_open(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        service = market_data(running)
        request = marketdata_pb2.ListBarsRequest(
            instrument_ids=["MSFT", "AAPL"], start_ns=CLOSE_2009_07_01 - 1, end_ns=CLOSE_2009_07_01 + DAY_NS
        )
        bars = (await service.ListBars(request)).bars
        assert [(bar.instrument_id, bar.ts_event_ns) for bar in bars] == [
            (name, CLOSE_2009_07_01 + day * DAY_NS) for day in (0, 1) for name in ("AAPL", "MSFT")
        ]
        assert bars[0].ts_open_ns == CLOSE_2009_07_01 - 23_400 * 10**9
        assert (bars[0].open_e9, bars[0].close_e9, bars[0].volume_e9) == (
            143_500_000_000,
            142_830_000_000,
            14792100 * 10**9,
        )
        request.start_ns += 1
        assert len((await service.ListBars(request)).bars) == 2
        unknown = marketdata_pb2.ListBarsRequest(instrument_ids=["ZZZZ"], start_ns=0, end_ns=1)
        assert (await refused(service.ListBars(unknown))).code is grpc.StatusCode.NOT_FOUND


async def test_pages(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        service = market_data(running)
        found: list[marketdata_pb2.Finding] = []
        token, pages = "", 0
        while True:
            page = await service.ListFindings(
                marketdata_pb2.ListFindingsRequest(instrument_id="MSFT", page_size=100, page_token=token)
            )
            found, token, pages = [*found, *page.findings], page.next_page_token, pages + 1
            if not token:
                break
        assert (pages, len(found)) == (5, 454)
        assert [finding.ts_event_ns for finding in found] == sorted(finding.ts_event_ns for finding in found)
        assert all(finding.action and finding.detail and finding.kind for finding in found)
        first = await service.ListInstruments(marketdata_pb2.ListInstrumentsRequest(page_size=3))
        assert [instrument.instrument_id for instrument in first.instruments] == ["AAPL", "FB", "GOOG"]
        for request in (
            service.ListFindings(marketdata_pb2.ListFindingsRequest(page_token=first.next_page_token)),
            service.ListInstruments(marketdata_pb2.ListInstrumentsRequest(page_token="next")),
        ):
            error = await refused(request)
            assert error.violations[0][0] == "page_token"


@pytest.mark.parametrize(
    ("rows", "changes", "named"),
    [
        ([], {}, "holds no rows"),
        ([row("A", "2009-07-01")], {"datasets": ["missing.csv"]}, "missing.csv"),
        ([row("Z", "2009-07-01")], {}, "'Z'"),
        ([row("A", "2009-07-01")], {"colour": "red"}, "'colour'"),
    ],
)
async def test_unusable_data_stops_the_start_and_leaves_nothing(
    tmp_path: Path, rows: list[str], changes: dict[str, object], named: str
) -> None:
    config = write(tmp_path / "files", rows) | changes
    with pytest.raises(ConfigError, match=named):
        async with system(tmp_path, market_data=config):
            raise AssertionError("it must not start")
    assert not (tmp_path / "data" / "market_data").exists()


async def test_many_cuts_at_once(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        service = market_data(running)
        answers = await asyncio.gather(*(service.CutSnapshot(cut_request()) for _ in range(20)))
    assert len({answer.header.snapshot_id for answer in answers}) == 1
    assert len(journalled(tmp_path)) == 3


async def test_two_runs_write_the_same_chain(tmp_path: Path) -> None:
    request = cut_request()
    hashes = set()
    for name in ("first", "second"):
        async with system(tmp_path / name) as running:
            await market_data(running).CutSnapshot(request)
        path = tmp_path / name / "data" / "market_data" / "journal.db"
        journal = Journal(path, "market_data", "0.1.0", lambda _error: None)
        hashes.add(journal.durable_hash)
        journal.close()
        shutil.rmtree(tmp_path / name)
    assert len(hashes) == 1
