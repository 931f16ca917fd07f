"""Reports and trades: what the venue tells of the facts in its books."""

from __future__ import annotations

from collections.abc import Iterable

from alphamesh.marketdata.v1 import marketdata_pb2
from alphamesh.type.v1 import trading_pb2
from alphamesh.venue.v1 import venue_pb2
from python_services.kit import convert

from .convert import Instruments
from .orders import Fact, Key

Kind = venue_pb2.Report.Kind
FIRST = frozenset({Kind.KIND_ACCEPTED, Kind.KIND_REJECTED})


class Reporter:
    """The stream of reports, the tape, and the terms of each order as clients know them."""

    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments
        self.reports: list[venue_pb2.Report] = []
        self.trades: list[venue_pb2.Trade] = []
        self.first: dict[Key, venue_pb2.Report] = {}
        self.specs: dict[Key, venue_pb2.VenueOrder] = {}
        self.by_account: dict[str, list[Key]] = {}

    def tell(self, facts: Iterable[Fact], merged: venue_pb2.VenueOrder | None = None) -> list[venue_pb2.Report]:
        """Reports of facts, appended to the stream; `merged` is what a replaced order becomes."""
        return [self._append(self._report(fact, merged)) for fact in facts]

    def _report(self, fact: Fact, merged: venue_pb2.VenueOrder | None) -> venue_pb2.Report:
        terms = fact.order.terms
        instrument = self._instruments[terms.instrument]
        lot = instrument.size_increment_e9
        report = venue_pb2.Report(
            kind=fact.kind,  # type: ignore[arg-type]
            client_order_id=terms.client_order_id,
            account_id=terms.account_id,
            instrument_id=instrument.instrument_id,
            ts_event_ns=fact.ts_ns,
            cumulative_quantity_e9=fact.filled * lot,
            leaves_quantity_e9=fact.leaves * lot,
            reason=fact.reason,
        )
        if report.kind != Kind.KIND_REJECTED:
            report.venue_order_id = f"V{fact.order.number}"
        if report.kind == Kind.KIND_FILL:
            self._describe(fact, report, instrument)
        elif report.kind == Kind.KIND_ACCEPTED:
            report.order.CopyFrom(self.specs[terms.key])
            self.by_account.setdefault(terms.account_id, []).append(terms.key)
        elif report.kind == Kind.KIND_REPLACED:
            # Self-trade prevention takes away quantity; only a client changes prices.
            wanted = merged if merged is not None and not fact.reason else self.specs[terms.key]
            report.order.CopyFrom(wanted)
            report.order.quantity_e9 = fact.lots * lot
            self.specs[terms.key] = report.order
        return report

    def _describe(self, fact: Fact, report: venue_pb2.Report, instrument: marketdata_pb2.Instrument) -> None:
        trade_id = f"{instrument.instrument_id}-{fact.trade}"
        report.trade_id = f"{trade_id}-{'B' if fact.order.terms.side == trading_pb2.SIDE_BUY else 'S'}"
        report.last_price_e9 = fact.price * instrument.price_increment_e9
        report.last_quantity_e9 = fact.lots * instrument.size_increment_e9
        report.fee.CopyFrom(convert.money(fact.fee, instrument.currency_code))
        report.liquidity_flag = fact.liquidity  # type: ignore[assignment]
        if fact.is_trade:
            self.trades.append(
                venue_pb2.Trade(
                    seq=len(self.trades) + 1,
                    trade_id=trade_id,
                    instrument_id=instrument.instrument_id,
                    ts_event_ns=fact.ts_ns,
                    price_e9=report.last_price_e9,
                    quantity_e9=report.last_quantity_e9,
                    aggressor_side=fact.aggressor,  # type: ignore[arg-type]
                )
            )

    def refuse(
        self, order: venue_pb2.VenueOrder, kind: venue_pb2.Report.Kind.ValueType, reason: str, ts_ns: int
    ) -> venue_pb2.Report:
        """The report of an order that the books know nothing of."""
        return self._append(
            venue_pb2.Report(
                kind=kind,
                client_order_id=order.client_order_id,
                account_id=order.account_id,
                instrument_id=order.instrument_id,
                ts_event_ns=ts_ns,
                reason=reason,
            )
        )

    def _append(self, report: venue_pb2.Report) -> venue_pb2.Report:
        self.reports.append(report)
        report.seq = len(self.reports)
        if report.kind in FIRST:
            self.first[report.account_id, report.client_order_id] = report
        return report
