"""The parts of the long form: each runs for so many rounds, on a system of its own, and says what it found."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from alphamesh.execution.v1 import order_pb2

from . import disks, scenarios
from .cluster import KillLeader
from .faults import FAULTS, Fault, Nothing
from .ledger_check import BrokenError
from .proposers import PROPOSERS, Proposers, Struck
from .rounds import BINDING, Round, Rounds, percentile
from .session import CYCLES, interrupted
from .system import ChaosError, Mesh

Progress = Callable[[str], None]


@dataclass(kw_only=True)
class Part:
    """What a part showed: figures for the table and the JSON; `problems` empty when every promise was kept."""

    name: str
    rounds: int
    figures: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    skipped: str = ""


async def rounds(count: int, seed: int, step: Progress) -> list[Part]:
    """One server of the event log; the faults in turn."""
    return await _rounds(count, seed, (Nothing(), *FAULTS), step, 1)


async def cluster(count: int, seed: int, step: Progress) -> list[Part]:
    """Three servers, and the leader killed each time."""
    fault = KillLeader()
    (part, log) = await _rounds(count, seed, (fault,), step, 3)
    part.figures["log unavailable p50 ms"] = _rounded(percentile(fault.unavailable_ms, 0.5))
    part.figures["log unavailable p99 ms"] = _rounded(percentile(fault.unavailable_ms, 0.99))
    return [part, log]


async def _rounds(count: int, seed: int, faults: tuple[Fault, ...], step: Progress, servers: int) -> list[Part]:
    mesh = Mesh(servers=servers)
    try:
        await asyncio.to_thread(mesh.up)
        work = Rounds(mesh, seed=seed)
        await work.open()
        done: list[Round] = []
        for number in range(count):
            done.append(await work.round(number, faults[number % len(faults)]))
            step(done[-1].fault)
            if done[-1].problems:
                break  # what follows would only repeat it
        await work.close()
        state = await _copies(mesh) if not any(one.problems for one in done) else ""
    finally:
        await asyncio.to_thread(mesh.close)
    parts = [_summed(fault.name, [one for one in done if one.fault == fault.name]) for fault in faults]
    books = work.books
    log = Part(name="the log of all these rounds", rounds=len(done))
    log.figures = {
        "events, every link checked": work.chain.seq,
        "orders": books.events["OrderInitialized"],
        "denied": books.denied,
        "cut": books.cut,
        "fills": books.events["OrderFilled"],
        "reservations": books.events["ReservationGranted"],
        **{f"most of {what}": f"{books.utilisation[what]:.4%}" for what in BINDING},
        "copies": state,
    }
    return [*(part for part in parts if part.rounds), log]


async def proposers(count: int, seed: int, step: Progress, reservations: int = 1_000_000) -> list[Part]:
    """Many proposers, so many kills, and so many rows judged in all."""
    part = Part(name="proposers against tight limits", rounds=0)
    mesh = Mesh()
    began = time.monotonic()
    try:
        await asyncio.to_thread(mesh.up)
        work = Proposers(mesh, seed=seed)
        await work.open()
        done: list[Struck] = []
        while len(done) < count and not part.problems:
            left = reservations - work.tally.rows
            done.append(await work.round(len(done), max(left // (count - len(done)), 1)))
            step(f"{done[-1].fault}, {work.tally.rows:,} rows")
            part.problems += done[-1].problems
        repeated = 0
        if not part.problems:
            try:
                repeated = await work.judge_the_whole()
            except BrokenError as problem:
                part.problems.append(str(problem))
        await work.close()
        copies = "" if part.problems else await _copies(mesh)
    finally:
        await asyncio.to_thread(mesh.close)
    part.rounds = len(done)
    part.figures = _crowded(work, done, repeated) | {"copies": copies, "seconds": round(time.monotonic() - began)}
    return [part]


def _crowded(work: Proposers, done: list[Struck], repeated: int) -> dict[str, Any]:
    books = work.books
    recovery = [one.recovery_ms for one in done if one.recovery_ms is not None]
    return {
        "proposers": PROPOSERS,
        "kills": dict(Counter(one.fault for one in done)),
        "rows judged": books.rows,
        "granted": books.rows - books.denied,
        "cut": books.cut,
        "denied": books.denied,
        "denied or cut for": {order_pb2.DenialReason.Name(k)[14:]: n for k, n in books.reasons.most_common() if k},
        "batches": sum(one.batches for one in done),
        "unanswered at a kill": _rounded(statistics.mean(one.unanswered for one in done)),
        "asked again": sum(one.repeated for one in done) + repeated,
        "events, every link checked twice": work.chain.seq,
        "above a limit": books.above,
        **{f"most of {what}": f"{share:.6%}" for what, share in books.utilisation.items()},
        "events at which not one more lot would have fitted": dict(books.full),
        "recovery p50 ms": _rounded(percentile(recovery, 0.5)),
        "recovery p99 ms": _rounded(percentile(recovery, 0.99)),
        "recovery longest ms": _rounded(max(recovery, default=None)),
        "each": [asdict(one) for one in done],
    }


async def _copies(mesh: Mesh) -> str:
    """Every stream's copy is the journal, once the outboxes have caught up. Raises ChaosError."""
    for _ in range(100):
        rows = await asyncio.to_thread(mesh.verify_log)
        if all(row["copy"] == "intact" and row["journal"] == "intact" for row in rows.values()):
            return "intact"
        await asyncio.sleep(0.2)
    raise ChaosError(f"copies differ from their journals: {rows}")


def _summed(name: str, found: list[Round]) -> Part:
    part = Part(name=name, rounds=len(found), problems=[text for one in found for text in one.problems])
    recovery = [one.recovery_ms for one in found if one.recovery_ms is not None]
    part.figures = {
        "operations": sum(one.operations for one in found),
        "acknowledged": sum(one.acknowledged for one in found),
        "asked again": sum(one.repeated for one in found),
        "reads": sum(one.reads for one in found),
        "histories": sum(one.histories for one in found),
        "steps": sum(one.steps for one in found),
        "recovery p50 ms": _rounded(statistics.median(recovery) if recovery else None),
        "recovery p99 ms": _rounded(percentile(recovery, 0.99)),
        "each": [asdict(one) for one in found],
    }
    return part


async def damage(count: int, seed: int, step: Progress) -> list[Part]:
    """Journals, copies, and a second writer, on one system's files."""
    mesh = Mesh()
    try:
        await scenarios.make_run(mesh, seed, rounds=2)
        writers = Part(name="a second writer", rounds=2, figures=await scenarios.second_writer(mesh))
        step(writers.name)
        samples = 10 * count
        journal = Part(name="damaged journal", rounds=samples)
        journal.figures = await asyncio.to_thread(scenarios.damaged_journal, mesh, samples, seed)
        step(journal.name)
        copies = Part(name="damaged JetStream copy", rounds=max(count // 10, 2))
        copies.figures = await scenarios.damaged_copies(mesh, copies.rounds, seed)
        step(copies.name)
    finally:
        await asyncio.to_thread(mesh.close)
    return [writers, journal, copies]


async def power(count: int, seed: int, step: Progress) -> list[Part]:
    """Power cuts."""
    part = Part(name="power cut", rounds=count, skipped=disks.cannot_mount())
    if not part.skipped:
        part.figures = await scenarios.power_cuts(count, seed)
    step(part.name)
    return [part]


async def disk(count: int, seed: int, step: Progress) -> list[Part]:
    """Full disks."""
    part = Part(name="full disk", rounds=max(count // 20, 1), skipped=disks.cannot_mount())
    for number in range(0 if part.skipped else part.rounds):
        with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
            figures = await scenarios.full_disk(Path(folder) / "disk", seed + number)
        for key, value in figures.items():
            part.figures[key] = part.figures.get(key, 0) + value
    step(part.name)
    return [part]


async def clocks(count: int, seed: int, step: Progress) -> list[Part]:
    """Clocks that jump."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        part = Part(name="clocks that jump", rounds=1, figures=await scenarios.jumping_clocks(Path(folder)))
    step(part.name)
    return [part]


async def sessions(count: int, seed: int, step: Progress) -> list[Part]:
    """A trading session killed at a random cycle and resumed: the hash of a quiet one."""
    part = Part(name="a session killed and resumed", rounds=max(count // 10, 1))
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        quiet = await asyncio.to_thread(interrupted, Path(folder) / "quiet", seed=seed, kills=0)
        hashes = {quiet.final_event_hash}
        for number in range(part.rounds):
            ended = await asyncio.to_thread(interrupted, Path(folder) / str(number), seed=seed + number)
            hashes.add(ended.final_event_hash)
            step(part.name)
    part.figures = {"cycles": CYCLES, "hashes": sorted(hashes)}
    if len(hashes) != 1:
        part.problems.append(f"sessions ended with {len(hashes)} hashes")
    return [part]


PARTS: dict[str, Callable[[int, int, Progress], Awaitable[list[Part]]]] = {
    "rounds": rounds,
    "cluster": cluster,
    "proposers": proposers,
    "power": power,
    "damage": damage,
    "disk": disk,
    "clocks": clocks,
    "sessions": sessions,
}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
