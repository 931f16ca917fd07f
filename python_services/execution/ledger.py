"""The ledger: a deterministic state machine over the events of the "execution" stream.

Every change goes through `apply`, live and on replay alike, so a restart gives the same state. The one
thing decided outside is a reservation: the gate makes it when it approves an order, and `apply` takes
the handle over (live) or repeats the reservation (replay), which must succeed again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from alphamesh.audit.v1 import event_pb2
from alphamesh.execution.v1 import events_pb2, order_pb2
from python_services.kit import convert
from python_services.kit.errors import not_found

from . import orders as states
from .account import DAY_NS, Account
from .asks import Catalogue, rules
from .gatekeeper import Gatekeeper
from .positions import Position

S = states.S


class LedgerError(RuntimeError):
    """The state contradicts itself: a bug or a damaged journal. The process must not go on."""


class Ledger:
    """All accounts, rebuilt and changed by events only."""

    def __init__(self, catalogue: Catalogue, open_gate: Callable[[int], Gatekeeper]) -> None:
        self.catalogue = catalogue
        self._open_gate = open_gate
        self.accounts: dict[str, Account] = {}
        self.now_ns = 0
        self.venue_seq = 0
        self._reserved: dict[tuple[str, str], int] = {}
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

    def apply(self, envelope: event_pb2.EventEnvelope) -> None:
        """Applies one event. Raises LedgerError for one that cannot be."""
        try:
            kind, handler = self._handlers[envelope.schema]
        except KeyError:
            raise LedgerError(f"event {envelope.event_id} has unknown schema {envelope.schema}") from None
        self.now_ns = max(self.now_ns, envelope.ts_init_ns)
        handler(kind.FromString(envelope.payload), envelope.seq, envelope.ts_event_ns)

    def _opened(self, event: events_pb2.AccountOpened, seq: int, ts_ns: int) -> None:
        cash = convert.money_e9(event.cash)
        self.accounts[event.account_id] = Account(
            account_id=event.account_id,
            currency=event.cash.currency_code,
            gate=self._open_gate(cash),
            cash_e9=cash,
            multipliers=self.catalogue.multipliers,
        )

    def _policy(self, event: events_pb2.RiskPolicyApplied, seq: int, ts_ns: int) -> None:
        account = self.accounts[event.account_id]
        account.gate.apply_rules(rules(event.policy))
        account.policy_version = event.policy.version

    def _trading_state(self, event: events_pb2.TradingStateChanged, seq: int, ts_ns: int) -> None:
        self.accounts[event.account_id].gate.set_operator_state(event.trading_state)

    def _valued(self, event: events_pb2.AccountValued, seq: int, ts_ns: int) -> None:
        account = self.accounts[event.account_id]
        marks = dict(zip(event.instrument_ids, event.mark_e9, strict=True))
        account.gate.mark(
            (name, self.catalogue.reference_ticks(name, mark), ts)
            for name, mark, ts in zip(event.instrument_ids, event.mark_e9, event.mark_ts_ns, strict=True)
        )
        account.marks.update(marks)
        equity = convert.money_e9(event.equity)
        if equity != account.value(account.marks) or account.cash_e9 != account.gate.cash:
            raise LedgerError(f"account {account.account_id}: the books do not balance at event {seq}")
        new_day = ts_ns // DAY_NS != account.valued_ns // DAY_NS
        previous = equity if account.equity_e9 is None else account.equity_e9
        account.equity_e9, account.valued_ns = equity, ts_ns
        account.gate.value(equity, new_day=new_day, previous_equity=previous)

    def _initialized(self, event: events_pb2.OrderInitialized, seq: int, ts_ns: int) -> None:
        account = self.accounts[event.account_id]
        identifier = event.spec.client_order_id
        states.check(identifier, S.INITIALIZED, event.state)
        order = order_pb2.Order(
            spec=event.spec,
            account_id=event.account_id,
            state=event.state,
            denial_reasons=event.denial_reasons,
            approved_quantity_e9=event.approved_quantity_e9,
            leaves_quantity_e9=event.approved_quantity_e9,
            cumulative_notional=convert.money(0, account.currency),
            fees=convert.money(0, account.currency),
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
                handle = account.gate.reserve_again(ask, ts_ns)
            account.reservations[identifier] = handle

    def _scheduled(self, event: events_pb2.OrderScheduled, seq: int, ts_ns: int) -> None:
        slices = zip(event.start_ns, event.quantity_e9, strict=True)
        self.accounts[event.account_id].schedules[event.client_order_id] = list(slices)

    def _state_changed(self, event: events_pb2.OrderStateChanged, seq: int, ts_ns: int) -> None:
        account = self.accounts[event.account_id]
        order = account.orders[event.client_order_id]
        states.check(event.client_order_id, order.state, event.to_state)
        order.state = event.to_state
        order.ts_event_ns, order.seq = ts_ns, seq
        if event.reason:
            order.reason = event.reason
        if event.HasField("venue_order_id"):
            order.venue_order_id = event.venue_order_id
        if event.to_state == S.TRIGGERED:
            account.triggered.add(event.client_order_id)
        if event.to_state == S.PENDING_REPLACE:
            self._take_exchange(account, order, event.pending_spec, ts_ns)
        elif event.from_state == S.PENDING_REPLACE and event.to_state not in states.CLOSED:
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
        after = states.working(order.cumulative_quantity_e9, event.client_order_id in account.triggered)
        states.check(event.client_order_id, order.state, after)
        order.spec.CopyFrom(event.spec)
        order.approved_quantity_e9 = event.spec.quantity_e9
        order.leaves_quantity_e9 = max(event.spec.quantity_e9 - order.cumulative_quantity_e9, 0)
        order.state, order.ts_event_ns, order.seq = after, ts_ns, seq
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
        account.realized_e9 += position.trade(sign * fill.quantity_e9, notional)
        account.cash_e9 -= sign * notional + fee
        account.fees_e9 += fee
        account.gate.fill(
            account.reservations.get(fill.client_order_id, 0),
            fill.instrument_id,
            fill.side,
            self.catalogue.lots(fill.instrument_id, fill.quantity_e9, "quantity_e9"),
            self.catalogue.ticks(fill.instrument_id, fill.price_e9, "price_e9"),
            fee,
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
        self.venue_seq = max(self.venue_seq, event.venue_seq)

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
            convert.money(convert.money_e9(order.cumulative_notional) + notional, account.currency)
        )
        order.fees.CopyFrom(convert.money(convert.money_e9(order.fees) + fee, account.currency))
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
