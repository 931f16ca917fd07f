"""The store of spans: its bounds, and what it tells the sender."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from python_services.audit.traces import SPAN_BYTES, Collector, Traces, read_trace


def span(trace: int, number: int, *, size: int = 0, failed: bool = False) -> trace_pb2.Span:
    made = trace_pb2.Span(
        trace_id=trace.to_bytes(16, "big"),
        span_id=number.to_bytes(8, "big"),
        name="x" * size or "work",
        start_time_unix_nano=1_000 - number,
        end_time_unix_nano=2_000,
    )
    if failed:
        made.status.code = trace_pb2.Status.STATUS_CODE_ERROR
    return made


async def export(traces: Traces, *spans: trace_pb2.Span) -> int:
    """Sends spans as an exporter does; how many were refused."""
    request = trace_service_pb2.ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "tester"
    resource.scope_spans.add().spans.extend(spans)
    answer = await Collector(traces).Export(request, None)
    return answer.partial_success.rejected_spans


def trace_id(trace: int) -> str:
    return f"{trace:032x}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traces.db"


async def test_spans_are_read_by_start_and_a_repeat_changes_nothing(path):
    traces = Traces(path, 2**20, 100)
    for _ in range(2):
        assert await export(traces, span(1, 1), span(1, 2, failed=True), span(2, 1)) == 0
    found = read_trace(traces, trace_id(1))
    assert found is not None
    assert [(s.service, s.span_id, s.failed) for s in found.spans] == [
        ("tester", f"{2:016x}", True),
        ("tester", f"{1:016x}", False),
    ]
    assert (found.trace.spans, found.trace.failed_spans, found.trace.start_ns) == (2, 1, 998)
    assert [trace.trace_id for _, trace in traces.newest(10, 0, failed_only=False)] == [trace_id(2), trace_id(1)]
    assert [trace.trace_id for _, trace in traces.newest(10, 0, failed_only=True)] == [trace_id(1)]
    assert read_trace(traces, trace_id(3)) is None


async def test_one_trace_keeps_so_many_spans_and_counts_the_others(path):
    traces = Traces(path, 2**20, 5)
    assert await export(traces, *(span(1, n) for n in range(1, 4))) == 0
    assert await export(traces, *(span(1, n) for n in range(4, 11))) == 5
    found = read_trace(traces, trace_id(1))
    assert (len(found.spans), found.trace.spans, found.trace.dropped_spans) == (5, 5, 5)


async def test_what_cannot_be_kept_is_refused_and_the_rest_of_the_batch_is_kept(path):
    traces = Traces(path, 2**20, 100)
    nameless = span(1, 2)
    nameless.span_id = b""
    assert await export(traces, span(1, 1), nameless, span(1, 3, size=SPAN_BYTES)) == 2
    assert len(read_trace(traces, trace_id(1)).spans) == 1


async def test_the_oldest_traces_make_room(path):
    limit = 64 * 1024
    traces = Traces(path, limit, 100)
    for trace in range(1, 201):
        await export(traces, *(span(trace, n, size=400) for n in range(1, 5)))
        assert traces.size_bytes <= limit
    assert read_trace(traces, trace_id(1)) is None
    assert len(read_trace(traces, trace_id(200)).spans) == 4
    kept = [trace.trace_id for _, trace in traces.newest(500, 0, failed_only=False)]
    assert kept == [trace_id(n) for n in range(200, 200 - len(kept), -1)]
    assert traces.removed == 200 - len(kept)
    size = traces.size_bytes
    traces.close()
    assert path.stat().st_size < 4 * limit
    assert Traces(path, limit, 100).size_bytes == size, "counted again from the file"


async def test_a_damaged_file_is_started_anew(path):
    path.write_bytes(os.urandom(8192))
    traces = Traces(path, 2**20, 100)
    assert await export(traces, span(1, 1)) == 0
    assert read_trace(traces, trace_id(1)) is not None
