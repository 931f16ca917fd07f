"""Snapshots that were cut: identity, journal and memory.

The newest are kept in memory; any older one is cut again from its SnapshotCut event, which gives the
same id by construction, or the data set has changed and nothing else is served under that id.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import grpc

from alphamesh.marketdata.v1 import events_pb2, marketdata_pb2
from python_services.kit import snapshots
from python_services.kit.errors import ServiceError, not_found, precondition
from python_services.kit.journal import Event, Journal, current_request

from .cutting import NothingKnownError, cut
from .dataset import Dataset, Universes
from .findings import count_by_kind
from .sessions import describe

KEPT = 64
KEPT_BYTES = 128 * 1024 * 1024
FEATURE_SET_VERSION = "bars-1"


# Header and content. A message is made on request: it copies the content, megabytes of it, whenever one looks.
_Snapshot = tuple[marketdata_pb2.SnapshotHeader, bytes]


class SnapshotStore:
    """The only writer of snapshots."""

    def __init__(self, dataset: Dataset, journal: Journal) -> None:
        """Rebuilds what was cut before from the journal, and notes a change of the data set."""
        self._dataset = dataset
        self._journal = journal
        self.universes = Universes(dataset)
        self._cuts: dict[str, events_pb2.SnapshotCut] = {}
        self._kept: OrderedDict[str, _Snapshot] = OrderedDict()
        self._kept_bytes = 0
        loaded = ""
        for frame in journal.read(1):
            for envelope in frame.events:
                if envelope.schema == events_pb2.SnapshotCut.DESCRIPTOR.full_name:
                    event = events_pb2.SnapshotCut.FromString(envelope.payload)
                    self._cuts[event.snapshot_id] = event
                elif envelope.schema == events_pb2.DatasetLoaded.DESCRIPTOR.full_name:
                    loaded = events_pb2.DatasetLoaded.FromString(envelope.payload).dataset_sha256
        if loaded != dataset.sha256:
            self._note_dataset()

    def cut(self, as_of_ns: int, instrument_ids: Sequence[str], lookback_bars: int) -> marketdata_pb2.SnapshotHeader:
        """Cuts, journals a new id, and keeps the content. The caller commits."""
        made = self._make(as_of_ns, instrument_ids, lookback_bars)
        header, snapshot_id = made[0], made[0].snapshot_id
        self._keep(made)
        if snapshot_id not in self._cuts:
            event = events_pb2.SnapshotCut(
                snapshot_id=snapshot_id,
                as_of_ns=as_of_ns,
                instrument_ids=instrument_ids,
                lookback_bars=header.lookback_bars,
                dataset_sha256=self._dataset.sha256,
            )
            request = current_request.get()
            cause = request.request_id if request else ""
            self._journal.add([Event(payload=event, ts_event_ns=as_of_ns, ts_init_ns=as_of_ns, causation_id=cause)])
            self._cuts[snapshot_id] = event
        return header

    def get(self, snapshot_id: str) -> marketdata_pb2.GetSnapshotResponse:
        """The snapshot. Raises ServiceError: NOT_FOUND, or FAILED_PRECONDITION (DATASET_CHANGED)."""
        kept = self._kept.get(snapshot_id)
        if kept is not None:
            self._kept.move_to_end(snapshot_id)
            return _response(kept)
        event = self._cuts.get(snapshot_id)
        if event is None:
            raise not_found("snapshot", snapshot_id, "cut it with CutSnapshot first")
        try:
            made = self._make(event.as_of_ns, event.instrument_ids, event.lookback_bars)
        except ServiceError:
            made = None
        if made is None or made[0].snapshot_id != snapshot_id:
            raise precondition(
                "DATASET_CHANGED",
                f"snapshot {snapshot_id} was cut from data set {event.dataset_sha256}, and the one loaded now gives "
                "other content; start with the data set of that time, or cut a new snapshot",
                snapshot_id=snapshot_id,
                dataset_sha256=event.dataset_sha256,
            )
        self._keep(made)
        return _response(made)

    def _make(self, as_of_ns: int, instrument_ids: Sequence[str], lookback_bars: int) -> _Snapshot:
        for instrument_id in instrument_ids:
            if self.universes.row(instrument_id) is None:
                raise not_found("instrument", instrument_id, "ListInstruments names the known ones")
        universe = self.universes.get(tuple(instrument_ids))
        try:
            found = cut(universe, as_of_ns, lookback_bars)
        except NothingKnownError as error:
            raise self._out_of_range(error.instrument_id, as_of_ns) from error
        header = marketdata_pb2.SnapshotHeader(
            as_of_ns=as_of_ns,
            instrument_ids=instrument_ids,
            lookback_bars=len(found.ts_event_ns),
            mark_e9=found.marks_e9,
            mark_ts_ns=found.mark_ts_ns,
            watermark={"bars": found.bars_known},
            feature_set_version=FEATURE_SET_VERSION,
        )
        content = snapshots.encode(found.columns, found.ts_event_ns)
        header.snapshot_id = snapshots.identify(header, content)
        return header, content

    def _out_of_range(self, instrument_id: str, as_of_ns: int) -> ServiceError:
        row = self.universes.row(instrument_id)
        assert row is not None
        return out_of_range(self._dataset, [row], f"{instrument_id} has no bar at or before {describe(as_of_ns)}")

    def _keep(self, made: _Snapshot) -> None:
        snapshot_id = made[0].snapshot_id
        if snapshot_id not in self._kept:
            self._kept_bytes += len(made[1])
        self._kept[snapshot_id] = made
        self._kept.move_to_end(snapshot_id)
        while len(self._kept) > KEPT or (self._kept_bytes > KEPT_BYTES and len(self._kept) > 1):
            self._kept_bytes -= len(self._kept.popitem(last=False)[1][1])

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


def _response(made: _Snapshot) -> marketdata_pb2.GetSnapshotResponse:
    return marketdata_pb2.GetSnapshotResponse(header=made[0], arrow_ipc=made[1])


def out_of_range(dataset: Dataset, rows: Sequence[int], problem: str) -> ServiceError:
    """OUT_OF_RANGE that names the range in which these instruments have bars."""
    held = dataset.close_ns[dataset.present[list(rows)].any(axis=0)]
    if not held.size:
        return ServiceError(
            grpc.StatusCode.OUT_OF_RANGE, "NO_DATA", f"{problem}; it has none at all: add bars to the data set"
        )
    first, last = int(held[0]), int(held[-1])
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
