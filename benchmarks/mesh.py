"""What the mesh costs: one service, called over its own socket and through Envoys, side by side in one run.

Server and client are a service of the kit and the kit's channel, both gRPC C-core under asyncio on uvloop, each in one
process with one connection; the client is this process. Every round measures all ways in short slices that take turns,
so that drift of the machine meets all of them alike, and every answer is checked.
"""

from __future__ import annotations

import asyncio
import atexit
import itertools
import os
import statistics
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Literal, cast

import grpc
import uvloop

from alphamesh.execution.v1 import execution_pb2, execution_pb2_grpc
from alphamesh.risk.v1 import risk_pb2, risk_pb2_grpc
from alphamesh.type.v1 import trading_pb2
from benchmarks.runner import Case
from benchmarks.servers.mesh import CALLER, SUBJECT, Collector, Ground, Way, cpu_s, traced
from benchmarks.servers.subject.service import BATCHES, ROWS
from python_services.kit import telemetry
from python_services.kit.client import open_channel

SLICES = 8
ALONE, TOGETHER = 80, 480  # calls in a slice
IN_FLIGHT = 32
SAMPLED_EVERY = 100
WINDOW = 8  # batches on the way
DIRECT, HOP, TEMPLATE, TRACED = "direct", "one hop, plaintext", "whole template", "whole template, tracing 1%"


@dataclass
class Readings:
    """What one round found of one way: seconds, of single calls and of whole slices."""

    alone: list[float] = field(default_factory=list)
    together: list[float] = field(default_factory=list)
    down: list[float] = field(default_factory=list)
    both: list[float] = field(default_factory=list)
    proxies_s: float = 0.0
    total_s: float = 0.0

    def figures(self) -> dict[str, float]:
        """In the units of the table."""
        ordered = sorted(self.alone)
        calls = TOGETHER * len(self.together)
        return {
            "p50": statistics.median(ordered) * 1e6,
            "p99": ordered[int(len(ordered) * 0.99)] * 1e6,
            "throughput": TOGETHER / statistics.median(self.together),
            "down": BATCHES * ROWS / statistics.median(self.down),
            "both": BATCHES * ROWS / statistics.median(self.both),
            "proxies": self.proxies_s / calls * 1e6,
            "total": self.total_s / calls * 1e6,
        }


class Caller:
    """A client with one connection."""

    def __init__(self, way: Way, processes: list[int]) -> None:
        self.way = way
        self._processes = processes
        self._channel = open_channel(CALLER, SUBJECT, way.socket)
        channel = cast(grpc.aio.Channel, self._channel)
        self._risk = risk_pb2_grpc.RiskServiceStub(channel)
        self._execution = execution_pb2_grpc.ExecutionServiceStub(channel)
        self._numbers = itertools.count(1)

    async def call(self) -> float:
        """One unary call; its seconds."""
        number = next(self._numbers)
        every = self.way.sampled_every
        telemetry.traceparent.set(_sampled() if every and number % every == 0 else "")
        begun = time.perf_counter()
        answer = await self._risk.GetLimits(risk_pb2.GetLimitsRequest(account_id=str(number)))
        took = time.perf_counter() - begun
        if answer.policy_version != number:
            raise AssertionError(f"asked for {number}, was answered {answer.policy_version}")
        return took

    async def alone(self, into: Readings) -> None:
        """One call after another."""
        into.alone += [await self.call() for _ in range(ALONE)]

    async def together(self, into: Readings) -> None:
        """Many at a time; also what they cost."""

        async def caller() -> None:
            for _ in range(TOGETHER // IN_FLIGHT):
                await self.call()

        proxies, others = self._cpu()
        begun = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
        into.together.append(time.perf_counter() - begun)
        proxies_after, others_after = self._cpu()
        into.proxies_s += proxies_after - proxies
        into.total_s += proxies_after - proxies + others_after - others

    async def down(self, into: Readings) -> None:
        """Batches of 64 events, as a follower of a journal gets them."""
        begun = time.perf_counter()
        number = rows = 0
        async for answer in self._execution.StreamEvents(execution_pb2.StreamEventsRequest(from_seq=1)):
            rows += len(answer.frame.events)
            number += answer.last_seq == number + 1
        into.down.append(time.perf_counter() - begun)
        if (number, rows) != (BATCHES, BATCHES * ROWS):
            raise AssertionError(f"{number} of {BATCHES} batches came, {rows} events")

    async def both(self, into: Readings) -> None:
        """Batches of 64 reservations and their verdicts over one stream, some of them on the way."""
        room = asyncio.Semaphore(WINDOW)

        async def requests() -> AsyncIterator[execution_pb2.ReserveExposureRequest]:
            for number in range(1, BATCHES + 1):
                await room.acquire()
                yield _request(number)

        begun = time.perf_counter()
        number = 0
        async for answer in self._execution.ReserveExposure(requests()):
            number += 1
            room.release()
            expected = list(range(number * ROWS, (number + 1) * ROWS))
            if answer.batch_number != number or list(answer.verdicts.reservation_ids) != expected:
                raise AssertionError(f"batch {number} was answered as {answer.batch_number}")
        into.both.append(time.perf_counter() - begun)
        if number != BATCHES:
            raise AssertionError(f"{number} of {BATCHES} batches were answered")

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()

    def _cpu(self) -> tuple[float, float]:
        return sum(map(cpu_s, self.way.pids)), sum(map(cpu_s, self._processes))


def _request(number: int) -> execution_pb2.ReserveExposureRequest:
    batch = execution_pb2.ReservationBatch(
        basket_mode=execution_pb2.BASKET_MODE_ALL_OR_NOTHING,
        instrument_ids=_NAMES,
        sides=[trading_pb2.SIDE_BUY] * ROWS,
        quantity_e9=[10**9] * ROWS,
        price_bound_e9=[0] * ROWS,
        time_to_live_ns=10**15,
    )
    return execution_pb2.ReserveExposureRequest(account_id="bench", agent_id="agent", batch_number=number, batch=batch)


def _sampled() -> str:
    return f"{telemetry.new_traceparent().removesuffix('00')}01"


_NAMES = [f"S{number:04d}" for number in range(ROWS)]


async def measure(ways: dict[str, Way], service_pid: int, slices: int = SLICES) -> dict[str, dict[str, float]]:
    """One round: figures of every way."""
    callers = {name: Caller(way, [service_pid, os.getpid()]) for name, way in ways.items()}
    readings = {name: Readings() for name in ways}
    names = list(ways)
    for caller in callers.values():
        await caller.alone(Readings())
    for phase in (Caller.alone, Caller.together, Caller.down, Caller.both):
        for turn in range(slices):
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                await phase(callers[name], readings[name])
    for caller in callers.values():
        await caller.close()
    return {name: reading.figures() for name, reading in readings.items()}


class Rounds:
    """The n-th reading of any figure is of the n-th round, so that a ratio is of one round."""

    def __init__(self) -> None:
        self._ground: Ground | None = None
        self._collector: Collector | None = None
        self._ways: dict[str, Way] = {}
        self._rounds: list[dict[str, dict[str, float]]] = []
        self._read: dict[tuple[str, ...], int] = {}

    def figure(self, row: str, way: str, name: str) -> Callable[[], float]:
        """A measure of a row of the table."""

        def read() -> float:
            key = (row, way, name)
            turn = self._read.get(key, 0)
            self._read[key] = turn + 1
            while len(self._rounds) <= turn:
                self._rounds.append(self._round())
            return self._rounds[turn][way][name]

        return read

    def _round(self) -> dict[str, dict[str, float]]:
        if self._ground is None:
            self._prepare()
        assert self._ground is not None
        assert self._collector is not None
        found = uvloop.run(measure(self._ways, self._ground.service_pid))
        if self._rounds and not self._collector.spans:  # Envoy sends them every few seconds
            raise AssertionError("the collector was sent no span")
        return found

    def _prepare(self) -> None:
        ground = self._ground = Ground()
        atexit.register(ground.close)
        socket = ground.folder / "collector.sock"
        self._collector = Collector(socket)
        atexit.register(self._collector.close)
        self._ways = {
            DIRECT: ground.direct,
            HOP: ground.hop("hop"),
            TEMPLATE: ground.pair("template"),
            TRACED: ground.pair("traced", traced(socket)),
        }
        self._ways[TRACED].sampled_every = SAMPLED_EVERY


def cases() -> list[Case]:
    """For each way: latency, throughput, stream, processor time; against the direct call."""
    rounds = Rounds()
    rows: list[Case] = []
    figures: tuple[tuple[str, str, str, Literal["lower", "higher"], str | None], ...] = (
        ("p50", "p50, one call in flight", "us", "lower", "ratio >= 0.5"),
        ("p99", "p99, one call in flight", "us", "lower", None),
        ("throughput", f"throughput, {IN_FLIGHT} in flight", "1/s", "higher", "ratio >= 0.75"),
        ("down", f"stream of batches of {ROWS}", "rows/s", "higher", "ratio >= 0.9"),
        ("both", f"stream of batches of {ROWS} and their answers", "rows/s", "higher", "ratio >= 0.9"),
        ("total", "processor time of a call, all processes", "us", "lower", None),
        ("proxies", "processor time of a call, Envoys", "us", "lower", None),
    )
    for figure, what, unit, better, goal in figures:
        for way in (HOP, TEMPLATE, TRACED):
            against = TEMPLATE if way == TRACED else DIRECT
            wanted = {TEMPLATE: goal, TRACED: "ratio >= 0.952" if figure == "p50" else None}.get(way)
            row = f"{what}: {way}"
            alone = figure == "proxies" and against == DIRECT  # which has none
            rows.append(
                Case(
                    name=row,
                    unit=unit,
                    better=better,
                    ours=rounds.figure(row, way, figure),
                    peer=None if alone else rounds.figure(row, against, figure),
                    peer_name=None if alone else against,
                    goal=wanted,
                )
            )
    return rows
