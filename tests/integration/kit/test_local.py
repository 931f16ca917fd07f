"""LocalSystem: failures surface, services stop and start, edges are those of the topology."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from alphamesh.portfolio.v1 import portfolio_pb2, portfolio_pb2_grpc
from alphamesh.risk.v1 import risk_pb2, risk_pb2_grpc
from mesh.topology import Topology
from python_services.kit.config import ConfigError
from python_services.kit.journal import JournalError
from python_services.local import LocalSystem, LocalSystemError

from .test_transports import set_limits


async def test_a_failed_background_task_ends_whoever_uses_the_system(tmp_path, mesh):
    with pytest.raises(LocalSystemError, match="reader failed: RuntimeError: a view that") as failed:  # noqa: PT012
        async with LocalSystem(tmp_path, mesh.with_config("reader", {"fail_at_event": 2})) as system:
            stub = system.stub(risk_pb2_grpc.RiskServiceStub, "ledger")
            await stub.SetLimits(set_limits("a"))
            await stub.SetLimits(set_limits("b"))
            await asyncio.sleep(10)
            pytest.fail("it was not interrupted")
    assert isinstance(failed.value.__cause__, RuntimeError)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_an_error_of_the_user_stays_what_it_is(tmp_path, mesh):
    with pytest.raises(ZeroDivisionError):
        async with LocalSystem(tmp_path, mesh):
            raise ZeroDivisionError


async def test_what_a_build_refuses_is_raised_and_nothing_stays_open(tmp_path, mesh):
    with pytest.raises(ConfigError, match="unknown key 'colour'"):
        await LocalSystem(tmp_path, mesh.with_config("reader", {"colour": "red"})).__aenter__()
    async with LocalSystem(tmp_path, mesh) as system:  # the journal of the ledger is not locked any more
        assert system.versions == {"ledger": "1.2.3", "reader": "0.0.7"}
        assert set(system.startup_ms) == {"ledger", "reader"}


async def test_two_systems_cannot_share_a_journal(tmp_path, mesh):
    async with LocalSystem(tmp_path, mesh):
        with pytest.raises(JournalError, match="database is locked"):
            await LocalSystem(tmp_path, mesh).__aenter__()


async def test_a_stopped_service_is_unavailable_and_comes_back_with_its_state(tmp_path, mesh):
    async with LocalSystem(tmp_path, mesh) as system:
        stub = system.stub(risk_pb2_grpc.RiskServiceStub, "ledger")
        await stub.SetLimits(set_limits("kept"))
        await system.stop("ledger")
        with pytest.raises(grpc.aio.AioRpcError) as down:
            await stub.GetLimits(risk_pb2.GetLimitsRequest(account_id="kept"))
        assert down.value.code() is grpc.StatusCode.UNAVAILABLE
        await system.start("ledger")
        assert (await stub.GetLimits(risk_pb2.GetLimitsRequest(account_id="kept"))).policy_version == 1
        await stub.SetLimits(set_limits("more"))
        reader = system.stub(portfolio_pb2_grpc.PortfolioServiceStub, "reader")
        answer = await reader.GetPerformance(portfolio_pb2.GetPerformanceRequest(account_id="more", min_seq=2))
        assert answer.applied_seq == 2


async def test_an_edge_that_the_topology_lacks_is_refused(tmp_path, mesh):
    from dataclasses import replace

    ledger, reader = mesh.services
    alone = Topology(path=mesh.path, services=(ledger, replace(reader, calls=())))
    with pytest.raises(ConfigError, match="reader calls ledger, an edge that the topology does not have"):
        await LocalSystem(tmp_path, alone).__aenter__()
