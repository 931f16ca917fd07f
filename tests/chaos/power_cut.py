"""Simulated power cuts: whatever was acknowledged before the disk was copied is on the copy.

Two stores: the ledger's journal, and a JetStream server with the settings that the mesh gives it. Each has a control,
the same store without its syncs, which must lose something, or the simulation would prove nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nats.js.errors import NotFoundError

from mesh import nats_access
from mesh.identity import Authority
from mesh.nats import NatsServer
from python_services.kit.connections import connect
from python_services.kit.journal import Journal, JournalError, open_store
from python_services.kit.streams import stream_config
from python_services.kit.subjects import jetstream_name, subject

from . import disks

LEDGER = "ledger"
NATS_READY_S = 20.0
WRITER = """
import asyncio, os, sys
from pathlib import Path
from alphamesh.risk.v1 import events_pb2, risk_pb2
from python_services.kit.journal import Event, Journal, RequestKey, current_request, open_store

def crash(error):
    print(error, file=sys.stderr)
    os._exit(70)

async def main(folder, synced):
    store = open_store("sqlite", folder / "journal.db", "ledger", "writer")
    journal = Journal(store, "ledger", "1", crash, folder / "journal.watermark")
    if not synced:
        store._database.execute("PRAGMA synchronous=OFF")
    while True:
        journal.add([Event(payload=events_pb2.LimitsSet(account_id="x" * 100), ts_event_ns=1, ts_init_ns=1)])
        request = RequestKey(request_id=str(journal.last_seq), method="/m", request_sha256=b"d")
        current_request.set(request)
        await journal.commit(risk_pb2.SetLimitsResponse(etag=request.request_id))
        os.write(1, f"{journal.durable_seq}\\n".encode())

asyncio.run(main(Path(sys.argv[1]), sys.argv[2] == "synced"))
"""


@dataclass
class Cuts:
    """`lost`: acknowledged events that were not on the copies, all rounds together; `damaged`: stores that did not
    open again."""

    rounds: int = 0
    acknowledged: int = 0
    lost: int = 0
    damaged: int = 0


def cut_journal(rounds: int, seed: int, *, synced: bool = True) -> Cuts:
    """One writer, and its disk copied `rounds` times at random moments."""
    chance, result = random.Random(seed), Cuts()
    with disks.workplace() as folder:
        image = folder / "disk.img"
        disks.new_image(image)
        with disks.mounted(image) as disk, _journal_writer(disk, synced) as (process, acknowledged):
            for _ in range(rounds):
                copy = folder / "copy.img"
                time.sleep(chance.uniform(0.02, 0.12))
                with disks.standing_still(process.pid):
                    seq = acknowledged()
                    disks.copy_image(image, copy)
                result.rounds += 1
                result.acknowledged = seq
                with disks.mounted(copy) as after:
                    _count_journal(after, seq, result)
    return result


def _count_journal(disk: Path, seq: int, result: Cuts) -> None:
    try:
        store = open_store("sqlite", disk / "journal.db", LEDGER, "reader")
        journal = Journal(store, LEDGER, "1", _refuse, disk / "journal.watermark")
    except JournalError:
        result.damaged += 1
        return
    try:
        result.lost += max(seq - journal.durable_seq, 0)
        result.lost += sum(journal.answered(str(n)) is None for n in range(1, min(seq, journal.durable_seq) + 1))
    finally:
        journal.close()


@contextmanager
def _journal_writer(disk: Path, synced: bool) -> Iterator[tuple[subprocess.Popen[bytes], Any]]:
    """The process, and a function that returns what it has acknowledged so far."""
    command = [sys.executable, "-c", WRITER, str(disk), "synced" if synced else "careless"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    said, last = b"", 0

    def acknowledged() -> int:
        nonlocal said, last
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(process.stdout.fileno(), 65536):  # type: ignore[union-attr]
                said += piece
        *lines, said = said.split(b"\n")
        last = int(lines[-1]) if lines else last
        return last

    try:
        while not acknowledged():
            if process.poll() is not None:
                raise RuntimeError(f"the writer ended with status {process.returncode}")
            time.sleep(0.01)
        yield process, acknowledged
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


class CarelessServer(NatsServer):
    """As nats-server is without the mesh's settings: synced every two minutes."""

    def _configuration(self) -> dict[str, Any]:
        settings = super()._configuration()
        settings["jetstream"]["sync_interval"] = "2m"
        return settings

    async def ready(self) -> None:
        """Ready, and not asked whether it syncs."""
        ports = await self._ports()
        self._client_port = int(ports["nats"][0].rpartition(":")[2])


async def cut_nats(rounds: int, seed: int, *, synced: bool = True) -> Cuts:
    """One server and its publishers, and its disk copied `rounds` times at random moments."""
    chance, result = random.Random(seed), Cuts()
    with disks.workplace() as folder:
        image = folder / "disk.img"
        disks.new_image(image)
        with disks.mounted(image) as disk:
            async with _server(disk, synced) as (process, server):
                client = await connect(server.url, "power cut")
                context = client.jetstream(timeout=5)
                await context.add_stream(stream_config(LEDGER, 1, 0))
                acknowledged: list[int] = []
                over = asyncio.Event()
                publishers = [asyncio.create_task(_publish(context, acknowledged, over)) for _ in range(4)]
                for _ in range(rounds):
                    await asyncio.sleep(chance.uniform(0.02, 0.12))
                    copy = folder / "copy.img"
                    with disks.standing_still(process.pid):
                        await asyncio.sleep(0.01)  # what was sent before it stood still arrives
                        count = max(acknowledged, default=0)
                        disks.copy_image(image, copy)
                    result.rounds += 1
                    result.acknowledged = count
                    with disks.mounted(copy) as after:
                        await _count_messages(after, count, result)
                over.set()  # not cancelled: the client does not always let a cancellation through
                await asyncio.gather(*publishers)
                await client.close()
    return result


async def _publish(context: Any, acknowledged: list[int], over: asyncio.Event) -> None:
    while not over.is_set():
        acknowledged.append((await context.publish(subject(LEDGER), os.urandom(200), timeout=10)).seq)


async def _count_messages(disk: Path, count: int, result: Cuts) -> None:
    async with _server(disk, synced=True) as (_, server):
        client = await connect(server.url, "power cut")
        try:
            state = (await client.jetstream(timeout=5).stream_info(jetstream_name(LEDGER))).state
            result.lost += max(count - state.last_seq, 0) + (state.last_seq - state.messages)
        except NotFoundError:
            result.lost += count  # the stream itself is gone
        await client.close()


@asynccontextmanager
async def _server(disk: Path, synced: bool) -> AsyncIterator[tuple[subprocess.Popen[bytes], NatsServer]]:
    kind = NatsServer if synced else CarelessServer
    access = nats_access.administrator(disk / "nats" / "tls", Authority(disk / "authority"))
    server = kind("nats", disk / "nats", 8, access)
    process = subprocess.Popen(  # noqa: ASYNC220 - it is stopped and killed by its id
        server.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(NATS_READY_S):
            await server.ready()
        yield process, server
    finally:
        process.kill()
        process.wait()


def _refuse(error: BaseException) -> None:
    raise AssertionError(f"the journal failed: {error}")
