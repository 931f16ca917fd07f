"""The event log on a real nats-server that syncs every write: publishing a journal, and reading it back into a view.

Events are packed as a busy journal packs them; every frame is checked. "ledger view" applies each event to the
projection that portfolio and risk use, "counting view" only takes it: the difference is the view's own work.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop

from alphamesh.audit.v1 import event_pb2
from alphamesh.execution.v1 import events_pb2
from benchmarks.runner import Case
from mesh import topology
from mesh.nats import NatsServers
from mesh.process import Process
from mesh.rundir import RunDir
from python_services.kit import convert, telemetry
from python_services.kit.jetstream import NatsEventLog
from python_services.kit.journal import ZERO_HASH, Event, Journal
from python_services.kit.ledger_view import LedgerView
from python_services.kit.views import Applies, extend

STREAM = "execution"
EVENTS = 200_000
FRAME = 500
BATCH = 16  # small enough to stay in the cache while it is checked and applied

Measure = Callable[[NatsEventLog, Journal], Coroutine[Any, Any, float]]


class Counting:
    """Takes events."""

    def __init__(self) -> None:
        self.seq = 0

    def apply(self, envelope: event_pb2.EventEnvelope) -> None:
        """Notes the position."""
        self.seq = envelope.seq


def cases() -> list[Case]:
    """Publishing and rebuilding."""
    return [
        Case(name=name, unit="events/s", ours=_on_a_server(measure), goal=goal, better="higher")
        for name, measure, goal in (
            ("publish a journal, frames of 500", _publish, None),
            ("rebuild from the log, counting view", _rebuild(Counting), "ours >= 700000"),
            ("rebuild from the log, ledger view", _rebuild(lambda: LedgerView({})), None),
        )
    ]


async def _publish(log: NatsEventLog, journal: Journal) -> float:
    begun = time.perf_counter()
    log.attach(journal)
    reader = await log.open(STREAM, 1)
    seq = 0
    while seq < EVENTS:
        for frame in await reader.take(BATCH):
            seq = frame.first_seq + frame.count - 1
        await asyncio.sleep(0.001)
    return EVENTS / (time.perf_counter() - begun)


def _rebuild(view: Callable[[], Applies]) -> Measure:
    async def measure(log: NatsEventLog, journal: Journal) -> float:
        await _publish(log, journal)
        again, seq, last = view(), 0, ZERO_HASH
        begun = time.perf_counter()
        reader = await log.open(STREAM, 1)
        while seq < EVENTS:
            seq, last = await extend(again, _each(await reader.take(BATCH)), seq, last, STREAM)
        return EVENTS / (time.perf_counter() - begun)

    return measure


async def _each(frames: list[event_pb2.EventFrame]) -> Any:
    for frame in frames:
        yield frame


def _on_a_server(measure: Measure) -> Callable[[], float]:
    return lambda: uvloop.run(_measure(measure))


async def _measure(measure: Measure) -> float:
    telemetry.calm_collector()  # as services do
    with tempfile.TemporaryDirectory(prefix="am-") as folder:
        run = RunDir.create(Path(folder) / "run")
        servers = NatsServers(run, topology.load())
        (node,) = servers.nodes
        process = await Process.start(node.name, node.command(), run.log(node.name), dict(os.environ))
        journal = Journal(run.path / "journal.db", STREAM, "1", _raise)
        try:
            await node.ready()
            await servers.declare()
            await _fill(journal)
            log = NatsEventLog(servers.url, "benchmark")
            await log.start()
            try:
                return await measure(log, journal)
            finally:
                await log.close()
        finally:
            journal.close()
            process.kill()
            await process.wait()
            run.release()


async def _fill(journal: Journal) -> None:
    opened = events_pb2.AccountOpened(account_id="demo", cash=convert.money(10**15, "USD"))
    changed = events_pb2.OrderStateChanged(account_id="demo", client_order_id="e91d41e6d445-0001-AAPL", venue_seq=1)
    for first in range(0, EVENTS, FRAME):
        payloads = [opened if first + n == 0 else changed for n in range(FRAME)]
        journal.add([Event(payload=payload, ts_event_ns=1, ts_init_ns=1) for payload in payloads])
        await journal.commit()


def _raise(error: BaseException) -> None:
    raise error
