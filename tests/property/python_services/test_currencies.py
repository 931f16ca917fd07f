"""Any sequence of fills, valuations and conversions in three currencies, against a twin in integers and fractions.

The account is in dollars; euros come by a pair as it is, yen by one turned round.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings

from alphamesh.execution.v1 import events_pb2, execution_pb2, order_pb2
from alphamesh.marketdata.v1 import marketdata_pb2
from alphamesh.type.v1 import trading_pb2
from python_services.execution import conversions
from python_services.execution.asks import Catalogue
from python_services.execution.desk import Desk
from python_services.execution.gatekeeper import Gatekeeper
from python_services.execution.ledger import Ledger
from python_services.kit import convert
from python_services.kit.errors import ServiceError
from python_services.kit.journal import Journal
from python_services.kit.ledger_view import LedgerView

E9 = 10**9
ACCOUNT = "a"
CASH = 1_000_000 * E9
SPREAD_PPM = 100
BUY, SELL = trading_pb2.SIDE_BUY, trading_pb2.SIDE_SELL
# Currency, base currency, tick, lowest and highest mark in ticks.
FACTS = {
    "US": ("USD", "", E9 // 100, 1_000, 20_000),
    "EU": ("EUR", "", E9 // 100, 1_000, 20_000),
    "JP": ("JPY", "", E9, 500, 9_000),
    "EURUSD": ("USD", "EUR", E9 // 10_000, 8_000, 15_000),
    "USDJPY": ("JPY", "USD", E9 // 100, 8_000, 16_000),
}
SHARES = ("US", "EU", "JP")
CURRENCIES = ("USD", "EUR", "JPY")
WIDE = convert.money(10**9 * E9, "USD")

marks = st.tuples(*(st.integers(low, high) for _, _, _, low, high in FACTS.values()))
trades = st.tuples(
    st.sampled_from(SHARES), st.integers(-500, 500).filter(bool), st.integers(-900, 900), st.integers(0, 10**10)
)
amounts = st.tuples(st.sampled_from(CURRENCIES), st.integers(1, 10**15), st.sampled_from(CURRENCIES))
steps = st.lists(st.one_of(marks, trades, amounts), max_size=25)


def catalogue() -> Catalogue:
    return Catalogue(
        {
            name: marketdata_pb2.Instrument(
                instrument_id=name,
                currency_code=currency,
                base_currency_code=base,
                price_increment_e9=tick,
                size_increment_e9=E9,
                multiplier_e9=E9,
            )
            for name, (currency, base, tick, _, _) in FACTS.items()
        }
    )


class Twin:
    """What must be there: sums of what was paid, and exact fractions."""

    def __init__(self) -> None:
        self.cash: Counter[str] = Counter({"USD": CASH})
        self.held: Counter[str] = Counter()
        self.marks: dict[str, int] = {}

    def rate(self, currency: str) -> Fraction:
        """Dollars for one."""
        rates = {
            "USD": Fraction(1), "EUR": Fraction(self.marks["EURUSD"], E9), "JPY": Fraction(E9, self.marks["USDJPY"])
        }  # fmt: skip
        return rates[currency]

    def worth(self, *, positions: bool) -> Fraction:
        total = Fraction(0)
        for currency in CURRENCIES:
            amount = self.cash[currency]
            if positions:
                amount += sum(self.held[n] * self.marks[n] for n in SHARES if FACTS[n][0] == currency)
            total += amount * self.rate(currency)
        return total


class Market:
    """A ledger with its journal, and the twin beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.twin, self.now_ns, self.orders = folder, Twin(), E9, 0
        self.journal = Journal(folder / "journal.db", "execution", "test", lambda error: None)
        self.ledger = self.fresh()
        self.desk = Desk(self.ledger, self.journal, SimpleNamespace(), 0.01, 0.0)  # type: ignore[arg-type]
        opened = events_pb2.AccountOpened(account_id=ACCOUNT, cash=convert.money(CASH, "USD"))
        self.desk.record(opened, self.now_ns)
        self.value(tuple((low + high) // 2 for _, _, _, low, high in FACTS.values()))
        policy = execution_pb2.RiskPolicy(
            version=1, ts_event_ns=self.now_ns, max_age_ns=10**6 * E9, price_max_age_ns=10**6 * E9,
            trading_state=trading_pb2.TRADING_STATE_ACTIVE, gross_exposure_limit=WIDE, net_exposure_limit=WIDE,
            position_limit=WIDE, order_notional_limit=WIDE, order_notional_minimum=convert.money(0, "USD"),
            sector_limit=WIDE, daily_loss_limit=WIDE, drawdown_limit_bps=10_000, price_collar_bps=1_000,
            orders_per_second=1_000, leverage_limit_bps=100_000, concentration_limit_bps=100_000, short_allowed=True,
        )  # fmt: skip
        self.desk.record(events_pb2.RiskPolicyApplied(account_id=ACCOUNT, policy=policy), self.now_ns)

    def fresh(self) -> Ledger:
        def open_gate(currency: str, cash: int) -> Gatekeeper:
            return Gatekeeper(
                products.listings, currency=currency, cash=cash, fee_ppm=0, fee_per_lot=10**10, minimum_fee=0,
                open_orders=64, remembered_orders=1_000, fx_buffer_ppm=20_000,
            )  # fmt: skip

        products = catalogue()
        return Ledger(products, open_gate)

    @property
    def account(self) -> Any:
        return self.ledger.accounts[ACCOUNT]

    def value(self, ticks: tuple[int, ...]) -> None:
        self.now_ns += E9
        found = {name: tick * count for (name, (_, _, tick, _, _)), count in zip(FACTS.items(), ticks, strict=True)}
        self.twin.marks = found
        event = events_pb2.AccountValued(
            account_id=ACCOUNT,
            instrument_ids=list(found),
            mark_e9=list(found.values()),
            mark_ts_ns=[self.now_ns] * len(found),
            cash=convert.money(self.account.cash_at(found), "USD"),
            equity=convert.money(self.account.value(found), "USD"),
            balances=self.account.balances(),
        )
        self.desk.record(event, self.now_ns)

    def trade(self, name: str, shares: int, off_bps: int, fee_e9: int) -> None:
        """An order, filled at once, up to the collar away from the mark."""
        self.orders += 1
        currency, _, tick, _, _ = FACTS[name]
        price = max((self.twin.marks[name] * (10_000 + off_bps) // 10_000) // tick * tick, tick)
        spec = order_pb2.OrderSpec(
            client_order_id=f"o{self.orders}",
            instrument_id=name,
            side=BUY if shares > 0 else SELL,
            order_type=trading_pb2.ORDER_TYPE_MARKET,
            time_in_force=trading_pb2.TIME_IN_FORCE_DAY,
            quantity_e9=abs(shares) * E9,
        )
        for order in self.desk.initialize(self.account, [spec], execution_pb2.BASKET_MODE_INDEPENDENT, "t"):
            fill = order_pb2.Fill(
                trade_id=f"t{self.orders}",
                price_e9=price,
                quantity_e9=abs(shares) * E9,
                fee=convert.money(fee_e9, currency),
                ts_event_ns=self.now_ns,
            )
            self.desk.book(order, fill, venue_seq=0, cause="t")
            self.twin.cash[currency] -= shares * price + fee_e9
            self.twin.held[name] += shares

    def plan(self, sell: str, amount_e9: int, buy: str) -> events_pb2.CurrencyConverted | str:
        """The conversion, or why there is none."""
        amount = convert.money(amount_e9, sell)
        try:
            return conversions.plan(self.account, amount, buy, spread_ppm=SPREAD_PPM, now_ns=self.now_ns)
        except ServiceError as error:
            return error.reason

    def convert(self, sell: str, amount_e9: int, buy: str) -> None:
        planned = self.plan(sell, amount_e9, buy)
        if isinstance(planned, str):
            direct = {sell, buy} in ({"USD", "EUR"}, {"USD", "JPY"})
            if sell == buy:
                assert planned == "INVALID_FIELD"
            elif not direct:
                assert planned == "CURRENCY_RATE_MISSING"
            elif planned == "INSUFFICIENT_BALANCE":
                assert amount_e9 > self.twin.cash[sell]
            else:
                assert planned == "INSUFFICIENT_FUNDS"
            return
        self.desk.record(planned, self.now_ns)
        assert amount_e9 <= self.twin.cash[sell]
        exact = amount_e9 * self.twin.rate(sell) / self.twin.rate(buy) * Fraction(10**6 - SPREAD_PPM, 10**6)
        self.twin.cash[sell] -= amount_e9
        self.twin.cash[buy] += exact.numerator // exact.denominator

    def check(self) -> None:
        account, twin = self.account, self.twin
        for currency in CURRENCIES:
            books = account.books.get(currency)
            assert (0 if books is None else books.cash_e9) == twin.cash[currency]
            assert books is None or books.imbalance == 0
        assert {name: p.quantity_e9 for name, p in account.positions.items() if p.quantity_e9} == {
            name: shares * E9 for name, shares in twin.held.items() if shares
        }
        # Rounded down, once for each other currency.
        for exact, found in (
            (twin.worth(positions=True), account.value({})),
            (twin.worth(positions=False), account.cash_e9),
        ):
            assert 0 <= exact - found < len(CURRENCIES) - 1
        assert account.gate.cash == account.cash_e9
        message = account.message()
        assert not message.alarms
        if message.HasField("currency_pnl"):
            parts = (message.realized_pnl, message.unrealized_pnl, message.corporate_action_cash, message.currency_pnl)
            total = CASH + sum(map(convert.money_e9, parts)) - convert.money_e9(message.fees)
            assert total == account.value({})

    def check_copies(self) -> None:
        """The journal gives the same account and the same gate; a view of the events the same figures."""
        asyncio.run(self.journal.commit())
        again, view = self.fresh(), LedgerView(self.ledger.catalogue._instruments)
        for frame in self.journal.read(1):
            for envelope in frame.events:
                again.apply(envelope)
                view.apply(envelope)
        assert again.accounts[ACCOUNT].message() == self.account.message()
        assert again.accounts[ACCOUNT].gate.digest() == self.account.gate.digest()
        seen = view.account(ACCOUNT)
        assert view.equity_at(seen, {}) == self.account.value({})
        assert view.fees_e9(seen) == convert.money_e9(self.account.message().fees)
        copy = LedgerView(self.ledger.catalogue._instruments)
        copy.load(view.dump())
        assert copy.accounts == view.accounts


@settings(max_examples=40, deadline=None)
@given(steps)
def test_cash_of_every_currency_adds_up_and_figures_are_rounded_against_the_account(todo: list[Any]) -> None:
    with tempfile.TemporaryDirectory(prefix="am-") as folder:
        market = Market(Path(folder))
        try:
            for step in todo:
                if len(step) == len(FACTS):
                    market.value(step)
                elif len(step) == 4:
                    market.trade(*step)
                else:
                    market.convert(*step)
                market.check()
            market.check_copies()
        finally:
            market.journal.close()
