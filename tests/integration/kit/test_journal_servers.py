"""Services whose journals are on a server, chosen by the topology: as processes, killed and started again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
from pathlib import Path

import grpc
import pytest

from alphamesh.risk.v1 import risk_pb2, risk_pb2_grpc
from mesh import topology
from mesh.connect import SocketSystem
from mesh.rundir import RunDir
from mesh.topology import TopologyError
from python_services.local import LocalSystem

from ..conftest import TOPOLOGY, alphamesh
from .test_transports import set_limits

REQUEST_ID = "6f0cf4a5-8c53-4a30-a4f2-4b1c2dd3e111"


@pytest.fixture(params=["postgres", "cluster"])
def address(request: pytest.FixtureRequest) -> str:
    server = request.getfixturevalue(request.param)
    return str(server.dsn if request.param == "postgres" else server.url)


@pytest.fixture
def mesh_file(tmp_path: Path) -> Path:
    path = tmp_path / "topology.yaml"
    path.write_text(TOPOLOGY.read_text() + "journals:\n  address: $ALPHAMESH_TEST_JOURNAL\n")
    return path


async def answered(stub: risk_pb2_grpc.RiskServiceAsyncStub, account: str, request_id: str | None) -> str:
    """The answer, asked for again while the service starts."""
    while True:
        try:
            return (await stub.SetLimits(set_limits(account, request_id))).etag
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            await asyncio.sleep(0.1)


@pytest.mark.timeout(60)
async def test_a_killed_service_goes_on_from_its_journal_on_a_server(mesh_file, address, monkeypatch):
    monkeypatch.setenv("ALPHAMESH_TEST_JOURNAL", address)
    with tempfile.TemporaryDirectory(prefix="am-") as folder:
        path = Path(folder) / "run"
        started = alphamesh("up", "--detach", "--data-dir", path, "--topology", mesh_file)
        assert started.returncode == 0, started.stderr
        system = SocketSystem(RunDir(path))
        try:
            risk = system.stub(risk_pb2_grpc.RiskServiceStub, "ledger")
            first = await answered(risk, "one", REQUEST_ID)
            status = json.loads(alphamesh("status", "--data-dir", path, "--json").stdout)
            os.kill(status["processes"]["ledger"]["pid"], signal.SIGKILL)
            async with asyncio.timeout(30):
                assert await answered(risk, "two", None) != first
                assert await answered(risk, "one", REQUEST_ID) == first
            limits = await risk.GetLimits(risk_pb2.GetLimitsRequest(account_id="two"))
            assert limits.policy_version == 2
            assert not (path / "data" / "ledger" / "journal.db").exists()
        finally:
            await system.close()
            stopped = alphamesh("down", "--data-dir", path)
        assert stopped.returncode == 0, stopped.stderr
        found = alphamesh("log", "grep", "LimitsSet", "--json", "--data-dir", path)
        accounts = [json.loads(line)["payload"]["account_id"] for line in found.stdout.splitlines()]
        assert accounts == ["one", "two"], found.stderr


async def test_the_local_transport_uses_the_same_journals(mesh_file, postgres, tmp_path, monkeypatch):
    monkeypatch.setenv("ALPHAMESH_TEST_JOURNAL", f"{postgres.dsn}&search_path=local_run")
    await postgres.execute("CREATE SCHEMA local_run")
    for account in ("a", "b"):
        async with LocalSystem(tmp_path / "run", topology.load(mesh_file)) as system:
            await answered(system.stub(risk_pb2_grpc.RiskServiceStub, "ledger"), account, None)
    async with LocalSystem(tmp_path / "run", topology.load(mesh_file)) as system:
        risk = system.stub(risk_pb2_grpc.RiskServiceStub, "ledger")
        assert (await risk.GetLimits(risk_pb2.GetLimitsRequest(account_id="a"))).policy_version == 2


def test_a_secret_that_is_not_set_is_named(mesh_file, monkeypatch):
    monkeypatch.delenv("ALPHAMESH_TEST_JOURNAL", raising=False)
    with pytest.raises(TopologyError, match=r"\$ALPHAMESH_TEST_JOURNAL is not set; set the environment variable"):
        topology.load(mesh_file)
