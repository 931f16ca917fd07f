"""The checks, in the order they are made: each a sentence that must hold. One that does not raises `BrokenError`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import grpc
from grpc_health.v1 import health_pb2

from alphamesh.agent.v1 import agent_pb2, agent_pb2_grpc
from alphamesh.marketdata.v1 import marketdata_pb2

from . import answers
from .market import Market
from .vectors import LAST_CLOSE_NS, Vector, altered, golden, large, vector, walk

PATIENCE_S = 10.0
SERVICE = "alphamesh.agent.v1.AgentService"
COMPUTE = f"/{SERVICE}/ComputeForecasts"
UNKNOWN = "0" * 64
INSTRUMENTS = 500
_SHOWN = 3


class BrokenError(AssertionError):
    """A check that does not hold, and why."""


@dataclass
class Bench:
    """The agent under test, the market that it reads, and what was learnt on the way."""

    channel: grpc.aio.Channel
    market: Market
    deadline_s: float
    agents: dict[str, agent_pb2.Agent] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)

    async def compute(
        self, snapshot_id: str, agent_ids: Iterable[str] = (), *, timeout_s: float = PATIENCE_S
    ) -> agent_pb2.ComputeForecastsResponse:
        """One question. Raises AioRpcError."""
        stub = agent_pb2_grpc.AgentServiceStub(self.channel)
        request = agent_pb2.ComputeForecastsRequest(
            decision_id="conformance-0001", snapshot_id=snapshot_id, agent_ids=agent_ids
        )
        answer: agent_pb2.ComputeForecastsResponse = await stub.ComputeForecasts(request, timeout=timeout_s)
        return answer

    async def of(self, vector: Vector) -> agent_pb2.ComputeForecastsResponse:
        """The answer about a vector that the market has."""
        self.market.hold(vector)
        return await self.compute(vector.snapshot_id)

    async def alive(self) -> None:
        """It still answers, and what it answered before."""
        _none(answers.of_response(await self.of(golden()["plain"]), golden()["plain"], self.agents))


async def _healthy(bench: Bench) -> None:
    """grpc.health.v1 says SERVING"""
    check = bench.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    status = (await check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)).status
    if status != health_pb2.HealthCheckResponse.SERVING:
        raise BrokenError(f"it says {health_pb2.HealthCheckResponse.ServingStatus.Name(status)}")


async def _lists(bench: Bench) -> None:
    """ListAgents describes every agent"""
    stub = agent_pb2_grpc.AgentServiceStub(bench.channel)
    listed = (await stub.ListAgents(agent_pb2.ListAgentsRequest(), timeout=PATIENCE_S)).agents
    _none(answers.of_listing(listed))
    bench.agents = {agent.agent_id: agent for agent in listed}


async def _forecasts(bench: Bench) -> None:
    """whole bars: one valid forecast of each agent, every instrument exactly once, hash of what was read"""
    for name in ("plain", "one", "flat"):
        _none(answers.of_response(await bench.of(golden()[name]), golden()[name], bench.agents), name)


async def _deterministic(bench: Bench) -> None:
    """the same snapshot gives the same forecasts to the bit, whatever was asked in between and at once"""
    plain, other = golden()["plain"], golden()["one"]
    first = _bits(await bench.of(plain))
    await bench.of(other)
    again = await asyncio.gather(*(bench.of(plain) for _ in range(16)))
    if any(_bits(answer) != first for answer in again):
        raise BrokenError("answers about the same snapshot differ: nothing may be remembered, drawn or timed")


async def _named(bench: Bench) -> None:
    """agents asked for by name say what they say among all"""
    plain = golden()["plain"]
    whole = {forecast.agent_id: forecast for forecast in (await bench.of(plain)).forecasts}
    for agent_id in bench.agents:
        alone = (await bench.compute(plain.snapshot_id, [agent_id])).forecasts
        if [forecast.agent_id for forecast in alone] != [agent_id]:
            raise BrokenError(f"asked for {agent_id}, answered by {[forecast.agent_id for forecast in alone]}")
        if alone[0] != whole[agent_id]:
            raise BrokenError(f"{agent_id} says something else when it is asked alone")


async def _abstains(bench: Bench) -> None:
    """missing, short and stale data: abstentions with a reason, never a number"""
    for name in ("holes", "short", "stale"):
        _none(answers.of_response(await bench.of(golden()[name]), golden()[name], bench.agents), name)


async def _unknown(bench: Bench) -> None:
    """an unknown snapshot or agent is NOT_FOUND"""
    await _refused(bench.compute(UNKNOWN), "an unknown snapshot", grpc.StatusCode.NOT_FOUND)
    await bench.of(golden()["plain"])
    asked = bench.compute(golden()["plain"].snapshot_id, ["nobody.at_all"])
    await _refused(asked, "an unknown agent", grpc.StatusCode.NOT_FOUND)


async def _altered(bench: Bench) -> None:
    """content that is not what the id says is FAILED_PRECONDITION"""
    bench.market.alter("f" * 64, golden()["one"].response())
    await _refused(bench.compute("f" * 64), "another snapshot", grpc.StatusCode.FAILED_PRECONDITION)
    whole, marked = large(3, 90), vector("other", "another as_of", walk(3, 90, 500), as_of_ns=LAST_CLOSE_NS + 1)
    bench.market.alter(whole.snapshot_id, marked.response())
    await _refused(bench.compute(whole.snapshot_id), "an altered header", grpc.StatusCode.FAILED_PRECONDITION)
    bench.market.alter(whole.snapshot_id, altered(whole))
    await _refused(bench.compute(whole.snapshot_id), "altered columns", grpc.StatusCode.FAILED_PRECONDITION)


async def _malformed(bench: Bench) -> None:
    """malformed requests are INVALID_ARGUMENT, malformed bytes and data no crash"""
    bad = {
        "a snapshot_id that is none": agent_pb2.ComputeForecastsRequest(decision_id="d", snapshot_id="latest"),
        "no decision_id": agent_pb2.ComputeForecastsRequest(snapshot_id=UNKNOWN),
        "an agent named twice": agent_pb2.ComputeForecastsRequest(
            decision_id="d", snapshot_id=UNKNOWN, agent_ids=["a", "a"]
        ),
    }
    stub = agent_pb2_grpc.AgentServiceStub(bench.channel)
    for what, request in bad.items():
        await _refused(stub.ComputeForecasts(request, timeout=PATIENCE_S), what, grpc.StatusCode.INVALID_ARGUMENT)
    raw: Callable[..., Awaitable[object]] = bench.channel.unary_unary(COMPUTE)
    await _refused(raw(b"\xff" * 64, timeout=PATIENCE_S), "bytes that are no message")
    garbage = marketdata_pb2.GetSnapshotResponse(arrow_ipc=b"no Arrow at all")
    bench.market.alter("e" * 64, garbage)
    await _refused(bench.compute("e" * 64), "data that is no Arrow file")
    await bench.alive()


async def _deadline(bench: Bench) -> None:
    """the caller's deadline is kept while market_data hangs, and the agent goes on afterwards"""
    fresh = large(7, 90)
    bench.market.hold(fresh)
    bench.market.open.clear()
    begun = time.perf_counter()
    try:
        asked = bench.compute(fresh.snapshot_id, timeout_s=bench.deadline_s)
        await _refused(asked, "a question without data", grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
    finally:
        bench.market.open.set()
    late = time.perf_counter() - begun - bench.deadline_s
    if late > bench.deadline_s:
        raise BrokenError(f"it was {late:.1f} s late")
    _none(answers.of_response(await bench.of(fresh), fresh, bench.agents))
    await bench.alive()


async def _many(bench: Bench) -> None:
    """500 instruments within the deadline"""
    wanted = max((agent.minimum_bars for agent in bench.agents.values()), default=0)
    many = large(INSTRUMENTS, max(wanted + 1, 130))
    _none(answers.of_response(await bench.of(many), many, bench.agents))
    times = []
    for _ in range(9):
        begun = time.perf_counter()
        await bench.compute(many.snapshot_id)
        times.append(time.perf_counter() - begun)
    bench.figures["500 instruments, p50 ms"] = round(sorted(times)[len(times) // 2] * 1e3, 2)
    if max(times) > bench.deadline_s:
        raise BrokenError(f"it took up to {max(times):.2f} s; the deadline is {bench.deadline_s:g} s")


CHECKS: tuple[Callable[[Bench], Awaitable[None]], ...] = (
    _healthy,
    _lists,
    _forecasts,
    _deterministic,
    _named,
    _abstains,
    _unknown,
    _altered,
    _malformed,
    _deadline,
    _many,
)


async def _refused(call: Awaitable[object], what: str, *codes: grpc.StatusCode) -> None:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        if codes and error.code() not in codes:
            expected = " or ".join(code.name for code in codes)
            raise BrokenError(f"{what}: {error.code().name} ({error.details()}), expected {expected}") from error
        return
    raise BrokenError(f"{what} was answered")


def _none(problems: Iterable[str], where: str = "") -> None:
    found = list(problems)
    if found:
        more = f" (+{len(found) - _SHOWN} more)" if len(found) > _SHOWN else ""
        raise BrokenError(f"{where}: " * bool(where) + "; ".join(found[:_SHOWN]) + more)


def _bits(answer: agent_pb2.ComputeForecastsResponse) -> bytes:
    return answer.SerializeToString(deterministic=True)
