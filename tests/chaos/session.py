"""A real session whose whole system is killed at a random moment and started again, as often as one likes.

    from tests.chaos.session import interrupted

    for seed in range(1000):
        assert interrupted(folder / str(seed), seed=seed).final_event_hash == quiet_hash

The seed gives the cycle and the moment inside it, so a round that fails can be asked for again. Where the moment falls
within the cycle also depends on how fast the machine is.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from alphamesh.decision.v1 import decision_pb2, decision_pb2_grpc
from mesh.connect import SocketSystem
from mesh.rundir import RunDir
from python_services.kit.errors import is_away

ALPHAMESH = str(Path(sys.executable).with_name("alphamesh"))
RANGE = ("--start", "2009-07-01", "--end", "2009-09-30")
CYCLES = 64
LONGEST_STEP_S = 0.03
LIMIT_S = 90.0


@dataclass(frozen=True, kw_only=True)
class Interrupted:
    """How it ended, and where it was killed."""

    data_dir: Path
    killed_at: tuple[int, ...]
    report: dict[str, Any]

    @property
    def final_event_hash(self) -> str:
        """Vouches for every event of the session."""
        return str(self.report["final_event_hash"])


def interrupted(
    folder: Path, *, seed: int, kills: int = 1, arguments: Sequence[str] = RANGE, cycles: int = CYCLES
) -> Interrupted:
    """Runs a session over processes in `folder`, kills everything `kills` times, resumes it, and returns its report.

    `arguments`: of `alphamesh session`; `cycles`: how many that session has. Raises AssertionError with the output of
    the command when it fails, and when the session was over before it could be killed.
    """
    chance = random.Random(seed)
    data_dir, report = folder / "run", folder / "report.json"
    folder.mkdir(parents=True, exist_ok=True)
    command = [ALPHAMESH, "session", "--up", "--data-dir", str(data_dir), "--report", str(report), *arguments]
    targets = sorted(chance.sample(range(1, cycles - 1), kills))
    killed = []
    for target in targets:
        with (folder / "log").open("a") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            killed.append(asyncio.run(_reach(data_dir, process, target)))
            time.sleep(chance.uniform(0, LONGEST_STEP_S))
        finally:
            kill_all(RunDir(data_dir), process)
    with (folder / "log").open("a") as log:
        done = subprocess.run(command, stdout=log, stderr=log, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, f"seed {seed}, killed at {killed}:\n{(folder / 'log').read_text()}"
    return Interrupted(data_dir=data_dir, killed_at=tuple(killed), report=json.loads(report.read_text()))


def kill_all(run: RunDir, process: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the supervisor, every service and the event log at once; returns when none is left."""
    processes = run.state().get("processes", {}).values()
    pids = [process.pid, *(facts["pid"] for facts in processes if facts["pid"])]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait(timeout=10)
    give_up = time.monotonic() + 10
    while any(map(alive, pids)):
        assert time.monotonic() < give_up, "a process outlived SIGKILL"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def _reach(data_dir: Path, process: subprocess.Popen[bytes], target: int) -> int:
    """Returns the number of the first cycle from `target` on that has ended."""
    async with asyncio.timeout(LIMIT_S):
        while True:
            assert process.poll() is None, f"it ended before cycle {target}: {data_dir.with_name('log').read_text()}"
            reached = await _watch(data_dir, target)
            if reached:
                return reached
            await asyncio.sleep(0.02)


async def _watch(data_dir: Path, target: int) -> int:
    """As `_reach`; 0 when the system is not there yet."""
    run = RunDir(data_dir)
    if not run.socket("coordinator").exists():
        return 0
    system = SocketSystem(run)
    try:
        stub = system.stub(decision_pb2_grpc.DecisionServiceStub, "coordinator")
        listed = await stub.ListSessions(decision_pb2.ListSessionsRequest())
        for session in listed.sessions:
            request = decision_pb2.WatchSessionRequest(session_id=session.session_id, from_seq=1)
            async for response in stub.WatchSession(request):
                reached = max([cycle.seq for cycle in response.cycles], default=0)
                if reached >= target:
                    return reached
                assert not response.end_reason, f"the session was over before cycle {target}"
    except grpc.aio.AioRpcError as error:
        if not is_away(error):
            raise
    finally:
        await system.close()
    return 0
