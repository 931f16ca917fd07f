"""What bounds a call on its way through real sidecars: deadlines, breakers, rates, connections."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import grpc
import pytest

from alphamesh.agent.v1 import agent_pb2
from mesh.envoy import sidecar
from mesh.topology import Limits

from .test_replicas import changed, mesh, running, until  # noqa: F401 - a fixture


def ask(what: str = "now") -> agent_pb2.ComputeForecastsRequest:
    return agent_pb2.ComputeForecastsRequest(decision_id=what, snapshot_id="0" * 64)


async def test_a_callee_two_services_away_gets_what_is_left_of_the_callers_time(run, mesh):  # noqa: F811
    async with running(run, mesh) as (_, calls, _supervisor):
        for stub, what in ((calls.worker, "now"), (calls.relay, "now"), (calls.relay, "pause:0.4")):
            await stub.ComputeForecasts(ask())  # connections are made
            left_ms = []
            for _ in range(5):
                try:
                    answer = await stub.ComputeForecasts(ask(what), timeout=1.0)
                except grpc.aio.AioRpcError:  # the machine was busy elsewhere for so long
                    continue
                left_ms.append(float(answer.data_sha256))
            assert left_ms
            spent = 400 if what == "pause:0.4" else 0
            # gRPC writes a deadline with two or three digits, rounded up.
            assert all(0 < left < (1000 - spent) * 1.02 for left in left_ms), (what, left_ms)


async def test_a_call_with_100_ms_left_has_no_more_anywhere(run, mesh):  # noqa: F811
    async with running(run, mesh) as (_, calls, _supervisor):
        begun = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await calls.relay.ComputeForecasts(ask("pause:0.4"), timeout=0.1)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert time.monotonic() - begun < 1
        await asyncio.sleep(0.6)  # the relay was ended before it called
        answer = await calls.worker.ListAgents(agent_pb2.ListAgentsRequest())
        assert answer.agents[0].minimum_bars == 0


async def test_a_handler_that_hangs_is_ended_at_the_deadline(run, mesh):  # noqa: F811
    async with running(run, mesh) as (_, calls, _supervisor):
        for number, stub in enumerate((calls.worker, calls.relay), start=1):
            begun = time.monotonic()
            with pytest.raises(grpc.aio.AioRpcError) as late:
                await stub.ComputeForecasts(ask("sleep:60"), timeout=0.5)
            assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert time.monotonic() - begun < 5

            async def ended(wanted: int = number) -> bool:
                answer = await calls.worker.ListAgents(agent_pb2.ListAgentsRequest())
                return answer.agents[0].minimum_bars == wanted

            await until(ended)


async def test_calls_beyond_the_callers_share_are_refused_at_once_and_say_overloaded(run, mesh):  # noqa: F811
    narrow = changed(mesh, limits=Limits(requests=2))
    async with running(run, narrow) as (_, calls, _supervisor):
        held = [asyncio.ensure_future(calls.worker.ComputeForecasts(ask("sleep:2"))) for _ in range(2)]
        await asyncio.sleep(0.5)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await calls.worker.ComputeForecasts(ask(), timeout=10)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        told = {**dict(refused.value.initial_metadata() or ()), **dict(refused.value.trailing_metadata() or ())}
        assert told.get("x-envoy-overloaded") == "true"
        assert "overflow" in (refused.value.details() or "")
        await asyncio.gather(*held)
        await calls.worker.ComputeForecasts(ask())


async def test_calls_beyond_the_services_rate_are_refused(run, mesh):  # noqa: F811
    slow = changed(mesh, limits=Limits(requests_per_s=20))
    async with running(run, slow) as (_, calls, _supervisor):
        codes = []
        for _ in range(60):
            try:
                await calls.who()
                codes.append(grpc.StatusCode.OK)
            except grpc.aio.AioRpcError as error:
                codes.append(error.code())
        assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
        await asyncio.sleep(1.1)
        assert await calls.who()


async def test_connections_beyond_what_a_sidecar_takes_do_not_reach_it(run, mesh, monkeypatch):  # noqa: F811
    monkeypatch.setattr(sidecar, "CONNECTIONS", 12)
    calm = replace(mesh, supervision=replace(mesh.supervision, drain_s=2.0))
    async with running(run, calm) as (_, calls, _supervisor):
        await calls.who()
        flood = [await asyncio.open_unix_connection(run.egress("operator")) for _ in range(40)]
        await asyncio.sleep(0.3)
        closed = [reader.at_eof() or await _ended(reader) for reader, _ in flood]
        assert sum(closed) >= 40 - 12
        assert await calls.who(), "who is connected is not harmed"
        for _, writer in flood:
            writer.close()


async def _ended(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(0.05):
            return await reader.read(1) == b""
    except TimeoutError:
        return False
    except ConnectionResetError:
        return True
