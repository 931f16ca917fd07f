"""Changes of a running system under load: how many calls fail. ``python -m tests.chaos.mesh_load --calls 10000``.

Each part calls a service through real sidecars as fast as it answers, while replicas come and go, are drained, calls
are shifted between versions, or certificates are rotated, again and again until enough calls were made. None may fail.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc

from alphamesh.agent.v1 import agent_pb2, agent_pb2_grpc
from mesh import tables, topology
from mesh.commands.system import supervised
from mesh.connect import SocketSystem
from mesh.replicas import Replicas
from mesh.rundir import RunDir

TOPOLOGY = topology.ROOT / "tests" / "services" / "replicas.yaml"
IN_FLIGHT = 16
SLOW_EVERY = 8  # a call that takes a while, so that somebody is always in the middle of one
_SLOW = agent_pb2.ComputeForecastsRequest(decision_id="sleep:0.05", snapshot_id="0" * 64)
_FAST = agent_pb2.ComputeForecastsRequest(decision_id="now", snapshot_id="0" * 64)


@dataclass
class Part:
    """What one part showed."""

    name: str
    calls: int = 0
    failed: int = 0
    changes: int = 0
    seconds: float = 0.0
    slowest_ms: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)
    replicas: Counter[str] = field(default_factory=Counter)


async def scaling(replicas: Replicas, part: Part) -> None:
    """1 -> 3 -> 1."""
    for count in (3, 1):
        await replicas.scale("worker", count)
        part.changes += 1


async def draining(replicas: Replicas, part: Part) -> None:
    """A second replica comes, and the first or the second is drained in turn."""
    present = await replicas.scale("worker", 2)
    names = sorted(name for name, (instance, _) in present.items() if instance.group.name == "worker")
    await replicas.drain(names[part.changes % 2])
    part.changes += 1


async def shifting(replicas: Replicas, part: Part) -> None:
    """All calls to the other version and back, in steps."""
    for percent in (10, 50, 100, 50, 0):
        await replicas.shift("worker", {"stable": 100 - percent, "v2": percent})
        part.changes += 1
        await asyncio.sleep(0.1)


async def rotating(replicas: Replicas, part: Part) -> None:
    """New certificates for everybody."""
    await replicas.rotate("")
    part.changes += 1
    await asyncio.sleep(0.2)


PARTS: dict[str, Callable[[Replicas, Part], Awaitable[None]]] = {
    "scale 1-3-1": scaling,
    "drain": draining,
    "weights": shifting,
    "certificates": rotating,
}


async def load(calls: int, *, at_least_s: float = 0.0) -> list[Part]:
    """Every part, on one system: at least `calls` calls and one whole change each."""
    mesh = topology.load(TOPOLOGY)
    mesh = replace(mesh, supervision=replace(mesh.supervision, drain_s=20.0))
    done = []
    with tempfile.TemporaryDirectory(prefix="am-") as folder:
        run = RunDir.create(Path(folder) / "run")
        try:
            async with supervised(run, mesh) as supervisor:
                for name, change in PARTS.items():
                    part = Part(name)
                    await _part(part, run, Replicas(supervisor, mesh), change, calls, at_least_s)
                    done.append(part)
        finally:
            run.release()
    return done


async def _part(
    part: Part,
    run: RunDir,
    replicas: Replicas,
    change: Callable[[Replicas, Part], Awaitable[None]],
    calls: int,
    at_least_s: float,
) -> None:
    system, begun, changed = SocketSystem(run), time.monotonic(), asyncio.Event()
    stub = system.stub(agent_pb2_grpc.AgentServiceStub, "worker")
    numbers = itertools.count()

    def goes_on() -> bool:
        return part.calls < calls or time.monotonic() - begun < at_least_s or not changed.is_set()

    async def caller() -> None:
        while goes_on():
            request = _SLOW if next(numbers) % SLOW_EVERY == 0 else _FAST
            started = time.perf_counter()
            try:
                answer = await stub.ComputeForecasts(request, timeout=10)
                part.replicas[answer.snapshot_id] += 1
            except grpc.aio.AioRpcError as error:
                part.failed += 1
                part.failures[f"{error.code().name}: {error.details()}"] += 1
            part.calls += 1
            part.slowest_ms = max(part.slowest_ms, (time.perf_counter() - started) * 1e3)

    async def changes() -> None:
        while goes_on():
            await change(replicas, part)
            changed.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(changes())
        for _ in range(IN_FLIGHT):
            tasks.create_task(caller())
    part.seconds = time.monotonic() - begun
    await system.close()


def main() -> int:
    """Draws the table; exit code 1 when a call failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.mesh_load", description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=10_000, help="of each part, at least")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found")
    chosen = parser.parse_args()
    parts = asyncio.run(load(chosen.calls))
    columns = ("part", "calls", "failed", "changes", "calls/s", "slowest ms", "replicas that answered")
    rows = tables.table("Changes under load", *columns, numbers=frozenset(columns[1:6]))
    for part in parts:
        numbers = [part.calls, part.failed, part.changes, round(part.calls / part.seconds), round(part.slowest_ms)]
        rows.add_row(part.name, *map(str, numbers), tables.counts(part.replicas))
    tables.console.print(rows)
    for part in parts:
        for failure, count in part.failures.most_common(5):
            print(f"{part.name}: {count} x {failure}", file=sys.stderr)
    if chosen.json:
        chosen.json.write_text(json.dumps([vars(part) for part in parts], indent=2))
    return int(any(part.failed for part in parts))


if __name__ == "__main__":
    sys.exit(main())
