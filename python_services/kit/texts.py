"""Texts of a snapshot: their encoding, and a client that fetches each set once per process and checks its hash."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc

from .errors import precondition
from .ids import content_id
from .snapshots import Snapshot

SCHEMA = pa.schema(
    [
        pa.field("instrument_index", pa.uint32(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("text_id", pa.string(), nullable=False),
        pa.field("ts_event_ns", pa.int64(), nullable=False),
        pa.field("known_at_ns", pa.int64(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)
CACHE_SIZE = 4


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Columns, a row per text and instrument, ascending by known_at_ns, source and text_id.

    `instrument_index` is the row in the snapshot's instruments; times are Unix nanoseconds UTC: when it was published,
    and when it became known. Words stay in Arrow: a snapshot has thirty days of them, most of which a reader knows.
    """

    instrument_index: NDArray[np.int64]
    source: pa.StringArray
    text_id: pa.StringArray
    ts_event_ns: NDArray[np.int64]
    known_at_ns: NDArray[np.int64]
    text: pa.StringArray

    def __len__(self) -> int:
        return len(self.text)


def encode(batch: pa.RecordBatch) -> bytes:
    """Arrow IPC file of one record batch that has `SCHEMA`."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, SCHEMA) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


def decode(content: bytes) -> Texts:
    """The other way."""
    batch = pa.ipc.open_file(pa.BufferReader(content)).get_batch(0)
    return Texts(
        instrument_index=batch.column("instrument_index").to_numpy().astype(np.int64),
        source=batch.column("source"),
        text_id=batch.column("text_id"),
        ts_event_ns=batch.column("ts_event_ns").to_numpy(),
        known_at_ns=batch.column("known_at_ns").to_numpy(),
        text=batch.column("text"),
    )


_NONE = decode(encode(pa.RecordBatch.from_pylist([], schema=SCHEMA)))
# Named by their content, so every client of a process may share them.
_decoded: OrderedDict[str, Texts] = OrderedDict()


class TextClient:
    """What was known in words when a snapshot was cut.

    folder: where market_data leaves it on this host, as for `SnapshotClient`. What is not there is fetched.
    """

    def __init__(self, market_data: marketdata_pb2_grpc.MarketDataServiceAsyncStub, folder: Path | None = None) -> None:
        self._market_data = market_data
        self._folder = folder

    async def get(self, snapshot: Snapshot) -> Texts:
        """The texts; none where the snapshot was cut without.

        Errors of GetTexts pass through. Raises ServiceError (FAILED_PRECONDITION, TEXTS_HASH_MISMATCH) when they are
        not those that the snapshot names.
        """
        wanted = snapshot.texts_sha256
        if wanted is None:
            return _NONE
        held = _decoded.get(wanted)
        if held is not None:
            return held
        content = None if self._folder is None else _read(self._folder / wanted)
        if content is None:
            request = marketdata_pb2.GetTextsRequest(snapshot_id=snapshot.snapshot_id)
            content = (await self._market_data.GetTexts(request)).arrow_ipc
        found = content_id(content)
        if found != wanted:
            raise precondition(
                "TEXTS_HASH_MISMATCH",
                f"snapshot {snapshot.snapshot_id} names texts with the hash {wanted}, and those that came {found}; "
                "they are refused: fetch them again, and look for what alters answers of market_data if it happens "
                "twice",
                snapshot_id=snapshot.snapshot_id,
                sha256=found,
            )
        texts = _decoded[wanted] = decode(content)
        while len(_decoded) > CACHE_SIZE:
            _decoded.popitem(last=False)
        return texts


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
