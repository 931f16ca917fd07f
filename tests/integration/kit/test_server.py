"""A service process as others see it: health, reflection, drain, and how it refuses to start."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from alphamesh.portfolio.v1 import portfolio_pb2, portfolio_pb2_grpc
from alphamesh.risk.v1 import risk_pb2, risk_pb2_grpc
from mesh import logs
from mesh.connect import SocketSystem
from mesh.process import Process
from mesh.topology import ROOT
from python_services.kit import health

READY_S = 20


@pytest.fixture
async def start(run, mesh, nats):
    """Starts one test service as the supervisor does, and returns its process when it is ready."""
    started: list[Process] = []

    async def start_service(name: str, *, wait: bool = True, **config) -> Process:
        service = mesh.with_config(name, config).service(name)
        run.write_config(service, nats.server.url)
        command = [sys.executable, "-m", service.module, "--run-dir", str(run.path)]
        process = await Process.start(name, command, run.log(name), {**os.environ, "PYTHONPATH": str(ROOT)})
        started.append(process)
        if wait:
            await asyncio.wait_for(health.wait_serving(run.socket(name)), READY_S)
        return process

    yield start_service
    for process in started:
        await process.stop(5)


@pytest.fixture
async def system(run):
    opened = SocketSystem(run)
    yield opened
    await opened.close()


async def test_health_serves_for_each_service_and_reflection_lists_them(run, start):
    await start("ledger")
    assert stat.S_IMODE(run.socket("ledger").stat().st_mode) == 0o600
    with grpc.insecure_channel(f"unix:{run.socket('ledger')}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        names = ["", "alphamesh.risk.v1.RiskService", "alphamesh.execution.v1.ExecutionService"]
        for name in names:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as unknown:
            stub.Check(health_pb2.HealthCheckRequest(service="alphamesh.none.v1.None"), timeout=5)
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        reflection = ProtoReflectionDescriptorDatabase(channel)
        assert set(names[1:]) <= set(reflection.get_services())
        pool = DescriptorPool(reflection)
        assert "SetLimits" in pool.FindServiceByName("alphamesh.risk.v1.RiskService").methods_by_name


async def test_a_service_waits_for_those_that_it_calls(run, start, system):
    reader = await start("reader", wait=False)
    await asyncio.sleep(1.5)
    assert reader.running
    assert await health.check(run.socket("reader")) == "UNREACHABLE"
    await start("ledger")
    await asyncio.wait_for(health.wait_serving(run.socket("reader")), READY_S)


async def test_sigterm_lets_calls_in_flight_finish_and_takes_no_new_ones(run, start, system):
    ledger = await start("ledger", slow_s=0.6)
    stub = system.stub(risk_pb2_grpc.RiskServiceStub, "ledger")
    slow = asyncio.ensure_future(stub.GetLimits(risk_pb2.GetLimitsRequest(account_id="slow")))
    await asyncio.sleep(0.2)
    stopping = asyncio.ensure_future(ledger.stop(10))
    await asyncio.sleep(0.1)
    assert await health.check(run.socket("ledger")) != "SERVING"
    with pytest.raises(grpc.aio.AioRpcError) as finished:
        await slow
    assert finished.value.code() is grpc.StatusCode.NOT_FOUND, "it was answered, not dropped"
    assert await stopping
    assert await ledger.wait() == 0
    assert [record["event"] for record in logs.read(run.log("ledger"))] == ["serving", "draining", "stopped"]


async def test_a_killed_service_comes_back_with_all_that_it_answered(start, system):
    ledger = await start("ledger")
    stub = system.stub(risk_pb2_grpc.RiskServiceStub, "ledger")
    from .test_transports import set_limits

    request = set_limits("kept", "6f1f7b52-0a0e-5c4e-9a39-0c3a8f6d2b11")
    first = await stub.SetLimits(request)
    os.kill(ledger.pid, signal.SIGKILL)
    assert await ledger.wait() == -signal.SIGKILL
    await start("ledger")
    assert (await stub.GetLimits(risk_pb2.GetLimitsRequest(account_id="kept"))).policy_version == 1
    assert await stub.SetLimits(request) == first


async def test_a_failed_background_task_ends_the_process(run, start, system):
    from .test_transports import set_limits

    await start("ledger")
    reader = await start("reader", fail_at_event=1)
    await system.stub(risk_pb2_grpc.RiskServiceStub, "ledger").SetLimits(set_limits("any"))
    assert await asyncio.wait_for(reader.wait(), READY_S) == 70
    last = logs.tail(run.log("reader"), 1)[0]
    assert last["event"] == "crash"
    assert "a view that cannot apply an event" in last["exception"]


async def test_a_wrong_configuration_is_one_message_and_status_78(run, start):
    ledger = await start("ledger", wait=False, colour="red")
    assert await asyncio.wait_for(ledger.wait(), READY_S) == 78
    events = [logs.plain(record) for record in logs.read(run.log("ledger"))]
    assert any("unknown key 'colour'; known keys are" in event for event in events)
    assert not any("Traceback" in event for event in events)


async def test_an_edge_that_the_topology_lacks_is_refused(run, mesh, start):
    from dataclasses import replace

    from mesh.topology import Topology

    await start("ledger")
    reader = replace(mesh.service("reader"), calls=())
    alone = Topology(path=mesh.path, services=(mesh.service("ledger"), reader))
    assert alone.service("reader").callees == ()
    run.write_config(reader, "nats://127.0.0.1:1")
    from python_services.kit.client import declared_edge
    from python_services.kit.config import ConfigError

    with pytest.raises(ConfigError, match="reader calls ledger, an edge that the topology does not have"):
        declared_edge("reader", "ledger", alone.service("reader").callees)


async def test_a_call_to_a_service_that_is_down_is_unavailable(system):
    stub = system.stub(portfolio_pb2_grpc.PortfolioServiceStub, "reader")
    with pytest.raises(grpc.aio.AioRpcError) as down:
        await stub.GetPerformance(portfolio_pb2.GetPerformanceRequest(account_id="a"))
    assert down.value.code() is grpc.StatusCode.UNAVAILABLE
