"""MarketDataService: translates messages, nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from python_services.kit import telemetry
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.errors import invalid, not_found
from python_services.kit.journal import Journal
from python_services.kit.paging import page

from .config import Config
from .dataset import Dataset
from .findings import count_by_kind
from .loading import load
from .sessions import describe
from .store import SnapshotStore, out_of_range

BAR_LIMIT = 200_000


class MarketDataService(marketdata_pb2_grpc.MarketDataServiceServicer):
    """The only writer of instruments and snapshots."""

    def __init__(self, dataset: Dataset, store: SnapshotStore, journal: Journal) -> None:
        self._dataset = dataset
        self._store = store
        self._journal = journal
        present = dataset.present
        self._first = np.where(present.any(axis=1), dataset.close_ns[np.argmax(present, axis=1)], 0).tolist()
        newest = present.shape[1] - 1 - np.argmax(present[:, ::-1], axis=1)
        self._last = np.where(present.any(axis=1), dataset.close_ns[newest], 0).tolist()

    async def ListInstruments(
        self, request: marketdata_pb2.ListInstrumentsRequest, context: Any
    ) -> marketdata_pb2.ListInstrumentsResponse:
        """See the contract."""
        scope = f"ListInstruments/{self._dataset.sha256}"
        listed = list(zip(self._dataset.instruments, self._first, self._last, strict=True))
        part, following = page(listed, request.page_size, request.page_token, scope=scope)
        return marketdata_pb2.ListInstrumentsResponse(
            instruments=[
                marketdata_pb2.Instrument(
                    instrument_id=spec.instrument_id,
                    display_name=spec.display_name,
                    currency_code=spec.currency_code,
                    price_increment_e9=spec.price_increment_e9,
                    size_increment_e9=spec.size_increment_e9,
                    multiplier_e9=spec.multiplier_e9,
                    sector=spec.sector,
                    first_ts_ns=first,
                    last_ts_ns=last,
                )
                for spec, first, last in part
            ],
            next_page_token=following,
        )

    async def ListTradingDays(
        self, request: marketdata_pb2.ListTradingDaysRequest, context: Any
    ) -> marketdata_pb2.ListTradingDaysResponse:
        """See the contract."""
        rows = self._rows(request.instrument_ids)
        closes = self._dataset.close_ns[self._dataset.present[rows].any(axis=0)]
        first, last = np.searchsorted(closes, (request.start_ns, request.end_ns))
        if first == last:
            asked = f"no trading day from {describe(request.start_ns)} until before {describe(request.end_ns)}"
            raise out_of_range(self._dataset, rows, asked)
        return marketdata_pb2.ListTradingDaysResponse(close_ns=closes[first:last].tolist())

    async def ListBars(self, request: marketdata_pb2.ListBarsRequest, context: Any) -> marketdata_pb2.ListBarsResponse:
        """See the contract."""
        data, rows = self._dataset, sorted(self._rows(request.instrument_ids))
        first, last = np.searchsorted(data.close_ns, (request.start_ns, request.end_ns), side="right")
        days, order = np.nonzero(data.present[rows, first:last].T)
        if len(days) > BAR_LIMIT:
            raise invalid(
                "end_ns", f"{len(days)} bars lie in the range, the limit is {BAR_LIMIT}", "ask for a shorter range"
            )
        at = (np.array(rows)[order], days + first)
        columns = {f"{name}_e9": values[at].tolist() for name, values in data.bars.items()}
        return marketdata_pb2.ListBarsResponse(
            bars=[
                marketdata_pb2.Bar(
                    instrument_id=data.instruments[row].instrument_id,
                    ts_event_ns=close,
                    ts_open_ns=opening,
                    **dict(zip(columns, values, strict=True)),
                )
                for row, close, opening, *values in zip(
                    at[0].tolist(),
                    data.close_ns[at[1]].tolist(),
                    data.open_ns[at[1]].tolist(),
                    *columns.values(),
                    strict=True,
                )
            ]
        )

    async def ListFindings(
        self, request: marketdata_pb2.ListFindingsRequest, context: Any
    ) -> marketdata_pb2.ListFindingsResponse:
        """See the contract."""
        data, only = self._dataset, request.instrument_id
        if only:
            self._rows([only])
        listed = zip(data.findings, data.finding_ns, strict=True)
        chosen = [(found, ts) for found, ts in listed if only in ("", found.instrument_id)]
        scope = f"ListFindings/{data.sha256}/{only}"
        part, following = page(chosen, request.page_size, request.page_token, scope=scope)
        return marketdata_pb2.ListFindingsResponse(
            findings=[
                marketdata_pb2.Finding(
                    instrument_id=found.instrument_id,
                    ts_event_ns=ts,
                    kind=marketdata_pb2.Finding.Kind.Value(f"KIND_{found.kind.value}"),
                    action=found.action,
                    detail=found.detail,
                )
                for found, ts in part
            ],
            next_page_token=following,
        )

    async def CutSnapshot(
        self, request: marketdata_pb2.CutSnapshotRequest, context: Any
    ) -> marketdata_pb2.CutSnapshotResponse:
        """See the contract."""
        header = self._store.cut(request.as_of_ns, request.instrument_ids, request.lookback_bars)
        reply = marketdata_pb2.CutSnapshotResponse(header=header)
        # The id is all that others are told: after a kill, GetSnapshot must find how to cut it again.
        await self._journal.commit(reply)
        return reply

    async def GetSnapshot(
        self, request: marketdata_pb2.GetSnapshotRequest, context: Any
    ) -> marketdata_pb2.GetSnapshotResponse:
        """See the contract."""
        # No barrier: a snapshot is its content, which the data set on disk determines.
        return self._store.get(request.snapshot_id)

    def _rows(self, instrument_ids: Iterable[str]) -> list[int]:
        rows = []
        for instrument_id in instrument_ids:
            row = self._store.universes.row(instrument_id)
            if row is None:
                raise not_found("instrument", instrument_id, "ListInstruments names the known ones")
            rows.append(row)
        return rows


async def build(context: Context[Config]) -> None:
    """Loads the data, rebuilds what was cut before, and registers the service."""
    dataset = load(context.config)
    journal = context.open_journal()
    store = SnapshotStore(dataset, journal)
    await journal.commit()
    telemetry.logger().info(
        "data loaded",
        dataset_sha256=dataset.sha256,
        instruments=len(dataset.instruments),
        bars=dataset.bar_count,
        findings=count_by_kind(dataset.findings),
    )
    servicer = MarketDataService(dataset, store, journal)
    name = marketdata_pb2.DESCRIPTOR.services_by_name["MarketDataService"].full_name
    context.add(marketdata_pb2_grpc.add_MarketDataServiceServicer_to_server, servicer, name)


DEFINITION = ServiceDefinition(name="market_data", version="0.1.0", config=Config, build=build)
