"""Snapshots on their way to an agent: shared memory, another host, a file that is gone, content that was altered."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
import numpy as np
import pytest

from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from mesh import topology
from python_services.kit import snapshots
from python_services.kit.client import open_channel
from python_services.kit.errors import ServiceError
from python_services.local import LocalSystem
from python_services.market_data import sharing
from tests.contract.python_services.two_services import UNIVERSE, cut_request, market_data, system

AS_OF_NS = int(datetime(2010, 6, 30, 20, tzinfo=UTC).timestamp()) * 10**9
LARGE = 2000  # bars of four instruments: 480 kB
Alter = Callable[[marketdata_pb2.GetSnapshotResponse], None]


async def cut(running: LocalSystem, lookback_bars: int = LARGE) -> str:
    return (await market_data(running).CutSnapshot(cut_request(AS_OF_NS, UNIVERSE, lookback_bars))).header.snapshot_id


@dataclass
class Alterer(marketdata_pb2_grpc.MarketDataServiceServicer):
    """A real server in front of the real one that changes what it passes on."""

    truth: marketdata_pb2_grpc.MarketDataServiceAsyncStub
    alter: Alter

    async def GetSnapshot(
        self, request: marketdata_pb2.GetSnapshotRequest, context: object
    ) -> marketdata_pb2.GetSnapshotResponse:
        response = await self.truth.GetSnapshot(request)
        self.alter(response)
        return response


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[LocalSystem]:
    async with system(tmp_path) as local:
        yield local


async def through(running: LocalSystem, folder: Path, snapshot_id: str, alter: Alter) -> snapshots.Snapshot:
    """Fetches by way of an altering server on a Unix socket."""
    server = grpc.aio.server()
    marketdata_pb2_grpc.add_MarketDataServiceServicer_to_server(Alterer(market_data(running), alter), server)
    server.add_insecure_port(f"unix:{folder}/alter.sock")
    await server.start()
    channel = open_channel("test", "market_data", folder / "alter.sock")
    try:
        stub = marketdata_pb2_grpc.MarketDataServiceStub(channel)  # type: ignore[arg-type]
        return await snapshots.fetch(stub, snapshot_id)  # type: ignore[arg-type]
    finally:
        await channel.close()
        await server.stop(0)


async def test_shared_memory_and_the_answer_hold_the_same_bytes(running: LocalSystem, tmp_path: Path) -> None:
    snapshot_id, service = await cut(running), market_data(running)
    shared = await service.GetSnapshot(marketdata_pb2.GetSnapshotRequest(snapshot_id=snapshot_id, accept_file=True))
    plain = await service.GetSnapshot(marketdata_pb2.GetSnapshotRequest(snapshot_id=snapshot_id))
    assert (bool(shared.content_file), bool(shared.arrow_ipc), plain.content_file) == (True, False, "")
    assert private_content(shared.content_file) == plain.arrow_ipc
    fetched = await through(running, tmp_path, snapshot_id, lambda response: None)
    assert fetched.data_sha256 == snapshot_id
    np.testing.assert_array_equal(fetched.close, snapshots.decode(plain.header, plain.arrow_ipc).close)
    small = marketdata_pb2.GetSnapshotRequest(snapshot_id=await cut(running, 10), accept_file=True)
    assert (await service.GetSnapshot(small)).content_file == ""


async def test_a_file_that_is_gone_is_fetched_by_the_answer(running: LocalSystem, tmp_path: Path) -> None:
    snapshot_id = await cut(running)

    def remove(response: marketdata_pb2.GetSnapshotResponse) -> None:
        if response.content_file:
            Path(response.content_file).unlink()

    assert (await through(running, tmp_path, snapshot_id, remove)).data_sha256 == snapshot_id


def private_content(path: str) -> bytes:
    """What a file holds that nobody else can read."""
    assert Path(path).stat().st_mode & 0o077 == 0
    return Path(path).read_bytes()


def flip(response: marketdata_pb2.GetSnapshotResponse) -> None:
    """One bit of the content, in the file or in the answer."""
    path = Path(response.content_file)
    content = bytearray(path.read_bytes() if response.content_file else response.arrow_ipc)
    content[len(content) // 2] ^= 1
    if response.content_file:
        path.chmod(0o600)
        path.write_bytes(content)
    else:
        response.arrow_ipc = bytes(content)


def other_mark(response: marketdata_pb2.GetSnapshotResponse) -> None:
    response.header.mark_e9[0] += 1


def later(response: marketdata_pb2.GetSnapshotResponse) -> None:
    response.header.as_of_ns += 1


@pytest.mark.parametrize("alter", [flip, other_mark, later], ids=lambda alter: alter.__name__)
@pytest.mark.parametrize("bars", [10, LARGE])
async def test_altered_content_is_refused(running: LocalSystem, tmp_path: Path, alter: Alter, bars: int) -> None:
    snapshot_id = await cut(running, bars)
    with pytest.raises(ServiceError, match=snapshot_id) as caught:
        await through(running, tmp_path, snapshot_id, alter)
    assert caught.value.reason == "SNAPSHOT_HASH_MISMATCH"


async def test_another_snapshot_than_the_one_asked_for_is_refused(running: LocalSystem, tmp_path: Path) -> None:
    wanted, other = await cut(running, 10), await cut(running, 11)
    answer = await market_data(running).GetSnapshot(marketdata_pb2.GetSnapshotRequest(snapshot_id=other))
    with pytest.raises(ServiceError, match=wanted):
        await through(running, tmp_path, wanted, lambda response: response.CopyFrom(answer))


def is_there(path: Path) -> bool:
    return path.exists()


def shared_folders() -> set[Path]:
    return set(sharing.MEMORY.glob("alphamesh-*"))


async def test_shared_memory_is_given_back(tmp_path: Path) -> None:
    before = shared_folders()
    async with system(tmp_path) as running:
        service = market_data(running)
        first = await cut(running)
        request = marketdata_pb2.GetSnapshotRequest(snapshot_id=first, accept_file=True)
        path = Path((await service.GetSnapshot(request)).content_file)
        assert is_there(path)
        for number in itertools.count(1):
            ask = cut_request(AS_OF_NS + number, UNIVERSE, 2)
            ask.request_id = str(uuid.uuid4())
            await service.CutSnapshot(ask)
            if not is_there(path):
                break
            assert number < 100, "the file of a snapshot that left memory was kept"
        path = Path((await service.GetSnapshot(request)).content_file)
        assert is_there(path)  # cut again
        assert shared_folders() - before
    assert not is_there(path)
    assert not shared_folders() - before


async def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    left, kept = (sharing.MEMORY / f"alphamesh-{os.getuid()}-{pid}-test" for pid in (ended(), os.getppid()))
    for folder in (left, kept):
        make(folder)
    try:
        async with system(tmp_path):
            assert not is_there(left)
            assert is_there(kept / "snapshot")
    finally:
        shutil.rmtree(kept)


def ended() -> int:
    """Number of a process that is no more."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def make(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / "snapshot").write_bytes(b"content")


async def test_without_shared_memory_the_content_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "MEMORY", tmp_path / "nowhere")
    async with LocalSystem(tmp_path, topology.load()) as running:
        snapshot_id = await cut(running)
        request = marketdata_pb2.GetSnapshotRequest(snapshot_id=snapshot_id, accept_file=True)
        response = await market_data(running).GetSnapshot(request)
    assert (response.content_file, bool(response.arrow_ipc)) == ("", True)
