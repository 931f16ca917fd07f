"""The audit servicer: translates messages to the index."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc

from alphamesh.audit.v1 import audit_pb2, audit_pb2_grpc, event_pb2, state_pb2, state_pb2_grpc, trace_pb2
from python_services.kit import metrics, paging, tracing
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.errors import ServiceError, invalid, not_found
from python_services.kit.journal import ZERO_HASH, Journal
from python_services.kit.signal import within
from python_services.kit.state import refetch_from
from python_services.kit.views import Refetch, extend

from . import logic
from .config import Config
from .denials import Denials
from .index import Index
from .reading import Streams
from .traces import Collector, Traces, read_trace

DEFAULT_PAGE = 100
DEFAULT_TRACES = 20
HEARTBEAT_S = 5.0
_WATCHED = 500  # records in one message


class Audit(audit_pb2_grpc.AuditServiceServicer):
    """AuditService over the index."""

    def __init__(
        self,
        context: Context[Config],
        index: Index,
        traces: Traces,
        streams: Streams,
        refetch: Mapping[str, Refetch],
    ) -> None:
        self._context = context
        self._traces = traces
        self._index = index
        self._streams = streams
        self._refetch = refetch

    async def GetAuditRecord(
        self, request: audit_pb2.GetAuditRecordRequest, context: object
    ) -> audit_pb2.GetAuditRecordResponse:
        """One record."""
        await self._reach(request.min_seq, request.min_stream_seqs)
        record = self._index.get(request.record_id)
        if record is None:
            raise not_found("record", request.record_id, "records have the event_id of their event")
        return audit_pb2.GetAuditRecordResponse(
            record=record, applied_seq=self._index.last_seq, applied_stream_seqs=self._applied()
        )

    async def ListAuditRecords(
        self, request: audit_pb2.ListAuditRecordsRequest, context: object
    ) -> audit_pb2.ListAuditRecordsResponse:
        """Records that match, a page at a time."""
        await self._reach(request.min_seq, request.min_stream_seqs)
        conditions = request.filter.SerializeToString(deterministic=True).hex()
        after = paging.position(request.page_token, scope=f"audit.ListAuditRecords.{conditions}")
        size = request.page_size or DEFAULT_PAGE
        found = self._index.select(request.filter, after, self._index.last_seq, size + 1)
        token = ""
        if len(found) > size:
            token = paging.token(found[size - 1].seq, scope=f"audit.ListAuditRecords.{conditions}")
        return audit_pb2.ListAuditRecordsResponse(
            records=found[:size],
            next_page_token=token,
            applied_seq=self._index.last_seq,
            applied_stream_seqs=self._applied(),
        )

    async def WatchAuditRecords(
        self, request: audit_pb2.WatchAuditRecordsRequest, context: object
    ) -> AsyncIterator[audit_pb2.WatchAuditRecordsResponse]:
        """Records that match, as they are applied."""
        last = self._index.last_seq
        if request.from_seq > last + 1:
            raise _out_of_range(f"from_seq {request.from_seq} is ahead of the log, which ends at {last}; use less")
        seq = request.from_seq - 1 if request.from_seq else last
        while not self._context.draining:
            changed = self._streams.changed.next()
            last = self._index.last_seq
            while seq < last:
                records = self._index.select(request.filter, seq, last, _WATCHED)
                seq = records[-1].seq if len(records) == _WATCHED else last
                yield audit_pb2.WatchAuditRecordsResponse(seq=seq, records=records)
            if not await within(changed, HEARTBEAT_S):
                yield audit_pb2.WatchAuditRecordsResponse(seq=seq)
        reason = audit_pb2.WatchAuditRecordsResponse.END_REASON_SHUTTING_DOWN
        yield audit_pb2.WatchAuditRecordsResponse(seq=seq, end_reason=reason)

    async def VerifyAuditRecords(
        self, request: audit_pb2.VerifyAuditRecordsRequest, context: object
    ) -> audit_pb2.VerifyAuditRecordsResponse:
        """Hashes of a range, computed again."""
        if request.end_seq > self._index.last_seq + 1:
            raise _out_of_range(f"end_seq {request.end_seq} is past the log, which ends at {self._index.last_seq}")
        before = [record.hash for record in self._index.between(request.start_seq - 1, request.start_seq)]
        previous, verified = before[0] if before else ZERO_HASH, 0
        for record in self._index.between(request.start_seq, request.end_seq):
            if not logic.follows(record, request.start_seq + verified, previous):
                break
            previous, verified = record.hash, verified + 1
        response = audit_pb2.VerifyAuditRecordsResponse(verified=verified, last_hash=previous)
        if verified < request.end_seq - request.start_seq:
            response.broken_seq = request.start_seq + verified
        return response

    async def GetTrace(self, request: trace_pb2.GetTraceRequest, context: object) -> trace_pb2.GetTraceResponse:
        """One trace with its spans."""
        wanted = request.trace_id or tracing.decision_ids(request.decision_id)[0]
        found = read_trace(self._traces, wanted)
        if found is None:
            why = "it was not sampled, is older than what is kept, or arrives within a second; `alphamesh trace --list`"
            raise not_found("trace", request.decision_id or wanted, why)
        return found

    async def ListTraces(self, request: trace_pb2.ListTracesRequest, context: object) -> trace_pb2.ListTracesResponse:
        """What traces there are, newest first."""
        scope = f"audit.ListTraces.{request.failed_only}"
        before = paging.position(request.page_token, scope=scope)
        size = request.page_size or DEFAULT_TRACES
        found = self._traces.newest(size + 1, before, failed_only=request.failed_only)
        token = paging.token(found[size - 1][0], scope=scope) if len(found) > size else ""
        return trace_pb2.ListTracesResponse(traces=[trace for _, trace in found[:size]], next_page_token=token)

    async def compare(self) -> state_pb2.ViewComparison:
        """Every record against the one that its event gives, stream by stream. Raises BrokenStreamError."""
        served, rebuilt = _Contents(), _Contents()
        places = {}
        for stream, refetch in sorted(self._refetch.items()):
            places[stream], _ = await extend(rebuilt, refetch(1), 0, ZERO_HASH, stream)
        await self._streams.reach(0, places)
        for stream, until in places.items():
            for record in self._index.of_stream(stream, until):
                served.add(record)
        return state_pb2.ViewComparison(
            view="audit",
            applied_stream_seqs=places,
            served_sha256=served.digest.digest(),
            rebuilt_sha256=rebuilt.digest.digest(),
            events=sum(places.values()),
        )

    async def _reach(self, min_seq: int, min_stream_seqs: Mapping[str, int]) -> None:
        for stream in min_stream_seqs:
            if stream not in self._refetch:
                known = ", ".join(self._refetch)
                raise invalid("min_stream_seqs", f"{stream!r} is no stream of this log", f"use {known}")
        await self._streams.reach(min_seq, min_stream_seqs)

    def _applied(self) -> dict[str, int]:
        return {stream: seq for stream, (seq, _) in self._index.places.items()}


class _Contents:
    """What records hold, as one hash."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()

    def apply(self, envelope: event_pb2.EventEnvelope) -> None:
        """Adds what the record of an event holds."""
        self.add(logic.record(envelope))

    def add(self, record: audit_pb2.AuditRecord) -> None:
        """Adds what a record holds."""
        self.digest.update(logic.content(record))


def _out_of_range(message: str) -> ServiceError:
    return ServiceError(grpc.StatusCode.OUT_OF_RANGE, "OUT_OF_RANGE", message)


async def build(context: Context[Config]) -> None:
    """Opens the index, follows every stream and registers the service."""
    config = context.config
    index = Index(context.data_dir / "index.db")
    traces = Traces(context.data_dir / "traces.db", config.trace_mb * 2**20, config.trace_spans)
    journal = context.open_journal()
    refetch: dict[str, Refetch] = {
        stream: refetch_from(context.stub(state_pb2_grpc.StateServiceStub, stream)) for stream in config.streams
    }
    refetch[context.name] = _own(journal)
    streams = Streams(config, index, context.events, refetch, context.signal())
    servicer = Audit(context, index, traces, streams, refetch)
    context.on_close(_closer(index, traces, streams))
    context.spawn(streams.run(), "streams")
    if context.logs is not None:
        context.spawn(Denials(context.logs, journal, context.config.pause_s).run(), "denials")
    context.serve_view(servicer)
    context.add(audit_pb2_grpc.add_AuditServiceServicer_to_server, servicer, "alphamesh.audit.v1.AuditService")
    name = "opentelemetry.proto.collector.trace.v1.TraceService"
    context.add(trace_service_pb2_grpc.add_TraceServiceServicer_to_server, Collector(traces), name)
    metrics.figure("alphamesh_traces_bytes", "Size of the spans that are kept.", lambda: traces.size_bytes)
    metrics.figure("alphamesh_traces_removed_total", "Traces removed to make room.", lambda: traces.removed)


def _own(journal: Journal) -> Refetch:
    async def refetch(from_seq: int) -> AsyncIterator[event_pb2.EventFrame]:
        for frame in journal.read(from_seq):
            yield frame

    return refetch


def _closer(index: Index, traces: Traces, streams: Streams) -> Callable[[], Awaitable[None]]:
    async def close() -> None:
        await streams.close()
        index.close()
        traces.close()

    return close


DEFINITION = ServiceDefinition(name="audit", version="0.1.0", config=Config, build=build, niceness=10)
