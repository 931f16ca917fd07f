"""Real servers for every test: nats-server, and the small services of tests/services as processes or in-process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mesh import topology
from mesh.connect import SocketSystem, System
from mesh.nats import NatsServers
from mesh.process import Process
from mesh.rundir import RunDir
from python_services.local import LocalSystem

TOPOLOGY = topology.ROOT / "tests" / "services" / "topology.yaml"


def alphamesh(*arguments: str | Path, cwd: Path | None = None, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs the command line as a user does."""
    command = [sys.executable, "-m", "mesh.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, timeout=timeout, check=False, capture_output=True, text=True)


def alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def mesh() -> topology.Topology:
    return topology.load(TOPOLOGY)


@pytest.fixture
def run() -> Iterator[RunDir]:
    """A locked data directory with a short path."""
    with tempfile.TemporaryDirectory(prefix="am-") as folder:
        created = RunDir.create(Path(folder) / "run")
        yield created
        created.release()


class RunningNats:
    """A nats-server that can be killed and started again on the same port and store."""

    def __init__(self, run: RunDir) -> None:
        self.run = run
        self.servers = NatsServers(run, topology.load(TOPOLOGY))
        self.server = self.servers.nodes[0]
        self.process: Process | None = None

    async def start(self) -> None:
        environment = dict(os.environ)
        self.process = await Process.start("nats", self.server.command(), self.run.log("nats"), environment)
        await self.server.ready()
        await self.servers.declare()

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        assert self.process is not None
        await self.process.stop(5)


@pytest.fixture
async def nats(run: RunDir) -> AsyncIterator[RunningNats]:
    running = RunningNats(run)
    await running.start()
    yield running
    await running.stop()


@pytest.fixture(scope="module")
def up() -> Iterator[RunDir]:
    """The test services as processes, for a whole module."""
    with tempfile.TemporaryDirectory(prefix="am-") as folder:
        path = Path(folder) / "run"
        started = alphamesh("up", "--detach", "--data-dir", path, "--topology", TOPOLOGY)
        assert started.returncode == 0, started.stderr
        yield RunDir(path)
        stopped = alphamesh("down", "--data-dir", path)
        assert stopped.returncode == 0, stopped.stderr


@asynccontextmanager
async def open_system(transport: str, up: RunDir, folder: Path) -> AsyncIterator[System]:
    """The test services over the transport asked for."""
    if transport == "local":
        async with LocalSystem(folder, topology.load(TOPOLOGY)) as local:
            yield local
    else:
        system = SocketSystem(up)
        try:
            yield system
        finally:
            await system.close()
