"""What can be broken in a running system, and for how long. Each fault heals itself before it returns."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import cast

import grpc

from alphamesh.execution.v1 import execution_pb2, execution_pb2_grpc
from python_services.kit.client import open_channel

from ..errors import MeshError
from ..nats import NAME
from ..rundir import RunDir
from ..sidecars import SUFFIX, Sidecars
from ..supervisor import Supervisor
from ..triton_section import NAME as MODELS

AGENTS = "technical_agent"
FLOOD_CALLERS = 32
_DUTY_S = (0.02, 0.08)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A system in the middle of a session, and the dice of the round."""

    run: RunDir
    supervisor: Supervisor
    account_id: str
    chance: random.Random
    notes: dict[str, int] = field(default_factory=dict)

    def pid(self, name: str) -> int:
        """Raises MeshError for a process that is not up."""
        pid = self.supervisor.statuses[name].pid
        if pid is None:
            raise MeshError(f"{name} is not up; a drill begins with a whole system")
        return pid

    @property
    def sidecars(self) -> Sidecars:
        """Raises MeshError in a system without them."""
        if self.supervisor.sidecars is None:
            raise MeshError("this system has no sidecars; set `mesh: {sidecars: true}` in its topology")
        return self.supervisor.sidecars

    def signal(self, name: str, number: signal.Signals) -> None:
        """To one process; one that has gone meanwhile needs none."""
        with suppress(ProcessLookupError):
            os.kill(self.pid(name), number)


@dataclass(frozen=True, kw_only=True)
class Drill:
    """One fault. `victims`: a round chooses one of them. `same`: the session must end with the very same hash; else
    decisions may lack the victim's view, and everything else must hold."""

    name: str
    says: str
    victims: tuple[str, ...]
    strike: Callable[[Scene, str], Awaitable[None]]
    same: bool = True


async def kill(scene: Scene, victim: str) -> None:
    """SIGKILL."""
    scene.signal(victim, signal.SIGKILL)


async def hang(scene: Scene, victim: str) -> None:
    """SIGSTOP for a while: it neither answers nor ends."""
    scene.signal(victim, signal.SIGSTOP)
    try:
        await asyncio.sleep(scene.chance.uniform(0.5, 1.5))
    finally:
        scene.signal(victim, signal.SIGCONT)


async def slow(scene: Scene, victim: str) -> None:
    """A fifth of its speed for a while."""
    until = time.monotonic() + scene.chance.uniform(1.0, 2.0)
    running, stopped = _DUTY_S
    while time.monotonic() < until:
        scene.signal(victim, signal.SIGSTOP)
        try:
            await asyncio.sleep(stopped)
        finally:
            scene.signal(victim, signal.SIGCONT)
        await asyncio.sleep(running)


async def cut_edge(scene: Scene, edge: str) -> None:
    """Calls of one service to another find nobody for a while."""
    caller, _, callee = edge.partition("->")
    sidecars = scene.sidecars
    sidecars.cut(caller, callee)
    try:
        await asyncio.sleep(scene.chance.uniform(0.5, 1.5))
    finally:
        sidecars.mend(caller)


async def expire_certificate(scene: Scene, victim: str) -> None:
    """A certificate that has expired, taken by a sidecar that starts with it; then a good one."""
    sidecars = scene.sidecars
    sidecars.certify(victim, timedelta(minutes=-1))
    scene.signal(f"{victim}{SUFFIX}", signal.SIGKILL)
    await asyncio.sleep(scene.chance.uniform(0.5, 1.5))
    sidecars.certify(victim)


async def fill_disk(scene: Scene, victim: str) -> None:
    """No file of the process may grow beyond what its journal has now, as on a full disk: the next write fails."""
    journal = scene.run.path / "data" / victim / "journal.db"
    size = max(path.stat().st_size for path in journal.parent.glob("journal.db*"))
    resource.prlimit(scene.pid(victim), resource.RLIMIT_FSIZE, (size, size))


async def flood(scene: Scene, client: str) -> None:
    """A client asks as fast as it can."""
    until = time.monotonic() + 2.0
    channel = open_channel(client, "execution", scene.run.egress(client))
    stub = execution_pb2_grpc.ExecutionServiceStub(cast(grpc.aio.Channel, channel))
    answered = refused = 0

    async def ask() -> None:
        nonlocal answered, refused
        while time.monotonic() < until:
            try:
                await stub.GetAccount(execution_pb2.GetAccountRequest(account_id=scene.account_id))
                answered += 1
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                refused += 1

    try:
        await asyncio.gather(*(ask() for _ in range(FLOOD_CALLERS)))
    finally:
        await channel.close()
    scene.notes.update(answered=answered, refused=refused)


_SERVICES = ("market_data", "venue", "execution", "portfolio", "risk", "coordinator", "audit")
_LEARNED = ("learned_agent", "feature_store", "model_registry")
_EDGES = (
    "coordinator->execution",
    "coordinator->portfolio",
    "coordinator->risk",
    "coordinator->market_data",
    "execution->venue",
    "execution->market_data",
    "risk->execution",
    "portfolio->market_data",
)

DRILLS: dict[str, Drill] = {
    drill.name: drill
    for drill in (
        Drill(name="kill", says="kill -9 of a service", victims=_SERVICES, strike=kill),
        Drill(
            name="kill-agent",
            says="kill -9 of agents, or of what the learned ones need",
            victims=(AGENTS, *_LEARNED),
            strike=kill,
            same=False,
        ),
        Drill(
            name="kill-sidecar",
            says="kill -9 of a sidecar",
            victims=tuple(f"{name}{SUFFIX}" for name in (*_SERVICES, AGENTS)),
            strike=kill,
        ),
        Drill(
            name="kill-models",
            says="kill -9 of Triton, and its models with it",
            victims=(MODELS,),
            strike=kill,
            same=False,
        ),
        Drill(name="hang", says="a service hangs (SIGSTOP)", victims=_SERVICES, strike=hang),
        Drill(name="hang-agent", says="the agents hang", victims=(AGENTS,), strike=hang, same=False),
        Drill(name="slow", says="a service at a fifth of its speed", victims=_SERVICES, strike=slow),
        Drill(name="cut-edge", says="an edge is cut", victims=_EDGES, strike=cut_edge),
        Drill(name="event-log", says="kill -9 of NATS", victims=(NAME,), strike=kill),
        Drill(
            name="certificate",
            says="a sidecar starts with an expired certificate",
            victims=_SERVICES,
            strike=expire_certificate,
        ),
        Drill(
            name="disk",
            says="the disk of a journal is full",
            victims=("execution", "venue", "coordinator"),
            strike=fill_disk,
        ),
        Drill(name="flood", says="a client floods the ledger", victims=("proposer",), strike=flood),
    )
}
