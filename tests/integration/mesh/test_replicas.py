"""Replicas of a service while calls flow, through real sidecars: found, divided, passed over, drained."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import grpc
import orjson
import pytest

from alphamesh.agent.v1 import agent_pb2, agent_pb2_grpc
from mesh import topology, watches
from mesh.commands.system import supervised
from mesh.connect import SocketSystem
from mesh.replicas import Replicas
from python_services.kit.errors import ServiceError

from ..conftest import TOPOLOGY, alphamesh

REPLICAS = TOPOLOGY.with_name("replicas.yaml")
PATIENCE_S = 30


class Calls:
    """A caller outside, and what it was told."""

    def __init__(self, run) -> None:
        self.system = SocketSystem(run)
        self.worker = self.system.stub(agent_pb2_grpc.AgentServiceStub, "worker")
        self.relay = self.system.stub(agent_pb2_grpc.AgentServiceStub, "relay")

    async def who(self, *, metadata=()) -> str:
        answer = await self.worker.ListAgents(agent_pb2.ListAgentsRequest(), metadata=metadata)
        return answer.agents[0].agent_id

    async def spread(self, count: int) -> Counter[str]:
        return Counter([await self.who() for _ in range(count)])


@pytest.fixture
def mesh() -> topology.Topology:
    return topology.load(REPLICAS)


def changed(mesh: topology.Topology, **changes) -> topology.Topology:
    """The topology with other settings of worker."""
    services = tuple(replace(s, **changes) if s.name == "worker" else s for s in mesh.services)
    return replace(mesh, services=services)


@asynccontextmanager
async def running(run, mesh) -> AsyncIterator[tuple[Replicas, Calls, object]]:
    async with asyncio.timeout(PATIENCE_S * 3), supervised(run, mesh) as supervisor:
        calls = Calls(run)
        yield Replicas(supervisor, mesh), calls, supervisor
        await calls.system.close()


async def until(condition) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_scaled_up_and_down_every_replica_answers_and_those_that_left_have_ended(run, mesh):
    async with running(run, mesh) as (replicas, calls, supervisor):
        assert set(await calls.spread(20)) == {"worker"}
        present = await replicas.scale("worker", 3)
        assert {name for name, (_, s) in present.items() if s.state == "SERVING"} == {
            "worker", "worker-2", "worker-3", "worker@v2",
        }  # fmt: skip
        seen: set[str] = set()

        async def all_seen() -> bool:
            seen.update(await calls.spread(20))
            return seen == {"worker", "worker-2", "worker-3"}

        await until(all_seen)
        state = run.state()["services"]["worker"]
        assert state["worker"] == {"weight": 100, "replicas": ["worker", "worker-2", "worker-3"]}
        gone = [supervisor.statuses[name].pid for name in ("worker-2", "worker-3", "worker-3-envoy")]
        await replicas.scale("worker", 1)
        assert set(await calls.spread(30)) == {"worker"}
        for pid in gone:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
        assert not list((run.path / "mesh" / "identities").glob("worker-*"))


async def test_an_envoy_watches_what_is_counted_before_it_starts(run, mesh):
    async with running(run, mesh) as (_, _, supervisor):
        for node in supervisor.sidecars.nodes:
            bootstrap = orjson.loads(bootstrap_of(run, node.name).read_bytes())
            assert inotify_instances(supervisor.statuses[node.name].pid) == len(watches.watched(bootstrap)), node.name


def bootstrap_of(run, sidecar: str) -> Path:
    return run.path / "mesh" / "bootstrap" / f"{sidecar}.json"


def inotify_instances(pid: int) -> int:
    return sum(str(one.readlink()) == "anon_inode:inotify" for one in Path(f"/proc/{pid}/fd").iterdir())


async def test_a_call_in_flight_is_answered_by_the_replica_that_is_drained(run, mesh):
    async with running(run, changed(mesh, replicas=2)) as (replicas, calls, _):

        async def both() -> bool:
            return len(await calls.spread(10)) == 2

        await until(both)
        request = agent_pb2.ComputeForecastsRequest(decision_id="sleep:1.5", snapshot_id="0" * 64)
        slow = [asyncio.ensure_future(calls.worker.ComputeForecasts(request)) for _ in range(6)]
        await asyncio.sleep(0.3)
        await replicas.drain("worker-2")
        answered = Counter(answer.snapshot_id for answer in await asyncio.gather(*slow))
        assert answered["worker-2"] > 0
        assert set(await calls.spread(10)) == {"worker"}
        with pytest.raises(
            ServiceError, match=r"worker is the last replica of worker that serves; first start another"
        ):
            await replicas.drain("worker")
        with pytest.raises(ServiceError, match=r"'worker-2' is not known; worker has worker, worker@v2"):
            await replicas.drain("worker-2")


async def test_weights_divide_calls_between_versions(run, mesh):
    async with running(run, mesh) as (replicas, calls, _):
        assert set(await calls.spread(30)) == {"worker"}
        assert await replicas.shift("worker", {"stable": 50, "v2": 50}) == {"stable": 50, "v2": 50}

        async def both() -> bool:
            return set(await calls.spread(20)) == {"worker", "worker@v2"}

        await until(both)
        spread = await calls.spread(400)
        assert 140 < spread["worker"] < 260  # 6 standard deviations of a fair coin
        await replicas.shift("worker", {"v2": 100})

        async def only_new() -> bool:
            return set(await calls.spread(20)) == {"worker@v2"}

        await until(only_new)
        with pytest.raises(ServiceError, match=r"90 \+ 20 is 110; they sum to 100"):
            await replicas.shift("worker", {"stable": 90, "v2": 20})
        with pytest.raises(ServiceError, match=r"version 'v3' is not known; worker has stable, v2"):
            await replicas.shift("worker", {"v3": 100})


@pytest.mark.parametrize("harm", ["killed", "hung", "failing"])
async def test_a_replica_that_is_broken_is_passed_over(run, mesh, harm):
    calm = replace(mesh, supervision=replace(mesh.supervision, backoff_s=20.0, maximum_restarts=5))
    async with running(run, changed(calm, replicas=3)) as (_, calls, supervisor):
        victim = supervisor.statuses["worker-2"].pid
        await until(lambda: _sees(calls, "worker-2"))
        if harm == "killed":
            os.kill(victim, signal.SIGKILL)
        elif harm == "hung":
            os.kill(victim, signal.SIGSTOP)
        else:
            (run.path / "data" / "worker-2" / "broken").touch()

        async def passed_over() -> bool:
            try:
                async with asyncio.timeout(1):
                    return "worker-2" not in await calls.spread(30)
            except TimeoutError:
                return False

        await until(passed_over)
        assert set(await calls.spread(40)) == {"worker", "worker-3"}
        if harm == "hung":
            os.kill(victim, signal.SIGCONT)
        if harm == "failing":
            (run.path / "data" / "worker-2" / "broken").unlink()
        if harm != "killed":
            await until(lambda: _sees(calls, "worker-2"))


async def _sees(calls: Calls, name: str) -> bool:
    return name in await calls.spread(20)


async def test_a_replica_that_does_not_start_is_the_callers_problem_only(run, mesh):
    v2 = replace(mesh.service("worker").versions["v2"], config={"fails_to_build": True})
    async with running(run, mesh) as (replicas, calls, supervisor):
        broken = changed(mesh, versions={"v2": v2})
        with pytest.raises(ServiceError, match=r"worker@v2-2 ended with status 5 before it was ready") as refused:
            await Replicas(supervisor, broken).scale("worker@v2", 2)
        assert refused.value.code is grpc.StatusCode.FAILED_PRECONDITION
        assert "worker@v2-2" not in supervisor.statuses
        assert set(await calls.spread(5)) == {"worker"}
        assert run.state()["state"] == "RUNNING"
        with pytest.raises(ServiceError, match=r"relay cannot have replicas: it declares none; write `replicas: 1`"):
            await replicas.scale("relay", 2)
        with pytest.raises(ServiceError, match=r"'nobody' is not known; those that can have replicas: worker"):
            await replicas.scale("nobody", 2)


async def test_calls_with_the_same_key_go_to_the_same_replica(run, mesh):
    sharded = changed(mesh, replicas=3, sharded_by="x-alphamesh-account")
    async with running(run, sharded) as (replicas, calls, _):
        accounts = [f"account-{number}" for number in range(60)]

        async def places() -> dict[str, str]:
            return {name: await calls.who(metadata=(("x-alphamesh-account", name),)) for name in accounts}

        async def all_three() -> bool:
            return set((await places()).values()) == {"worker", "worker-2", "worker-3"}

        await until(all_three)
        before = await places()
        assert await places() == before
        await replicas.drain("worker-3")
        after = await places()
        moved = {name for name in accounts if after[name] != before[name]}
        homeless = {name for name in accounts if before[name] == "worker-3"}
        assert moved >= homeless
        # The ring keeps its size, so a few more move; modulo three, then two, would move half of them.
        assert len(moved - homeless) < 0.35 * (len(accounts) - len(homeless))


async def test_certificates_are_renewed_at_half_of_their_lifetime_without_a_failed_call(run, mesh):
    short = replace(mesh, mesh=replace(mesh.mesh, certificate_hours=6 / 3600))
    async with running(run, short) as (replicas, calls, _):
        assert run.state()["certificates"] == ""
        end = asyncio.get_running_loop().time() + 9  # longer than any certificate of the start lives
        served = 0
        while asyncio.get_running_loop().time() < end:
            await calls.who()
            served += 1
            fresh = Calls(run)  # its connection is new, though not that between the sidecars
            await fresh.who()
            await fresh.system.close()
        assert served > 50
        assert run.state()["certificates"].startswith("renewed ")
        present = await replicas.scale("worker", 2)  # a new connection with certificates of now
        assert present["worker-2"][1].state == "SERVING"
        await until(lambda: _sees(calls, "worker-2"))
        assert all(expires > datetime.now(UTC) for expires in (await replicas.rotate("")).values())
        assert set(await replicas.rotate("worker")) == {"worker", "worker-2", "worker@v2"}


def test_the_command_line_changes_a_running_system(tmp_path):
    path = tmp_path / "run"
    started = alphamesh("up", "--detach", "--data-dir", path, "--topology", REPLICAS)
    assert started.returncode == 0, started.stderr
    try:
        scaled = alphamesh("scale", "worker", "2", "--data-dir", path)
        assert scaled.returncode == 0, scaled.stderr
        assert scaled.stdout.splitlines()[-1].split() == ["worker-2", "SERVING"]
        status = alphamesh("status", "--data-dir", path)
        assert status.returncode == 0
        assert "worker, worker-2" in status.stdout
        assert "2 of 2" in status.stdout
        assert alphamesh("drain", "worker-2", "--data-dir", path).returncode == 0
        shifted = alphamesh("weights", "worker", "stable=90", "v2=10", "--data-dir", path)
        assert shifted.stdout.split() == ["stable", "90", "%", "v2", "10", "%"]
        rotated = alphamesh("certificates", "rotate", "relay", "--data-dir", path)
        assert rotated.stdout.startswith("relay ")
        assert "valid until" in rotated.stdout
        refused = alphamesh("scale", "relay", "2", "--data-dir", path)
        assert refused.returncode == 1
        assert "relay cannot have replicas" in refused.stderr
        assert (path / "sock" / "supervisor.control").stat().st_mode & 0o077 == 0
    finally:
        assert alphamesh("down", "--data-dir", path).returncode == 0
    nobody = alphamesh("scale", "worker", "2", "--data-dir", path)
    assert "start one with `alphamesh up`" in nobody.stderr


async def test_only_the_operator_may_change_the_system(run, mesh):
    from alphamesh.mesh.v1 import control_pb2, control_pb2_grpc
    from python_services.kit.client import open_channel

    async with running(run, mesh):
        channel = open_channel("relay", "control", run.control)
        stub = control_pb2_grpc.ControlServiceStub(channel)
        for call, request in (
            (stub.ScaleService, control_pb2.ScaleServiceRequest(group="worker", replicas=2)),
            (stub.DrainReplica, control_pb2.DrainReplicaRequest(name="worker")),
            (
                stub.ShiftWeights,
                control_pb2.ShiftWeightsRequest(service="worker", weights=[{"version": "v2", "percent": 100}]),
            ),
            (stub.RotateCertificates, control_pb2.RotateCertificatesRequest()),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(request)
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
        await channel.close()
