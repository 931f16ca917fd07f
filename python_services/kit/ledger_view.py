"""The ledger as other services see it: a pure projection of execution's events, per account.

Every figure is an exact integer. The view is a function of the events alone, so a rebuilt one equals
the one it replaces; where it and the ledger disagree about cash it stops instead of guessing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from alphamesh.audit.v1 import event_pb2
from alphamesh.execution.v1 import events_pb2, execution_pb2, execution_pb2_grpc, order_pb2
from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from alphamesh.type.v1 import trading_pb2

from . import convert, ledger_state
from .context import Context
from .currency import Pairs, Rate, rate_missing
from .errors import not_found
from .instruments import list_instruments
from .snapshots import SnapshotClient
from .state import FollowedView
from .views import Follower, Saved

STREAM = "execution"
VIEW = "ledger.3"  # raise the number when the same events no longer give the same state
DAY_NS = 86_400_000_000_000
_CLOSED = frozenset(
    {
        order_pb2.ORDER_STATE_DENIED,
        order_pb2.ORDER_STATE_REJECTED,
        order_pb2.ORDER_STATE_CANCELED,
        order_pb2.ORDER_STATE_EXPIRED,
        order_pb2.ORDER_STATE_FILLED,
    }
)


class LedgerMismatchError(RuntimeError):
    """The view's cash is not the ledger's: an event was misread, and nothing may rest on the view."""


@dataclass(kw_only=True)
class Holding:
    """A position: signed quantity, and what it cost at average cost, signed like it."""

    quantity_e9: int = 0
    cost_e9: int = 0

    def trade(self, quantity_e9: int, value_e9: int) -> None:
        """Applies a signed quantity with its signed value; one through zero closes, then opens the rest."""
        if self.quantity_e9 * quantity_e9 >= 0:
            self.quantity_e9 += quantity_e9
            self.cost_e9 += value_e9
            return
        rest = self.quantity_e9 + quantity_e9
        whole, cost = (self.quantity_e9, self.cost_e9) if rest * self.quantity_e9 > 0 else (quantity_e9, value_e9)
        closed = abs(cost) * (abs(whole) - abs(rest)) // abs(whole)
        self.quantity_e9, self.cost_e9 = rest, (abs(cost) - closed) * (1 if cost > 0 else -1) if rest else 0


@dataclass(kw_only=True)
class WorkingOrder:
    """An order that may still fill."""

    instrument_id: str
    side: int
    quantity_e9: int
    cumulative_e9: int = 0

    @property
    def leaves_e9(self) -> int:
        """Quantity still to fill."""
        return max(self.quantity_e9 - self.cumulative_e9, 0)


@dataclass(kw_only=True)
class Books:
    """What an account has, and has spent, in one currency."""

    cash_e9: int = 0
    fees_e9: int = 0
    traded_notional_e9: int = 0


@dataclass(kw_only=True)
class AccountView(Books):
    """One account. Money and prices in nano units, times Unix nanoseconds UTC.

    Its own books are those of its currency; `foreign` are those of the others.
    """

    account_id: str
    currency: str
    initial_cash_e9: int
    peak_equity_e9: int
    day_start_equity_e9: int
    seq: int = 0  # last event that changed holdings, orders or valuation
    ts_ns: int = 0
    fills: int = 0
    foreign: dict[str, Books] = field(default_factory=dict)
    holdings: dict[str, Holding] = field(default_factory=dict)
    orders: dict[str, WorkingOrder] = field(default_factory=dict)
    marks_e9: dict[str, int] = field(default_factory=dict)
    valued_at_ns: list[int] = field(default_factory=list)
    equity_e9: list[int] = field(default_factory=list)
    operator_state: int = trading_pb2.TRADING_STATE_ACTIVE
    policy: execution_pb2.RiskPolicy | None = None
    policy_seq: int = 0

    @property
    def policy_version(self) -> int:
        """Version of the policy in force; 0 before the first."""
        return self.policy.version if self.policy is not None else 0

    @property
    def trading_state(self) -> int:
        """State in force: the stricter of the operator's and the policy's."""
        return max(self.operator_state, self.policy.trading_state if self.policy is not None else 0)

    def books(self, currency: str) -> Books:
        """The books of a currency."""
        if currency == self.currency:
            return self
        return self.foreign.setdefault(currency, Books())

    def balances_e9(self) -> dict[str, int]:
        """Cash by currency."""
        return {self.currency: self.cash_e9, **{name: books.cash_e9 for name, books in self.foreign.items()}}

    def quantity_e9(self, instrument_id: str) -> int:
        """Signed quantity held; 0 when flat."""
        holding = self.holdings.get(instrument_id)
        return holding.quantity_e9 if holding is not None else 0

    def open_quantities(self) -> dict[str, tuple[int, int]]:
        """(buys, sells) that may still fill, by instrument."""
        found: dict[str, tuple[int, int]] = {}
        for order in self.orders.values():
            buys, sells = found.get(order.instrument_id, (0, 0))
            if order.side == trading_pb2.SIDE_BUY:
                buys += order.leaves_e9
            else:
                sells += order.leaves_e9
            found[order.instrument_id] = (buys, sells)
        return found

    def value(self, equity_e9: int, ts_ns: int) -> None:
        """Takes a valuation: a later one of the same moment replaces the earlier."""
        if self.valued_at_ns and self.valued_at_ns[-1] // DAY_NS < ts_ns // DAY_NS:
            self.day_start_equity_e9 = self.equity_e9[-1]
        if self.valued_at_ns and self.valued_at_ns[-1] == ts_ns:
            self.equity_e9[-1] = equity_e9
        else:
            self.valued_at_ns.append(ts_ns)
            self.equity_e9.append(equity_e9)
        self.peak_equity_e9 = max(self.peak_equity_e9, equity_e9)


# An account, the snapshot that it was valued on, and the event.
Valued = Callable[[AccountView, str, event_pb2.EventEnvelope], None]


class LedgerView:
    """All accounts of the ledger. `apply` takes every event of the stream, in order."""

    def __init__(self, instruments: Mapping[str, marketdata_pb2.Instrument], valued: Valued | None = None) -> None:
        """`valued` is told of each valuation of an account, after it was applied."""
        self._told = valued
        self.instruments = dict(instruments)
        self.pairs = Pairs(instruments)
        self.accounts: dict[str, AccountView] = {}
        # A schema that is not listed says nothing about this view's figures.
        self._handlers: dict[str, tuple[Any, Callable[[Any, event_pb2.EventEnvelope], None]]] = {
            message.DESCRIPTOR.full_name: (message, handler)
            for message, handler in (
                (events_pb2.AccountOpened, self._opened),
                (events_pb2.AccountValued, self._valued),
                (events_pb2.OrderInitialized, self._initialized),
                (events_pb2.OrderStateChanged, self._changed),
                (events_pb2.OrderReplaced, self._replaced),
                (events_pb2.OrderFilled, self._filled),
                (events_pb2.OrderAdopted, self._adopted),
                (events_pb2.CorporateActionApplied, self._acted),
                (events_pb2.CurrencyConverted, self._converted),
                (events_pb2.RiskPolicyApplied, self._policy),
                (events_pb2.TradingStateChanged, self._state),
            )
        }

    def apply(self, envelope: event_pb2.EventEnvelope) -> None:
        """Takes one event. Raises LedgerMismatchError when its cash is not the view's."""
        found = self._handlers.get(envelope.schema)
        if found is not None:
            message, handler = found
            handler(message.FromString(envelope.payload), envelope)

    def dump(self) -> bytes:
        """The state, canonical."""
        return ledger_state.dump(self.accounts)

    def load(self, state: bytes) -> None:
        """Takes a state that `dump` gave."""
        self.accounts = ledger_state.load(state)

    def account(self, account_id: str) -> AccountView:
        """The account. Raises ServiceError (NOT_FOUND)."""
        try:
            return self.accounts[account_id]
        except KeyError:
            raise not_found("account", account_id, "open it in execution first") from None

    def notional_e9(self, instrument_id: str, price_e9: int, quantity_e9: int) -> int:
        """Exact value of a quantity at a price, signed like the quantity."""
        return convert.notional_e9(price_e9, quantity_e9, self.instruments[instrument_id].multiplier_e9)

    def equity_at(self, account: AccountView, marks_e9: Mapping[str, int]) -> int:
        """Cash plus positions at `marks_e9`, or at the ledger's last mark where that has none.

        Raises ServiceError (FAILED_PRECONDITION, CURRENCY_RATE_MISSING).
        """
        amounts = account.balances_e9()
        for name, holding in account.holdings.items():
            mark, currency = marks_e9.get(name, 0) or account.marks_e9.get(name, 0), self.pairs.currency_of[name]
            amounts[currency] = amounts.get(currency, 0) + self.notional_e9(name, mark, holding.quantity_e9)
        return self.worth(account, amounts, marks_e9)

    def fees_e9(self, account: AccountView) -> int:
        """Fees of every currency in the account's, at the ledger's last rates."""
        return account.fees_e9 + sum(
            self.rate(account, currency, {}).cost(books.fees_e9) for currency, books in account.foreign.items()
        )

    def traded_notional_e9(self, account: AccountView) -> int:
        """What was traded in every currency in the account's, at the ledger's last rates."""
        return account.traded_notional_e9 + sum(
            self.rate(account, currency, {}).worth(books.traded_notional_e9)
            for currency, books in account.foreign.items()
        )

    def worth(self, account: AccountView, amounts_e9: Mapping[str, int], marks_e9: Mapping[str, int]) -> int:
        """Amounts by currency in the account's, at `marks_e9` or the ledger's last ones; see currency.py.

        Raises ServiceError (FAILED_PRECONDITION, CURRENCY_RATE_MISSING).
        """
        return sum(
            self.rate(account, currency, marks_e9).worth(amount) for currency, amount in amounts_e9.items() if amount
        )

    def rate(self, account: AccountView, currency: str, marks_e9: Mapping[str, int]) -> Rate:
        """Into the account's currency. Raises ServiceError (FAILED_PRECONDITION, CURRENCY_RATE_MISSING)."""
        rate = self.pairs.rate(currency, account.currency, marks_e9)
        rate = rate or self.pairs.rate(currency, account.currency, account.marks_e9)
        if rate is None:
            raise rate_missing(currency, account.currency)
        return rate

    def _touch(self, account_id: str, envelope: event_pb2.EventEnvelope) -> AccountView:
        account = self.accounts[account_id]
        account.seq, account.ts_ns = envelope.seq, envelope.ts_event_ns
        return account

    def _opened(self, event: events_pb2.AccountOpened, envelope: event_pb2.EventEnvelope) -> None:
        cash = convert.money_e9(event.cash)
        self.accounts[event.account_id] = AccountView(
            account_id=event.account_id,
            currency=event.cash.currency_code,
            initial_cash_e9=cash,
            cash_e9=cash,
            peak_equity_e9=cash,
            day_start_equity_e9=cash,
        )
        self._touch(event.account_id, envelope)

    def _valued(self, event: events_pb2.AccountValued, envelope: event_pb2.EventEnvelope) -> None:
        account = self._touch(event.account_id, envelope)
        theirs = {cash.currency_code: convert.money_e9(cash) for cash in event.balances or (event.cash,)}
        for currency, cash in account.balances_e9().items():
            if cash != theirs.get(currency, 0):
                raise LedgerMismatchError(
                    f"account {event.account_id} has cash {convert.decimal(cash)} in the view and "
                    f"{convert.decimal(theirs.get(currency, 0))} in the ledger at seq {envelope.seq} ({currency})"
                )
        account.marks_e9.update(zip(event.instrument_ids, event.mark_e9, strict=True))
        account.value(convert.money_e9(event.equity), envelope.ts_event_ns)
        if self._told is not None:
            self._told(account, event.snapshot_id, envelope)

    def _initialized(self, event: events_pb2.OrderInitialized, envelope: event_pb2.EventEnvelope) -> None:
        account = self._touch(event.account_id, envelope)
        spec = event.spec
        # A parent holds no exposure: its children do.
        if event.state not in _CLOSED and not spec.HasField("execution_algorithm"):
            account.orders[spec.client_order_id] = WorkingOrder(
                instrument_id=spec.instrument_id, side=spec.side, quantity_e9=event.approved_quantity_e9
            )

    def _changed(self, event: events_pb2.OrderStateChanged, envelope: event_pb2.EventEnvelope) -> None:
        account = self._touch(event.account_id, envelope)
        if event.to_state in _CLOSED:
            account.orders.pop(event.client_order_id, None)

    def _replaced(self, event: events_pb2.OrderReplaced, envelope: event_pb2.EventEnvelope) -> None:
        account = self._touch(event.account_id, envelope)
        order = account.orders.get(event.client_order_id)
        if order is not None:
            order.quantity_e9 = event.spec.quantity_e9

    def _filled(self, event: events_pb2.OrderFilled, envelope: event_pb2.EventEnvelope) -> None:
        fill = event.fill
        account = self._touch(fill.account_id, envelope)
        sign = 1 if fill.side == trading_pb2.SIDE_BUY else -1
        notional = self.notional_e9(fill.instrument_id, fill.price_e9, fill.quantity_e9)
        fee = convert.money_e9(fill.fee)
        books = account.books(self.pairs.currency_of[fill.instrument_id])
        books.cash_e9 -= sign * notional + fee
        books.fees_e9 += fee
        books.traded_notional_e9 += notional
        account.fills += 1
        holding = account.holdings.setdefault(fill.instrument_id, Holding())
        holding.trade(sign * fill.quantity_e9, sign * notional)
        if not holding.quantity_e9:
            del account.holdings[fill.instrument_id]
        # A fill can arrive after the cancel: then there is no working order any more.
        order = account.orders.get(fill.client_order_id)
        if order is not None:
            order.cumulative_e9 += fill.quantity_e9
            if event.to_state in _CLOSED:
                del account.orders[fill.client_order_id]

    def _adopted(self, event: events_pb2.OrderAdopted, envelope: event_pb2.EventEnvelope) -> None:
        account, spec = self._touch(event.account_id, envelope), event.spec
        account.orders[spec.client_order_id] = WorkingOrder(
            instrument_id=spec.instrument_id, side=spec.side, quantity_e9=spec.quantity_e9
        )

    def _acted(self, event: events_pb2.CorporateActionApplied, envelope: event_pb2.EventEnvelope) -> None:
        account, action = self._touch(event.account_id, envelope), event.action
        cash = convert.money_e9(event.cash)
        if cash:
            account.books(self.pairs.currency_of[action.instrument_id]).cash_e9 += cash
        account.holdings.pop(action.instrument_id, None)
        name = action.symbol_change.new_instrument_id or action.instrument_id
        if event.new_quantity_e9:
            cost_e9 = convert.money_e9(event.cost)
            account.holdings[name] = Holding(quantity_e9=event.new_quantity_e9, cost_e9=cost_e9)
        if event.HasField("mark_e9"):
            account.marks_e9[name] = event.mark_e9

    def _converted(self, event: events_pb2.CurrencyConverted, envelope: event_pb2.EventEnvelope) -> None:
        account = self._touch(event.account_id, envelope)
        account.books(event.sold.currency_code).cash_e9 -= convert.money_e9(event.sold)
        account.books(event.bought.currency_code).cash_e9 += convert.money_e9(event.bought)

    def _policy(self, event: events_pb2.RiskPolicyApplied, envelope: event_pb2.EventEnvelope) -> None:
        account = self.accounts[event.account_id]
        account.policy, account.policy_seq = event.policy, envelope.seq

    def _state(self, event: events_pb2.TradingStateChanged, envelope: event_pb2.EventEnvelope) -> None:
        self.accounts[event.account_id].operator_state = event.trading_state


async def follow_ledger(
    context: Context[Any],
    snapshots: SnapshotClient,
    valued: Valued | None = None,
) -> tuple[LedgerView, Follower]:
    """A view of the ledger, kept up to date beside the service from now on.

    `valued` is told of every valuation from the first one on. Each names the snapshot that the next decision rests on:
    it is fetched at once.

    On a gap or a break in the event log it asks execution for the truth. Raises what market_data's
    ListInstruments raises: without contract multipliers no fill has a value.
    """

    def take(account: AccountView, snapshot_id: str, envelope: event_pb2.EventEnvelope) -> None:
        if valued is not None:
            valued(account, snapshot_id, envelope)
        snapshots.expect(snapshot_id)

    market_data = context.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data")
    view = LedgerView(await list_instruments(market_data), take)
    execution = context.stub(execution_pb2_grpc.ExecutionServiceStub, STREAM)

    async def refetch(from_seq: int) -> AsyncIterator[event_pb2.EventFrame]:
        request = execution_pb2.StreamEventsRequest(from_seq=from_seq, stop_at_end=True)
        async for response in execution.StreamEvents(request):
            if response.HasField("frame"):
                yield response.frame

    # Who wants to see every valuation gets every event; the others begin with the last snapshot of the state.
    saved = None if valued is not None else Saved(context.data_dir / "ledger.state", VIEW, view)
    follower = Follower(context.events, STREAM, view.apply, refetch, saved)
    context.serve_view(FollowedView("ledger", follower, view, lambda: LedgerView(view.instruments), refetch))
    context.spawn(follower.run(), "ledger")
    return view, follower
