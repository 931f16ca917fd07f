"""What the venue decides and reports: every report is an event of its stream, numbered without gaps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from google.protobuf.message import Message

from alphamesh.marketdata.v1 import marketdata_pb2
from alphamesh.type.v1 import trading_pb2
from alphamesh.venue.v1 import events_pb2, venue_pb2
from python_services.kit import convert
from python_services.kit.journal import Event, Journal, JournalError

from ..config import Config
from ..model import REPORT_KINDS, fee_model, fill_model
from .books import Books, Fact, Key, Order, Terms, bar_array

Kind = venue_pb2.Report.Kind


class Desk:
    """Takes commands, changes the books, writes reports. Rebuilt from its own stream."""

    def __init__(self, config: Config, journal: Journal, instruments: Sequence[marketdata_pb2.Instrument]) -> None:
        self._config = config
        self._journal = journal
        self.instruments = list(instruments)
        self.index = {instrument.instrument_id: i for i, instrument in enumerate(instruments)}
        self.reports: list[venue_pb2.Report] = []
        self.trades: list[venue_pb2.Trade] = []  # nobody trades with anybody here
        values = [
            convert.notional_e9(i.price_increment_e9, i.size_increment_e9, i.multiplier_e9) for i in self.instruments
        ]
        self.books = Books(fee_model(config), fill_model(config), values)
        self._recover()

    @property
    def now_ns(self) -> int:
        """The venue's time."""
        return self.books.now_ns

    @property
    def wanted(self) -> list[str]:
        """Instruments whose bars are needed to advance."""
        return sorted({self.instruments[order.terms.instrument].instrument_id for order in self.books.resting})

    def submit(self, orders: Sequence[venue_pb2.VenueOrder]) -> list[venue_pb2.Report]:
        """Accepts or rejects new orders; one that is known is answered with its first report.

        Raises ServiceError, changing nothing, for a price or quantity off its increment.
        """
        for order in orders:
            if order.instrument_id in self.index:
                self.terms(order)
        return [self._submit(order) for order in orders]

    def _submit(self, order: venue_pb2.VenueOrder) -> venue_pb2.Report:
        first = self._first_report.get((order.account_id, order.client_order_id))
        if first is not None:
            return first
        if order.instrument_id not in self.index:
            return self._refuse(order, Kind.KIND_REJECTED, f"instrument {order.instrument_id!r} is not traded here")
        terms = self.terms(order)
        reason = self.books.refusal(terms)
        if reason:
            return self._refuse(order, Kind.KIND_REJECTED, reason)
        # An order is never matched on a bar from before it was sent, whatever the clock says.
        self.books.now_ns = max(self.books.now_ns, order.ts_init_ns)
        report = self._body(self.books.enter(terms), Kind.KIND_ACCEPTED, order.ts_init_ns)
        report.order.CopyFrom(order)
        return self._append(report)

    def cancel(self, account_id: str, client_order_ids: Sequence[str]) -> list[venue_pb2.Report]:
        """Cancels orders that rest, or says why not."""
        return [self._cancel(account_id, client_order_id) for client_order_id in client_order_ids]

    def _cancel(self, account_id: str, client_order_id: str) -> venue_pb2.Report:
        order = self.books.orders.get((account_id, client_order_id))
        if order is None or not order.leaves:
            why = "the order is not known here" if order is None else "the order is closed"
            named = venue_pb2.VenueOrder(account_id=account_id, client_order_id=client_order_id)
            return self._refuse(named, Kind.KIND_CANCEL_REJECTED, why)
        self.books.close(order)
        return self._append(self._body(order, Kind.KIND_CANCELED, self.books.now_ns, reason="requested"))

    def replace(self, order: venue_pb2.VenueOrder) -> venue_pb2.Report:
        """New terms for an order that rests, or says why not."""
        known = self.books.orders.get((order.account_id, order.client_order_id))
        if known is None:
            return self._refuse(order, Kind.KIND_REPLACE_REJECTED, "the order is not known here")
        if not known.leaves:
            return self._refuse(order, Kind.KIND_REPLACE_REJECTED, "the order is closed")
        if self.index.get(order.instrument_id) != known.terms.instrument or order.side != known.terms.side:
            return self._refuse(order, Kind.KIND_REPLACE_REJECTED, "instrument and side cannot change")
        refusal = self.books.change(known, self.terms(order))
        if refusal:
            return self._refuse(order, Kind.KIND_REPLACE_REJECTED, refusal)
        report = self._body(known, Kind.KIND_REPLACED, self.books.now_ns)
        report.order.CopyFrom(order)
        report.order.quantity_e9 = known.terms.lots * self.instruments[known.terms.instrument].size_increment_e9
        return self._append(report)

    def advance(self, to_ns: int, bars: Sequence[marketdata_pb2.Bar]) -> None:
        """Matches on the bars, moment by moment, and moves the venue's time to `to_ns`."""
        for ts_ns in sorted({bar.ts_event_ns for bar in bars}):
            array = bar_array(len(self.instruments))
            opens = np.zeros(len(self.instruments), np.int64)
            for bar in bars:
                if bar.ts_event_ns == ts_ns:
                    index = self.index[bar.instrument_id]
                    array[index] = self._bar(self.instruments[index], bar)
                    opens[index] = bar.ts_open_ns
            for fact in self.books.advance(ts_ns, array, opens.tolist()):
                self._append(self._fact(fact))
        self.books.now_ns = to_ns
        moved = events_pb2.MarketAdvanced(to_ns=to_ns)
        for order in self.books.resting:
            moved.resting.add(
                account_id=order.terms.account_id,
                client_order_id=order.terms.client_order_id,
                trigger_ticks=int(order.row["trigger"][0]),
                price_ticks=int(order.row["price"][0]),
                flags=int(order.row["flags"][0]),
            )
        self._record(moved, to_ns)

    def orders(self, account_id: str, *, open_only: bool) -> list[Key]:
        """The orders of an account, in order of arrival."""
        known = self.books.orders.items()
        return [key for key, order in known if key[0] == account_id and (order.leaves or not open_only)]

    def status(self, key: Key) -> venue_pb2.VenueOrderStatus:
        """Where an order stands."""
        order = self.books.orders[key]
        lot = self.instruments[order.terms.instrument].size_increment_e9
        accepted = self._first_report[order.terms.key].order
        return venue_pb2.VenueOrderStatus(
            order=accepted,
            venue_order_id=f"V{order.number}",
            open=order.leaves > 0,
            cumulative_quantity_e9=order.filled * lot,
            leaves_quantity_e9=order.leaves * lot,
        )

    def terms(self, order: venue_pb2.VenueOrder) -> Terms:
        """An order in ticks and lots. Raises ServiceError for a price or quantity off its increment."""
        instrument = self.instruments[self.index[order.instrument_id]]
        tick, lot = instrument.price_increment_e9, instrument.size_increment_e9
        return Terms(
            account_id=order.account_id,
            client_order_id=order.client_order_id,
            instrument=self.index[order.instrument_id],
            side=order.side,
            order_type=order.order_type,
            time_in_force=order.time_in_force,
            lots=convert.to_steps(order.quantity_e9, lot, "quantity_e9"),
            price=convert.to_steps(order.price_e9, tick, "price_e9"),
            trigger=convert.to_steps(order.trigger_price_e9, tick, "trigger_price_e9"),
            trail=convert.to_steps(order.trailing_offset_e9, tick, "trailing_offset_e9"),
            limit_offset=convert.to_steps(order.limit_offset_e9, tick, "limit_offset_e9"),
            display=convert.to_steps(order.display_quantity_e9, lot, "display_quantity_e9"),
            expire_ns=order.expire_time_ns,
            post_only=order.post_only,
        )

    # --- reports -----------------------------------------------------------------------------------

    def _refuse(
        self, order: venue_pb2.VenueOrder, kind: venue_pb2.Report.Kind.ValueType, reason: str
    ) -> venue_pb2.Report:
        return self._append(
            venue_pb2.Report(
                kind=kind,
                client_order_id=order.client_order_id,
                account_id=order.account_id,
                instrument_id=order.instrument_id,
                ts_event_ns=max(order.ts_init_ns, self.books.now_ns),
                reason=reason,
            )
        )

    def _body(
        self, order: Order, kind: venue_pb2.Report.Kind.ValueType, ts_ns: int, reason: str = ""
    ) -> venue_pb2.Report:
        instrument = self.instruments[order.terms.instrument]
        return venue_pb2.Report(
            kind=kind,
            client_order_id=order.terms.client_order_id,
            venue_order_id=f"V{order.number}",
            account_id=order.terms.account_id,
            instrument_id=instrument.instrument_id,
            ts_event_ns=ts_ns,
            cumulative_quantity_e9=order.filled * instrument.size_increment_e9,
            leaves_quantity_e9=order.leaves * instrument.size_increment_e9,
            reason=reason,
        )

    def _fact(self, fact: Fact) -> venue_pb2.Report:
        instrument = self.instruments[fact.order.terms.instrument]
        kind = venue_pb2.Report.Kind.ValueType(REPORT_KINDS[fact.kind])
        report = self._body(fact.order, kind, fact.ts_ns, reason=fact.reason)
        report.cumulative_quantity_e9 = fact.filled * instrument.size_increment_e9
        report.leaves_quantity_e9 = fact.leaves * instrument.size_increment_e9
        if kind == Kind.KIND_FILL:
            report.trade_id = f"T{len(self.reports) + 1}"
            report.last_price_e9 = fact.price * instrument.price_increment_e9
            report.last_quantity_e9 = fact.lots * instrument.size_increment_e9
            report.fee.CopyFrom(convert.money(fact.fee, instrument.currency_code))
            report.liquidity_flag = trading_pb2.LiquidityFlag.ValueType(fact.liquidity)
        return report

    def _append(self, report: venue_pb2.Report) -> venue_pb2.Report:
        report.seq = len(self.reports) + 1
        self._keep(report)
        self._record(report, report.ts_event_ns)
        return report

    def _keep(self, report: venue_pb2.Report) -> None:
        self.reports.append(report)
        if report.kind == Kind.KIND_ACCEPTED or report.kind == Kind.KIND_REJECTED:
            self._first_report[report.account_id, report.client_order_id] = report

    def _record(self, payload: Message, ts_ns: int) -> None:
        ts_init_ns = max(ts_ns, self.books.now_ns)
        self._journal.add([Event(payload=payload, ts_event_ns=ts_ns, ts_init_ns=ts_init_ns)])

    def _bar(self, instrument: marketdata_pb2.Instrument, bar: marketdata_pb2.Bar) -> tuple[int, ...]:
        tick = instrument.price_increment_e9
        # Half a tick at most; the half spread, a tick at least, is charged on top.
        prices = (convert.nearest_steps(p, tick) for p in (bar.open_e9, bar.high_e9, bar.low_e9, bar.close_e9))
        return (bar.ts_event_ns, *prices, bar.volume_e9 // instrument.size_increment_e9)

    # --- recovery ----------------------------------------------------------------------------------

    def _recover(self) -> None:
        self._first_report: dict[tuple[str, str], venue_pb2.Report] = {}
        for frame in self._journal.read(1):
            for envelope in frame.events:
                if envelope.schema == venue_pb2.Report.DESCRIPTOR.full_name:
                    self._replay(venue_pb2.Report.FromString(envelope.payload))
                elif envelope.schema == events_pb2.MarketAdvanced.DESCRIPTOR.full_name:
                    self._replay_advance(events_pb2.MarketAdvanced.FromString(envelope.payload))
                else:
                    raise JournalError(
                        f"the journal of {self._journal.stream} was written with another market than `bars`; "
                        "set the venue's `market` as it was, or use another data directory"
                    )

    def _replay(self, report: venue_pb2.Report) -> None:
        self._keep(report)
        order = self.books.orders.get((report.account_id, report.client_order_id))
        if report.kind == Kind.KIND_ACCEPTED:
            self.books.now_ns = max(self.books.now_ns, report.order.ts_init_ns)
            self.books.enter(self.terms(report.order))
        elif order is not None and report.kind == Kind.KIND_REPLACED:
            self.books.change(order, self.terms(report.order))
        elif order is not None and report.kind in (Kind.KIND_FILL, Kind.KIND_CANCELED, Kind.KIND_EXPIRED):
            instrument = self.instruments[order.terms.instrument]
            lots = report.last_quantity_e9 // instrument.size_increment_e9
            value = convert.notional_e9(report.last_price_e9, report.last_quantity_e9, instrument.multiplier_e9)
            leaves = report.leaves_quantity_e9 // instrument.size_increment_e9
            self.books.restore(order, lots, value, convert.money_e9(report.fee), leaves)

    def _replay_advance(self, moved: events_pb2.MarketAdvanced) -> None:
        self.books.now_ns = moved.to_ns
        for state in moved.resting:
            row = self.books.orders[state.account_id, state.client_order_id].row
            row["trigger"], row["price"], row["flags"] = state.trigger_ticks, state.price_ticks, state.flags
