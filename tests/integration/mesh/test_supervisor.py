"""The supervisor with real processes: order, restarts, giving up, stopping, clear messages."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.servers import missing
from mesh.errors import MeshError
from mesh.rundir import RunDir
from mesh.supervisor import Supervisor, SupervisorError
from python_services.kit import health

from ..conftest import alive

PATIENCE_S = 30


@asynccontextmanager
async def supervised(run, mesh):
    supervisor = Supervisor(run, mesh)
    try:
        await asyncio.wait_for(supervisor.start(), PATIENCE_S)
        yield supervisor
    finally:
        await asyncio.wait_for(supervisor.stop(), PATIENCE_S)


def pids(supervisor: Supervisor) -> dict[str, int]:
    return {name: status.pid for name, status in supervisor.statuses.items() if status.pid is not None}


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


SIDECARS = ("ledger-envoy", "reader-envoy", "outside")


def command_line(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


async def until(condition) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_everything_serves_and_nothing_is_left(run, mesh):
    async with supervised(run, mesh) as supervisor:
        state = run.state()
        assert state["state"] == "RUNNING"
        assert state["pid"] == os.getpid()
        assert {name: facts["state"] for name, facts in state["processes"].items()} == {
            "nats": "SERVING",
            **dict.fromkeys(("ledger", "reader", *SIDECARS), "SERVING"),
        }
        assert state["processes"]["ledger"]["version"] == "1.2.3"
        assert set(supervisor.startup_ms) == {"nats", "nursery", "ledger", "reader", *SIDECARS, "total"}
        assert await health.check(run.socket("reader")) == "SERVING"
        started = pids(supervisor)
        assert all(alive(pid) for pid in started.values())
        assert all(os.getsid(pid) == pid for pid in started.values()), "Ctrl-C must not reach them"
    assert not any(alive(pid) for pid in started.values())
    assert run.state()["state"] == "STOPPED"
    assert not list(run.sockets.glob("*.sock"))


async def test_no_password_reaches_a_log_or_a_command_line(run, mesh):
    import orjson

    async with supervised(run, mesh) as supervisor:
        url = orjson.loads((run.path / "config" / "ledger.json").read_bytes())["nats_url"]
        password = url.partition("@")[0].rpartition(":")[2].encode()
        assert len(password) > 20
        for pid in pids(supervisor).values():
            assert not any(password.decode() in argument for argument in command_line(pid))
    for log in (run.path / "logs").glob("*.jsonl"):
        assert password not in log.read_bytes()


@pytest.mark.parametrize("name", ["ledger", "nats"])
async def test_a_killed_process_is_started_again(run, mesh, name):
    async with supervised(run, mesh) as supervisor:
        before = pids(supervisor)
        os.kill(before[name], signal.SIGKILL)
        await until(lambda: supervisor.statuses[name].restarts == 1 and supervisor.statuses[name].state == "SERVING")
        after = pids(supervisor)
        assert after[name] != before[name]
        assert {other: pid for other, pid in after.items() if other != name} == {
            other: pid for other, pid in before.items() if other != name
        }


async def test_a_service_that_keeps_ending_stops_all_with_its_log(run, mesh):
    with pytest.raises(SupervisorError) as gave_up:  # noqa: PT012
        async with supervised(run, mesh.with_config("ledger", {"exit_after_s": 0.2})) as supervisor:
            started = pids(supervisor)
            await asyncio.wait_for(supervisor.watch(), PATIENCE_S)
    message = str(gave_up.value)
    assert message.startswith("ledger ended with status 3, 3 times in a row; its log says why\n")
    assert f"log: {run.log('ledger')}" in message
    assert not any(alive(pid) for pid in started.values())


async def test_a_wrong_configuration_is_not_tried_again(run, mesh):
    begun = time.monotonic()
    with pytest.raises(SupervisorError, match="ledger cannot start; correct what its log says") as refused:
        async with supervised(run, mesh.with_config("ledger", {"misconfigured": True})):
            pass
    assert "ledger.misconfigured: is true; set it to false" in str(refused.value)
    assert run.state()["processes"]["ledger"]["restarts"] == 0
    assert run.state()["processes"]["ledger"]["state"] == "FAILED"
    assert time.monotonic() - begun < PATIENCE_S


async def test_a_service_that_ends_before_it_is_ready_is_named_with_its_last_lines(run, mesh):
    with pytest.raises(SupervisorError, match="ledger ended with status 5 before it was ready") as ended:
        async with supervised(run, mesh.with_config("ledger", {"exit_on_build": 5})):
            pass
    assert "about to end" in str(ended.value)


async def test_a_service_that_never_gets_ready_is_named(run, mesh):
    slow = mesh.with_config("ledger", {"hang_on_build": True})
    slow = replace(slow, supervision=replace(slow.supervision, start_timeout_s=2.0))
    with pytest.raises(SupervisorError, match=r"(ledger|reader) was not ready within 2 s; raise"):
        async with supervised(run, slow):
            pass


async def test_a_process_that_ignores_sigterm_is_killed_after_its_grace(run, mesh):
    hasty = replace(mesh, supervision=replace(mesh.supervision, drain_s=0.5))
    async with supervised(run, hasty) as supervisor:
        pid = pids(supervisor)["ledger"]
        os.kill(pid, signal.SIGSTOP)
    assert not alive(pid)


async def test_stopping_while_starting_leaves_nothing(run, mesh):
    supervisor = Supervisor(run, mesh)
    starting = asyncio.ensure_future(supervisor.start())
    await until(lambda: "ledger" in pids(supervisor))
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    started = pids(supervisor)
    await supervisor.stop()
    assert not any(alive(pid) for pid in started.values())


async def test_a_run_that_ended_is_started_again_on_its_data(run, mesh):
    from alphamesh.risk.v1 import risk_pb2, risk_pb2_grpc
    from mesh.connect import SocketSystem

    from ..kit.test_transports import set_limits

    for expected in (1, 2):
        async with supervised(run, mesh):
            system = SocketSystem(run)
            stub = system.stub(risk_pb2_grpc.RiskServiceStub, "ledger")
            await stub.SetLimits(set_limits("again"))
            answer = await stub.GetLimits(risk_pb2.GetLimitsRequest(account_id="again"))
            await system.close()
        assert answer.policy_version == expected


async def test_a_missing_nats_server_is_named(run, mesh, monkeypatch):
    from mesh import nats

    monkeypatch.setattr(nats.sys, "executable", "/nowhere/python")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(nats.NatsError, match=r"nats-server is not installed; run `make setup`"):
        nats.find_program()


async def test_a_missing_postgres_is_named(run, mesh, monkeypatch):
    from mesh import postgres

    monkeypatch.setattr(postgres, "_HOMES", ())
    monkeypatch.setenv("PATH", "")
    with pytest.raises(postgres.PostgresError, match="PostgreSQL is not installed; `make postgres` installs it"):
        async with supervised(run, mesh.with_journals("postgres")):
            pass


@pytest.mark.skipif(bool(missing()), reason=missing())
@pytest.mark.skipif(os.geteuid() != 0, reason="the server runs as this user")
async def test_a_folder_that_postgres_cannot_enter_is_named(tmp_path, mesh):
    tmp_path.chmod(0o700)
    run = RunDir.create(tmp_path / "run")
    try:
        with pytest.raises(MeshError, match=r"'postgres' cannot enter .*; choose a --data-dir that it can reach"):
            async with supervised(run, mesh.with_journals("postgres")):
                pass
    finally:
        run.release()


async def test_a_killed_nursery_takes_its_children_along_and_all_come_back(run, mesh):
    async with supervised(run, mesh) as supervisor:
        before = pids(supervisor)
        nursery = parent(before["ledger"])
        assert nursery != os.getpid()
        os.kill(nursery, signal.SIGKILL)
        services = [supervisor.statuses[name] for name in ("ledger", "reader")]
        await until(lambda: all(status.restarts == 1 and status.state == "SERVING" for status in services))
        after = pids(supervisor)
        assert after["nats"] == before["nats"]
        assert not alive(before["ledger"])
        assert not alive(before["reader"])


async def test_without_preloading_each_service_is_executed(run, mesh):
    alone = replace(mesh, supervision=replace(mesh.supervision, preload=()))
    async with supervised(run, alone) as supervisor:
        started = pids(supervisor)
        assert command_line(started["ledger"])[1:4] == ["-m", "tests.services.ledger", "--run-dir"]
        os.kill(started["ledger"], signal.SIGKILL)
        ledger = supervisor.statuses["ledger"]
        await until(lambda: ledger.restarts == 1 and ledger.state == "SERVING")
    assert not any(alive(pid) for pid in started.values())


async def test_a_nursery_that_cannot_import_is_one_message(run, mesh):
    wrong = replace(mesh, supervision=replace(mesh.supervision, preload=("no.such.module",)))
    with pytest.raises(MeshError, match=r"the nursery ended; its log says why") as refused:
        async with supervised(run, wrong):
            pass
    assert "No module named 'no'" in str(refused.value)
