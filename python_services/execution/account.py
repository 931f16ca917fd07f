"""One account: what its events have made of it. Exact integers, nano units.

Its currency is that of the cash it was opened with. What it trades is booked in the instrument's currency, each
currency in books of its own; what fills take beyond a currency's cash is a debt in that currency. Figures of the
whole account are in its own currency, at the rates of the last valuation (kit/currency.py has the rounding).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from alphamesh.execution.v1 import execution_pb2, order_pb2
from python_services.kit import convert
from python_services.kit.currency import Pairs, Rate, rate_missing

from .gatekeeper import Figures, Gatekeeper
from .invariants import Postings
from .positions import Position
from .reservations import Reservations

DAY_NS = 86_400_000_000_000


@dataclass
class Books:
    """One currency, in that currency: cash and the cost of positions are funding, profit and income less fees."""

    cash_e9: int = 0
    cost_e9: int = 0
    funding_e9: int = 0
    fees_e9: int = 0
    realized_e9: int = 0
    income_e9: int = 0

    def post(self, postings: Postings) -> None:
        """Takes what one event moves."""
        self.cash_e9 += postings.cash
        self.cost_e9 += postings.cost
        self.funding_e9 += postings.funding
        self.fees_e9 += postings.fees
        self.realized_e9 += postings.realized
        self.income_e9 += postings.income

    @property
    def imbalance(self) -> int:
        """0 while debits equal credits."""
        return self.cash_e9 + self.cost_e9 + self.fees_e9 - self.realized_e9 - self.income_e9 - self.funding_e9


@dataclass
class Account:
    """State of one account; only the ledger changes it. `books` by currency, the account's first."""

    account_id: str
    currency: str
    gate: Gatekeeper
    books: dict[str, Books]
    multipliers: dict[str, int]
    pairs: Pairs
    capital_e9: int
    held: Reservations
    figures: Figures
    rate_ts: dict[str, int] = field(default_factory=dict)
    positions: dict[str, Position] = field(default_factory=dict)
    traded: dict[str, int] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    orders: dict[str, order_pb2.Order] = field(default_factory=dict)
    open_ids: dict[str, None] = field(default_factory=dict)
    reservations: dict[str, int] = field(default_factory=dict)
    triggered: set[str] = field(default_factory=set)
    fills: list[order_pb2.Fill] = field(default_factory=list)
    trade_ids: set[str] = field(default_factory=set)
    inferred: dict[str, int] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    alarms: list[execution_pb2.Alarm] = field(default_factory=list)
    actions: dict[str, execution_pb2.CorporateAction] = field(default_factory=dict)
    state_reason: str = ""
    children: dict[str, list[str]] = field(default_factory=dict)
    schedules: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    duplicate_fills: int = 0
    policy_version: int = 0
    valued_ns: int = 0
    equity_e9: int | None = None

    def book(self, currency: str) -> Books:
        """The books of a currency."""
        return self.books.setdefault(currency, Books())

    def rate(self, currency: str) -> Rate:
        """Into the account's currency, at the last valuation. Raises ServiceError (CURRENCY_RATE_MISSING)."""
        rate = self.pairs.rate(currency, self.currency, self.marks)
        if rate is None:
            raise rate_missing(currency, self.currency)
        return rate

    @property
    def cash_e9(self) -> int:
        """Cash of every currency, in the account's, at the last rates."""
        return self.cash_at({})

    def cash_at(self, marks: dict[str, int]) -> int:
        """The same at `marks`, falling back on the last ones. Raises ServiceError (CURRENCY_RATE_MISSING)."""
        if len(self.books) == 1:
            return self.books[self.currency].cash_e9
        return self._worth({currency: books.cash_e9 for currency, books in self.books.items()}, marks)

    def value(self, marks: dict[str, int]) -> int:
        """Cash plus positions at `marks` (falling back on the last ones), nano units.

        Raises ServiceError (FAILED_PRECONDITION, CURRENCY_RATE_MISSING).
        """
        amounts = {currency: books.cash_e9 for currency, books in self.books.items()}
        for instrument_id, position in self.positions.items():
            if position.quantity_e9:
                mark = marks.get(instrument_id, self.marks.get(instrument_id))
                if mark is not None:
                    currency = self.pairs.currency_of[instrument_id]
                    amounts[currency] += convert.notional_e9(
                        mark, position.quantity_e9, self.multipliers[instrument_id]
                    )
        return amounts[self.currency] if len(amounts) == 1 else self._worth(amounts, marks)

    def unrealized(self) -> dict[str, int] | None:
        """Positions at their marks less their cost, by currency; None while one has no mark."""
        found = dict.fromkeys(self.books, 0)
        for instrument_id, position in self.positions.items():
            if position.quantity_e9:
                mark = self.marks.get(instrument_id)
                if mark is None:
                    return None
                value = convert.notional_e9(mark, position.quantity_e9, self.multipliers[instrument_id])
                found[self.pairs.currency_of[instrument_id]] += value - position.cost_e9
        return found

    def balances(self) -> list[convert.money_pb2.Money]:
        """Cash of each currency, the account's first; empty while there is no other."""
        if len(self.books) == 1:
            return []
        return [convert.money(self.books[name].cash_e9, name) for name in self._currencies()]

    def message(self) -> execution_pb2.Account:
        """The account as clients see it."""
        books, unrealized = self.books, self.unrealized()
        realized = self._total({name: of.realized_e9 for name, of in books.items()})
        fees = sum(self.rate(name).cost(of.fees_e9) for name, of in books.items())
        income = self._total({name: of.income_e9 for name, of in books.items()})
        message = execution_pb2.Account(
            account_id=self.account_id,
            cash=self._money(self.cash_e9),
            reserved=self._money(self.gate.reserved_cash),
            fees=self._money(fees),
            realized_pnl=self._money(realized),
            trading_state=self.gate.trading_state,  # type: ignore[arg-type]
            policy_version=self.policy_version,
            open_orders=len(self.open_ids),
            trading_state_reason=self.state_reason,
            alarms=self.alarms,
            corporate_action_cash=self._money(income),
            reservations=self.held.count,
            currencies=[self._books_message(name, unrealized) for name in self._currencies()],
        )
        if unrealized is not None:
            message.unrealized_pnl.CopyFrom(self._money(self._total(unrealized)))
            if len(books) > 1:
                known = self.capital_e9 + realized + self._total(unrealized) + income - fees
                message.currency_pnl.CopyFrom(self._money(self.value({}) - known))
        if self.equity_e9 is not None:
            message.equity.CopyFrom(self._money(self.equity_e9))
        for instrument_id in sorted(self.positions):
            position = self.positions[instrument_id]
            if position.quantity_e9:
                message.positions.add(
                    instrument_id=instrument_id,
                    quantity_e9=position.quantity_e9,
                    cost=convert.money(position.cost_e9, self.pairs.currency_of[instrument_id]),
                    mark_e9=self.marks.get(instrument_id),
                )
        return message

    def _books_message(self, currency: str, unrealized: dict[str, int] | None) -> execution_pb2.CurrencyBooks:
        books, pair = self.books[currency], self.pairs.between(currency, self.currency) or ""
        return execution_pb2.CurrencyBooks(
            cash=convert.money(books.cash_e9, currency),
            position_cost=convert.money(books.cost_e9, currency),
            funding=convert.money(books.funding_e9, currency),
            fees=convert.money(books.fees_e9, currency),
            realized_pnl=convert.money(books.realized_e9, currency),
            unrealized_pnl=None if unrealized is None else convert.money(unrealized[currency], currency),
            corporate_action_cash=convert.money(books.income_e9, currency),
            value=self._money(self.rate(currency).worth(books.cash_e9)),
            rate_instrument_id=pair,
            rate_e9=self.marks.get(pair, 0),
        )

    def _currencies(self) -> list[str]:
        return [self.currency, *sorted(name for name in self.books if name != self.currency)]

    def _worth(self, amounts: dict[str, int], marks: dict[str, int]) -> int:
        total = self.pairs.worth(amounts, self.currency, {**self.marks, **marks} if marks else self.marks)
        if total is None:
            raise rate_missing(" or ".join(sorted(amounts.keys() - {self.currency})), self.currency)
        return total

    def _total(self, amounts: dict[str, int]) -> int:
        return sum(self.rate(currency).worth(amount) for currency, amount in amounts.items())

    def open_orders(self) -> list[order_pb2.Order]:
        """Orders that are not closed, in order of submission."""
        return [self.orders[identifier] for identifier in self.open_ids]

    def _money(self, amount_e9: int) -> convert.money_pb2.Money:
        return convert.money(amount_e9, self.currency)
