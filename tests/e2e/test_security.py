"""The mesh as an attacker meets it: every identity tries every method of every service, by its own sidecar and past it.

What the topology lists gets through; everything else Envoy refuses, and the audit log has it.
"""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import re
import ssl
import stat
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

import alphamesh as contracts
from alphamesh.audit.v1 import audit_pb2, audit_pb2_grpc, events_pb2, state_pb2, state_pb2_grpc
from alphamesh.execution.v1 import execution_pb2
from mesh import topology
from mesh.connect import SocketSystem
from mesh.identity import Authority, spiffe_id
from mesh.rundir import RunDir

from .conftest import alphamesh
from .mutual_tls import PREFACE, connected, context, handshake, ingress, short_folder, stored, tunnel

MESH = topology.load()
Identity = topology.Service | topology.Client
IDENTITIES: list[Identity] = [*MESH.services, *MESH.clients]
DENIED = grpc.StatusCode.PERMISSION_DENIED
SUBMIT = "/alphamesh.execution.v1.ExecutionService/SubmitOrders"
AT_ONCE = 64
LET_THROUGH_S, PATIENCE_S = 0.2, 30.0

folder = pytest.fixture(short_folder)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunDir]:
    """The whole system, as `alphamesh up` starts it."""
    data_dir = tmp_path_factory.mktemp("security") / "run"
    started = alphamesh("up", "--detach", "--data-dir", data_dir, timeout=300)
    assert started.returncode == 0, started.stderr
    yield RunDir(data_dir)
    stopped = alphamesh("down", "--data-dir", data_dir)
    assert stopped.returncode == 0, stopped.stderr


def every_method() -> list[str]:
    """Of every service of every contract."""
    found = ["grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"]
    for module in pkgutil.walk_packages(contracts.__path__, "alphamesh."):
        if module.name.endswith("_pb2"):
            for service in importlib.import_module(module.name).DESCRIPTOR.services_by_name.values():
                found += [f"{service.full_name}/{method.name}" for method in service.methods]
    assert len(found) > 80
    return found


def listed(identity: Identity, callee: str, method: str) -> bool:
    """Whether the topology has this edge."""
    methods = {name for call in identity.calls if call.service == callee for name in call.methods}
    return method in methods or f"{method.partition('/')[0]}/*" in methods


async def status(channel: grpc.aio.Channel, method: str, limit_s: float, **metadata: str) -> grpc.StatusCode:
    """Of a call with an empty request, whatever kind of method it is."""
    call = channel.unary_stream(f"/{method.lstrip('/')}")(b"", timeout=limit_s, metadata=tuple(metadata.items()))
    try:
        async for _ in call:
            return grpc.StatusCode.OK
    except grpc.aio.AioRpcError as error:
        return error.code()
    finally:
        call.cancel()
    return await call.code()


async def wrong_answers(
    identity: topology.Service | topology.Client, channels: dict[str, grpc.aio.Channel]
) -> list[str]:
    """Calls of `identity` that were answered as the topology does not say, of all that there can be."""
    room = asyncio.Semaphore(AT_ONCE)

    async def attempt(callee: str, method: str) -> str:
        allowed = listed(identity, callee, method)
        async with room:
            found = await status(channels[callee], method, LET_THROUGH_S if allowed else PATIENCE_S)
        right = found is not DENIED if allowed else found is DENIED
        return "" if right else f"{identity.name} -> {callee} {method}: {found}"

    results = await asyncio.gather(*(attempt(callee, method) for callee in channels for method in every_method()))
    assert len(results) == len(channels) * len(every_method())
    return [result for result in results if result]


def channel(path: Path, callee: str) -> grpc.aio.Channel:
    """Plaintext over a Unix socket, as an application opens it."""
    return grpc.aio.insecure_channel(f"unix:{path}", options=[("grpc.default_authority", f"{callee}.mesh")])


@asynccontextmanager
async def straight(folder: Path, up: RunDir, identity: str, callee: str) -> AsyncIterator[grpc.aio.Channel]:
    """To the callee's ingress, with the certificate of `identity` and without its sidecar."""
    tls = context(stored(up.path, identity))
    async with tunnel(folder, ingress(up.path, callee), tls) as path, channel(path, callee) as opened:
        yield opened


@pytest.mark.parametrize("identity", IDENTITIES, ids=lambda identity: identity.name)
async def test_through_its_own_sidecar_an_identity_reaches_what_is_listed_and_nothing_else(up, identity):
    if not identity.calls:
        assert not up.egress(identity.name).exists(), "who calls nobody has no way out"
        return
    others = [service.name for service in MESH.services if service.name != identity.name]
    channels = {callee: channel(up.egress(identity.name), callee) for callee in others}
    try:
        assert await wrong_answers(identity, channels) == []
    finally:
        for opened in channels.values():
            await opened.close()


@pytest.mark.parametrize("identity", IDENTITIES, ids=lambda identity: identity.name)
async def test_past_its_own_sidecar_an_identity_reaches_what_is_listed_and_nothing_else(up, folder, identity):
    for callee in (service.name for service in MESH.services if service.name != identity.name):
        async with straight(folder, up, identity.name, callee) as opened:
            assert await wrong_answers(identity, {callee: opened}) == []


@pytest.mark.parametrize("service", [service.name for service in MESH.services])
def test_only_a_valid_certificate_of_this_authority_gets_through_the_handshake(up, tmp_path, service):
    path = ingress(up.path, service)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    here, other = Authority(up.path / "mesh" / "authority"), Authority(tmp_path / "other")
    hour = timedelta(hours=1)
    assert handshake(path, context(here.issue("coordinator", hour))) == ""
    assert "certificate required" in handshake(path, context(None))
    assert re.search("unknown ca|decrypt error", handshake(path, context(other.issue("coordinator", hour))))
    assert "certificate expired" in handshake(path, context(here.issue("coordinator", timedelta(seconds=-1))))
    old = context(here.issue("coordinator", hour))
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert "protocol version" in handshake(path, old)
    with connected(path, 10) as plain:
        plain.sendall(PREFACE)
        assert b"\x00\x00\x04" not in plain.recv(64), "it speaks no plaintext"


async def test_a_caller_cannot_say_that_it_is_somebody_else(up, folder):
    claims = {
        "x-alphamesh-caller": spiffe_id("coordinator"),
        "x-forwarded-client-cert": f"By={spiffe_id('execution')};URI={spiffe_id('coordinator')}",
    }
    async with straight(folder, up, "technical_agent", "execution") as opened:
        assert await status(opened, SUBMIT, PATIENCE_S, **claims) is DENIED
    async with channel(up.egress("technical_agent"), "execution") as opened:
        assert await status(opened, SUBMIT, PATIENCE_S, **claims) is DENIED


async def test_a_service_reads_who_calls_from_the_certificate(up, folder):
    """A mutation without a caller is UNAUTHENTICATED; this one states none, and is refused for its content only."""
    async with straight(folder, up, "coordinator", "execution") as opened:
        assert await status(opened, SUBMIT, PATIENCE_S) is grpc.StatusCode.INVALID_ARGUMENT
    async with channel(up.socket("execution"), "execution") as opened:
        assert await status(opened, SUBMIT, PATIENCE_S) is grpc.StatusCode.UNAUTHENTICATED


async def refusals(up: RunDir, caller: str, calls: int) -> list[audit_pb2.AuditRecord]:
    """What the audit log has of refused calls to SubmitOrders, once it has `calls` of them."""
    system = SocketSystem(up)
    try:
        stub = system.stub(audit_pb2_grpc.AuditServiceStub, "audit")
        conditions = audit_pb2.AuditFilter(
            identity=caller, service="execution", method=SUBMIT, verdicts=[audit_pb2.AUDIT_VERDICT_DENIED]
        )
        give_up = time.monotonic() + PATIENCE_S
        while True:
            found = (await stub.ListAuditRecords(audit_pb2.ListAuditRecordsRequest(filter=conditions))).records
            if len(found) >= calls or time.monotonic() > give_up:
                return list(found)
            await asyncio.sleep(0.1)
    finally:
        await system.close()


async def test_an_agent_that_submits_an_order_is_refused_and_that_is_in_the_audit_log(up, folder):
    before = len(await refusals(up, "technical_agent", 1))
    trace = uuid.uuid4().hex
    request = execution_pb2.SubmitOrdersRequest(request_id=str(uuid.uuid4())).SerializeToString()
    metadata = (("traceparent", f"00-{trace}-{'1' * 16}-01"),)
    async with channel(up.egress("technical_agent"), "execution") as own:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await own.unary_unary(SUBMIT)(request, timeout=PATIENCE_S, metadata=metadata)
        assert refused.value.code() is DENIED
        assert "the topology has no such edge" in (refused.value.details() or "")
    async with straight(folder, up, "technical_agent", "execution") as past:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await past.unary_unary(SUBMIT)(request, timeout=PATIENCE_S, metadata=metadata)
        assert refused.value.code() is DENIED
        assert refused.value.details() == "RBAC: access denied"
    found = [record for record in await refusals(up, "technical_agent", before + 2) if record.trace_id == trace]
    assert [(record.stream, record.schema) for record in found] == 2 * [("audit", "alphamesh.audit.v1.AccessDenied")]
    assert {record.reason for record in found} == {"PERMISSION_DENIED"}
    assert all("SubmitOrders" in record.message for record in found)
    shown = alphamesh("log", "grep", "SubmitOrders", "--stream", "audit", "--data-dir", up.path)
    assert "AccessDenied" in shown.stdout, shown.stdout + shown.stderr


async def test_a_flood_of_refused_calls_is_a_few_events_that_count_every_call(up):
    calls, methods = 400, 100
    before = await settled(up, "feed")
    async with channel(up.egress("feed"), "venue") as opened:
        codes = await asyncio.gather(
            *(status(opened, f"flood.Service/Method{n % methods}", PATIENCE_S) for n in range(calls))
        )
    assert set(codes) == {DENIED}
    after = await settled(up, "feed", len(before))
    assert sum(event.calls for event in after) - sum(event.calls for event in before) == calls
    assert len(after) - len(before) < calls // 2


async def settled(up: RunDir, caller: str, more_than: int = -1) -> list[events_pb2.AccessDenied]:
    """Events of refused calls of `caller`, when there are more and two seconds bring no others."""
    give_up = time.monotonic() + PATIENCE_S
    found = await denied_events(up, caller)
    while True:
        await asyncio.sleep(2.0)  # the sidecar writes every 0.1 s, the audit service reads every second
        found, last = await denied_events(up, caller), found
        if len(found) == len(last) > more_than or time.monotonic() > give_up:
            return found


async def denied_events(up: RunDir, caller: str) -> list[events_pb2.AccessDenied]:
    """Refused calls of `caller`, as the audit service's journal has them."""
    system = SocketSystem(up)
    try:
        stub = system.stub(state_pb2_grpc.StateServiceStub, "audit")
        responses = stub.ReadEvents(state_pb2.ReadEventsRequest(from_seq=1, stop_at_end=True))
        events = [
            events_pb2.AccessDenied.FromString(event.payload)
            async for response in responses
            for frame in response.frames
            for event in frame.events
        ]
    finally:
        await system.close()
    return [event for event in events if event.caller == spiffe_id(caller)]
