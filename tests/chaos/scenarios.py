"""What is not a round: disks that are full or damaged, clocks that jump, a second writer. Each returns its figures.

Every scenario raises ChaosError, or BrokenError, when a promise was not kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from alphamesh.execution.v1 import execution_pb2, execution_pb2_grpc

from . import disks, power_cut
from .clocks import CLOCKS, Clock
from .damage import damage_copy, damage_journal, flipped
from .faults import Nothing
from .rounds import RESTING, Rounds
from .system import ROOT, ChaosError, Links, Mesh

Figures = dict[str, Any]
JOURNAL = Path("data") / "execution" / "journal.db"
BALLAST_LEFT = 1_500_000  # bytes that a full disk has left when the load begins


async def make_run(mesh: Mesh, seed: int, rounds: int = 1) -> None:
    """Fills a data directory with the events of undisturbed rounds, and leaves it up."""
    mesh.up()
    work = Rounds(mesh, seed=seed, seconds=0.7)
    await work.open()
    for number in range(rounds):
        found = (await work.round(number, Nothing())).problems
        if found:
            raise ChaosError(found[0])
    await work.close()


def kill_everything(mesh: Mesh) -> None:
    """kill -9 to the supervisor: every process dies with it, and journals stay as they were."""
    holder = mesh.run.holder()
    if holder is None:
        raise ChaosError("nothing is up")
    os.kill(holder, signal.SIGKILL)
    give_up = time.monotonic() + 10
    while mesh.run.holder() is not None or any(Path(f"/proc/{pid}/exe").exists() for pid in mesh.pids().values()):
        if time.monotonic() > give_up:
            raise ChaosError("processes outlived their supervisor")
        time.sleep(0.02)


def damaged_journal(mesh: Mesh, samples: int, seed: int) -> Figures:
    """The journal of a killed system, damaged at random places: found each time. Leaves `mesh` down and whole.

    The last sample is put to the whole system: it does not start, and says what to do.
    """
    kill_everything(mesh)
    folder = (mesh.path / JOURNAL).parent
    result = damage_journal(folder, "execution", samples, seed)
    if result.silent:
        raise ChaosError(f"damage was not found: {result.silent}")
    kept = mesh.path / "kept"
    shutil.copytree(folder, kept)
    chance = random.Random(seed)
    for path in folder.glob("journal.db*"):  # what lies in the write-ahead log does not count in the file, and so on
        content = bytearray(path.read_bytes())
        for _ in range(64 if content else 0):
            content = bytearray(flipped(content, chance)[1])
        path.write_bytes(bytes(content))
    try:
        mesh.up()
    except ChaosError as refused:
        if "journal.db was damaged" not in str(refused) or "restore" not in str(refused):
            raise ChaosError(f"a damaged journal was refused without a remedy: {refused}") from refused
    else:
        raise ChaosError("the system started on a damaged journal")
    shutil.rmtree(folder)
    kept.rename(folder)
    return {"samples": result.tried, "refused": result.refused, "harmless": result.harmless, "silent": 0}


async def damaged_copies(mesh: Mesh, samples: int, seed: int) -> Figures:
    """The event log's copy of the ledger, damaged at random places: views are right, and the copy can be made anew.

    `mesh` is down, and is left down and whole.
    """
    chance, detected, harmless = random.Random(seed), 0, 0
    store = mesh.path / "nats" / "store" / "jetstream" / "$G" / "streams" / "ALPHAMESH_execution"
    for number in range(samples):
        where = damage_copy(store, chance)
        mesh.up()
        await _one_event(mesh, f"after damage {number}")
        await _until_verified(mesh, f"the view is wrong after {where}")
        if (await _copy_state(mesh)) == "intact":
            harmless += 1  # unused space, or made whole by the server or the outbox
        else:
            detected += 1
        mesh.down()
        shutil.rmtree(store)
        mesh.up()
        await _until_intact(mesh)
        mesh.verify()
        mesh.down()
    return {"samples": samples, "detected": detected, "harmless": harmless, "rebuilt": samples}


async def _copy_state(mesh: Mesh) -> str:
    """What `alphamesh log verify` says of the ledger's copy."""
    try:
        return str((await asyncio.to_thread(mesh.verify_log, 5))["execution"]["copy"])
    except subprocess.TimeoutExpired:
        return "no answer"


async def _until_intact(mesh: Mesh, limit_s: float = 30) -> None:
    give_up = time.monotonic() + limit_s
    while (state := await _copy_state(mesh)) != "intact":
        if time.monotonic() > give_up:
            raise ChaosError(f"the copy was not made anew: {state}")
        await asyncio.sleep(0.2)


async def _until_verified(mesh: Mesh, what: str, limit_s: float = 20) -> None:
    give_up = time.monotonic() + limit_s
    while True:
        try:
            await asyncio.to_thread(mesh.verify)
            return
        except ChaosError as different:
            if time.monotonic() > give_up:
                raise ChaosError(f"{what}: {different}") from different
        await asyncio.sleep(0.2)


async def _one_event(mesh: Mesh, reason: str) -> None:
    links = Links(mesh)
    stub = links.stub(execution_pb2_grpc.ExecutionServiceStub, "execution")
    request = execution_pb2.SetTradingStateRequest(
        request_id=f"{random.getrandbits(32):08x}-0000-4000-8000-000000000000",
        account_id=RESTING[0],
        trading_state=1,
        reason=reason,
    )
    await stub.SetTradingState(request, timeout=10)
    await links.close()


async def full_disk(folder: Path, seed: int) -> Figures:
    """The disk fills while orders come in: what was acknowledged stands, the rest was never acknowledged."""
    with disks.small_disk(folder, 400):
        mesh = Mesh(folder / "run")
        try:
            mesh.up()
            work = Rounds(mesh, seed=seed)
            await work.open()
            ballast = folder / "ballast"
            free = shutil.disk_usage(folder).free - BALLAST_LEFT
            with ballast.open("wb") as file:
                file.write(bytes(max(free, 0)))
            acknowledged = await work.until(lambda: mesh.run.holder() is None)
            ballast.unlink()
            mesh.up()
            mesh.wait_serving()
            kept = await work.recheck()
            await work.close()
        finally:
            mesh.close()
    return {"acknowledged": acknowledged, "kept": kept}


async def second_writer(mesh: Mesh) -> Figures:
    """A second execution on the same data is refused, also while the first stands still; the first goes on."""
    refusals = 0
    for still in (False, True):
        pid = mesh.pids()["execution"]
        if still:
            os.kill(pid, signal.SIGSTOP)
        try:
            command = [sys.executable, "-m", "python_services.execution", "--run-dir", str(mesh.path)]
            second = await asyncio.to_thread(
                subprocess.run, command, timeout=60, check=False, capture_output=True, text=True, cwd=ROOT
            )
        finally:
            if still:
                os.kill(pid, signal.SIGCONT)
        if second.returncode != 78 or "alphamesh down" not in second.stderr:
            raise ChaosError(f"a second writer was not refused ({second.returncode}): {second.stderr}")
        refusals += 1
        await _one_event(mesh, "the first goes on")
        if mesh.pids()["execution"] != pid:
            raise ChaosError("the first writer did not outlive the second")
    with contextlib.suppress(ChaosError):
        mesh.up()
        raise AssertionError("a second system started in the same data directory")
    return {"refused": refusals + 1}


async def jumping_clocks(folder: Path) -> Figures:
    """The same commands under clocks that jump give the same events, to the last hash."""
    found = await asyncio.gather(
        *(asyncio.to_thread(_commands_under, clock, folder / f"clock-{n}") for n, clock in enumerate(CLOCKS))
    )
    hashes = {clock.name: value for clock, value in zip(CLOCKS, found, strict=True)}
    measured = {value for value in hashes.values() if not value.startswith("skipped")}
    if len(measured) != 1:
        raise ChaosError(f"the clock changed what was decided: {hashes}")
    return {"clocks": hashes}


def _commands_under(clock: Clock, folder: Path) -> str:
    reason = clock.missing()
    if reason:
        return f"skipped: {reason}"
    folder.mkdir(parents=True)
    command = [*clock.prefix, sys.executable, "-m", "tests.chaos.script", str(folder)]
    environment = {**os.environ, **clock.environment(folder)}
    done = subprocess.run(command, env=environment, timeout=100, check=False, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise ChaosError(f"under {clock.name}: {done.stderr[-2000:]}")
    answer = json.loads(done.stdout.splitlines()[-1])
    if clock.jumps and answer["wall_jumps"] + answer["monotonic_offset_days"] == 0:
        raise ChaosError(f"under {clock.name} no clock jumped: the test shows nothing")
    return str(answer["hash"])


async def power_cuts(rounds: int, seed: int) -> Figures:
    """Both stores, and the control of each, which must lose something."""
    figures: Figures = {}
    stores: list[tuple[str, Callable[..., Awaitable[power_cut.Cuts]]]] = [
        ("journal", lambda *a, **k: asyncio.to_thread(power_cut.cut_journal, *a, **k)),
        ("nats", power_cut.cut_nats),
    ]
    for name, cut in stores:
        kept = await cut(rounds, seed, synced=True)
        if kept.lost or kept.damaged:
            raise ChaosError(f"a power cut took acknowledged events of the {name}: {kept}")
        control = await cut(2, seed, synced=False)
        if not control.lost and not control.damaged:
            raise ChaosError(f"the {name} without its syncs lost nothing: the simulation proves nothing")
        figures[name] = asdict(kept)
        figures[f"{name} without syncs"] = asdict(control)
    return figures
