"""What a stopped run has stored, wherever it lies. Looking changes nothing: servers are started on copies."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from python_services.kit.journal import copy_stream

from . import nats, postgres
from .connect import run_topology
from .errors import MeshError
from .process import Process
from .rundir import RunDir

JOURNAL = "journal.db"
_READY_S = 20.0


async def copy_journals(run: RunDir, folder: Path) -> None:
    """Makes folder/<stream>/journal.db of each stream of a stopped run: a copy of its file, or of what a server holds.

    Raises MeshError or JournalError when a server cannot be read.
    """
    mesh = run_topology(run)
    match mesh.journals.kind:
        case "sqlite":
            for path in (run.path / "data").glob(f"*/{JOURNAL}*"):
                (folder / path.parent.name).mkdir(exist_ok=True)
                shutil.copy2(path, folder / path.parent.name / path.name)
            return
        case postgres.NAME:
            source = postgres_copy(run)
        case nats.NAME:
            source = nats_copy(run)
        case _:
            source = _address(mesh.journals.address)
    async with source as address:
        if address:
            for service in mesh.services:
                (folder / service.name).mkdir(exist_ok=True)
                await copy_stream(address, service.name, folder / service.name / JOURNAL)


@asynccontextmanager
async def nats_copy(run: RunDir) -> AsyncIterator[str]:
    """Addresses of servers of our own on a copy of the event log's store; empty when there is none."""
    clustered = sorted((run.path / nats.NAME).glob(f"{nats.NAME}-*"))
    if not clustered and not (run.path / nats.NAME / "store").is_dir():
        yield ""
        return
    topology = run_topology(run).with_servers(len(clustered) or 1)
    with tempfile.TemporaryDirectory(prefix="alphamesh-") as folder:
        copy = RunDir(Path(folder))
        shutil.copytree(run.path / nats.NAME, copy.path / nats.NAME)
        (copy.path / "logs").mkdir()
        servers = nats.NatsServers(copy, topology)
        started: list[Process] = []
        try:
            for node in servers.nodes:
                process = await Process.start(node.name, node.command(), copy.log(node.name), dict(os.environ))
                started.append(process)
            async with asyncio.timeout(_READY_S):
                await asyncio.gather(*(node.ready() for node in servers.nodes))
                await servers.recovered()
            yield servers.url
        except TimeoutError:
            raise MeshError(f"the event log's store in {run.path / nats.NAME} cannot be opened") from None
        finally:
            for process in started:
                process.kill()
                await process.wait()


@asynccontextmanager
async def postgres_copy(run: RunDir) -> AsyncIterator[str]:
    """Address of a server of our own on a copy of the run's own PostgreSQL; empty when it has none."""
    if not (run.path / postgres.NAME / "data").is_dir():
        yield ""
        return
    with tempfile.TemporaryDirectory(prefix="alphamesh-") as folder:
        copy = RunDir(Path(folder))
        copy.path.chmod(0o711)  # the server may run as another user
        for name in ("logs", "sock"):
            (copy.path / name).mkdir(mode=0o700)
        skipped = shutil.ignore_patterns("postmaster.pid")
        shutil.copytree(run.path / postgres.NAME, copy.path / postgres.NAME, ignore=skipped)
        server, environment = postgres.PostgresServer(copy), dict(os.environ)
        await server.prepare(environment)
        process = await Process.start(
            server.name, server.command(), copy.log(server.name), environment, user=server.user
        )
        try:
            async with asyncio.timeout(_READY_S):
                await server.ready()
            yield server.url
        except TimeoutError:
            raise MeshError(
                f"PostgreSQL cannot open a copy of {run.path / postgres.NAME}: {server.last_words()}"
            ) from None
        finally:
            process.kill()
            await process.wait()


@asynccontextmanager
async def _address(address: str) -> AsyncIterator[str]:
    yield address
