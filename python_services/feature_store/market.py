"""The bars of market_data in memory: loaded when first needed, kept up to date by its events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable

import grpc

from alphamesh.audit.v1 import event_pb2
from alphamesh.marketdata.v1 import events_pb2, marketdata_pb2, marketdata_pb2_grpc
from python_services.kit import deadline
from python_services.kit.errors import from_rpc_error

from .bars import Bars
from .definitions import COLUMNS

STREAM = "market_data"
E9 = 1e9
_CUT = events_pb2.SnapshotCut.DESCRIPTOR.full_name
_INGESTED = events_pb2.BarsIngested.DESCRIPTOR.full_name
_LOADED = events_pb2.DatasetLoaded.DESCRIPTOR.full_name
FIRST_NS, LAST_NS = -(2**63) + 1, 2**63 - 1

Versions = dict[tuple[int, int], tuple[float, ...]]


class Market:
    """Bars by instrument. A view of market_data's stream: what came in is applied as it becomes durable."""

    def __init__(
        self,
        stub: marketdata_pb2_grpc.MarketDataServiceAsyncStub,
        snapshot_cut: Callable[[str], None] = lambda _snapshot_id: None,
    ) -> None:
        """`snapshot_cut` is told of each snapshot."""
        self._stub = stub
        self._snapshot_cut = snapshot_cut
        self._bars: dict[str, Bars] = {}
        self._rows: dict[str, Versions] = {}
        self._loading: dict[str, asyncio.Task[None]] = {}
        self._ingested: dict[str, Versions] = {}
        self.generation = 0  # grows whenever bars change
        self.now_ns = 0  # market time of the newest event; 0 before the first

    def get(self, instrument_id: str) -> Bars:
        """Bars that `need` has loaded."""
        bars = self._bars.get(instrument_id)
        if bars is None:
            rows = self._rows[instrument_id]
            # What was answered says which steps are in force, so it goes before what an event states.
            bars = self._bars[instrument_id] = Bars.of({**self._ingested.get(instrument_id, {}), **rows})
        return bars

    async def need(self, instrument_ids: Iterable[str]) -> None:
        """Loads what is not here yet. Raises what ListBars raises: NOT_FOUND for an unknown instrument."""
        wanted = set(instrument_ids)
        while missing := sorted(wanted - self._rows.keys()):  # again, when a data set was loaded meanwhile
            for name in missing:
                if name not in self._loading:
                    task = self._loading[name] = asyncio.create_task(self._load(name))
                    task.add_done_callback(lambda _, name=name: self._loading.pop(name, None))  # type: ignore[misc]
            tasks = [asyncio.shield(self._loading[name]) for name in missing]
            for result in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(result, grpc.aio.AioRpcError):
                    raise from_rpc_error(result) from result
                if isinstance(result, BaseException):
                    raise result

    async def _load(self, name: str) -> None:
        deadline.accept(None)  # others may be waiting for it, too
        request = marketdata_pb2.ListBarsRequest(
            instrument_ids=[name], start_ns=FIRST_NS, end_ns=LAST_NS, all_versions=True
        )
        response = await self._stub.ListBars(request)
        self._rows[name] = {
            (bar.ts_event_ns, bar.known_at_ns): (
                bar.open_e9 / E9,
                bar.high_e9 / E9,
                bar.low_e9 / E9,
                bar.close_e9 / E9,
                bar.volume_e9 / E9,
                bar.adjustment_step if bar.HasField("adjustment_step") else 1.0,
                bar.split_ratio if bar.HasField("split_ratio") else 1.0,
            )
            for bar in response.bars
        }
        self._bars.pop(name, None)
        self.generation += 1

    # --- a view of the stream -----------------------------------------------------------------------

    def apply(self, envelope: event_pb2.EventEnvelope) -> None:
        """Takes the next event of market_data."""
        self.now_ns = max(self.now_ns, envelope.ts_event_ns)
        if envelope.schema == _CUT:
            self._snapshot_cut(events_pb2.SnapshotCut.FromString(envelope.payload).snapshot_id)
        elif envelope.schema == _INGESTED:
            self._ingest(events_pb2.BarsIngested.FromString(envelope.payload))
        elif envelope.schema == _LOADED:
            # Another data set, or a first start: what was loaded before is not what there is now.
            self._rows.clear()
            self._bars.clear()
            self.generation += 1

    def dump(self) -> bytes:
        """What came in, canonical."""
        rows = {
            name: sorted([*key, *values] for key, values in versions.items())
            for name, versions in self._ingested.items()
        }
        return json.dumps(rows, sort_keys=True, separators=(",", ":")).encode()

    def load(self, state: bytes) -> None:
        """Takes what `dump` gave."""
        self._ingested = {
            name: {(row[0], row[1]): tuple(row[2:]) for row in rows} for name, rows in json.loads(state).items()
        }
        self._bars.clear()

    def _ingest(self, event: events_pb2.BarsIngested) -> None:
        columns = (
            *(getattr(event, f"{name}_e9") for name in COLUMNS),
            event.adjustment_step,
            event.split_ratio,
        )
        for index, ts, known, *values, step, split in zip(
            event.instrument_index, event.ts_event_ns, event.known_at_ns, *columns, strict=True
        ):
            name = event.instrument_ids[index]
            prices = (value / E9 for value in values)
            self._ingested.setdefault(name, {})[ts, known] = (*prices, step, split)
        for name in event.instrument_ids:
            self._bars.pop(name, None)
        self.generation += 1
