"""The audit log of a finished session, asked through its service."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from alphamesh.audit.v1 import audit_pb2, audit_pb2_grpc, state_pb2, state_pb2_grpc
from mesh.connect import reading
from mesh.rundir import RunDir
from python_services.kit.errors import from_rpc_error

from .conftest import Run
from .test_event_log import frames_of

STREAMS = ("coordinator", "execution", "feature_store", "market_data", "model_registry", "portfolio", "risk", "venue")
ALL_READ = 10.0


@asynccontextmanager
async def opened(data_dir: Path) -> AsyncIterator[audit_pb2_grpc.AuditServiceAsyncStub]:
    """The audit service of a run that is down, when it has read everything."""
    async with reading(RunDir.find(data_dir)) as system:
        audit = system.stub(audit_pb2_grpc.AuditServiceStub, "audit")
        ends = {stream: frames_of(data_dir, stream)[-1] for stream in STREAMS}
        seqs = {stream: frame.first_seq + frame.count - 1 for stream, frame in ends.items()}
        request = audit_pb2.ListAuditRecordsRequest(page_size=1, min_stream_seqs=seqs)
        answer = await audit.ListAuditRecords(request, timeout=ALL_READ)
        assert dict(answer.applied_stream_seqs) == seqs
        assert answer.applied_seq == sum(seqs.values())
        yield audit


async def every(
    audit: audit_pb2_grpc.AuditServiceAsyncStub, conditions: audit_pb2.AuditFilter | None = None, page_size: int = 1000
) -> list[audit_pb2.AuditRecord]:
    records: list[audit_pb2.AuditRecord] = []
    token = ""
    while True:
        request = audit_pb2.ListAuditRecordsRequest(filter=conditions, page_size=page_size, page_token=token)
        answer = await audit.ListAuditRecords(request)
        records.extend(answer.records)
        token = answer.next_page_token
        if not token:
            return records


async def test_every_event_of_every_stream_is_one_record(local_run: Run) -> None:
    events = {
        envelope.event_id: envelope
        for stream in STREAMS
        for frame in frames_of(local_run.data_dir, stream)
        for envelope in frame.events
    }
    async with opened(local_run.data_dir) as audit:
        records = await every(audit)
    assert [record.seq for record in records] == list(range(1, len(events) + 1))
    assert {record.record_id for record in records} == set(events)
    for record in records:
        envelope = events[record.record_id]
        assert (record.stream, record.stream_seq, record.event_hash) == (envelope.stream, envelope.seq, envelope.hash)
        assert record.decision_id == envelope.correlation_id


async def test_pages_and_filters_give_the_same_records(local_run: Run) -> None:
    trade = local_run.report["trades"][0]
    async with opened(local_run.data_dir) as audit:
        records = await every(audit)
        decision = audit_pb2.AuditFilter(decision_id=trade["decision_id"])
        assert await every(audit, decision, page_size=3) == [
            record for record in records if record.decision_id == trade["decision_id"]
        ]
        fills = await every(
            audit, audit_pb2.AuditFilter(schema="alphamesh.execution.v1.OrderFilled", account_id="demo")
        )
        assert len(fills) == local_run.report["fills"]
        moment = records[1000].ts_event_ns
        late = await every(audit, audit_pb2.AuditFilter(stream="risk", start_ns=moment))
        assert late == [record for record in records if record.stream == "risk" and record.ts_event_ns >= moment]
        assert late


async def test_a_record_says_who_did_what_with_which_outcome(local_run: Run) -> None:
    async with opened(local_run.data_dir) as audit:
        records = await every(audit)
        fill = next(record for record in records if record.schema.endswith(".OrderFilled"))
        got = await audit.GetAuditRecord(audit_pb2.GetAuditRecordRequest(record_id=fill.record_id))
        assert got.record == fill
        assert fill.actor == audit_pb2.Actor(identity="execution", kind=audit_pb2.Actor.KIND_SERVICE)
        assert (fill.service, fill.account_id) == ("execution", "demo")
        assert fill.verdict == audit_pb2.AUDIT_VERDICT_ALLOWED
        assert "quantity_e9=" in fill.message
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await audit.GetAuditRecord(audit_pb2.GetAuditRecordRequest(record_id="nonsense"))
        assert from_rpc_error(unknown.value).reason == "RECORD_NOT_FOUND"


async def test_a_watcher_gets_every_record_from_where_it_wants(local_run: Run) -> None:
    async with opened(local_run.data_dir) as audit:
        wanted = await every(audit, audit_pb2.AuditFilter(stream="execution"))
        request = audit_pb2.WatchAuditRecordsRequest(from_seq=1, filter=audit_pb2.AuditFilter(stream="execution"))
        seen: list[audit_pb2.AuditRecord] = []
        async with asyncio.timeout(ALL_READ):
            async for response in audit.WatchAuditRecords(request):
                seen.extend(response.records)
                if len(seen) >= len(wanted):
                    break
        assert seen == wanted
        ahead = audit_pb2.WatchAuditRecordsRequest(from_seq=1_000_000)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in audit.WatchAuditRecords(ahead):
                pass
        assert refused.value.code() is grpc.StatusCode.OUT_OF_RANGE


def damage(data_dir: Path, seq: int) -> None:
    """Another account in one stored record."""
    with sqlite3.connect(data_dir / "data" / "audit" / "index.db") as database:
        (body,) = database.execute("SELECT body FROM record WHERE seq = ?", (seq,)).fetchone()
        record = audit_pb2.AuditRecord.FromString(body)
        record.account_id = "somebody else"
        database.execute("UPDATE record SET body = ? WHERE seq = ?", (record.SerializeToString(), seq))


async def verified(
    audit: audit_pb2_grpc.AuditServiceAsyncStub, start: int, end: int
) -> audit_pb2.VerifyAuditRecordsResponse:
    return await audit.VerifyAuditRecords(audit_pb2.VerifyAuditRecordsRequest(start_seq=start, end_seq=end))


async def test_a_record_that_was_altered_is_found_where_it_is(local_run: Run, tmp_path: Path) -> None:
    data_dir = tmp_path / "run"
    shutil.copytree(local_run.data_dir, data_dir, symlinks=True)
    damage(data_dir, 100)
    async with opened(data_dir) as audit:
        whole = await verified(audit, 1, 100)
        assert (whole.verified, whole.HasField("broken_seq")) == (99, False)
        broken = await verified(audit, 50, 500)
        assert (broken.verified, broken.broken_seq) == (50, 100)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await verified(audit, 1, 1_000_000)
        assert refused.value.code() is grpc.StatusCode.OUT_OF_RANGE


@pytest.mark.parametrize("content", [None, b"", b"not a database"], ids=["lost", "empty", "damaged"])
async def test_a_lost_index_is_read_again_from_the_streams(
    local_run: Run, tmp_path: Path, content: bytes | None
) -> None:
    data_dir = tmp_path / "run"
    shutil.copytree(local_run.data_dir, data_dir, symlinks=True)
    lose_index(data_dir, content)
    async with opened(local_run.data_dir) as audit:
        before = {record.record_id: record.message for record in await every(audit)}
    async with opened(data_dir) as audit:
        assert {record.record_id: record.message for record in await every(audit)} == before


def lose_index(data_dir: Path, content: bytes | None) -> None:
    for path in (data_dir / "data" / "audit").iterdir():
        path.unlink()
    if content is not None:
        (data_dir / "data" / "audit" / "index.db").write_bytes(content)


async def test_views_are_compared_through_every_service_that_has_some(local_run: Run) -> None:
    async with reading(RunDir.find(local_run.data_dir)) as system:
        for service, views in (("risk", {"ledger"}), ("audit", {"audit"}), ("venue", set())):
            stub = system.stub(state_pb2_grpc.StateServiceStub, service)
            found = [answer.comparison async for answer in stub.VerifyViews(state_pb2.VerifyViewsRequest())]
            assert {view.view for view in found} == views
            assert all(view.served_sha256 == view.rebuilt_sha256 and view.events > 0 for view in found)


async def test_every_writer_serves_its_journal(local_run: Run) -> None:
    async with reading(RunDir.find(local_run.data_dir)) as system:
        for service in STREAMS:
            stub = system.stub(state_pb2_grpc.StateServiceStub, service)
            request = state_pb2.ReadEventsRequest(from_seq=3, stop_at_end=True)
            responses = [response async for response in stub.ReadEvents(request)]
            frames = [frame for response in responses for frame in response.frames]
            wanted = [f for f in frames_of(local_run.data_dir, service) if f.first_seq + f.count > 3]
            assert frames == wanted
            assert responses[-1].end_reason == state_pb2.ReadEventsResponse.END_REASON_CAUGHT_UP
        agent = system.stub(state_pb2_grpc.StateServiceStub, "technical_agent")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in agent.ReadEvents(state_pb2.ReadEventsRequest(from_seq=1)):
                pass
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED  # it keeps no state
