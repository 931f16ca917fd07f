"""Company facts on their way: an Arrow table a snapshot, named by its hash, and a client that fetches each one once."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc

from . import deadline
from .errors import precondition
from .facts import Fact, FactView, view_of
from .ids import content_id
from .snapshots import Snapshot

Ints = NDArray[np.int64]
Texts = tuple[NDArray[np.int32], tuple[str, ...]]  # of each row the position among the distinct texts, which ascend

NUMBERS = {
    "instrument_index": pa.uint32(),
    "months": pa.int32(),
    "end": pa.date32(),
    "value": pa.int64(),
    "known_at_ns": pa.int64(),
    "split_ratio": pa.float64(),
}
TEXTS = ("tag", "form", "accession")
KEPT = 4
_EPOCH = date(1970, 1, 1)


def encode(numbers: Mapping[str, NDArray[np.generic]], texts: Mapping[str, Texts]) -> bytes:
    """Arrow IPC file as GetFacts answers it; the same facts give the same bytes. Columns are NUMBERS and TEXTS."""
    columns = {name: pa.array(numbers[name], type=kind) for name, kind in NUMBERS.items()}
    for name in TEXTS:
        codes, names = texts[name]
        columns[name] = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(names, pa.string()))
    batch = pa.record_batch(list(columns.values()), names=list(columns))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue())


@dataclass(frozen=True, kw_only=True)
class FactsTable:
    """The facts of a snapshot, a row each, ascending by instrument."""

    sha256: str
    instrument_ids: tuple[str, ...]
    instrument_index: Ints
    months: Ints
    end: Ints
    value: Ints
    known_at_ns: Ints
    split_ratio: NDArray[np.float64]
    tag: Texts
    form: Texts
    accession: Texts

    def rows(self, index: int) -> slice:
        """Where the facts of an instrument are."""
        return slice(int(self._starts[index]), int(self._starts[index + 1]))

    def fingerprint(self, index: int) -> bytes:
        """Equal for equal numbers of an instrument: what is made of them can be kept."""
        rows = self.rows(index)
        parts = (self.tag[0], self.months, self.end, self.value, self.known_at_ns, self.split_ratio)
        return hashlib.sha256(b"".join([self._tags, *(part[rows].tobytes() for part in parts)])).digest()

    def view(self, index: int) -> FactView:
        """The facts of an instrument; an empty view when it has filed nothing."""
        at = self.rows(index)
        name = self.instrument_ids[index]
        columns = zip(
            *(self._read(texts, at) for texts in (self.tag, self.form, self.accession)),
            self.months[at].tolist(),
            self.end[at].tolist(),
            self.value[at].tolist(),
            self.known_at_ns[at].tolist(),
            self.split_ratio[at].tolist(),
            strict=True,
        )
        return view_of(
            Fact(name, tag, months, _EPOCH + timedelta(days=end), value, known, form, accession, ratio)
            for tag, form, accession, months, end, value, known, ratio in columns
        )

    @cached_property
    def _tags(self) -> bytes:
        return hashlib.sha256(",".join(self.tag[1]).encode()).digest()

    @cached_property
    def _starts(self) -> Ints:
        return np.searchsorted(self.instrument_index, np.arange(len(self.instrument_ids) + 1))

    @staticmethod
    def _read(texts: Texts, at: slice) -> list[str]:
        codes, names = texts
        return [names[code] for code in codes[at].tolist()]


def decode(content: bytes, sha256: str, instrument_ids: tuple[str, ...]) -> FactsTable:
    """Checks the content against its hash and opens it.

    Raises ServiceError (FAILED_PRECONDITION, FACTS_HASH_MISMATCH).
    """
    found = content_id(content)
    if found != sha256:
        raise precondition(
            "FACTS_HASH_MISMATCH",
            f"facts {sha256} have content with hash {found}, which is refused; fetch them again, and look for what "
            "alters answers of market_data when it happens twice",
            sha256=found,
        )
    batch = pa.ipc.open_file(pa.BufferReader(content)).get_batch(0)

    def numbers(name: str) -> Ints:
        column = batch.column(name)
        return np.asarray((column.cast(pa.int32()) if name == "end" else column).to_numpy()).astype(np.int64)

    def texts(name: str) -> Texts:
        column = batch.column(name)
        return column.indices.to_numpy(), tuple(column.dictionary.to_pylist())

    return FactsTable(
        sha256=sha256,
        instrument_ids=instrument_ids,
        instrument_index=numbers("instrument_index"),
        months=numbers("months"),
        end=numbers("end"),
        value=numbers("value"),
        known_at_ns=numbers("known_at_ns"),
        split_ratio=batch.column("split_ratio").to_numpy(),
        tag=texts("tag"),
        form=texts("form"),
        accession=texts("accession"),
    )


class FactsClient:
    """Fetches the facts of snapshots; equal facts once, however many snapshots have them."""

    def __init__(self, market_data: marketdata_pb2_grpc.MarketDataServiceAsyncStub) -> None:
        self._market_data = market_data
        self._kept: OrderedDict[str, FactsTable] = OrderedDict()
        self._fetching: dict[str, asyncio.Task[FactsTable]] = {}

    async def get(self, snapshot: Snapshot) -> FactsTable | None:
        """The facts, or None when nothing was filed. Errors of GetFacts and of `decode` pass through."""
        sha256 = snapshot.facts_sha256
        if sha256 is None:
            return None
        found = self._kept.get(sha256)
        if found is not None:
            self._kept.move_to_end(sha256)
            return found
        task = self._fetching.get(sha256)
        if task is None:
            task = self._fetching[sha256] = asyncio.create_task(self._fetch(snapshot, sha256))
            task.add_done_callback(lambda _: self._fetching.pop(sha256, None))
        return await asyncio.shield(task)

    async def _fetch(self, snapshot: Snapshot, sha256: str) -> FactsTable:
        deadline.accept(None)  # others may be waiting for it, too
        request = marketdata_pb2.GetFactsRequest(snapshot_id=snapshot.snapshot_id)
        content = (await self._market_data.GetFacts(request)).arrow_ipc
        table = self._kept[sha256] = decode(content, sha256, snapshot.instrument_ids)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return table
