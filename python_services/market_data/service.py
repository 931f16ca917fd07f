"""MarketDataService: translates messages, nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from python_services.kit import telemetry
from python_services.kit.context import Context, ServiceDefinition
from python_services.kit.convert import money
from python_services.kit.errors import invalid, not_found
from python_services.kit.facts_table import HASH_BYTES
from python_services.kit.journal import Event, Journal
from python_services.kit.paging import page

from .actions import Action, actions
from .config import Config
from .findings import count_by_kind
from .history import FOREVER_NS, Bars, History
from .ingestion import apply, prepare
from .loading import load, load_facts
from .reading import EXACT
from .sessions import describe
from .sharing import share
from .store import SnapshotStore, out_of_range
from .texts import apply as apply_texts
from .texts import prepare as prepare_texts
from .versions import Versions
from .watermarks import Watermarks

BAR_LIMIT = 200_000
_LOOK_BACK_NS = 30 * 86_400_000_000_000  # the longest halt of trading across which an action is still seen


class MarketDataService(marketdata_pb2_grpc.MarketDataServiceServicer):
    """The only writer of instruments, bars and snapshots."""

    def __init__(
        self, config: Config, history: History, watermarks: Watermarks, store: SnapshotStore, journal: Journal
    ) -> None:
        self._config = config
        self._dataset = history.dataset
        self._history = history
        self._watermarks = watermarks
        self._store = store
        self._journal = journal
        self._ingesting = 0

    async def ListInstruments(
        self, request: marketdata_pb2.ListInstrumentsRequest, context: Any
    ) -> marketdata_pb2.ListInstrumentsResponse:
        """See the contract."""
        scope = f"ListInstruments/{self._dataset.sha256}"
        await self._durable()
        first_ns, last_ns = self._history.first_ns.tolist(), self._history.last_ns.tolist()
        listed = list(zip(self._dataset.instruments, first_ns, last_ns, strict=True))
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
                    base_currency_code=spec.base_currency_code,
                )
                for spec, first, last in part
            ],
            next_page_token=following,
        )

    async def ListTradingDays(
        self, request: marketdata_pb2.ListTradingDaysRequest, context: Any
    ) -> marketdata_pb2.ListTradingDaysResponse:
        """See the contract."""
        await self._durable()
        rows = self._rows(request.instrument_ids)
        closes = self._history.trading_days(rows)
        first, last = np.searchsorted(closes, (request.start_ns, request.end_ns))
        if first == last:
            asked = f"no trading day from {describe(request.start_ns)} until before {describe(request.end_ns)}"
            raise out_of_range(self._history, rows, asked)
        return marketdata_pb2.ListTradingDaysResponse(close_ns=closes[first:last].tolist())

    async def ListBars(self, request: marketdata_pb2.ListBarsRequest, context: Any) -> marketdata_pb2.ListBarsResponse:
        """See the contract."""
        await self._durable()
        rows = np.sort(self._rows(request.instrument_ids))
        known_at_ns = request.known_at_ns if request.HasField("known_at_ns") else FOREVER_NS
        reach = rows, known_at_ns, request.start_ns, min(request.end_ns, known_at_ns)
        if request.all_versions:
            found, open_ns = self._history.versions(*reach)
        else:
            found, open_ns = _in_force(self._history.bars(*reach), rows)
        _check_count(len(found))
        names = [spec.instrument_id for spec in self._dataset.instruments]
        columns = {f"{name}_e9": getattr(found, name).tolist() for name in EXACT}
        bars = [
            marketdata_pb2.Bar(
                instrument_id=names[row],
                ts_event_ns=close,
                ts_open_ns=opening,
                known_at_ns=known,
                **dict(zip(columns, values, strict=True)),
            )
            for row, close, opening, known, *values in zip(
                found.row.tolist(),
                found.ts_event_ns.tolist(),
                open_ns.tolist(),
                found.known_at_ns.tolist(),
                *columns.values(),
                strict=True,
            )
        ]
        for i in np.flatnonzero(found.step != 1.0).tolist():
            bars[i].adjustment_step = found.step[i]
        for i in np.flatnonzero(found.split_step != 1.0).tolist():
            bars[i].split_ratio = found.split_step[i]
        return marketdata_pb2.ListBarsResponse(watermark_ns=self._watermarks.sealed_ns, bars=bars)

    async def ListCorporateActions(
        self, request: marketdata_pb2.ListCorporateActionsRequest, context: Any
    ) -> marketdata_pb2.ListCorporateActionsResponse:
        """See the contract."""
        await self._durable()
        rows = self._history.acting(self._rows(request.instrument_ids), request.start_ns, request.end_ns)
        # An action is told by the bar before it, which may be some days earlier.
        found = self._history.bars(rows, request.end_ns, request.start_ns - _LOOK_BACK_NS, request.end_ns)
        _check_count(int(found.present.sum()))
        specs = [self._dataset.instruments[row] for row in rows.tolist()]
        listed = actions(
            found, [s.instrument_id for s in specs], [s.price_increment_e9 for s in specs], request.start_ns
        )
        return marketdata_pb2.ListCorporateActionsResponse(
            actions=[
                _action(action, specs[action.row].instrument_id, specs[action.row].currency_code) for action in listed
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
        # No barrier: a snapshot is its content, and its id is told only when all of that is durable.
        return self._store.get(request.snapshot_id)

    async def GetFacts(self, request: marketdata_pb2.GetFactsRequest, context: Any) -> marketdata_pb2.GetFactsResponse:
        """See the contract."""
        if len(request.held_sha256) % HASH_BYTES:
            problem = f"{len(request.held_sha256)} bytes are not a number of hashes of {HASH_BYTES} bytes"
            raise invalid("held_sha256", problem, "join the hashes of company_sha256 of answers before, or send none")
        found = self._store.get_facts(request.snapshot_id)
        return marketdata_pb2.GetFactsResponse(
            company_sha256=found.company_sha256, company_facts=found.lacking(request.held_sha256)
        )

    async def IngestBars(
        self, request: marketdata_pb2.IngestBarsRequest, context: Any
    ) -> marketdata_pb2.IngestBarsResponse:
        """See the contract."""
        event, duplicates = prepare(request, self._history, self._watermarks, self._config.ingested_bars_limit)
        if event.ts_event_ns or event.watermark_ns > self._watermarks.of(request.stream):
            moment = max([event.watermark_ns, *event.known_at_ns])
            entry = Event(payload=event, ts_event_ns=moment, ts_init_ns=moment, causation_id=request.request_id)
            self._journal.add([entry])
            apply(event, self._history, self._watermarks)
        reply = marketdata_pb2.IngestBarsResponse(
            accepted=len(event.ts_event_ns),
            duplicates=duplicates,
            watermark_ns=self._watermarks.of(request.stream),
            held=self._history.held(request.stream),
        )
        self._ingesting += 1
        try:
            await self._journal.commit(reply)
        finally:
            self._ingesting -= 1
        return reply

    async def GetTexts(self, request: marketdata_pb2.GetTextsRequest, context: Any) -> marketdata_pb2.GetTextsResponse:
        """See the contract."""
        # No barrier, as for GetSnapshot: the header names the hash of these texts.
        return marketdata_pb2.GetTextsResponse(arrow_ipc=self._store.get_texts(request.snapshot_id))

    async def IngestTexts(
        self, request: marketdata_pb2.IngestTextsRequest, context: Any
    ) -> marketdata_pb2.IngestTextsResponse:
        """See the contract."""
        texts = self._store.texts
        event, duplicates = prepare_texts(
            request, texts, self._history, self._watermarks, self._config.ingested_texts_limit
        )
        if event.texts:
            # Market time as it is: a file may hold texts that become known long after.
            moment = max(self._watermarks.sealed_ns, int(self._dataset.close_ns[0]))
            entry = Event(payload=event, ts_event_ns=moment, ts_init_ns=moment, causation_id=request.request_id)
            self._journal.add([entry])
            apply_texts(event, texts, self._history)
        reply = marketdata_pb2.IngestTextsResponse(accepted=len(event.texts), duplicates=duplicates, held=len(texts))
        await self._journal.commit(reply)
        return reply

    async def _durable(self) -> None:
        """Bars that are not durable yet are read by nobody. A cut alone is no reason to wait."""
        if self._ingesting:
            await self._journal.barrier()

    def _rows(self, instrument_ids: Iterable[str]) -> NDArray[np.int64]:
        names = tuple(instrument_ids)
        rows = self._history.rows(names)
        if (rows < 0).any():
            raise not_found("instrument", names[int(np.argmin(rows))], "ListInstruments names the known ones")
        return rows


def _in_force(bars: Bars, rows: NDArray[np.int64]) -> tuple[Versions, NDArray[np.int64]]:
    """The bars there are, ascending by close and row, and their opens."""
    days, order = np.nonzero(bars.present.T)
    at = (order, days)
    found = Versions(
        stream=np.zeros(len(days), dtype=np.int64),
        row=rows[order],
        ts_event_ns=bars.close_ns[days],
        known_at_ns=bars.known_at_ns[at],
        step=bars.step[at],
        split_step=bars.split_step[at],
        **{name: values[at] for name, values in bars.exact.items()},
    )
    return found, bars.open_ns[days]


def _check_count(bars: int) -> None:
    if bars > BAR_LIMIT:
        raise invalid("end_ns", f"{bars} bars lie in the range, the limit is {BAR_LIMIT}", "ask for a shorter range")


def _action(action: Action, instrument_id: str, currency: str) -> marketdata_pb2.CorporateAction:
    message = marketdata_pb2.CorporateAction(
        action_id=action.action_id, instrument_id=instrument_id, ts_event_ns=action.ts_event_ns
    )
    if action.split is None:
        message.cash_dividend.CopyFrom(money(action.dividend_e9, currency))
    else:
        new, old = action.split
        message.split.CopyFrom(
            marketdata_pb2.Split(new_shares=new, old_shares=old, price_after_e9=action.price_after_e9)
        )
    return message


async def build(context: Context[Config]) -> None:
    """Loads the data, rebuilds what was cut before, and registers the service."""
    dataset = load(context.config)
    facts = load_facts(context.config, dataset)
    journal = context.open_journal()
    history, watermarks, files = History(dataset), Watermarks(), share(context.snapshots)
    if files is not None:
        context.on_close(files.close)
    retained = context.config.snapshots_retained
    store = SnapshotStore(history, watermarks, journal, retained=retained, files=files, facts=facts)
    await journal.commit()
    telemetry.logger().info(
        "data loaded",
        dataset_sha256=dataset.sha256,
        instruments=len(dataset.instruments),
        bars=dataset.bar_count,
        findings=count_by_kind(dataset.findings),
        ingested=len(history),
        texts=len(store.texts),
        facts=0 if facts is None else len(facts),
    )
    servicer = MarketDataService(context.config, history, watermarks, store, journal)
    name = marketdata_pb2.DESCRIPTOR.services_by_name["MarketDataService"].full_name
    context.add(marketdata_pb2_grpc.add_MarketDataServiceServicer_to_server, servicer, name)


DEFINITION = ServiceDefinition(name="market_data", version="0.1.0", config=Config, build=build)
