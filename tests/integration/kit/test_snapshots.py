"""Snapshots on their way to an agent: shared memory, another host, a file that is gone, content that was altered."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import itertools
import resource
import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import grpc
import numpy as np
import pyarrow as pa
import pytest

from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from mesh import topology
from python_services.kit import snapshots
from python_services.kit.client import open_channel
from python_services.kit.errors import ServiceError
from python_services.local import LocalSystem
from python_services.market_data.sharing import SharedFiles, share
from tests.contract.python_services.two_services import UNIVERSE, cut_request, market_data, system

AS_OF_NS = int(datetime(2010, 6, 30, 20, tzinfo=UTC).timestamp()) * 10**9
BARS = 60
Alter = Callable[[marketdata_pb2.GetSnapshotResponse], None]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """As in a process that has opened none."""
    snapshots._opened.clear()
    yield
    snapshots._opened.clear()


async def cut(running: LocalSystem, lookback_bars: int = BARS) -> str:
    return (await market_data(running).CutSnapshot(cut_request(AS_OF_NS, UNIVERSE, lookback_bars))).header.snapshot_id


class Between(marketdata_pb2_grpc.MarketDataServiceServicer):
    """A real server in front of the real one that counts, and changes what it passes on."""

    def __init__(self, truth: marketdata_pb2_grpc.MarketDataServiceAsyncStub, alter: Alter) -> None:
        self.truth = truth
        self.alter = alter
        self.asked = 0

    async def GetSnapshot(
        self, request: marketdata_pb2.GetSnapshotRequest, context: object
    ) -> marketdata_pb2.GetSnapshotResponse:
        self.asked += 1
        response = await self.truth.GetSnapshot(request)
        self.alter(response)
        return response


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[LocalSystem]:
    async with system(tmp_path) as local:
        yield local


def as_it_is(response: marketdata_pb2.GetSnapshotResponse) -> None:
    """Nothing is changed."""


@asynccontextmanager
async def reader(
    running: LocalSystem, folder: Path, alter: Alter = as_it_is, shared: Path | None = None
) -> AsyncIterator[tuple[snapshots.SnapshotClient, Between]]:
    """A client that asks by way of another server on a Unix socket."""
    between = Between(market_data(running), alter)
    server = grpc.aio.server()
    marketdata_pb2_grpc.add_MarketDataServiceServicer_to_server(between, server)
    server.add_insecure_port(f"unix:{folder}/alter.sock")
    await server.start()
    channel = open_channel("test", "market_data", folder / "alter.sock")
    try:
        stub = marketdata_pb2_grpc.MarketDataServiceStub(channel)  # type: ignore[arg-type]
        yield snapshots.SnapshotClient(stub, shared), between  # type: ignore[arg-type]
    finally:
        await channel.close()
        await server.stop(0)


def shared_folder(run_dir: Path) -> Path:
    folder = snapshots.folder_of(run_dir)
    assert folder is not None
    return folder


def columns(snapshot: snapshots.Snapshot) -> list[np.ndarray]:
    return [getattr(snapshot, name) for name in snapshots.FLOAT_COLUMNS]


async def test_a_file_and_the_answer_give_the_same_and_the_file_asks_nobody(
    running: LocalSystem, tmp_path: Path
) -> None:
    snapshot_id = await cut(running)
    async with reader(running, tmp_path, shared=shared_folder(tmp_path)) as (client, between):
        mapped = await client.get(snapshot_id)
        assert between.asked == 0
        snapshots._opened.clear()
        shutil.rmtree(shared_folder(tmp_path))  # as on another host
        sent = await client.get(snapshot_id)
        assert between.asked == 1
    assert mapped.snapshot_id == mapped.data_sha256 == sent.data_sha256 == snapshot_id
    assert mapped.marks() == sent.marks()
    assert mapped.ts_event_ns[-1] == AS_OF_NS
    for one, other in zip(columns(mapped), columns(sent), strict=True):  # the file is gone by now
        np.testing.assert_array_equal(one, other)
        assert one.shape == (BARS, len(UNIVERSE))
        for values in (one, other):
            assert values.flags.c_contiguous
            assert values.flags.writeable
            assert values.flags.aligned


async def test_files_are_for_their_owner_and_what_a_reader_writes_stays_with_it(
    running: LocalSystem, tmp_path: Path
) -> None:
    path = shared_folder(tmp_path) / await cut(running)
    assert path.parent.stat().st_mode & 0o077 == 0
    assert path.stat().st_mode & 0o777 == 0o400
    before = path.read_bytes()
    opened = snapshots.open_file(path)
    assert opened is not None
    opened.close[:] = 0.0
    assert path.read_bytes() == before


@pytest.mark.parametrize("from_file", [True, False])
@pytest.mark.parametrize("column", snapshots.FLOAT_COLUMNS)
async def test_an_altered_column_is_refused_when_it_is_read(
    running: LocalSystem, tmp_path: Path, column: str, from_file: bool
) -> None:
    snapshot_id = await cut(running)
    path, number = shared_folder(tmp_path) / snapshot_id, snapshots.FLOAT_COLUMNS.index(column)

    def alter(content: bytes) -> bytes:
        values = columns(snapshots.open_file(path))[number].tobytes()  # type: ignore[arg-type]
        where = content.index(values) + 8
        return content[:where] + bytes([content[where] ^ 1]) + content[where + 1 :]

    altered = alter(path.read_bytes())

    def answer(response: marketdata_pb2.GetSnapshotResponse) -> None:
        response.arrow_ipc = altered

    if from_file:
        path.chmod(0o600)
        path.write_bytes(altered)
    async with reader(running, tmp_path, answer, shared_folder(tmp_path) if from_file else None) as (client, _):
        snapshot = await client.get(snapshot_id)
        for name in snapshots.FLOAT_COLUMNS:
            if name != column:
                getattr(snapshot, name)
        with pytest.raises(ServiceError, match=f"its column {column} has") as caught:
            getattr(snapshot, column)
        assert caught.value.reason == "SNAPSHOT_HASH_MISMATCH"
        assert await client.get(snapshot_id) is not snapshot, "what was refused is opened anew"


def other_header(response: marketdata_pb2.GetSnapshotResponse) -> None:
    """Another mark, and whatever follows from it."""
    snapshot = snapshots.decode(known_as(response), response.arrow_ipc)
    snapshot._header.mark_e9[0] += 1
    content = snapshots.seal(snapshot._header, dict(zip(snapshots.FLOAT_COLUMNS, columns(snapshot), strict=True)))
    response.arrow_ipc = snapshots.in_memory(content)


def known_as(response: marketdata_pb2.GetSnapshotResponse) -> str:
    bare = pa.ipc.open_file(response.arrow_ipc).schema.metadata[snapshots.HEADER]
    return hashlib.sha256(base64.b64decode(bare)).hexdigest()


def no_header(response: marketdata_pb2.GetSnapshotResponse) -> None:
    sink = pa.BufferOutputStream()
    snapshots.write(pa.ipc.open_file(response.arrow_ipc).get_batch(0).replace_schema_metadata(None), sink)
    response.arrow_ipc = sink.getvalue().to_pybytes()


def fewer_bars(response: marketdata_pb2.GetSnapshotResponse) -> None:
    sink = pa.BufferOutputStream()
    snapshots.write(pa.ipc.open_file(response.arrow_ipc).get_batch(0).slice(0, 10), sink)
    response.arrow_ipc = sink.getvalue().to_pybytes()


def no_content(response: marketdata_pb2.GetSnapshotResponse) -> None:
    response.arrow_ipc = b""


def cut_off(response: marketdata_pb2.GetSnapshotResponse) -> None:
    response.arrow_ipc = response.arrow_ipc[: len(response.arrow_ipc) // 2]


@pytest.mark.parametrize("alter", [other_header, no_header, fewer_bars, no_content, cut_off])
async def test_an_altered_answer_is_refused(running: LocalSystem, tmp_path: Path, alter: Alter) -> None:
    snapshot_id = await cut(running)
    async with reader(running, tmp_path, alter) as (client, _):
        with pytest.raises(ServiceError, match=snapshot_id) as caught:
            await client.get(snapshot_id)
    assert caught.value.reason == "SNAPSHOT_HASH_MISMATCH"


async def test_another_snapshot_than_the_one_asked_for_is_refused(running: LocalSystem, tmp_path: Path) -> None:
    wanted, other = await cut(running, 10), await cut(running, 11)
    answer = await market_data(running).GetSnapshot(marketdata_pb2.GetSnapshotRequest(snapshot_id=other))
    folder = shared_folder(tmp_path)
    async with reader(running, tmp_path, lambda response: response.CopyFrom(answer)) as (client, _):
        with pytest.raises(ServiceError, match=wanted):
            await client.get(wanted)
    (folder / other).replace(folder / wanted)
    with pytest.raises(ServiceError, match=f"{wanted} is refused: its header has the hash {other}"):
        snapshots.open_file(folder / wanted)
    (folder / wanted).chmod(0o600)
    (folder / wanted).write_bytes(b"no Arrow at all")
    with pytest.raises(ServiceError, match="no Arrow file"):
        snapshots.open_file(folder / wanted)


def is_there(path: Path) -> bool:
    return path.exists()


async def test_shared_memory_is_given_back(tmp_path: Path) -> None:
    async with system(tmp_path) as running:
        service = market_data(running)
        first = await cut(running)
        path = shared_folder(tmp_path) / first
        assert is_there(path)
        for number in itertools.count(1):
            ask = cut_request(AS_OF_NS + number, UNIVERSE, 2)
            ask.request_id = str(uuid.uuid4())
            await service.CutSnapshot(ask)
            if not is_there(path):
                break
            assert number < 100, "the file of a snapshot that left memory was kept"
        await service.GetSnapshot(marketdata_pb2.GetSnapshotRequest(snapshot_id=first))
        assert is_there(path)  # cut again
    assert not is_there(path.parent)


async def test_what_a_killed_process_left_is_removed_and_what_a_living_one_has_is_not(tmp_path: Path) -> None:
    left, kept, mine = (shared_folder(tmp_path / name) for name in ("left", "kept", "mine"))
    files = share(kept)
    assert files is not None
    try:
        for folder in (left, kept, mine):
            folder.mkdir(mode=0o700, exist_ok=True)
            (folder / "snapshot").write_bytes(b"content")
        async with system(tmp_path / "mine") as running:
            assert not is_there(left)
            assert is_there(kept / "snapshot")
            assert not is_there(mine / "snapshot")  # the one that was killed here
            assert is_there(mine / await cut(running))
    finally:
        await files.close()
    assert not is_there(kept)


async def test_without_shared_memory_the_content_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "MEMORY", tmp_path / "nowhere")
    async with system(tmp_path) as running, reader(running, tmp_path) as (client, between):
        snapshot = await client.get(await cut(running))
        assert snapshot.close[-1, UNIVERSE.index("AAPL")] == 251.53
    assert (between.asked, snapshots.folder_of(tmp_path)) == (1, None)


@contextmanager
def no_room(size: int) -> Iterator[None]:
    """Files of this process cannot grow past `size` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


async def test_where_there_is_no_room_nothing_is_left_half_written(tmp_path: Path) -> None:
    header = marketdata_pb2.SnapshotHeader(instrument_ids=["A"], bar_ts_ns=range(10**5))
    batch = snapshots.seal(header, dict.fromkeys(snapshots.FLOAT_COLUMNS, np.ones((10**5, 1))))
    files = SharedFiles(tmp_path / "alphamesh-0-test")
    with no_room(10**6):
        assert files.write(header.snapshot_id, batch) is None
    assert list((tmp_path / "alphamesh-0-test").iterdir()) == []
    content = files.write(header.snapshot_id, batch)
    assert content is not None
    assert bytes(content) == snapshots.in_memory(batch)
    await files.close()


async def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path) -> None:
    folder = shared_folder(tmp_path)
    folder.mkdir(mode=0o755)
    try:
        async with system(tmp_path) as running:
            snapshot_id = await cut(running)
            async with reader(running, tmp_path, shared=folder) as (client, between):
                assert (await client.get(snapshot_id)).snapshot_id == snapshot_id
        assert between.asked == 1
    finally:
        shutil.rmtree(folder)


def test_only_who_may_fetch_snapshots_is_told_where_they_are() -> None:
    whole = topology.load()
    told = {service.name for service in whole.services if whole.shares_snapshots(service)}
    assert told >= {"market_data", "technical_agent", "feature_store", "portfolio", "risk", "execution", "coordinator"}
    assert not told & {"venue", "audit", "model_registry"}
    alone = dataclasses.replace(whole, services=(whole.service("market_data"),), clients=())
    assert not alone.shares_snapshots(alone.services[0])
