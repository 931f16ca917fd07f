"""The collector: spans as OpenTelemetry's exporters send them, kept in a file of bounded size.

Spans are stored as they came and translated when somebody reads them. The oldest traces make room for new ones; one
trace keeps `trace_spans` spans, one span SPAN_BYTES. What is refused is told to its sender, who counts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1 import trace_pb2 as otlp

from alphamesh.audit.v1 import trace_pb2

from .database import open_database

VERSION = 1
SPAN_BYTES = 16 * 1024
_ROW_BYTES = 64  # what a span takes beside itself
_SCHEMA = """
CREATE TABLE trace (
    number INTEGER PRIMARY KEY, trace_id TEXT NOT NULL UNIQUE, decision_id TEXT NOT NULL, start_ns INTEGER NOT NULL,
    spans INTEGER NOT NULL, failed INTEGER NOT NULL, dropped INTEGER NOT NULL, bytes INTEGER NOT NULL
);
CREATE INDEX trace_failed ON trace (number) WHERE failed > 0;
CREATE TABLE span (
    trace INTEGER NOT NULL, span_id BLOB NOT NULL, service TEXT NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (trace, span_id)
) WITHOUT ROWID;
"""
_SUMMARY = "number, trace_id, decision_id, start_ns, spans, failed, dropped"
_DECISION = "alphamesh.decision_id"
_CODE = "rpc.grpc.status_code"

Arrived = list[tuple[str, otlp.Span]]  # (service, span)


class Traces:
    """Spans by trace. One writer; all methods belong to one event loop."""

    def __init__(self, path: Path, limit_bytes: int, most_spans: int) -> None:
        self._database = open_database(path, _SCHEMA, VERSION)
        self._limit_bytes = limit_bytes
        self._most_spans = most_spans
        (self.size_bytes,) = self._database.execute("SELECT coalesce(sum(bytes), 0) FROM trace").fetchone()
        self.removed = 0

    def add(self, traces: Mapping[str, Arrived]) -> int:
        """Keeps spans by trace id, in one transaction; how many were not kept. One that is there already stays."""
        refused = 0
        with self._database:
            for trace_id, arrived in traces.items():
                refused += self._add(trace_id, arrived)
            self._make_room()
        return refused

    def get(self, trace_id: str) -> tuple[trace_pb2.TraceSummary, list[tuple[str, otlp.Span]]] | None:
        """A trace and its spans with their services; None when there is none."""
        row = self._database.execute(f"SELECT {_SUMMARY} FROM trace WHERE trace_id = ?", (trace_id,)).fetchone()
        if row is None:
            return None
        stored = self._database.execute("SELECT service, body FROM span WHERE trace = ?", (row[0],))
        return _summary(row), [(service, otlp.Span.FromString(body)) for service, body in stored]

    def newest(self, limit: int, before: int, *, failed_only: bool) -> list[tuple[int, trace_pb2.TraceSummary]]:
        """(number, trace), newest first; only those before number `before`, unless that is 0."""
        query = f"SELECT {_SUMMARY} FROM trace WHERE (? = 0 OR number < ?)"
        query += (" AND failed > 0" if failed_only else "") + " ORDER BY number DESC LIMIT ?"
        return [(row[0], _summary(row)) for row in self._database.execute(query, (before, before, limit))]

    def close(self) -> None:
        """Closes the file."""
        self._database.close()

    def _add(self, trace_id: str, arrived: Arrived) -> int:
        number, kept = self._number(trace_id, arrived)
        room = self._most_spans - kept
        inserted = failed = size = 0
        insert = self._database.execute
        for service, span in arrived[: max(room, 0)]:
            body = span.SerializeToString()
            if insert("INSERT OR IGNORE INTO span VALUES (?, ?, ?, ?)", (number, span.span_id, service, body)).rowcount:
                inserted += 1
                failed += span.status.code == otlp.Status.STATUS_CODE_ERROR
                size += len(body) + len(service) + _ROW_BYTES
        dropped = max(len(arrived) - max(room, 0), 0)
        start_ns = min(span.start_time_unix_nano for _, span in arrived)
        decision_id = next((_decision(span) for _, span in arrived if not span.parent_span_id), "")
        self._database.execute(
            "UPDATE trace SET start_ns = min(start_ns, ?), spans = spans + ?, failed = failed + ?,"
            " dropped = dropped + ?, bytes = bytes + ?,"
            " decision_id = CASE WHEN ? = '' THEN decision_id ELSE ? END WHERE number = ?",
            (start_ns, inserted, failed, dropped, size, decision_id, decision_id, number),
        )
        self.size_bytes += size
        return dropped

    def _number(self, trace_id: str, arrived: Arrived) -> tuple[int, int]:
        """(number, spans kept) of a trace, which is made when it is new."""
        query = "SELECT number, spans FROM trace WHERE trace_id = ?"
        found: tuple[int, int] | None = self._database.execute(query, (trace_id,)).fetchone()
        if found is None:
            start_ns = arrived[0][1].start_time_unix_nano
            made = self._database.execute(
                "INSERT INTO trace (trace_id, decision_id, start_ns, spans, failed, dropped, bytes)"
                " VALUES (?, '', ?, 0, 0, 0, 0)",
                (trace_id, start_ns),
            )
            found = int(made.lastrowid or 0), 0
        return found

    def _make_room(self) -> None:
        while self.size_bytes > self._limit_bytes:
            number, size = self._database.execute("SELECT number, bytes FROM trace ORDER BY number LIMIT 1").fetchone()
            self._database.execute("DELETE FROM span WHERE trace = ?", (number,))
            self._database.execute("DELETE FROM trace WHERE number = ?", (number,))
            self.size_bytes -= size
            self.removed += 1


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """OTLP's TraceService. A span that cannot be kept is refused; the others of its batch are kept."""

    def __init__(self, traces: Traces) -> None:
        self._traces = traces

    async def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: object
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Keeps a batch."""
        traces: dict[str, Arrived] = {}
        refused = 0
        for resource in request.resource_spans:
            service = _text(resource.resource.attributes, "service.name")
            for scope in resource.scope_spans:
                for span in scope.spans:
                    if _acceptable(span):
                        traces.setdefault(span.trace_id.hex(), []).append((service, span))
                    else:
                        refused += 1
        refused += self._traces.add(traces)
        response = trace_service_pb2.ExportTraceServiceResponse()
        if refused:
            response.partial_success.rejected_spans = refused
            response.partial_success.error_message = (
                f"{refused} spans have no ids, are larger than {SPAN_BYTES} bytes, or are too many for one trace"
            )
        return response


def read_trace(traces: Traces, trace_id: str) -> trace_pb2.GetTraceResponse | None:
    """One trace as its readers see it, spans by start; None when there is none."""
    found = traces.get(trace_id)
    if found is None:
        return None
    summary, spans = found
    spans.sort(key=lambda pair: (pair[1].start_time_unix_nano, pair[1].span_id))
    return trace_pb2.GetTraceResponse(trace=summary, spans=[_translated(service, span) for service, span in spans])


def _translated(service: str, span: otlp.Span) -> trace_pb2.Span:
    made = trace_pb2.Span(
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        service=service,
        name=span.name,
        kind=span.kind,  # type: ignore[arg-type]
        start_ns=span.start_time_unix_nano,
        duration_ns=max(span.end_time_unix_nano - span.start_time_unix_nano, 0),
        failed=span.status.code == otlp.Status.STATUS_CODE_ERROR,
        error=span.status.message,
    )
    for attribute in span.attributes:
        made.attributes[attribute.key] = _shown(attribute.value)
    code = made.attributes.get(_CODE, "")
    if code.isdigit():
        made.status_code = int(code)
    return made


def _acceptable(span: otlp.Span) -> bool:
    return len(span.trace_id) == 16 and len(span.span_id) == 8 and span.ByteSize() <= SPAN_BYTES


def _summary(row: tuple[Any, ...]) -> trace_pb2.TraceSummary:
    _, trace_id, decision_id, start_ns, spans, failed, dropped = row
    return trace_pb2.TraceSummary(
        trace_id=trace_id,
        decision_id=decision_id,
        start_ns=start_ns,
        spans=spans,
        failed_spans=failed,
        dropped_spans=dropped,
    )


def _decision(span: otlp.Span) -> str:
    return _text(span.attributes, _DECISION)


def _text(attributes: Any, key: str) -> str:
    return next((attribute.value.string_value for attribute in attributes if attribute.key == key), "")


def _shown(value: AnyValue) -> str:
    kind = value.WhichOneof("value")
    if kind in (None, "array_value", "kvlist_value", "bytes_value"):
        return str(value).strip()
    return str(getattr(value, str(kind)))
