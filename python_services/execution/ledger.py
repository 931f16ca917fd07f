"""The ledger: a deterministic state machine over the events of the "execution" stream.

Every change goes through `apply`, live and on replay alike, so a restart gives the same state. The one
thing decided outside is a reservation: the gate makes it when it approves an order, and `apply` takes
the handle over (live) or repeats the reservation (replay), which must succeed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import Message
from numpy.typing import NDArray

from alphamesh.audit.v1 import event_pb2
from alphamesh.execution.v1 import events_pb2, execution_pb2, order_pb2
from python_services.kit import convert
from python_services.kit.errors import not_found

from . import conversions, corporate_actions
from . import orders as states
from .account import DAY_NS, Account, Books
from .asks import Catalogue, rules
from .corporate_actions import Outcome
from .gatekeeper import Gatekeeper
from .invariants import Breach, Kind, Postings, exposure
from .modes import Mode
from .positions import Position
from .reservations import FAR_NS, Reservations

S = states.S
Difference = execution_pb2.Difference
# Proposals as GATE_ORDER rows, and the ids of their reservations, 0 where denied.
Batch = tuple[NDArray[np.void], NDArray[np.int64]]


class LedgerError(RuntimeError):
    """The state contradicts itself: a bug or a damaged journal. The process must not go on."""


class Ledger:
    """All accounts, rebuilt and changed by events only."""

    def __init__(self, catalogue: Catalogue, open_gate: Callable[[str, int], Gatekeeper]) -> None:
        self.catalogue = catalogue
        self._open_gate = open_gate
        self.accounts: dict[str, Account] = {}
        self.now_ns = 0
        self.venue_seq = 0
        self.breaches: list[Breach] = []
        self._reserved: dict[tuple[str, str], int] = {}
        self._staged_batch: Batch | None = None
        self._handlers: dict[str, tuple[type[Message], Callable[[Any, int, int], None]]] = {
            kind.DESCRIPTOR.full_name: (kind, handler)
            for kind, handler in (
                (events_pb2.AccountOpened, self._opened),
                (events_pb2.RiskPolicyApplied, self._policy),
                (events_pb2.TradingStateChanged, self._trading_state),
                (events_pb2.AccountValued, self._valued),
                (events_pb2.OrderInitialized, self._initialized),
                (events_pb2.OrderScheduled, self._scheduled),
                (events_pb2.OrderStateChanged, self._state_changed),
                (events_pb2.OrderReplaced, self._replaced),
                (events_pb2.OrderFilled, self._filled),
                (events_pb2.OrderAdopted, self._adopted),
                (events_pb2.ReservationGranted, self._granted),
                (events_pb2.ReservationReleased, self._ended),
                (events_pb2.ReservationExpired, self._ended),
                (events_pb2.ReportRefused, self._refused),
                (events_pb2.ReconciliationCompleted, self._reconciled),
                (events_pb2.CorporateActionApplied, self._acted),
                (events_pb2.CurrencyConverted, self._converted),
            )
        }

    def account(self, account_id: str) -> Account:
        """An account. Raises ServiceError (NOT_FOUND)."""
        try:
            return self.accounts[account_id]
        except KeyError:
            raise not_found("account", account_id, "open it with OpenAccount") from None

    def order(self, account_id: str, client_order_id: str) -> order_pb2.Order:
        """An order. Raises ServiceError (NOT_FOUND)."""
        try:
            return self.account(account_id).orders[client_order_id]
        except KeyError:
            raise not_found("order", client_order_id) from None

    def stage(self, account_id: str, client_order_id: str, reservation: int) -> None:
        """Hands over the reservation that the next event about this order is about."""
        self._reserved[account_id, client_order_id] = reservation

    def stage_batch(self, asked: NDArray[np.void], ids: NDArray[np.int64]) -> None:
        """The gate has done already what the next event, a batch of proposals, says."""
        self._staged_batch = (asked, ids)

    @property
    def next_expiry_ns(self) -> int:
        """When the next reservation of any account expires, or earlier."""
        return min((account.held.next_expiry_ns for account in self.accounts.values()), default=FAR_NS)

    def apply(self, envelope: event_pb2.EventEnvelope) -> None:
        """Applies one event; what it breaks is in `breaches` then. Raises LedgerError for one that cannot be."""
        try:
            kind, handler = self._handlers[envelope.schema]
        except KeyError:
            raise LedgerError(f"event {envelope.event_id} has unknown schema {envelope.schema}") from None
        self.now_ns = max(self.now_ns, envelope.ts_init_ns)
        handler(kind.FromString(envelope.payload), envelope.seq, envelope.ts_event_ns)

    def _opened(self, event: events_pb2.AccountOpened, seq: int, ts_ns: int) -> None:
        cash, currency = convert.money_e9(event.cash), event.cash.currency_code
        gate = self._open_gate(currency, cash)
        self.accounts[event.account_id] = Account(
            account_id=event.account_id,
            currency=currency,
            gate=gate,
            books={currency: Books(cash_e9=cash, funding_e9=cash)},
            capital_e9=cash,
            multipliers=self.catalogue.multipliers,
            pairs=self.catalogue.pairs,
            held=Reservations(gate.capacity),
            figures=gate.figures(),
        )

    def _policy(self, event: events_pb2.RiskPolicyApplied, seq: int, ts_ns: int) -> None:
        account = self.accounts[event.account_id]
        account.gate.apply_rules(rules(event.policy))
        account.policy_version = event.policy.version
        account.figures = account.gate.figures()

    def _trading_state(self, event: events_pb2.TradingStateChanged, seq: int, ts_ns: int) -> None:
        account = self.accounts[event.account_id]
        account.gate.set_operator_state(event.trading_state)
        account.state_reason = event.reason

    def _valued(self, event: events_pb2.AccountValued, seq: int, ts_ns: int) -> None:
        account = self.accounts[event.account_id]
        account.marks.update(zip(event.instrument_ids, event.mark_e9, strict=True))
        if account.pairs:
            self._take_rates(account, event)
        self._mark(account, event.instrument_ids, event.mark_e9, event.mark_ts_ns)
        equity = convert.money_e9(event.equity)
        if equity != account.value(account.marks):
            raise LedgerError(f"account {account.account_id}: equity is not what event {seq} says")
        cost = dict.fromkeys(account.books, 0)
        for name, position in account.positions.items():
            if position.cost_e9:  # a flat one may be of a currency without books
                cost[self.catalogue.currency(name)] += position.cost_e9
        for currency, books in account.books.items():
            if books.imbalance or books.cost_e9 != cost[currency]:
                problem = f"{currency}: cash and cost are not funding and profit"
                self._alarm(account, Kind.KIND_BOOKS_DO_NOT_BALANCE, seq, problem)
        new_day = ts_ns // DAY_NS != account.valued_ns // DAY_NS
        previous = equity if account.equity_e9 is None else account.equity_e9
        account.equity_e9, account.valued_ns = equity, ts_ns
        if len(account.books) > 1:
            account.gate.settle(account.cash_e9)
        account.gate.value(equity, new_day=new_day, previous_equity=previous)
        account.figures = account.gate.figures()

    def _mark(self, account: Account, names: Sequence[str], marks_e9: Sequence[int], ts_ns: Sequence[int]) -> None:
        index = self.catalogue.index(names)
        account.gate.mark(index, self.catalogue.reference_ticks(index, marks_e9), np.array(ts_ns, np.int64))

    def _take_rates(self, account: Account, event: events_pb2.AccountValued) -> None:
        """The valuation's rates: every currency of the catalogue that can be converted has the gate's attention."""
        times = dict(zip(event.instrument_ids, event.mark_ts_ns, strict=True))
        rates = {}
        for currency in self.catalogue.currencies:
            pair = account.pairs.between(currency, account.currency)
            rate = account.pairs.rate(currency, account.currency, account.marks)
            if pair in times and rate is not None:
                rates[currency] = (rate, times[pair])
        account.rate_ts.update((name, ts) for name, ts in times.items() if name in account.pairs)
        account.gate.set_rates(rates)

    def _initialized(self, event: events_pb2.OrderInitialized, seq: int, ts_ns: int) -> None:
        account = self.accounts[event.account_id]
        identifier = event.spec.client_order_id
        states.check(identifier, S.INITIALIZED, event.state)
        currency = self._currency(account, event.spec)
        order = order_pb2.Order(
            spec=event.spec,
            account_id=event.account_id,
            state=event.state,
            denial_reasons=event.denial_reasons,
            approved_quantity_e9=event.approved_quantity_e9,
            leaves_quantity_e9=event.approved_quantity_e9,
            cumulative_notional=convert.money(0, currency),
            fees=convert.money(0, currency),
            ts_init_ns=ts_ns,
            ts_event_ns=ts_ns,
            seq=seq,
        )
        account.orders[identifier] = order
        if event.spec.parent_order_id:
            account.children.setdefault(event.spec.parent_order_id, []).append(identifier)
        if event.state != S.SUBMITTED:
            return
        account.open_ids[identifier] = None
        # A parent reserves nothing: its children do.
        if not event.spec.HasField("execution_algorithm"):
            handle = self._reserved.pop((event.account_id, identifier), None)
            if handle is None:
                ask = self.catalogue.ask(event.spec, event.approved_quantity_e9)
                handle = account.gate.reserve_again(ask, ts_ns, instead_of=event.spec.reservation_id)
            account.reservations[identifier] = handle
            if event.spec.reservation_id:
                account.held.end([event.spec.reservation_id])
        self._check_exposure(account, seq, [(event.spec.instrument_id, event.spec.side)])

    def _scheduled(self, event: events_pb2.OrderScheduled, seq: int, ts_ns: int) -> None:
        slices = zip(event.start_ns, event.quantity_e9, strict=True)
        self.accounts[event.account_id].schedules[event.client_order_id] = list(slices)

    def _state_changed(self, event: events_pb2.OrderStateChanged, seq: int, ts_ns: int) -> None:
        account = self.accounts[event.account_id]
        order = account.orders[event.client_order_id]
        states.check(event.client_order_id, order.state, event.to_state)
        if event.HasField("pending_spec"):
            # First: the gate was asked about the order as it was before this event.
            self._take_exchange(account, order, event.pending_spec, ts_ns)
            self._check_exposure(account, seq, [(order.spec.instrument_id, order.spec.side)])
        order.state = event.to_state
        order.ts_event_ns, order.seq = ts_ns, seq
        if event.reason:
            order.reason = event.reason
        if event.HasField("venue_order_id"):
            order.venue_order_id = event.venue_order_id
        if event.to_state == S.TRIGGERED or event.triggered:
            account.triggered.add(event.client_order_id)
        if event.to_state in states.WORKING:
            # In doubt, or with a cancel pending, the larger of old and new terms stays reserved.
            self._trim(account, order)
        if event.to_state in states.CLOSED:
            self._close(account, order)
        self.venue_seq = max(self.venue_seq, event.venue_seq)

    def _take_exchange(
        self, account: Account, order: order_pb2.Order, pending: order_pb2.OrderSpec, ts_ns: int
    ) -> None:
        identifier = order.spec.client_order_id
        handle = self._reserved.pop((order.account_id, identifier), None)
        if handle is None:
            ask = self.catalogue.envelope(order, pending)
            answer = account.gate.exchange(account.reservations[identifier], ask, ts_ns)
            if answer.lots != ask.lots:
                raise LedgerError(f"order {identifier}: its replace was approved, and is denied on replay")
            handle = answer.reservation
        account.reservations[identifier] = handle

    def _trim(self, account: Account, order: order_pb2.Order) -> None:
        """Gives back what a replace had reserved beyond the order's leaves."""
        handle = account.reservations.get(order.spec.client_order_id, 0)
        leaves = self.catalogue.lots(order.spec.instrument_id, order.leaves_quantity_e9, "leaves")
        excess = account.gate.reserved_lots(handle) - leaves
        if excess > 0:
            account.gate.release(handle, excess)

    def _replaced(self, event: events_pb2.OrderReplaced, seq: int, ts_ns: int) -> None:
        account = self.accounts[event.account_id]
        order = account.orders[event.client_order_id]
        after = states.after_report(
            order.state,
            states.ReportKind.REPLACED,
            cumulative=order.cumulative_quantity_e9,
            triggered=event.client_order_id in account.triggered,
            acknowledged=order.HasField("venue_order_id"),
        )
        if after is None:
            raise LedgerError(f"order {event.client_order_id} is closed and cannot be replaced at event {seq}")
        order.spec.CopyFrom(event.spec)
        order.approved_quantity_e9 = event.spec.quantity_e9
        order.leaves_quantity_e9 = max(event.spec.quantity_e9 - order.cumulative_quantity_e9, 0)
        order.state, order.ts_event_ns, order.seq = after, ts_ns, seq  # type: ignore[assignment]
        if order.leaves_quantity_e9 == 0:
            order.state = S.FILLED
            self._close(account, order)
        else:
            self._trim(account, order)
        self.venue_seq = max(self.venue_seq, event.venue_seq)

    def _filled(self, event: events_pb2.OrderFilled, seq: int, ts_ns: int) -> None:
        fill = event.fill
        account = self.accounts[fill.account_id]
        order = account.orders[fill.client_order_id]
        states.check(fill.client_order_id, order.state, event.to_state)
        multiplier = account.multipliers[fill.instrument_id]
        notional = convert.notional_e9(fill.price_e9, fill.quantity_e9, multiplier)
        fee = convert.money_e9(fill.fee)
        sign = 1 if fill.side == 1 else -1
        position = account.positions.setdefault(fill.instrument_id, Position())
        reduces, cost = position.quantity_e9 * sign < 0, position.cost_e9
        realized = position.trade(sign * fill.quantity_e9, notional)
        currency = self.catalogue.currency(fill.instrument_id)
        postings = Postings(cash=-(sign * notional + fee), cost=position.cost_e9 - cost, fees=fee, realized=realized)
        account.book(currency).post(postings)
        ticks = self.catalogue.ticks(fill.instrument_id, fill.price_e9, "price_e9")
        lots = self.catalogue.lots(fill.instrument_id, fill.quantity_e9, "quantity_e9")
        account.traded[fill.instrument_id] = account.traded.get(fill.instrument_id, 0) + sign * fill.quantity_e9
        account.gate.fill(
            account.reservations.get(fill.client_order_id, 0),
            fill.instrument_id,
            fill.side,
            lots,
            ticks,
            fee if currency == account.currency else account.rate(currency).cost(fee),
        )
        self._add_fill(account, order, fill.quantity_e9, notional, fee, event.to_state, ts_ns, seq)
        parent = account.orders.get(order.spec.parent_order_id)
        if parent is not None:
            cumulative = parent.cumulative_quantity_e9 + fill.quantity_e9
            after = states.after_fill(parent.state, cumulative, parent.approved_quantity_e9)
            self._add_fill(account, parent, fill.quantity_e9, notional, fee, after, ts_ns, seq)
        recorded = order_pb2.Fill()
        recorded.CopyFrom(fill)
        recorded.seq = seq
        account.fills.append(recorded)
        account.trade_ids.add(fill.trade_id)
        if fill.inferred:
            name = fill.client_order_id
            account.inferred[name] = account.inferred.get(name, 0) + fill.quantity_e9
        self.venue_seq = max(self.venue_seq, event.venue_seq)
        if order.overfill_quantity_e9:
            over = convert.decimal(order.overfill_quantity_e9)
            self._alarm(account, Kind.KIND_OVERFILL, seq, f"order {fill.client_order_id} is filled {over} beyond")
        # Of another currency the gate has rounded each tick of a lot up, and the fee, by less than a nano unit.
        self._check_books(
            account, fill.instrument_id, postings, seq, 0 if currency == account.currency else ticks * lots + 2
        )
        self._check_exposure(account, seq, [], reduction=reduces)

    def _add_fill(
        self,
        account: Account,
        order: order_pb2.Order,
        quantity_e9: int,
        notional: int,
        fee: int,
        to_state: int,
        ts_ns: int,
        seq: int,
    ) -> None:
        order.cumulative_quantity_e9 += quantity_e9
        order.cumulative_notional.CopyFrom(
            convert.money(convert.money_e9(order.cumulative_notional) + notional, order.fees.currency_code)
        )
        order.fees.CopyFrom(convert.money(convert.money_e9(order.fees) + fee, order.fees.currency_code))
        order.overfill_quantity_e9 = max(order.cumulative_quantity_e9 - order.approved_quantity_e9, 0)
        order.state, order.ts_event_ns, order.seq = to_state, ts_ns, seq  # type: ignore[assignment]
        if to_state in states.CLOSED:
            self._close(account, order)
        else:
            order.leaves_quantity_e9 = max(order.approved_quantity_e9 - order.cumulative_quantity_e9, 0)

    def _close(self, account: Account, order: order_pb2.Order) -> None:
        order.leaves_quantity_e9 = 0
        identifier = order.spec.client_order_id
        account.open_ids.pop(identifier, None)
        account.gate.release(account.reservations.pop(identifier, 0))

    # --- reservations -------------------------------------------------------------------------------

    def _granted(self, event: events_pb2.ReservationGranted, seq: int, ts_ns: int) -> None:
        account = self.accounts[event.account_id]
        staged, self._staged_batch = self._staged_batch, None
        asked, ids = staged or self._grant_again(account, event, ts_ns)
        if event.released_ids:
            account.held.end(event.released_ids)
        account.held.grant(event, asked, ids, seq)
        self._check_exposure(account, seq, zip(event.batch.instrument_ids, event.batch.sides, strict=True))

    def _grant_again(self, account: Account, event: events_pb2.ReservationGranted, ts_ns: int) -> Batch:
        """Gives back and reserves what the event says. Raises LedgerError when the gate does otherwise."""
        account.gate.end(event.released_ids)
        rows = self.catalogue.proposals(event.batch, event.verdicts.granted_quantity_e9)
        ids = np.array(event.verdicts.reservation_ids, np.int64)
        granted = np.flatnonzero(ids)
        verdicts = account.gate.reserve(rows[granted], ts_ns, Mode.EACH)
        if (verdicts["lots"] != rows["lots"][granted]).any() or (verdicts["reservation"] != ids[granted]).any():
            where = f"batch {event.batch_number} of {event.agent_id}"
            raise LedgerError(f"{where}: what was granted is not granted again on replay")
        return rows, ids

    def _ended(
        self, event: events_pb2.ReservationReleased | events_pb2.ReservationExpired, seq: int, ts_ns: int
    ) -> None:
        account = self.accounts[event.account_id]
        account.gate.end(event.reservation_ids)
        account.held.end(event.reservation_ids)
        account.figures = account.gate.figures()

    # --- the venue ------------------------------------------------------------------------------------

    def _adopted(self, event: events_pb2.OrderAdopted, seq: int, ts_ns: int) -> None:
        account = self.accounts[event.account_id]
        identifier, quantity = event.spec.client_order_id, event.spec.quantity_e9
        handle = self._reserved.pop((event.account_id, identifier), None)
        if handle is None:
            handle = account.gate.reserve_again(self.catalogue.ask(event.spec, quantity), ts_ns)
        currency = self._currency(account, event.spec)
        account.orders[identifier] = order_pb2.Order(
            spec=event.spec,
            account_id=event.account_id,
            state=S.ACCEPTED,  # type: ignore[arg-type]
            venue_order_id=event.venue_order_id,
            approved_quantity_e9=quantity,
            leaves_quantity_e9=quantity,
            cumulative_notional=convert.money(0, currency),
            fees=convert.money(0, currency),
            reason="found working at the venue",
            ts_init_ns=ts_ns,
            ts_event_ns=ts_ns,
            seq=seq,
        )
        account.open_ids[identifier] = None
        account.reservations[identifier] = handle
        self._check_exposure(account, seq, [(event.spec.instrument_id, event.spec.side)])

    def _refused(self, event: events_pb2.ReportRefused, seq: int, ts_ns: int) -> None:
        account = self.accounts[event.account_id]
        account.refused.add(event.client_order_id)
        detail = f"report {event.venue_seq} of order {event.client_order_id}: {event.reason}"
        self._alarm(account, Kind.KIND_REPORT_REFUSED, seq, detail)
        self.venue_seq = max(self.venue_seq, event.venue_seq)

    def _reconciled(self, event: events_pb2.ReconciliationCompleted, seq: int, ts_ns: int) -> None:
        found = event.reconciliation
        if not found.reconciled:
            unsettled = [d for d in found.differences if not d.action]
            names = ", ".join(
                f"{Difference.Kind.Name(d.kind)} {d.client_order_id or d.instrument_id}" for d in unsettled
            )
            self._alarm(self.accounts[found.account_id], Kind.KIND_UNRECONCILED, seq, names)

    # --- corporate actions ------------------------------------------------------------------------------

    def outcome(self, account: Account, action: execution_pb2.CorporateAction) -> Outcome:
        """What the action makes of the account's position."""
        name = action.instrument_id
        position, mark = account.positions.get(name, Position()), account.marks.get(name)
        if action.HasField("split"):
            return corporate_actions.split(position, action.split, self.catalogue.grid(name), mark)
        if action.HasField("cash_dividend"):
            return corporate_actions.dividend(position, action.cash_dividend, mark)
        there = account.positions.get(action.symbol_change.new_instrument_id, Position())
        return Outcome(
            quantity_e9=position.quantity_e9 + there.quantity_e9,
            cost_e9=position.cost_e9 + there.cost_e9,
            mark_e9=account.marks.get(action.symbol_change.new_instrument_id, mark),
        )

    def _acted(self, event: events_pb2.CorporateActionApplied, seq: int, ts_ns: int) -> None:
        account, action = self.accounts[event.account_id], event.action
        old = name = action.instrument_id
        after = self.outcome(account, action)
        if (after.quantity_e9, after.cash_e9) != (event.new_quantity_e9, convert.money_e9(event.cash)):
            raise LedgerError(f"action {action.action_id}: event {seq} says otherwise than its terms")
        before = account.positions.pop(old, Position())
        traded, cost = account.traded.pop(old, 0), before.cost_e9
        if action.HasField("symbol_change"):
            name = action.symbol_change.new_instrument_id
            cost += account.positions.get(name, Position()).cost_e9
            traded += account.traded.get(name, 0)
            account.gate.hold(old, 0, account.gate.cash)
        else:
            traded += after.quantity_e9 - before.quantity_e9
        account.positions[name] = Position(after.quantity_e9, after.cost_e9)
        account.traded[name] = traded
        postings = Postings(
            cash=after.cash_e9, cost=after.cost_e9 - cost, realized=after.realized_e9, income=after.income_e9
        )
        if before.quantity_e9 or after.quantity_e9:
            account.book(self.catalogue.currency(name)).post(postings)
        if after.mark_e9 is not None:
            account.marks[name] = after.mark_e9
            self._mark(account, [name], [after.mark_e9], [ts_ns])
        account.gate.hold(name, self.catalogue.lots(name, after.quantity_e9, "quantity_e9"), account.cash_e9)
        account.actions[action.action_id] = action
        self._check_books(account, name, postings, seq)
        # A split changes no value, and cash that a short pays is nobody's decision: no cap can be broken by it.
        account.figures = account.gate.figures()

    # --- currencies -------------------------------------------------------------------------------------

    def _converted(self, event: events_pb2.CurrencyConverted, seq: int, ts_ns: int) -> None:
        account = self.accounts[event.account_id]
        if conversions.bought_e9(account, event) != convert.money_e9(event.bought):
            raise LedgerError(f"account {account.account_id}: event {seq} converts otherwise than at its rate")
        covering = conversions.covers_debt(account, event)
        for money, sign in ((event.sold, -1), (event.bought, 1)):
            amount = sign * convert.money_e9(money)
            account.book(money.currency_code).post(Postings(cash=amount, funding=amount))
        account.gate.settle(account.cash_e9)
        self._check_exposure(account, seq, [], reduction=covering)

    def _currency(self, account: Account, spec: order_pb2.OrderSpec) -> str:
        """The currency of an order; the account's for one in an instrument that nobody knows."""
        return self.catalogue.currency(spec.instrument_id) if spec.instrument_id in self.catalogue else account.currency

    # --- invariants -----------------------------------------------------------------------------------

    def _alarm(self, account: Account, kind: Kind.ValueType, seq: int, detail: str) -> None:
        account.alarms.append(execution_pb2.Alarm(seq=seq, kind=kind, detail=detail))
        self.breaches.append(Breach(account_id=account.account_id, kind=kind, detail=detail))

    def _check_books(
        self, account: Account, instrument_id: str, postings: Postings, seq: int, rounded: int = 0
    ) -> None:
        """Debits and credits of this event, and the gate's book of the same cash and position.

        `rounded`: by how much the gate's cash may differ, as it has converted an amount piece by piece.
        """
        position = account.positions[instrument_id].quantity_e9
        wrong = []
        if postings.imbalance:
            wrong.append(f"debits and credits differ by {convert.decimal(postings.imbalance)}")
        cash = account.cash_e9
        if abs(cash - account.gate.cash) > rounded:
            wrong.append(f"cash is {convert.decimal(cash)}, the gate's {convert.decimal(account.gate.cash)}")
        if rounded:
            account.gate.settle(cash)
        if position != account.traded[instrument_id]:
            wrong.append(f"the fills of {instrument_id} sum to {convert.decimal(account.traded[instrument_id])}")
        if position != self.catalogue.quantity_e9(instrument_id, account.gate.position(instrument_id)):
            wrong.append(f"the gate's position in {instrument_id} is not {convert.decimal(position)}")
        for detail in wrong:
            self._alarm(account, Kind.KIND_BOOKS_DO_NOT_BALANCE, seq, detail)

    def _check_exposure(
        self, account: Account, seq: int, touched: Iterable[tuple[str, int]], *, reduction: bool = False
    ) -> None:
        """Whether this event took the account beyond a cap. `touched`: (instrument, side) that it is about."""
        before, account.figures = account.figures, account.gate.figures()
        name_of = self.catalogue.name
        found = exposure(before, account.figures, account.gate.caps, reduction=reduction, name=name_of)
        if not found:
            return
        # Looked at only now: nearly every event breaks nothing.
        for name, side in touched:
            position = account.positions.get(name)
            if position is not None and position.quantity_e9 * (1 if side == 1 else -1) < 0:
                reduction = True
        for kind, detail in exposure(before, account.figures, account.gate.caps, reduction=reduction, name=name_of):
            self._alarm(account, kind, seq, detail)
