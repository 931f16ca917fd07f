"""IngestTexts and GetTexts as callers meet them: what a snapshot knows, errors, restarts, repetitions."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest

from alphamesh.marketdata.v1 import marketdata_pb2
from python_services.kit import snapshots, texts
from python_services.kit.config import ConfigError
from python_services.kit.errors import ServiceError
from python_services.kit.snapshots import SnapshotClient
from python_services.kit.texts import TextClient, decode
from python_services.market_data import store
from tests.unit.python_services.market_data.files import INSTRUMENTS, row, write

from .test_market_data import refused
from .two_services import CLOSE_2009_07_01, cut_request, market_data, system

HOUR_NS = 3_600 * 10**9
DAY_NS = 24 * HOUR_NS
MOMENT = CLOSE_2009_07_01


def text(
    words: str = "Orders are strong",
    known_at_ns: int = MOMENT - HOUR_NS,
    names: Sequence[str] = ("AAPL",),
    **fields: Any,
) -> marketdata_pb2.Text:
    """One of the source `wire`, published when it became known."""
    values: dict[str, Any] = {
        "text_id": hashlib.sha256(words.encode()).hexdigest()[:12],
        "source": "wire",
        "instrument_ids": names,
        "ts_event_ns": known_at_ns,
        "known_at_ns": known_at_ns,
        "text": words,
    }
    return marketdata_pb2.Text(**values | fields)


def ingest(*texts: marketdata_pb2.Text, **fields: Any) -> marketdata_pb2.IngestTextsRequest:
    """A request with a key of its own."""
    return marketdata_pb2.IngestTextsRequest(**{"request_id": str(uuid.uuid4()), "texts": texts} | fields)


async def shown(service: Any, header: marketdata_pb2.SnapshotHeader) -> list[tuple[str, str]]:
    """(instrument, text) of a snapshot, as GetTexts lists them; their hash is that of the header."""
    answer = await service.GetTexts(marketdata_pb2.GetTextsRequest(snapshot_id=header.snapshot_id))
    assert hashlib.sha256(answer.arrow_ipc).hexdigest() == header.texts_sha256
    found = decode(answer.arrow_ipc)
    return [
        (header.instrument_ids[index], words)
        for index, words in zip(found.instrument_index.tolist(), found.text.to_pylist(), strict=True)
    ]


async def test_a_snapshot_shows_what_was_known_about_its_instruments_in_the_last_thirty_days(tmp_path: Path) -> None:
    texts = [
        text("both", MOMENT, ("MSFT", "AAPL")),
        text("too late", MOMENT + 1),
        text("too old", MOMENT - 30 * DAY_NS - 1),
        text("just not too old", MOMENT - 30 * DAY_NS),
        text("of another", names=["GOOG"]),
        text("told late", ts_event_ns=1),
    ]
    request = ingest(*texts)
    async with system(tmp_path) as running:
        service = market_data(running)
        answer = await service.IngestTexts(request)
        assert (answer.accepted, answer.duplicates, answer.held) == (6, 0, 6)
        header = (await service.CutSnapshot(cut_request(MOMENT, ["IBM", "MSFT", "AAPL"]))).header
        wanted = [("AAPL", "just not too old"), ("AAPL", "told late"), ("MSFT", "both"), ("AAPL", "both")]
        assert await shown(service, header) == wanted
        turned = (await service.CutSnapshot(cut_request(MOMENT, ["AAPL", "MSFT"]))).header
        assert (await shown(service, turned))[-2:] == [("AAPL", "both"), ("MSFT", "both")]
        # Known, but about nothing here: the hash is that of no rows, so agents can tell it from no texts at all.
        nothing = (await service.CutSnapshot(cut_request(MOMENT, ["IBM"]))).header
        assert await shown(service, nothing) == []
    async with system(tmp_path) as running:  # rebuilt from the journal
        service = market_data(running)
        assert await shown(service, header) == wanted
        assert (await service.CutSnapshot(cut_request(MOMENT, ["IBM", "MSFT", "AAPL"]))).header == header
        assert (await service.IngestTexts(request)) == answer


async def test_what_comes_in_later_changes_no_snapshot_of_before(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        service = market_data(running)
        before = (await service.CutSnapshot(cut_request(MOMENT))).header
        assert not before.HasField("texts_sha256")
        none = await refused(service.GetTexts(marketdata_pb2.GetTextsRequest(snapshot_id=before.snapshot_id)))
        assert (none.code, none.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_TEXTS")
        late = await refused(service.IngestTexts(ingest(text(known_at_ns=MOMENT + 5), text("b", MOMENT))))
        assert (late.code, late.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "LATE_KNOWLEDGE")
        assert late.metadata == {"field": "texts[1].known_at_ns", "watermark_ns": str(MOMENT)}
        assert (await service.IngestTexts(ingest(text(known_at_ns=MOMENT + 1)))).held == 1
    async with system(tmp_path) as running:  # the promise outlives the process, and the snapshot has its id again
        service = market_data(running)
        assert (await service.CutSnapshot(cut_request(MOMENT))).header == before
        assert (await refused(service.IngestTexts(ingest(text("c", MOMENT))))).reason == "LATE_KNOWLEDGE"
        after = (await service.CutSnapshot(cut_request(MOMENT + 1))).header
        assert await shown(service, after) == [("AAPL", "Orders are strong")]


async def test_repetitions_are_counted_and_contradictions_refused(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        service = market_data(running)
        first = text(names=["AAPL", "IBM"])
        assert (await service.IngestTexts(ingest(first))).accepted == 1
        await service.CutSnapshot(cut_request(MOMENT))
        turned = text(names=["IBM", "AAPL"])  # sealed by now, but it says nothing new
        again = await service.IngestTexts(ingest(turned, first, text(source="other", known_at_ns=MOMENT + 1)))
        assert (again.accepted, again.duplicates, again.held) == (1, 2, 2)
        new, other = text("new", MOMENT + 1), text("other", MOMENT + 1, text_id=text("new").text_id)
        for texts in ([text(names=["AAPL"])], [new, other]):
            error = await refused(service.IngestTexts(ingest(*texts)))
            assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TEXT_CONFLICT")
            assert error.metadata["field"] == f"texts[{len(texts) - 1}].text_id"
        assert (await service.IngestTexts(ingest(new))).held == 3  # nothing of a refused request was kept


@pytest.mark.parametrize(
    ("wrong", "reason", "named"),
    [
        (text(names=["ZZZZ"]), "INSTRUMENT_NOT_FOUND", "ZZZZ"),
        (text(names=[]), "VALIDATION", "texts[1].instrument_ids"),
        (text(" \n"), "INVALID_FIELD", "texts[1].text"),
        (text("x" * 4001), "VALIDATION", "texts[1].text"),
        (text(source="News Wire"), "VALIDATION", "texts[1].source"),
        (text(ts_event_ns=MOMENT), "VALIDATION", "texts[1]"),
    ],
    ids=["instrument", "about nothing", "no words", "long", "source", "known before it was published"],
)
async def test_a_bad_text_is_named_and_nothing_of_its_batch_is_kept(
    tmp_path: Path, wrong: marketdata_pb2.Text, reason: str, named: str
) -> None:
    async with system(tmp_path) as running:
        service = market_data(running)
        error = await refused(service.IngestTexts(ingest(text("fine"), wrong)))
        assert error.reason == reason
        assert named in error.message + str(error.violations)
        assert (await service.IngestTexts(ingest(text("fine")))).held == 1


async def test_bounds(tmp_path: Path) -> None:
    async with system(tmp_path, market_data={"ingested_texts_limit": 2}) as running:
        service = market_data(running)
        full = await refused(service.IngestTexts(ingest(*(text(words) for words in "abc"))))
        assert (full.code, full.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "INGESTED_TEXTS_LIMIT")
        assert (await service.IngestTexts(ingest(text("a"), text("b"), text("a")))).held == 2
    with pytest.raises(ConfigError, match="ingested_texts_limit is -1"):
        async with system(tmp_path, market_data={"ingested_texts_limit": -1}):
            raise AssertionError("it must not start")


async def test_an_instrument_that_is_listed_no_more_stops_the_start_with_a_remedy(tmp_path: Path) -> None:
    config = write(tmp_path / "files", [row(name, "2009-06-30") for name in "AB"])
    async with system(tmp_path, market_data=config) as running:
        await market_data(running).IngestTexts(ingest(text(names=["C"])))
    (tmp_path / "files" / "instruments.yaml").write_bytes(INSTRUMENTS.replace(b"instrument_id: C", b"instrument_id: D"))
    with pytest.raises(ConfigError, match=r"'C'.*add it there"):
        async with system(tmp_path, market_data=config):
            raise AssertionError("it must not start")


class Altered:
    """market_data on the other side of something that alters what it says."""

    async def GetTexts(self, request: marketdata_pb2.GetTextsRequest) -> marketdata_pb2.GetTextsResponse:
        return marketdata_pb2.GetTextsResponse(arrow_ipc=b"something else")


async def test_texts_other_than_those_that_the_snapshot_names_are_refused(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        service = market_data(running)
        await service.IngestTexts(ingest(text(uuid.uuid4().hex)))  # read by nobody in this process yet
        header = (await service.CutSnapshot(cut_request())).header
        snapshot = await SnapshotClient(service).get(header.snapshot_id)
        with pytest.raises(ServiceError, match="they are refused") as caught:
            await TextClient(Altered()).get(snapshot)  # type: ignore[arg-type]
        assert caught.value.reason == "TEXTS_HASH_MISMATCH"
        assert len(await TextClient(service).get(snapshot)) == 1
        header = (await service.CutSnapshot(cut_request(MOMENT - DAY_NS))).header
        assert len(await TextClient(service).get(await SnapshotClient(service).get(header.snapshot_id))) == 0


async def test_on_one_host_nobody_asks_for_texts_and_files_go_with_the_last_snapshot_that_names_them(
    tmp_path: Path,
) -> None:
    folder = snapshots.folder_of(tmp_path)
    assert folder is not None
    async with system(tmp_path) as running:
        service = market_data(running)
        await service.IngestTexts(ingest(text(uuid.uuid4().hex)))
        header = (await service.CutSnapshot(cut_request())).header
        snapshot = await SnapshotClient(service, folder).get(header.snapshot_id)
        assert len(await TextClient(Altered(), folder).get(snapshot)) == 1  # type: ignore[arg-type]
        path = folder / header.texts_sha256
        for number in range(1, store.KEPT + 1):
            assert path.exists()
            later = (await service.CutSnapshot(cut_request(MOMENT + number, lookback_bars=2))).header
            assert later.texts_sha256 == header.texts_sha256
        last = MOMENT + 40 * DAY_NS
        for number in range(store.KEPT):
            assert path.exists()
            assert (await service.CutSnapshot(cut_request(last + number))).header.texts_sha256 != header.texts_sha256
        assert not path.exists()
        path.write_bytes(b"something else")
        texts._decoded.clear()
        with pytest.raises(ServiceError, match="they are refused"):
            await TextClient(service, folder).get(snapshot)


async def test_texts_of_the_future_do_not_move_the_market_s_time(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        service = market_data(running)
        await service.CutSnapshot(cut_request(MOMENT))
        await service.IngestTexts(ingest(text(known_at_ns=MOMENT + 200 * DAY_NS)))
        frames = running.subscribe("market_data")
        times = []
        async for frame in frames:
            times += [event.ts_event_ns for event in frame.events]
            if len(times) == 3:
                break
        await frames.aclose()
    assert times == sorted(times)
    assert times[-1] == MOMENT
