"""Answering for inference and for training: which bars, which path, and what is remembered of it."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from alphamesh.feature.v1 import events_pb2, feature_pb2
from python_services.kit.errors import ServiceError, invalid, not_found, precondition
from python_services.kit.journal import Event, Journal
from python_services.kit.snapshots import FLOAT_COLUMNS, Snapshot, SnapshotClient

from . import historical, logic, tables
from .bars import Ints, of_snapshot
from .catalog import Catalog
from .historical import Rows, TooEarlyError
from .logic import Computable
from .market import Market
from .offline import Offline
from .online import Online

ANSWERS = 64
SNAPSHOTS = 8
MANY = 512  # rows: more are computed beside the event loop


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer and what it holds, before stale values were left out for the caller's cut."""

    content: bytes
    sha256: str
    stale: int


class Serving:
    """GetOnlineFeatures and GetHistoricalFeatures, without messages."""

    def __init__(
        self, catalog: Catalog, market: Market, snapshots: SnapshotClient, offline: Offline, journal: Journal
    ) -> None:
        self._catalog = catalog
        self._market = market
        self._snapshots = snapshots
        self._offline = offline
        self._journal = journal
        self._online: dict[str, Online] = {}
        self._answers: OrderedDict[tuple[object, ...], Answer] = OrderedDict()
        self._of_snapshot: OrderedDict[tuple[str, str], Rows] = OrderedDict()
        self._unasked: dict[str, int] = {}  # sets that snapshots are asked for -> snapshots since

    async def online(self, request: feature_pb2.GetOnlineFeaturesRequest) -> Answer:
        """Values at one cut, from a snapshot or from the newest bars."""
        version, names = request.feature_set_version, tuple(request.instrument_ids)
        generation = 0 if request.snapshot_id else self._market.generation
        key = (version, request.known_at_ns, request.snapshot_id, names, generation)
        answer = self._answers.get(key)
        if answer is not None:
            return answer
        features = self._catalog.computable(version)
        as_of_ns = request.known_at_ns
        if request.snapshot_id:
            snapshot = await self._snapshots.get(request.snapshot_id)
            as_of_ns = snapshot.as_of_ns
            found, stale = self._from_snapshot(version, features, snapshot, names, request.known_at_ns)
            names = names or snapshot.instrument_ids
        else:
            if not names:
                raise invalid("instrument_ids", "no rows are named", "name them, or a snapshot whose rows are wanted")
            await self._market.need(names)
            found, stale = self.newest(version, features, names, request.known_at_ns)
        content = tables.encode([f.feature_id for f in features], found.values, found.event_ns, found.known_ns)
        answer = Answer(content=content, sha256=hashlib.sha256(content).hexdigest(), stale=stale)
        self._answers[key] = answer
        while len(self._answers) > ANSWERS:
            self._answers.popitem(last=False)
        self._note(request, as_of_ns, names, found)
        return answer

    def expect(self, snapshot_id: str) -> None:
        """A snapshot was cut: what the last ones were asked for is computed before somebody asks.

        A failure is not lost: whoever asks meets it again.
        """
        if self._unasked:
            self._unasked = {version: count + 1 for version, count in self._unasked.items() if count < SNAPSHOTS}
            asyncio.ensure_future(self._prepare(snapshot_id)).add_done_callback(_seen)

    async def _prepare(self, snapshot_id: str) -> None:
        snapshot = await self._snapshots.get(snapshot_id)
        for version in self._unasked:
            self._rows_of(version, self._catalog.computable(version), snapshot)

    def newest(
        self, version: str, features: Sequence[Computable], names: Sequence[str], known_at_ns: int
    ) -> tuple[Rows, int]:
        """The rows that online reading gives, of bars that are loaded."""
        online = self._online.get(version)
        if online is None:
            online = self._online[version] = Online(features)
        return online.read(names, known_at_ns, self._market.get, self._market.generation)

    async def known(self, instrument_ids: Sequence[str]) -> None:
        """Raises ServiceError (NOT_FOUND) for an instrument that market_data does not know."""
        await self._market.need(instrument_ids)

    async def past(self, version: str, instrument_ids: Sequence[str], as_of_ns: Ints, known_at_ns: int = 0) -> Rows:
        """One row for each (instrument, cut), as it would have been served then.

        Raises ServiceError: NOT_FOUND, OUT_OF_RANGE (NO_DATA_SO_EARLY).
        """
        features = self._catalog.computable(version)
        names = sorted(set(instrument_ids))
        await self._market.need(names)
        bars = {name: self._market.get(name) for name in names}
        cuts = np.minimum(as_of_ns, known_at_ns) if known_at_ns else as_of_ns

        def made() -> Rows:
            found = historical.rows(
                features,
                bars,
                instrument_ids,
                cuts,
                lambda name, held, moments: self._offline.stored(version, features, name, held, moments),
            )
            return found.fresh(features, as_of_ns)[0]

        try:
            return made() if len(as_of_ns) <= MANY else await asyncio.to_thread(made)
        except TooEarlyError as error:
            raise _too_early(error) from error

    async def past_table(self, request: feature_pb2.GetHistoricalFeaturesRequest) -> bytes:
        """The answer of GetHistoricalFeatures."""
        names = list(request.instrument_ids)
        as_of_ns = np.array(request.as_of_ns, dtype=np.int64)
        found = await self.past(request.feature_set_version, names, as_of_ns, request.known_at_ns)
        columns = [f.feature_id for f in self._catalog.computable(request.feature_set_version)]
        leading = [("instrument_id", pa.array(names)), ("as_of_ns", pa.array(as_of_ns))]
        return tables.encode(columns, found.values, found.event_ns, found.known_ns, leading)

    def _from_snapshot(
        self,
        version: str,
        features: Sequence[Computable],
        snapshot: Snapshot,
        names: Sequence[str],
        known_at_ns: int,
    ) -> tuple[Rows, int]:
        if snapshot.as_of_ns > known_at_ns:
            raise precondition(
                "SNAPSHOT_AFTER_CUT",
                f"snapshot {snapshot.snapshot_id[:12]} holds what became known up to {snapshot.as_of_ns}, after "
                f"known_at_ns {known_at_ns}; use a snapshot of that moment or before",
                as_of_ns=str(snapshot.as_of_ns),
            )
        self._unasked[version] = 0
        found = self._rows_of(version, features, snapshot)
        if names and names != snapshot.instrument_ids:
            index = _places(snapshot, names)
            found = Rows(values=found.values[index], event_ns=found.event_ns[index], known_ns=found.known_ns[index])
        return found.fresh(features, np.full(len(found.values), known_at_ns, dtype=np.int64))

    def _rows_of(self, version: str, features: Sequence[Computable], snapshot: Snapshot) -> Rows:
        key = version, snapshot.snapshot_id
        rows = self._of_snapshot.get(key)
        if rows is None:
            columns = {name: getattr(snapshot, name) for name in FLOAT_COLUMNS}
            at = of_snapshot(columns, snapshot.ts_event_ns, logic.longest(features))
            values = logic.compute(features, at.window, at.held)
            rows = self._of_snapshot[key] = Rows(values=values, event_ns=at.event_ns, known_ns=at.known_ns)
            while len(self._of_snapshot) > SNAPSHOTS:
                self._of_snapshot.popitem(last=False)
        return rows

    def _note(
        self, request: feature_pb2.GetOnlineFeaturesRequest, as_of_ns: int, names: Sequence[str], found: Rows
    ) -> None:
        """Remembers what was served, for CheckParity: off the caller's way, as no promise rests on it."""
        event = events_pb2.FeaturesServed(
            feature_set_version=request.feature_set_version,
            known_at_ns=request.known_at_ns,
            as_of_ns=as_of_ns,
            snapshot_id=request.snapshot_id,
            instrument_ids=names,
            values=found.values.astype("<f8", copy=False).tobytes(),
        )
        self._journal.add([Event(payload=event, ts_event_ns=request.known_at_ns, ts_init_ns=request.known_at_ns)])
        self._journal.commit_later()


def _places(snapshot: Snapshot, names: Sequence[str]) -> NDArray[np.intp]:
    place = snapshot.places
    for name in names:
        if name not in place:
            raise not_found("instrument", name, f"the snapshot holds {', '.join(snapshot.instrument_ids[:20])}")
    return np.array([place[name] for name in names], dtype=np.intp)


def _seen(task: asyncio.Future[None]) -> None:
    if not task.cancelled():
        task.exception()


def _too_early(error: TooEarlyError) -> ServiceError:
    return ServiceError(
        grpc.StatusCode.OUT_OF_RANGE,
        "NO_DATA_SO_EARLY",
        f"{error}; the first bar became known at {error.first_ns}: ask for that moment or later",
        metadata={"instrument_id": error.instrument_id, "first_ns": str(error.first_ns)},
    )
