"""Three servers of the event log, and the leader of the ledger's stream killed under load."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from dataclasses import dataclass, field

import nats
import nats.errors
from nats.js import JetStreamContext
from nats.js.api import StreamInfo
from nats.js.errors import Error as JetStreamError

from python_services.kit.connections import connect
from python_services.kit.subjects import jetstream_name

from .system import ChaosError, Mesh

STREAM = jetstream_name("execution")
POLL_S = 0.01
LIMIT_S = 60.0


@dataclass
class KillLeader:
    """A fault. `unavailable_ms`: from each kill until the log took an event under another leader."""

    name: str = "kill -9 the leader of three nats"
    unavailable_ms: list[float] = field(default_factory=list)

    async def strike(self, mesh: Mesh, roll: random.Random) -> float:
        """Kills it once all three copies are current; returns when another leads and has taken an event."""
        client = await connect(mesh.nats_url(), "chaos", reconnect_time_wait=0.02, error_cb=_expected)
        try:
            context = client.jetstream(timeout=0.25)
            victim = await _leader(context)
            moment = mesh.signal(signal.SIGKILL, (victim.removeprefix("alphamesh-"),))
            await _event_under_another(context)
            self.unavailable_ms.append((time.monotonic() - moment) * 1e3)
        finally:
            await client.close()
        return moment


async def _expected(_: Exception) -> None:
    """A server is killed while we are connected to it; whether another answers is what is asked next."""


async def _leader(context: JetStreamContext) -> str:
    give_up = time.monotonic() + LIMIT_S
    while time.monotonic() < give_up:
        info = await _info(context)
        if info is not None and info.cluster is not None and info.cluster.leader:
            replicas = info.cluster.replicas or []
            if len(replicas) == 2 and all(one.current and not one.offline for one in replicas):
                return info.cluster.leader
        await asyncio.sleep(POLL_S)
    raise ChaosError(f"{STREAM} has no leader with two current copies after {LIMIT_S:g} s")


async def _event_under_another(context: JetStreamContext) -> None:
    """Whoever answers now was elected after the kill, be it the victim, which was started again."""
    give_up, first = time.monotonic() + LIMIT_S, None
    while time.monotonic() < give_up:
        info = await _info(context)
        if info is not None and info.cluster is not None and info.cluster.leader:
            if first is None:
                first = info.state.last_seq
            if info.state.last_seq > first:
                return
        await asyncio.sleep(POLL_S)
    raise ChaosError(f"{STREAM} took no event for {LIMIT_S:g} s after its leader was killed")


async def _info(context: JetStreamContext) -> StreamInfo | None:
    try:
        return await context.stream_info(STREAM)
    except (TimeoutError, nats.errors.Error, JetStreamError):
        return None
