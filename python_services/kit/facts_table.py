"""Company facts on their way: a table per company, named by its hash, and a client that reads each one once."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Generic, TypeVar

from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc

from . import deadline
from .errors import ServiceError, precondition
from .facts import FactView
from .ids import content_id
from .snapshots import Snapshot

T = TypeVar("T")

HASH_BYTES = 32
NOTHING = bytes(HASH_BYTES)  # the hash of a company that has filed nothing
KEPT = 4
_EPOCH = date(1970, 1, 1).toordinal()


def hash_of(table: bytes) -> bytes:
    """What names a company's table."""
    return hashlib.sha256(table).digest()


def hashes_in(content: bytes) -> tuple[bytes, ...]:
    """Hashes that stand one after the other."""
    return tuple(content[at : at + HASH_BYTES] for at in range(0, len(content), HASH_BYTES))


def view(content: bytes) -> FactView:
    """A company's facts, from its table: marketdata.v1.FactsTable, serialised."""
    table = marketdata_pb2.FactsTable.FromString(content)
    ends = [_EPOCH + end for end in table.end]
    starts = [*table.series_start, len(ends)]
    names = table.tag_names
    series = {
        (names[tag], months): (first, last)
        for tag, months, first, last in zip(table.series_tag, table.series_months, starts[:-1], starts[1:], strict=True)
    }
    ratios = [filing.split_ratio for filing in table.filings]
    return FactView(series, ends, list(table.value), [ratios[filing] for filing in table.filing])


@dataclass(frozen=True, kw_only=True)
class Companies(Generic[T]):
    """What was read of the companies of a snapshot, in the order of its instruments; None where nothing was filed.

    sha256: the snapshot's facts_sha256. hashes: those of the tables; equal ones are the same facts.
    """

    sha256: str
    hashes: tuple[bytes, ...]
    read: tuple[T | None, ...]


class FactsClient(Generic[T]):
    """Fetches the facts of snapshots: each company's once until they change. `read` makes of them what is kept."""

    def __init__(
        self, market_data: marketdata_pb2_grpc.MarketDataServiceAsyncStub, read: Callable[[FactView], T]
    ) -> None:
        self._market_data = market_data
        self._read = read
        self._kept: OrderedDict[str, Companies[T]] = OrderedDict()
        self._fetching: dict[str, asyncio.Task[Companies[T]]] = {}

    async def get(self, snapshot: Snapshot) -> Companies[T] | None:
        """The facts, or None when nothing was filed.

        Errors of GetFacts pass through; FAILED_PRECONDITION (FACTS_HASH_MISMATCH) when they are not what hashes say.
        """
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

    async def _fetch(self, snapshot: Snapshot, sha256: str) -> Companies[T]:
        deadline.accept(None)  # others may be waiting for it, too
        held: dict[bytes, T | None] = {}
        for kept in self._kept.values():
            held.update(zip(kept.hashes, kept.read, strict=True))
        held[NOTHING] = None
        while True:
            request = marketdata_pb2.GetFactsRequest(snapshot_id=snapshot.snapshot_id, held_sha256=b"".join(held))
            hashes, tables = check(await self._market_data.GetFacts(request), sha256, len(snapshot.instrument_ids))
            fresh = {hash_: self._read(view(table)) for hash_, table in tables.items() if hash_ not in held}
            held.update(fresh)
            if all(hash_ in held for hash_ in hashes):
                break
            if not fresh:
                raise _mismatch(sha256, "lack tables that their list names")
        found = self._kept[sha256] = Companies(sha256=sha256, hashes=hashes, read=tuple(map(held.__getitem__, hashes)))
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return found


def check(
    answer: marketdata_pb2.GetFactsResponse, sha256: str, instruments: int
) -> tuple[tuple[bytes, ...], dict[bytes, bytes]]:
    """(hash of each company's table, tables by their hash), if they are what the snapshot's facts_sha256 says.

    Raises ServiceError (FAILED_PRECONDITION, FACTS_HASH_MISMATCH).
    """
    listed = answer.company_sha256
    if content_id(listed) != sha256:
        raise _mismatch(sha256, f"have a list of hashes with hash {content_id(listed)}")
    hashes = hashes_in(listed)
    if len(hashes) != instruments:
        raise _mismatch(sha256, f"are of {len(hashes)} companies, the snapshot has {instruments}")
    tables = {hash_of(table): table for table in answer.company_facts}
    strange = tables.keys() - set(hashes)
    if strange:
        raise _mismatch(sha256, f"have a table with hash {min(strange).hex()}, which their list does not name")
    return hashes, tables


def _mismatch(sha256: str, problem: str) -> ServiceError:
    return precondition(
        "FACTS_HASH_MISMATCH",
        f"facts {sha256} {problem}, so they are refused; fetch them again, and look for what alters answers of "
        "market_data when it happens twice",
        sha256=sha256,
    )
