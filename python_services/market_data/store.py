"""Snapshots that were cut: identity, journal and memory.

The newest are kept in memory; any older one is cut again from its SnapshotCut event, which gives the
same id by construction, or the data set has changed and nothing else is served under that id. Beyond the
`retained` last ones a snapshot expires: its id is remembered, how to cut it is not.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import numpy as np
import pyarrow as pa
from google.protobuf.message import Message

from alphamesh.marketdata.v1 import events_pb2, marketdata_pb2
from python_services.kit import snapshots
from python_services.kit.errors import ServiceError, not_found, precondition
from python_services.kit.ids import content_id
from python_services.kit.journal import Event, Journal, current_request

from .cutting import NothingKnownError, cut, cut_rates
from .facts import CompanyFacts, FactsCut
from .findings import count_by_kind
from .history import History, Ints
from .ingestion import apply
from .sessions import describe
from .sharing import SharedFiles
from .texts import TextLog, TextsCut
from .texts import apply as apply_texts
from .universe import Universes
from .watermarks import Watermarks

KEPT = 64
KEPT_BYTES = 128 * 1024 * 1024
FEATURE_SET_VERSION = "bars-1"
DAY_NS = 86_400 * 10**9
FARTHEST_NS = 366 * DAY_NS


# Header and content, mapped or in memory. A message is made on request: it copies the content, megabytes of it.
_Snapshot = tuple[marketdata_pb2.SnapshotHeader, snapshots.Content]


@dataclass(frozen=True, kw_only=True)
class _Made:
    """What was cut: `batch` is for `snapshots.write`."""

    header: marketdata_pb2.SnapshotHeader
    batch: pa.RecordBatch
    texts: TextsCut | None


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What SnapshotCut says."""

    as_of_ns: int
    instrument_ids: tuple[str, ...]
    lookback_bars: int
    dataset_sha256: str


class SnapshotStore:
    """The only writer of snapshots."""

    def __init__(
        self,
        history: History,
        watermarks: Watermarks,
        journal: Journal,
        *,
        retained: int,
        files: SharedFiles | None = None,
        facts: CompanyFacts | None = None,
    ) -> None:
        """Rebuilds from the journal what was cut and what came in before, and notes a change of the data set."""
        self._dataset = history.dataset
        self._history = history
        self._watermarks = watermarks
        self._journal = journal
        self._retained = retained
        self._files = files
        self.texts = TextLog(history)
        self._facts = facts
        self._universes = Universes(history)
        self._pairs = tuple(spec.instrument_id for spec in self._dataset.instruments if spec.base_currency_code)
        self._recipes: OrderedDict[str, _Recipe] = OrderedDict()
        self._named: dict[str, tuple[str, ...]] = {}
        self._expired: dict[bytes, int] = {}
        self._kept: OrderedDict[str, _Snapshot] = OrderedDict()
        self._kept_bytes = 0
        self._kept_limit = KEPT_BYTES if files is None else min(KEPT_BYTES, max(files.room, KEPT_BYTES // 16))
        loaded = ""
        for frame in journal.read(1):
            for envelope in frame.events:
                if envelope.schema == events_pb2.UniverseNamed.DESCRIPTOR.full_name:
                    self._name(events_pb2.UniverseNamed.FromString(envelope.payload))
                elif envelope.schema == events_pb2.SnapshotCut.DESCRIPTOR.full_name:
                    self._remember(events_pb2.SnapshotCut.FromString(envelope.payload))
                elif envelope.schema == events_pb2.BarsIngested.DESCRIPTOR.full_name:
                    apply(events_pb2.BarsIngested.FromString(envelope.payload), history, watermarks)
                elif envelope.schema == events_pb2.TextsIngested.DESCRIPTOR.full_name:
                    apply_texts(events_pb2.TextsIngested.FromString(envelope.payload), self.texts, history)
                elif envelope.schema == events_pb2.DatasetLoaded.DESCRIPTOR.full_name:
                    loaded = events_pb2.DatasetLoaded.FromString(envelope.payload).dataset_sha256
        if loaded != self._dataset.sha256:
            self._note_dataset()

    def cut(self, as_of_ns: int, instrument_ids: Sequence[str], lookback_bars: int) -> marketdata_pb2.SnapshotHeader:
        """Cuts, journals a new id, and keeps the content. The caller commits.

        Raises ServiceError: NOT_FOUND, OUT_OF_RANGE.
        """
        if as_of_ns > self._history.newest_ns + FARTHEST_NS:
            raise ServiceError(
                grpc.StatusCode.OUT_OF_RANGE,
                "AS_OF_TOO_LATE",
                f"as_of_ns {as_of_ns} ({describe(as_of_ns)}) is more than {FARTHEST_NS // DAY_NS} days after anything "
                f"known, {describe(self._history.newest_ns)}; a cut seals all up to it, so choose an earlier one",
                metadata={"newest_ns": str(self._history.newest_ns)},
            )
        names = tuple(instrument_ids)
        header = self._keep(self._make(as_of_ns, names, lookback_bars))
        if header.snapshot_id not in self._recipes:
            event = events_pb2.SnapshotCut(
                snapshot_id=header.snapshot_id,
                as_of_ns=as_of_ns,
                universe_id=self._universe_id(names, as_of_ns),
                lookback_bars=header.lookback_bars,
                dataset_sha256=self._dataset.sha256,
            )
            self._add(event, as_of_ns)
            self._remember(event)
        return header

    def get(self, snapshot_id: str) -> marketdata_pb2.GetSnapshotResponse:
        """The snapshot. Raises ServiceError: NOT_FOUND, or FAILED_PRECONDITION (DATASET_CHANGED, SNAPSHOT_EXPIRED)."""
        _, content = self._held(snapshot_id, self._recipe(snapshot_id))
        return marketdata_pb2.GetSnapshotResponse(arrow_ipc=bytes(content))

    def get_facts(self, snapshot_id: str) -> FactsCut:
        """What companies had filed by then. Raises ServiceError: as `get`, or FAILED_PRECONDITION (NO_FACTS)."""
        recipe = self._recipe(snapshot_id)
        header, _ = self._held(snapshot_id, recipe)
        found = self._facts_of(recipe.instrument_ids, recipe.as_of_ns) if header.HasField("facts_sha256") else None
        if found is None:
            raise precondition(
                "NO_FACTS",
                f"snapshot {snapshot_id} has no facts: no file of facts is configured in market_data, or nothing about "
                f"its instruments was filed by {describe(recipe.as_of_ns)}",
                snapshot_id=snapshot_id,
            )
        return found

    def _facts_of(self, instrument_ids: tuple[str, ...], as_of_ns: int) -> FactsCut | None:
        if self._facts is None:
            return None
        splits = self._universes.get(instrument_ids, as_of_ns).splits.known(as_of_ns)
        return self._facts.cut(instrument_ids, as_of_ns, splits)

    def _recipe(self, snapshot_id: str) -> _Recipe:
        recipe = self._recipes.get(snapshot_id)
        if recipe is None:
            raise self._unknown(snapshot_id)
        return recipe

    def _held(self, snapshot_id: str, recipe: _Recipe) -> _Snapshot:
        if snapshot_id not in self._kept:
            self._keep(self._again(snapshot_id, recipe))
        self._kept.move_to_end(snapshot_id)
        return self._kept[snapshot_id]

    def get_texts(self, snapshot_id: str) -> bytes:
        """The texts of a snapshot. Raises ServiceError: as `get`, or FAILED_PRECONDITION (NO_TEXTS)."""
        recipe = self._recipe(snapshot_id)
        header, _ = self._held(snapshot_id, recipe)
        if not header.HasField("texts_sha256"):
            raise precondition(
                "NO_TEXTS",
                f"snapshot {snapshot_id} was cut without texts: none was known by then; IngestTexts takes them in",
                snapshot_id=snapshot_id,
            )
        found = self.texts.cut(recipe.instrument_ids, recipe.as_of_ns)
        assert found is not None  # what was known at a moment that is sealed stays known
        return found.content

    def _universe_id(self, names: tuple[str, ...], as_of_ns: int) -> str:
        """By which events speak of these instruments; new ones are named by an event of their own."""
        event = events_pb2.UniverseNamed(instrument_ids=names)
        event.universe_id = content_id(event.SerializeToString(deterministic=True))
        if event.universe_id not in self._named:
            self._add(event, as_of_ns)
            self._name(event)
        return event.universe_id

    def _name(self, event: events_pb2.UniverseNamed) -> None:
        self._named[event.universe_id] = tuple(event.instrument_ids)

    def _add(self, event: Message, ts_ns: int) -> None:
        request = current_request.get()
        cause = request.request_id if request else ""
        self._journal.add([Event(payload=event, ts_event_ns=ts_ns, ts_init_ns=ts_ns, causation_id=cause)])

    def _remember(self, event: events_pb2.SnapshotCut) -> None:
        names = self._named[event.universe_id]
        self._recipes[event.snapshot_id] = _Recipe(event.as_of_ns, names, event.lookback_bars, event.dataset_sha256)
        self._expired.pop(bytes.fromhex(event.snapshot_id), None)
        self._watermarks.seal(event.as_of_ns)
        while len(self._recipes) > self._retained:
            snapshot_id, recipe = self._recipes.popitem(last=False)
            self._expired[bytes.fromhex(snapshot_id)] = recipe.as_of_ns
            self._forget(snapshot_id)

    def _unknown(self, snapshot_id: str) -> ServiceError:
        as_of_ns = self._expired.get(bytes.fromhex(snapshot_id))
        if as_of_ns is None:
            return not_found("snapshot", snapshot_id, "cut it with CutSnapshot first")
        return precondition(
            "SNAPSHOT_EXPIRED",
            f"snapshot {snapshot_id} has expired: {self._retained} were cut since; cut it again with CutSnapshot as of "
            f"{as_of_ns} ({describe(as_of_ns)}) for the same instruments and lookback_bars, which gives the same id, "
            "or raise snapshots_retained in the configuration of market_data",
            snapshot_id=snapshot_id,
            as_of_ns=str(as_of_ns),
        )

    def _again(self, snapshot_id: str, recipe: _Recipe) -> _Made:
        try:
            made = self._make(recipe.as_of_ns, recipe.instrument_ids, recipe.lookback_bars)
        except ServiceError:
            made = None
        if made is None or made.header.snapshot_id != snapshot_id:
            raise precondition(
                "DATASET_CHANGED",
                f"snapshot {snapshot_id} was cut from data set {recipe.dataset_sha256}, and the one loaded now gives "
                "other content; start with the data set of that time, or cut a new snapshot",
                snapshot_id=snapshot_id,
                dataset_sha256=recipe.dataset_sha256,
            )
        return made

    def _make(self, as_of_ns: int, instrument_ids: tuple[str, ...], lookback_bars: int) -> _Made:
        rows = self._history.rows(instrument_ids)
        if (rows < 0).any():
            unknown = instrument_ids[int(np.argmin(rows))]
            raise not_found("instrument", unknown, "ListInstruments names the known ones")
        universe = self._universes.get(instrument_ids, as_of_ns)
        try:
            found = cut(universe, as_of_ns, lookback_bars)
        except NothingKnownError as error:
            problem = f"{error.instrument_id} has no bar at or before {describe(as_of_ns)}"
            raise out_of_range(self._history, self._history.rows([error.instrument_id]), problem) from error
        header = marketdata_pb2.SnapshotHeader(
            as_of_ns=as_of_ns,
            instrument_ids=instrument_ids,
            lookback_bars=len(found.ts_event_ns),
            mark_e9=found.marks_e9,
            mark_ts_ns=found.mark_ts_ns,
            watermark={"bars": found.bars_known, **universe.ingested},
            feature_set_version=FEATURE_SET_VERSION,
            bar_ts_ns=found.ts_event_ns.tolist(),
        )
        if self._pairs:
            rates = cut_rates(self._universes.get(self._pairs, as_of_ns), as_of_ns)
            header.rate_instrument_ids.extend(rates.instrument_ids)
            header.rate_e9.extend(rates.rate_e9)
            header.rate_ts_ns.extend(rates.rate_ts_ns)
        texts = self.texts.cut(instrument_ids, as_of_ns)
        if texts is not None:
            header.texts_sha256 = texts.sha256
        facts = self._facts_of(instrument_ids, as_of_ns)
        if facts is not None:
            header.facts_sha256 = facts.sha256
        return _Made(header=header, batch=snapshots.seal(header, found.columns), texts=texts)

    def _keep(self, made: _Made) -> marketdata_pb2.SnapshotHeader:
        header, snapshot_id = made.header, made.header.snapshot_id
        if snapshot_id not in self._kept:
            shared = None if self._files is None else self._files.write(snapshot_id, made.batch)
            content = snapshots.in_memory(made.batch) if shared is None else shared
            self._kept[snapshot_id] = header, content
            self._kept_bytes += len(content)
            if self._files is not None and made.texts is not None:
                self._files.put(made.texts.sha256, made.texts.content)
        self._kept.move_to_end(snapshot_id)
        while len(self._kept) > KEPT or (self._kept_bytes > self._kept_limit and len(self._kept) > 1):
            self._forget(next(iter(self._kept)))
        return header

    def _forget(self, snapshot_id: str) -> None:
        header, content = self._kept.pop(snapshot_id, (None, b""))
        self._kept_bytes -= len(content)
        if header is None or self._files is None:
            return
        self._files.remove(snapshot_id)
        named = header.texts_sha256
        if named and all(kept.texts_sha256 != named for kept, _ in self._kept.values()):
            self._files.remove(named)

    def _note_dataset(self) -> None:
        event = events_pb2.DatasetLoaded(
            dataset_sha256=self._dataset.sha256,
            instruments=len(self._dataset.instruments),
            bars=self._dataset.bar_count,
            findings_by_kind=count_by_kind(self._dataset.findings),
        )
        # The earliest market time there is, so that times in the stream never go back in a first session.
        first = int(self._dataset.close_ns[0])
        self._journal.add([Event(payload=event, ts_event_ns=first, ts_init_ns=first)])


def out_of_range(history: History, rows: Ints, problem: str) -> ServiceError:
    """OUT_OF_RANGE that names the range in which these instruments have bars."""
    held = rows[history.first_ns[rows] != 0]
    if not len(held):
        return ServiceError(
            grpc.StatusCode.OUT_OF_RANGE, "NO_DATA", f"{problem}; it has none at all: add bars to the data set"
        )
    first, last = int(history.first_ns[held].min()), int(history.last_ns[held].max())
    return ServiceError(
        grpc.StatusCode.OUT_OF_RANGE,
        "NO_DATA_IN_RANGE",
        f"{problem}; there are bars from {describe(first)} to {describe(last)}: choose dates in between",
        metadata={
            "first_ns": str(first),
            "last_ns": str(last),
            "first": describe(first),
            "last": describe(last),
        },
    )
