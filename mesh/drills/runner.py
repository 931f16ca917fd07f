"""One round of a drill: a system starts, trades, is struck at a cycle that the seed decides, and is judged."""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

from alphamesh.decision.v1 import decision_pb2
from alphamesh.execution.v1 import execution_pb2, execution_pb2_grpc

from .. import frames, topology
from .. import session as sessions
from ..connect import SocketSystem
from ..errors import MeshError
from ..rundir import RunDir
from ..supervisor import Supervisor
from ..wish import Wish
from . import invariants
from .faults import Drill, Scene

# Three months of trading days: seconds, and long enough to be struck in the middle.
START, END = date(2009, 7, 1), date(2009, 9, 30)
LIMIT_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Round:
    """What one round came to. `recovery_ms`: the longest time without a finished cycle after the strike."""

    drill: str
    victim: str
    seed: int
    struck_at: int
    recovery_ms: float
    same: bool
    restarts: int
    findings: dict[str, Any]
    notes: dict[str, int]
    broken: list[str]

    @property
    def passed(self) -> bool:
        """Every promise was kept."""
        return not self.broken


async def quiet() -> tuple[str, int]:
    """(final event hash, cycles) of the session that nothing disturbs, in one process."""
    from python_services.kit import telemetry
    from python_services.local import LocalSystem

    with tempfile.TemporaryDirectory(prefix="alphamesh-drill-") as name:
        folder = Path(name)
        with (folder / "log.jsonl").open("wb") as log, telemetry.logging_to("quiet", log):
            async with LocalSystem(folder, topology.load()) as system:
                watched = await sessions.trade(system, sessions.spec(Wish(start=START, end=END)), lambda *_: None)
    return watched.session.final_event_hash.hex(), watched.session.cycles_total


async def play(drill: Drill, seed: int, folder: Path, wanted: tuple[str, int]) -> Round:
    """One round in `folder`. Raises MeshError when the system does not start; a broken promise is in the answer."""
    chance = random.Random(f"{drill.name} {seed}")
    wanted_hash, cycles = wanted
    victim = chance.choice(drill.victims)
    target = chance.randrange(cycles // 5, cycles // 2)
    run = RunDir.create(folder)
    supervisor = Supervisor(run, topology.load())
    system = SocketSystem(run)
    try:
        await supervisor.start()
        spec = sessions.spec(Wish(start=START, end=END))
        scene = Scene(run=run, supervisor=supervisor, account_id=spec.account_id, chance=chance)
        beats: list[tuple[int, float]] = []
        strike: list[asyncio.Task[None]] = []
        struck: list[float] = []

        def progress(cycle: decision_pb2.CycleProgress, _session: decision_pb2.Session) -> None:
            beats.append((cycle.seq, time.monotonic()))
            if cycle.seq >= target and not strike:
                struck.append(time.monotonic())
                strike.append(asyncio.create_task(_strike(drill, scene, victim)))

        broken: list[str] = []
        async with asyncio.timeout(LIMIT_S):
            watched = await sessions.trade(system, spec, progress)
        await strike[0]
        same = watched.session.final_event_hash.hex() == wanted_hash
        if drill.same and not same:
            broken.append("the session did not end with the hash of the undisturbed one")
        if watched.session.state != decision_pb2.Session.STATE_SUCCEEDED:
            broken.append(f"the session ended {watched.session.reason}")
        found = await _judge(run, system, spec.account_id, cycles)
        facts = asdict(found)
        return Round(
            drill=drill.name,
            victim=victim,
            seed=seed,
            struck_at=target,
            recovery_ms=_longest_gap_ms(beats, struck[0]),
            same=same,
            restarts=sum(status.restarts for status in supervisor.statuses.values()),
            findings={key: facts[key] for key in ("cycles", "orders", "fills", "without_agents")},
            notes=scene.notes,
            broken=[*broken, *found.broken],
        )
    except TimeoutError as error:
        raise MeshError(
            f"{drill.name} of {victim}, seed {seed}: no end after {LIMIT_S:g} s; see {run.path}/logs"
        ) from error
    finally:
        await system.close()
        await supervisor.stop()
        run.release()


async def _strike(drill: Drill, scene: Scene, victim: str) -> None:
    await asyncio.sleep(scene.chance.uniform(0, 0.03))  # anywhere within a cycle
    await drill.strike(scene, victim)


async def _judge(run: RunDir, system: SocketSystem, account_id: str, cycles: int) -> invariants.Findings:
    """The events against the invariants, and the ledger against the venue."""
    async with frames.journals(run) as source:
        found = await invariants.check(source.journal("coordinator"), source.journal("execution"), cycles)
    ledger = system.stub(execution_pb2_grpc.ExecutionServiceStub, "execution")
    request = execution_pb2.GetReconciliationRequest(account_id=account_id, run=True)
    compared = (await ledger.GetReconciliation(request)).reconciliation
    found.broken += [f"ledger and venue differ: {difference}" for difference in compared.differences]
    return found


def _longest_gap_ms(beats: list[tuple[int, float]], struck: float) -> float:
    """Between two finished cycles, the first of them the last one before the strike."""
    times = [moment for _, moment in beats]
    before = max((moment for moment in times if moment <= struck), default=struck)
    after = [before, *(moment for moment in times if moment > struck)]
    return round(1e3 * max((b - a for a, b in pairwise(after)), default=0.0), 1)
