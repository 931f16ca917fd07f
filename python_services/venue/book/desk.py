"""What the venue with books decides and reports.

Every command is an event, followed by the reports that it caused. Recovery carries out all commands
again and holds each report against the journal's: books, reports and tape are the same, or the venue
does not start.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from google.protobuf.message import Message

from alphamesh.marketdata.v1 import marketdata_pb2
from alphamesh.type.v1 import trading_pb2
from alphamesh.venue.v1 import events_pb2, venue_pb2
from python_services.kit.errors import precondition
from python_services.kit.journal import Event, Journal, JournalError

from ..config import Config
from .convert import Instruments, amended
from .exchange import Exchange
from .orders import Key
from .reporter import Reporter
from .schedule import recorded, scheduled

Kind = venue_pb2.Report.Kind
LEVELS = 10


@dataclass
class Outcome:
    """What a command did. `refused`: limits could not be set."""

    reports: list[venue_pb2.Report] = field(default_factory=list)
    auctions: list[venue_pb2.PhaseOutcome] = field(default_factory=list)
    refused: bool = False


class Desk:
    """Takes commands, changes the books, writes reports and the tape of trades."""

    def __init__(self, config: Config, journal: Journal, instruments: Sequence[marketdata_pb2.Instrument]) -> None:
        self._journal = journal
        self._instruments = Instruments(instruments)
        self._exchange = Exchange(self._instruments.tick_values)
        self._reporter = Reporter(self._instruments)
        self._schedule = events_pb2.ScheduleSet()
        self.reports = self._reporter.reports
        self.trades = self._reporter.trades
        self._recover()
        configured = recorded(config)
        if configured != self._schedule:
            self._take(events_pb2.BookCommand(ts_ns=self.now_ns, schedule=configured))

    @property
    def now_ns(self) -> int:
        """The venue's time: the latest of what the session and the orders said."""
        return self._exchange.now_ns

    @property
    def wanted(self) -> list[str]:
        """Books need no bars."""
        return []

    # --- orders ------------------------------------------------------------------------------------

    def submit(self, orders: Sequence[venue_pb2.VenueOrder]) -> list[venue_pb2.Report]:
        """Enters new orders; one that is known is answered with its first report.

        Raises ServiceError, changing nothing, for a price or quantity off its increment.
        """
        for index, order in enumerate(orders):
            if order.instrument_id in self._instruments.index:
                self._instruments.terms(order, f"orders[{index}].")
        return [self._submit(order) for order in orders]

    def _submit(self, order: venue_pb2.VenueOrder) -> venue_pb2.Report:
        key = order.account_id, order.client_order_id
        if key not in self._reporter.first:
            self._take(events_pb2.BookCommand(ts_ns=max(self.now_ns, order.ts_init_ns), submit=order))
        return self._reporter.first[key]

    def cancel(self, account_id: str, client_order_ids: Sequence[str]) -> list[venue_pb2.Report]:
        """Cancels orders, or says why not."""
        reports = []
        for client_order_id in client_order_ids:
            key = events_pb2.OrderKey(account_id=account_id, client_order_id=client_order_id)
            # The answer comes last: what expires on the way comes before it.
            reports.append(self._take(events_pb2.BookCommand(ts_ns=self.now_ns, cancel=key)).reports[-1])
        return reports

    def replace(self, order: venue_pb2.VenueOrder) -> venue_pb2.Report:
        """New terms for an order, or says why not. Raises ServiceError for what is off its increment."""
        if order.instrument_id in self._instruments.index:
            self._instruments.terms(order, "order.")
        outcome = self._take(events_pb2.BookCommand(ts_ns=self.now_ns, replace=order))
        return next(
            report
            for report in outcome.reports
            if report.kind in (Kind.KIND_REPLACED, Kind.KIND_REPLACE_REJECTED)
            and (report.account_id, report.client_order_id) == (order.account_id, order.client_order_id)
        )

    def orders(self, account_id: str, *, open_only: bool) -> list[Key]:
        """The orders of an account, in order of arrival."""
        keys = self._reporter.by_account.get(account_id, ())
        return [key for key in keys if not open_only or self._exchange.orders[key].leaves]

    def status(self, key: Key) -> venue_pb2.VenueOrderStatus:
        """Where an order stands."""
        order = self._exchange.orders[key]
        lot = self._instruments[order.terms.instrument].size_increment_e9
        return venue_pb2.VenueOrderStatus(
            order=self._reporter.specs[key],
            venue_order_id=f"V{order.number}",
            open=order.leaves > 0,
            cumulative_quantity_e9=order.filled * lot,
            leaves_quantity_e9=order.leaves * lot,
        )

    # --- the market --------------------------------------------------------------------------------

    def advance(self, to_ns: int, bars: Sequence[marketdata_pb2.Bar]) -> None:
        """Lets time pass in every book."""
        self._take(events_pb2.BookCommand(ts_ns=to_ns, advance=events_pb2.TimePassed()))

    def set_phase(
        self, instrument_ids: Sequence[str], phase: venue_pb2.SessionPhase.ValueType
    ) -> list[venue_pb2.PhaseOutcome]:
        """A new phase of some books. Raises ServiceError, changing nothing, for an unknown instrument."""
        for index, instrument_id in enumerate(instrument_ids):
            self._instruments.number(instrument_id, f"instrument_ids[{index}]")
        change = events_pb2.PhaseSet(instrument_ids=instrument_ids, phase=phase)
        return self._take(events_pb2.BookCommand(ts_ns=self.now_ns, phase=change)).auctions

    def set_limits(self, instrument_id: str, limits: venue_pb2.PriceLimits) -> int:
        """New limits of a book; how many orders were canceled for them. Raises ServiceError when they cannot be."""
        self._instruments.limits(instrument_id, limits)
        change = events_pb2.LimitsSet(instrument_id=instrument_id, limits=limits)
        outcome = self._take(events_pb2.BookCommand(ts_ns=self.now_ns, limits=change))
        if outcome.refused:
            raise precondition(
                "PRICE_LIMITS_TOO_FAR",
                f"no ladder of a book holds these limits and the orders and the last price of {instrument_id}; "
                "narrow the limits, or cancel the orders that are far from them",
                instrument_id=instrument_id,
            )
        return sum(report.kind == Kind.KIND_CANCELED for report in outcome.reports)

    def book(self, instrument_id: str, levels: int) -> venue_pb2.GetBookResponse:
        """The best levels of a book. Raises ServiceError for an unknown instrument."""
        number = self._instruments.number(instrument_id)
        book = self._exchange.book(number)
        tick, lot = self._instruments[number].price_increment_e9, self._instruments[number].size_increment_e9

        def e9(ticks: int | None) -> int | None:
            return None if ticks is None else ticks * tick

        def side(which: int) -> Iterable[venue_pb2.BookLevel]:
            for price, lots, orders in book.engine.depth(which, levels or LEVELS).tolist():
                yield venue_pb2.BookLevel(price_e9=price * tick, quantity_e9=lots * lot, orders=orders)

        return venue_pb2.GetBookResponse(
            instrument_id=instrument_id,
            phase=int(book.engine.phase),  # type: ignore[arg-type]
            bids=side(trading_pb2.SIDE_BUY),
            asks=side(trading_pb2.SIDE_SELL),
            last_price_e9=e9(book.engine.last_price),
            limits=venue_pb2.PriceLimits(
                lower_price_e9=e9(book.limits.lower),
                upper_price_e9=e9(book.limits.upper),
                reference_price_e9=e9(book.limits.reference),
            ),
            venue_time_ns=self.now_ns,
            applied_seq=len(self.reports),
        )

    # --- commands, live and again --------------------------------------------------------------------

    def _take(self, command: events_pb2.BookCommand) -> Outcome:
        try:
            outcome = self._carry_out(command)
        except Exception as error:
            # The books may have changed without their reports: nothing of it may become durable.
            self._journal.poison(error)
            raise
        self._record([command, *outcome.reports])
        return outcome

    def _carry_out(self, command: events_pb2.BookCommand) -> Outcome:
        exchange, outcome = self._exchange, Outcome()
        match command.WhichOneof("command"):
            case "submit":
                outcome.reports = self._enter(command.submit, command.ts_ns)
            case "cancel":
                outcome.reports = self._withdraw(command.cancel)
            case "replace":
                outcome.reports = self._amend(command.replace)
            case "advance":
                outcome.reports = self._reporter.tell(exchange.advance(command.ts_ns))
            case "phase":
                for instrument_id in command.phase.instrument_ids:
                    number = self._instruments.number(instrument_id)
                    facts, price, lots = exchange.set_phase(number, command.phase.phase)
                    outcome.reports += self._reporter.tell(facts)
                    outcome.auctions.append(self._auction(number, price, lots))
            case "limits":
                change = command.limits
                number = self._instruments.number(change.instrument_id)
                limits = self._instruments.limits(change.instrument_id, change.limits)
                answer = exchange.set_limits(number, limits)
                outcome.refused = answer is None
                outcome.reports = self._reporter.tell(answer or ())
            case "schedule":
                self._schedule = command.schedule
                exchange.schedule = scheduled(command.schedule)
            case unknown:
                raise JournalError(f"the command {unknown!r} is unknown to this version; start the one that wrote it")
        return outcome

    def _enter(self, order: venue_pb2.VenueOrder, ts_ns: int) -> list[venue_pb2.Report]:
        if order.instrument_id not in self._instruments.index:
            reason = f"instrument {order.instrument_id!r} is not traded here"
            return [self._reporter.refuse(order, Kind.KIND_REJECTED, reason, ts_ns)]
        self._reporter.specs[order.account_id, order.client_order_id] = order
        return self._reporter.tell(self._exchange.submit(self._instruments.terms(order), ts_ns))

    def _withdraw(self, key: events_pb2.OrderKey) -> list[venue_pb2.Report]:
        order = self._exchange.orders.get((key.account_id, key.client_order_id))
        if order is not None and order.leaves:
            return self._reporter.tell(self._exchange.cancel(order))
        why = "the order is not known here" if order is None else "the order is closed"
        named = venue_pb2.VenueOrder(account_id=key.account_id, client_order_id=key.client_order_id)
        return [self._reporter.refuse(named, Kind.KIND_CANCEL_REJECTED, why, self.now_ns)]

    def _amend(self, wanted: venue_pb2.VenueOrder) -> list[venue_pb2.Report]:
        key = wanted.account_id, wanted.client_order_id
        order = self._exchange.orders.get(key)
        if order is None:
            merged, why = wanted, "the order is not known here"
        elif not order.leaves:
            merged, why = wanted, "the order is closed"
        else:
            merged, why = amended(self._reporter.specs[key], wanted)
        if order is None or why:
            return [self._reporter.refuse(wanted, Kind.KIND_REPLACE_REJECTED, why, self.now_ns)]
        return self._reporter.tell(self._exchange.replace(order, self._instruments.terms(merged)), merged)

    def _auction(self, number: int, price: int | None, lots: int) -> venue_pb2.PhaseOutcome:
        instrument = self._instruments[number]
        return venue_pb2.PhaseOutcome(
            instrument_id=instrument.instrument_id,
            auction_price_e9=None if price is None else price * instrument.price_increment_e9,
            auction_quantity_e9=lots * instrument.size_increment_e9,
        )

    # --- recovery ----------------------------------------------------------------------------------

    def _recover(self) -> None:
        expected: deque[venue_pb2.Report] = deque()
        for frame in self._journal.read(1):
            for envelope in frame.events:
                if envelope.schema == events_pb2.BookCommand.DESCRIPTOR.full_name and not expected:
                    command = events_pb2.BookCommand.FromString(envelope.payload)
                    expected.extend(self._carry_out(command).reports)
                elif not expected or expected.popleft().SerializeToString(deterministic=True) != envelope.payload:
                    raise JournalError(
                        f"the journal of {self._journal.stream} cannot be repeated from event {envelope.seq} on: it "
                        "was written with another market than `book`, another version or other instruments; start "
                        "those, or use another data directory"
                    )
        # A long group of events may have been cut by a crash: the command stands, so its reports do.
        self._record(expected)

    def _record(self, payloads: Iterable[Message]) -> None:
        now = self.now_ns
        self._journal.add([Event(payload=p, ts_event_ns=_ts(p), ts_init_ns=max(_ts(p), now)) for p in payloads])


def _ts(payload: Message) -> int:
    return payload.ts_ns if isinstance(payload, events_pb2.BookCommand) else payload.ts_event_ns  # type: ignore[attr-defined]
