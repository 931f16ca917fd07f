"""Traces and metrics of services that run as processes: what is kept, how it hangs together, what a fault costs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from alphamesh.audit.v1 import audit_pb2_grpc, trace_pb2
from alphamesh.portfolio.v1 import portfolio_pb2, portfolio_pb2_grpc
from alphamesh.risk.v1 import risk_pb2, risk_pb2_grpc
from mesh import metrics, topology
from mesh.connect import SocketSystem
from mesh.rundir import RunDir
from python_services.kit import telemetry
from python_services.kit.connections import connect
from python_services.kit.observability import metrics_socket
from tests.integration.conftest import alphamesh

from .test_transports import set_limits as limits

TRACED = topology.ROOT / "tests" / "services" / "traced.yaml"
ARRIVES_S = 15
Kind = trace_pb2.Span.Kind


@pytest.fixture(scope="module")
def traced() -> Iterator[RunDir]:
    with tempfile.TemporaryDirectory(prefix="am-") as folder:
        path = Path(folder) / "run"
        started = alphamesh("up", "--detach", "--data-dir", path, "--topology", TRACED)
        assert started.returncode == 0, started.stderr
        yield RunDir(path)
        alphamesh("down", "--data-dir", path)


@pytest.fixture
async def system(traced: RunDir) -> AsyncIterator[SocketSystem]:
    opened = SocketSystem(traced)
    yield opened
    await opened.close()


@contextmanager
def in_trace(*, sampled: bool) -> Iterator[str]:
    """The block's calls belong to a trace of their own; its id."""
    trace_id = telemetry.new_trace_id()
    token = telemetry.traceparent.set(f"00-{trace_id}-{telemetry.new_span_id()}-0{int(sampled)}")
    try:
        yield trace_id
    finally:
        telemetry.traceparent.reset(token)


async def spans_of(
    system: SocketSystem, trace_id: str, enough: Callable[[list[trace_pb2.Span]], bool]
) -> list[trace_pb2.Span]:
    """The trace's spans once they are enough; what there is when that does not come."""
    audit = system.stub(audit_pb2_grpc.AuditServiceStub, "audit")
    spans: list[trace_pb2.Span] = []
    give_up = asyncio.get_running_loop().time() + ARRIVES_S
    while not enough(spans) and asyncio.get_running_loop().time() < give_up:
        await asyncio.sleep(0.1)
        try:
            spans = list((await audit.GetTrace(trace_pb2.GetTraceRequest(trace_id=trace_id))).spans)
        except grpc.aio.AioRpcError as error:
            if error.code() not in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE):
                raise
    return spans


async def set_limits(system: SocketSystem, account: str) -> None:
    request = limits(account, str(uuid.uuid4()))
    await system.stub(risk_pb2_grpc.RiskServiceStub, "ledger").SetLimits(request)


async def test_a_sampled_call_is_one_tree_over_services_and_the_event_log(system):
    with in_trace(sampled=True) as trace_id:
        first = telemetry.traceparent.get()[36:52]
        await set_limits(system, "traced")
        reader = system.stub(portfolio_pb2_grpc.PortfolioServiceStub, "reader")
        await reader.GetPerformance(portfolio_pb2.GetPerformanceRequest(account_id="traced", min_seq=1))
    spans = await spans_of(system, trace_id, lambda spans: len(spans) >= 7)
    found = {(span.service, Kind.Name(span.kind), span.name.rpartition("/")[2]): span for span in spans}
    assert set(found) == {
        ("ledger", "KIND_SERVER", "SetLimits"),
        ("ledger", "KIND_PRODUCER", "publish ledger"),
        ("reader", "KIND_CONSUMER", "process ledger"),
        ("audit", "KIND_CONSUMER", "receive ledger"),
        ("reader", "KIND_SERVER", "GetPerformance"),
        ("reader", "KIND_CLIENT", "GetLimits"),
        ("ledger", "KIND_SERVER", "GetLimits"),
    }

    def parent(*key: str) -> str:
        return found[key].parent_span_id

    served = found["ledger", "KIND_SERVER", "SetLimits"]
    published = found["ledger", "KIND_PRODUCER", "publish ledger"]
    asked = found["reader", "KIND_SERVER", "GetPerformance"]
    assert served.parent_span_id == asked.parent_span_id == first
    assert published.parent_span_id == served.span_id
    assert parent("reader", "KIND_CONSUMER", "process ledger") == published.span_id
    assert parent("audit", "KIND_CONSUMER", "receive ledger") == published.span_id
    assert parent("reader", "KIND_CLIENT", "GetLimits") == asked.span_id
    call = found["reader", "KIND_CLIENT", "GetLimits"]
    assert parent("ledger", "KIND_SERVER", "GetLimits") == call.span_id
    assert call.start_ns >= asked.start_ns
    assert call.duration_ns <= asked.duration_ns
    assert call.attributes["peer.service"] == "ledger"
    assert (call.attributes["rpc.service"], call.status_code) == ("alphamesh.risk.v1.RiskService", 0)
    assert published.attributes["alphamesh.event.types"] == "LimitsSet"


async def test_an_unsampled_call_is_kept_when_it_fails_or_is_slow_and_not_when_it_is_refused(system):
    stub = system.stub(risk_pb2_grpc.RiskServiceStub, "ledger")
    kept = {}
    for account in ("broken", "refused", "nobody", "slow"):
        with in_trace(sampled=False) as trace_id, pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.GetLimits(risk_pb2.GetLimitsRequest(account_id=account))
        kept[account] = (trace_id, raised.value.code())
    (failed,) = await spans_of(system, kept["broken"][0], bool)
    assert (failed.service, failed.failed, failed.status_code) == ("ledger", True, 13)
    assert failed.error == "INTERNAL"
    (slow,) = await spans_of(system, kept["slow"][0], bool)
    assert (slow.failed, slow.status_code, slow.duration_ns > 200e6) == (False, 5, True)
    audit = system.stub(audit_pb2_grpc.AuditServiceStub, "audit")
    for account in ("refused", "nobody"):
        with pytest.raises(grpc.aio.AioRpcError, match="NOT_FOUND") as unknown:
            await audit.GetTrace(trace_pb2.GetTraceRequest(trace_id=kept[account][0]))
        assert "was not sampled" in unknown.value.details()
    listed = await audit.ListTraces(trace_pb2.ListTracesRequest(failed_only=True))
    assert kept["broken"][0] in [trace.trace_id for trace in listed.traces]
    assert kept["slow"][0] not in [trace.trace_id for trace in listed.traces]


async def test_a_frame_carries_its_trace_in_its_headers(traced, system):
    with in_trace(sampled=True) as trace_id:
        await set_limits(system, "header")
    with in_trace(sampled=False):
        await set_limits(system, "no header")
    url = json.loads((traced.path / "config" / "reader.json").read_text())["nats_url"]
    # A reader may not look at single messages; the supervisor's own user may.
    users = json.loads((traced.path / "nats" / "nats-server.conf").read_text())["authorization"]["users"]
    own = next(user for user in users if user["user"] == "alphamesh")
    address, _, query = url.partition("@")[2].partition("?")
    client = await connect(f"tls://{own['user']}:{own['password']}@{address}?{query}", "test")
    try:
        stream = client.jetstream()
        for _ in range(100):  # until both are published
            last = await stream.get_last_msg("ALPHAMESH_ledger", "alphamesh.events.ledger")
            if b"no header" in last.data:
                break
            await asyncio.sleep(0.05)
        before = await stream.get_msg("ALPHAMESH_ledger", seq=last.seq - 1)
    finally:
        await client.close()
    assert "traceparent" not in last.headers
    assert before.headers["traceparent"].startswith(f"00-{trace_id}-")
    assert before.headers["traceparent"].endswith("-01")


async def test_a_killed_collector_costs_no_call_and_comes_back(traced, system):
    pid = traced.state()["processes"]["audit"]["pid"]
    loop = asyncio.get_running_loop()
    os.kill(pid, signal.SIGKILL)
    taken = []
    with in_trace(sampled=True) as trace_id:
        for number in range(20):
            begun = loop.time()
            await set_limits(system, f"away-{number}")
            taken.append(loop.time() - begun)
    assert sorted(taken)[10] < 0.1, "calls went on as before"
    spans = await spans_of(system, trace_id, lambda spans: sum(s.kind == Kind.KIND_SERVER for s in spans) == 20)
    assert sum(span.kind == Kind.KIND_SERVER for span in spans) == 20, "what waited is exported afterwards"
    assert traced.state()["processes"]["audit"]["restarts"] >= 1


async def test_metrics_count_every_call_by_code_and_name_a_trace(traced, system):
    socket = metrics_socket(traced.sockets, "ledger")
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    stub = system.stub(risk_pb2_grpc.RiskServiceStub, "ledger")
    await set_limits(system, "counted")

    async def counted() -> dict[str, float]:
        text = await metrics.read(traced, "ledger")
        return {
            labels["code"]: value
            for name, labels, value in metrics.samples(text)
            if name == "alphamesh_rpc_server_requests_total"
            and (labels["rpc_method"], labels["caller"]) == ("GetLimits", "operator")
        }

    before = await counted()
    with in_trace(sampled=True) as trace_id:
        for _ in range(5):
            await stub.GetLimits(risk_pb2.GetLimitsRequest(account_id="counted"))
    for _ in range(3):
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.GetLimits(risk_pb2.GetLimitsRequest(account_id="nobody"))
    after = await counted()
    assert after["OK"] - before.get("OK", 0) == 5
    assert after["NOT_FOUND"] - before.get("NOT_FOUND", 0) == 3

    reader, writer = await asyncio.open_unix_connection(socket)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text\r\n\r\n")
    answer = (await reader.read()).decode()
    writer.close()
    assert f'# {{trace_id="{trace_id}"}}' in answer
    assert answer.endswith("# EOF\n")

    table = alphamesh("metrics", "--data-dir", traced.path, "--json")
    rows = {(row["caller"], row["service"], row["method"]): row for row in json.loads(table.stdout)}
    assert rows["operator", "ledger", "GetLimits"]["requests"] == sum(after.values())
    assert rows["reader", "ledger", "GetLimits"]["codes"]["OK"] >= 1
    text = alphamesh("metrics", "ledger", "--data-dir", traced.path).stdout
    assert "alphamesh_journal_events_total" in text
    assert "alphamesh_spans_dropped_total" in text
