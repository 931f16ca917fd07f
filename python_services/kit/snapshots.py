"""Snapshots: their encoding, their identity, and a client that fetches each one once per process."""

from __future__ import annotations

import asyncio
import hashlib
import mmap
import os
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc

from . import deadline
from .errors import ServiceError, precondition

FLOAT_COLUMNS = ("open", "high", "low", "close", "volume")
CACHE_SIZE = 8

Floats = NDArray[np.float64]
Content = bytes | mmap.mmap


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What was known at `as_of_ns`. Arrays are bars x instruments, C-contiguous, oldest bar first.

    Prices are adjusted for splits and dividends known at as_of; NaN where an instrument has no bar.
    `marks_e9` are the last unadjusted closes, `rates_e9` those of the currency pairs, which are no columns.
    `texts_sha256` names the texts that were known by then; None where there was none.
    `facts_sha256`: what `FactsClient` gets; None where nothing was filed by then.
    """

    snapshot_id: str
    data_sha256: str
    as_of_ns: int
    instrument_ids: tuple[str, ...]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    ts_event_ns: NDArray[np.int64]
    marks_e9: tuple[int, ...]
    mark_ts_ns: tuple[int, ...]
    rate_instrument_ids: tuple[str, ...] = ()
    rates_e9: tuple[int, ...] = ()
    rate_ts_ns: tuple[int, ...] = ()
    texts_sha256: str | None = None
    facts_sha256: str | None = None

    def marks(self) -> dict[str, int]:
        """Marks of the instruments, and the rates, by instrument_id."""
        found = dict(zip(self.instrument_ids, self.marks_e9, strict=True))
        if self.rate_instrument_ids:
            found.update(zip(self.rate_instrument_ids, self.rates_e9, strict=True))
        return found


def encode(columns: Mapping[str, Floats], ts_event_ns: NDArray[np.int64]) -> bytes:
    """Arrow IPC file: a row per instrument, a FixedSizeList per column, NaN as null.

    columns: bars x instruments for each of FLOAT_COLUMNS; ts_event_ns: bars.
    """
    bars, instruments = columns["close"].shape
    arrays, fields = [], []
    for name in FLOAT_COLUMNS:
        flat = np.ascontiguousarray(columns[name].T).reshape(-1)
        values = pa.array(flat, type=pa.float64(), mask=np.isnan(flat))
        arrays.append(pa.FixedSizeListArray.from_arrays(values, bars))
        fields.append(pa.field(name, arrays[-1].type))
    times = pa.array(np.tile(ts_event_ns, instruments), type=pa.int64())
    arrays.append(pa.FixedSizeListArray.from_arrays(times, bars))
    fields.append(pa.field("ts_event_ns", arrays[-1].type))
    sink = pa.BufferOutputStream()
    schema = pa.schema(fields)
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))
    return bytes(sink.getvalue())


def identify(header: marketdata_pb2.SnapshotHeader, content: Content) -> str:
    """Hex sha256 over the header without its id, and the data."""
    bare = marketdata_pb2.SnapshotHeader()
    bare.CopyFrom(header)
    bare.ClearField("snapshot_id")
    digest = hashlib.sha256(bare.SerializeToString(deterministic=True))
    digest.update(content)
    return digest.hexdigest()


def decode(header: marketdata_pb2.SnapshotHeader, content: Content) -> Snapshot:
    """Checks the content against the id and opens it. The arrays are copies.

    Raises ServiceError (FAILED_PRECONDITION, SNAPSHOT_HASH_MISMATCH) when the content is not what the
    id says.
    """
    found = identify(header, content)
    if found != header.snapshot_id:
        raise _mismatch(header.snapshot_id, found)
    batch = pa.ipc.open_file(pa.BufferReader(content)).get_batch(0)
    shape = (len(header.instrument_ids), header.lookback_bars)

    def column(name: str) -> Floats:
        values = batch.column(name).flatten().to_numpy(zero_copy_only=False)
        # Writable, because kernels are compiled for writable arrays; readers leave them as they are.
        return np.array(values.reshape(shape).T, order="C")

    times = batch.column("ts_event_ns").flatten().to_numpy().reshape(shape)
    return Snapshot(
        snapshot_id=header.snapshot_id,
        data_sha256=found,
        as_of_ns=header.as_of_ns,
        instrument_ids=tuple(header.instrument_ids),
        ts_event_ns=times[0].copy(),
        marks_e9=tuple(header.mark_e9),
        mark_ts_ns=tuple(header.mark_ts_ns),
        rate_instrument_ids=tuple(header.rate_instrument_ids),
        rates_e9=tuple(header.rate_e9),
        rate_ts_ns=tuple(header.rate_ts_ns),
        texts_sha256=header.texts_sha256 if header.HasField("texts_sha256") else None,
        facts_sha256=header.facts_sha256 if header.HasField("facts_sha256") else None,
        **{name: column(name) for name in FLOAT_COLUMNS},
    )


async def fetch(market_data: marketdata_pb2_grpc.MarketDataServiceAsyncStub, snapshot_id: str) -> Snapshot:
    """The snapshot, from memory that this host shares when it is large. Errors of GetSnapshot and `decode`."""
    request = marketdata_pb2.GetSnapshotRequest(snapshot_id=snapshot_id, accept_file=True)
    response = await market_data.GetSnapshot(request)
    content: Content | None = _mapped(response.content_file) if response.content_file else response.arrow_ipc
    if content is None:  # removed by now, or market_data is on another host
        request.accept_file = False
        response = await market_data.GetSnapshot(request)
        content = response.arrow_ipc
    if response.header.snapshot_id != snapshot_id:
        raise _mismatch(snapshot_id, response.header.snapshot_id)
    return decode(response.header, content)


def _mapped(path: str) -> mmap.mmap | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
    except (OSError, ValueError):  # an empty file cannot be mapped
        return None
    finally:
        os.close(descriptor)


def _mismatch(snapshot_id: str, found: str) -> ServiceError:
    return precondition(
        "SNAPSHOT_HASH_MISMATCH",
        f"snapshot {snapshot_id} has content with hash {found}, which is refused; fetch it again, and look for what "
        "alters answers of market_data when it happens twice",
        snapshot_id=snapshot_id,
        sha256=found,
    )


# Snapshots are named by their content, so every client of a process may share them.
_decoded: OrderedDict[str, Snapshot] = OrderedDict()
_fetching: dict[str, asyncio.Task[Snapshot]] = {}


class Lookups:
    """How often a snapshot was in memory when it was asked for."""

    hits = 0
    misses = 0


lookups = Lookups()


class SnapshotClient:
    """Fetches snapshots by id; each one once per process, however many agents ask."""

    def __init__(self, market_data: marketdata_pb2_grpc.MarketDataServiceAsyncStub) -> None:
        self._market_data = market_data

    async def get(self, snapshot_id: str) -> Snapshot:
        """The snapshot. Errors of GetSnapshot and of `decode` pass through."""
        snapshot = _decoded.get(snapshot_id)
        if snapshot is not None:
            lookups.hits += 1
            return snapshot
        lookups.misses += 1
        task = _fetching.get(snapshot_id)
        if task is None or task.get_loop() is not asyncio.get_running_loop():
            task = _fetching[snapshot_id] = asyncio.create_task(self._fetch(snapshot_id))
            task.add_done_callback(lambda _: _fetching.pop(snapshot_id, None))
        return await asyncio.shield(task)

    def expect(self, snapshot_id: str) -> None:
        """Begins to fetch what a decision will soon ask for, unless a fetch is under way already.

        A failure is not lost: whoever asks for the snapshot fetches it again and gets the error.
        """
        if snapshot_id not in _decoded and not _fetching:
            asyncio.ensure_future(self.get(snapshot_id)).add_done_callback(_seen)

    async def _fetch(self, snapshot_id: str) -> Snapshot:
        deadline.accept(None)  # others may be waiting for it, too
        snapshot = _decoded[snapshot_id] = await fetch(self._market_data, snapshot_id)
        while len(_decoded) > CACHE_SIZE:
            _decoded.popitem(last=False)
        return snapshot


def _seen(task: asyncio.Future[Snapshot]) -> None:
    if not task.cancelled():
        task.exception()
