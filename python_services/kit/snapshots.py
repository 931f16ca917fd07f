"""Snapshots: their encoding, their identity, and a client that opens each one once per process.

A snapshot is one Arrow IPC file whose header is the root of a hash tree: the id is the hash of the header, which holds
the hash of each column. Who opens one checks the header; a column is checked when it is read first, and used in place.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import mmap
import os
from collections import OrderedDict
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc

from . import deadline
from .errors import ServiceError, precondition
from .ids import content_id

if TYPE_CHECKING:
    from .context import Context

FLOAT_COLUMNS = ("open", "high", "low", "close", "volume")
HEADER = b"alphamesh.snapshot_header"
MEMORY = Path("/dev/shm")
CACHE_SIZE = 8

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Content = bytes | mmap.mmap


class Snapshot:
    """What was known at `as_of_ns`; made by `decode` or `open_file`.

    Columns (open, high, low, close, volume) are bars x instruments, C-contiguous, oldest bar first: prices adjusted for
    splits and dividends known at as_of; NaN where an instrument has no bar. They are writable, because kernels are
    compiled for writable arrays; readers leave them as they are. Reading one raises ServiceError (FAILED_PRECONDITION,
    SNAPSHOT_HASH_MISMATCH) when it is not what the header says.

    `marks_e9` are the last unadjusted closes, `rates_e9` those of the currency pairs, which are no columns.
    `texts_sha256` names the texts that were known by then; None where there was none.
    `facts_sha256`: what `FactsClient` gets; None where nothing was filed by then.
    """

    def __init__(self, header: marketdata_pb2.SnapshotHeader, values: Mapping[str, Floats]) -> None:
        self._header = header
        self._values = values
        self.snapshot_id = header.snapshot_id
        self.as_of_ns = header.as_of_ns
        self.texts_sha256 = header.texts_sha256 if header.HasField("texts_sha256") else None
        self.facts_sha256 = header.facts_sha256 if header.HasField("facts_sha256") else None

    @property
    def data_sha256(self) -> str:
        """Hash of what was read: the id, for nothing else is opened."""
        return self.snapshot_id

    @cached_property
    def instrument_ids(self) -> tuple[str, ...]:
        """In the order of the columns' second dimension."""
        return tuple(self._header.instrument_ids)

    @cached_property
    def places(self) -> dict[str, int]:
        """Where each instrument stands in the columns' second dimension."""
        return {name: place for place, name in enumerate(self.instrument_ids)}

    @cached_property
    def ts_event_ns(self) -> Ints:
        """Closes of the bars."""
        return np.array(self._header.bar_ts_ns, dtype=np.int64)

    @cached_property
    def marks_e9(self) -> tuple[int, ...]:
        """Of each instrument."""
        return tuple(self._header.mark_e9)

    @cached_property
    def mark_ts_ns(self) -> tuple[int, ...]:
        """Close of the bar that each mark comes from."""
        return tuple(self._header.mark_ts_ns)

    @cached_property
    def rate_instrument_ids(self) -> tuple[str, ...]:
        """Currency pairs."""
        return tuple(self._header.rate_instrument_ids)

    @cached_property
    def rates_e9(self) -> tuple[int, ...]:
        """Of each pair."""
        return tuple(self._header.rate_e9)

    @cached_property
    def rate_ts_ns(self) -> tuple[int, ...]:
        """Close of the bar that each rate comes from."""
        return tuple(self._header.rate_ts_ns)

    @cached_property
    def open(self) -> Floats:
        """First prices."""
        return self._column("open")

    @cached_property
    def high(self) -> Floats:
        """Highest prices."""
        return self._column("high")

    @cached_property
    def low(self) -> Floats:
        """Lowest prices."""
        return self._column("low")

    @cached_property
    def close(self) -> Floats:
        """Last prices."""
        return self._column("close")

    @cached_property
    def volume(self) -> Floats:
        """Quantities traded, adjusted for splits."""
        return self._column("volume")

    def marks(self) -> dict[str, int]:
        """Marks of the instruments, and the rates, by instrument_id."""
        found = dict(zip(self.instrument_ids, self.marks_e9, strict=True))
        if self.rate_instrument_ids:
            found.update(zip(self.rate_instrument_ids, self.rates_e9, strict=True))
        return found

    def _column(self, name: str) -> Floats:
        values = self._values[name]
        found = content_id(values.data)
        if found != self._header.column_sha256[FLOAT_COLUMNS.index(name)]:
            _opened.pop(self.snapshot_id, None)  # whoever asks again gets it anew
            raise _mismatch(self.snapshot_id, f"its column {name} has the hash {found}")
        return np.require(values, requirements=["ALIGNED", "WRITEABLE"])


def seal(header: marketdata_pb2.SnapshotHeader, columns: Mapping[str, Floats]) -> pa.RecordBatch:
    """Completes the header (hashes and id) and makes the batch whose file, see `write`, is the content.

    columns: bars x instruments for each of FLOAT_COLUMNS, NaN where there is no bar.
    """
    del header.column_sha256[:]
    arrays = []
    for name in FLOAT_COLUMNS:
        values = np.ascontiguousarray(columns[name], dtype="<f8")
        gaps = np.isnan(values)
        if gaps.any():
            values = np.where(gaps, np.nan, values)  # of all NaN there are, the one
        header.column_sha256.append(content_id(values.data))
        arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1]))
    header.ClearField("snapshot_id")
    bare = header.SerializeToString(deterministic=True)
    header.snapshot_id = content_id(bare)
    metadata = {HEADER: base64.b64encode(bare)}
    fields = [pa.field(name, array.type) for name, array in zip(FLOAT_COLUMNS, arrays, strict=True)]
    return pa.record_batch(arrays, schema=pa.schema(fields, metadata=metadata))


def write(batch: pa.RecordBatch, sink: Any) -> None:
    """Writes the Arrow IPC file of a batch that `seal` made."""
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def in_memory(batch: pa.RecordBatch) -> bytes:
    """The content of a batch that `seal` made."""
    sink = pa.BufferOutputStream()
    write(batch, sink)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def decode(snapshot_id: str, content: Content) -> Snapshot:
    """Opens the content, and checks that its header is the one that the id names.

    Raises ServiceError (FAILED_PRECONDITION, SNAPSHOT_HASH_MISMATCH).
    """
    header = marketdata_pb2.SnapshotHeader()
    try:
        batch = pa.ipc.open_file(pa.py_buffer(content)).get_batch(0)
        bare = base64.b64decode((batch.schema.metadata or {})[HEADER])
        header.ParseFromString(bare)
    except (pa.ArrowException, OSError, IndexError, KeyError, binascii.Error, DecodeError) as error:
        raise _mismatch(snapshot_id, f"its content is no Arrow file with a header: {error!r}") from error
    header.snapshot_id = content_id(bare)
    if header.snapshot_id != snapshot_id:
        raise _mismatch(snapshot_id, f"its header has the hash {header.snapshot_id}")
    return Snapshot(header, _values(header, batch, content))


def open_file(path: Path) -> Snapshot | None:
    """The snapshot in a file that is named after it, without a copy; None when there is no such file.

    The file may be removed meanwhile: its content stays as long as the snapshot is held. Raises as `decode`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # Private: the arrays are writable, and what is written stays in this process.
        content = mmap.mmap(descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    except (OSError, ValueError):  # no memory to map it; empty
        return None
    finally:
        os.close(descriptor)
    return decode(path.name, content)


async def fetch(market_data: marketdata_pb2_grpc.MarketDataServiceAsyncStub, snapshot_id: str) -> Snapshot:
    """The snapshot as GetSnapshot answers it. Errors of GetSnapshot and of `decode`."""
    response = await market_data.GetSnapshot(marketdata_pb2.GetSnapshotRequest(snapshot_id=snapshot_id))
    return decode(snapshot_id, response.arrow_ipc)


def folder_of(run_dir: Path) -> Path | None:
    """Where market_data leaves snapshots for the services of its run; None on a host without shared memory."""
    digest = content_id(os.fsencode(run_dir.absolute()))[:16]
    return MEMORY / f"alphamesh-snapshots-{os.getuid()}-{digest}" if MEMORY.is_dir() else None


def _values(header: marketdata_pb2.SnapshotHeader, batch: pa.RecordBatch, content: Content) -> dict[str, Floats]:
    """The columns where they lie in the content."""
    shape = (len(header.bar_ts_ns), len(header.instrument_ids))
    kind = pa.list_(pa.float64(), shape[1])
    found_kinds = {field.name: field.type for field in batch.schema}
    if found_kinds != dict.fromkeys(FLOAT_COLUMNS, kind) or batch.num_rows != shape[0]:
        raise _mismatch(header.snapshot_id, f"its content is not {shape[0]} bars of {shape[1]} instruments")
    whole = np.frombuffer(content, dtype=np.uint8)
    values = {}
    for name in FLOAT_COLUMNS:
        buffer = batch.column(name).values.buffers()[1]
        # The place in the content, because what Arrow gives out cannot be written to.
        start, size = buffer.address - whole.ctypes.data, 8 * shape[0] * shape[1]
        if buffer.size != size or not 0 <= start <= len(whole) - size:
            raise _mismatch(header.snapshot_id, f"its column {name} is not {shape[0]} x {shape[1]} doubles")
        values[name] = whole[start : start + size].view("<f8").reshape(shape)
    return values


def _mismatch(snapshot_id: str, problem: str) -> ServiceError:
    return precondition(
        "SNAPSHOT_HASH_MISMATCH",
        f"snapshot {snapshot_id} is refused: {problem}; fetch it again, and look for what alters it on its way "
        "from market_data when that happens twice",
        snapshot_id=snapshot_id,
    )


# Snapshots are named by their content, so every client of a process may share them.
_opened: OrderedDict[str, Snapshot] = OrderedDict()
_fetching: dict[str, asyncio.Task[Snapshot]] = {}


class Lookups:
    """How often a snapshot was in memory when it was asked for."""

    hits = 0
    misses = 0


lookups = Lookups()


class SnapshotClient:
    """Opens snapshots by id; each one once per process, however many agents ask.

    folder: where market_data leaves them on this host. One that is not there is fetched.
    """

    def __init__(self, market_data: marketdata_pb2_grpc.MarketDataServiceAsyncStub, folder: Path | None = None) -> None:
        self._market_data = market_data
        self._folder = folder

    @classmethod
    def of(cls, context: Context[Any]) -> SnapshotClient:
        """For a service that calls GetSnapshot in the topology."""
        return cls(context.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data"), context.snapshots)

    async def get(self, snapshot_id: str) -> Snapshot:
        """The snapshot. Errors of GetSnapshot and of `decode` pass through."""
        snapshot = _opened.get(snapshot_id)
        if snapshot is not None:
            lookups.hits += 1
            return snapshot
        lookups.misses += 1
        snapshot = None if self._folder is None else open_file(self._folder / snapshot_id)
        if snapshot is not None:
            return _keep(snapshot)
        task = _fetching.get(snapshot_id)
        if task is None or task.get_loop() is not asyncio.get_running_loop():
            task = _fetching[snapshot_id] = asyncio.create_task(self._fetch(snapshot_id))
            task.add_done_callback(lambda _: _fetching.pop(snapshot_id, None))
        return await asyncio.shield(task)

    def expect(self, snapshot_id: str) -> None:
        """Begins to fetch what a decision will soon ask for, unless a fetch is under way already.

        A failure is not lost: whoever asks for the snapshot fetches it again and gets the error.
        """
        if snapshot_id not in _opened and not _fetching:
            asyncio.ensure_future(self.get(snapshot_id)).add_done_callback(_seen)

    async def _fetch(self, snapshot_id: str) -> Snapshot:
        deadline.accept(None)  # others may be waiting for it, too
        return _keep(await fetch(self._market_data, snapshot_id))


def _keep(snapshot: Snapshot) -> Snapshot:
    _opened[snapshot.snapshot_id] = snapshot
    while len(_opened) > CACHE_SIZE:
        _opened.popitem(last=False)
    return snapshot


def _seen(task: asyncio.Future[Snapshot]) -> None:
    if not task.cancelled():
        task.exception()
