"""An account that trades in several currencies, with the real services: books, gate, conversions, views, recovery."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import grpc
import pytest

from alphamesh.execution.v1 import execution_pb2, order_pb2
from alphamesh.marketdata.v1 import marketdata_pb2
from alphamesh.portfolio.v1 import portfolio_pb2, portfolio_pb2_grpc
from alphamesh.risk.v1 import risk_pb2, risk_pb2_grpc
from alphamesh.type.v1 import money_pb2, trading_pb2
from alphamesh.venue.v1 import venue_pb2
from python_services.kit.convert import money_e9
from python_services.kit.errors import from_rpc_error
from python_services.local import LocalSystem

from .conftest import ACCOUNT, E9, Trader, market_order, new_id, usd, without_models

FIRST = date(2024, 1, 1)
NAMES = ["EU", "JP", "US"]
# What a day adds to a close: the dollar falls, so what is owed in euros grows.
CLOSES = {"US": (10_000, 50, 100), "EU": (5_000, 25, 100), "JP": (200_000, 100, 100), "EURUSD": (11_000, 25, 10_000)}
INSTRUMENTS = """
instruments:
  - {instrument_id: US, currency_code: USD, price_increment: 0.01, size_increment: 1}
  - {instrument_id: EU, currency_code: EUR, price_increment: 0.01, size_increment: 1}
  - {instrument_id: JP, currency_code: JPY, price_increment: 1, size_increment: 1}
  - {instrument_id: EURUSD, currency_code: USD, base_currency_code: EUR, price_increment: 0.0001, size_increment: 1}
"""


def close_e9(name: str, day: int) -> int:
    """The close of a day, counted in trading days."""
    first, step, scale = CLOSES[name]
    return (first + day * step) * E9 // scale


def write(folder: Path, days: int = 60) -> dict[str, object]:
    """Bars of weekdays; opens are the closes of the day before."""
    rows, day, number = ["instrument_id,date,open,high,low,close,volume,adj_close"], FIRST, 0
    while number < days:
        if day.weekday() < 5:
            for name, (_, _, scale) in CLOSES.items():
                last, close = (Fraction(close_e9(name, max(n, 0)), E9) for n in (number - 1, number))
                low, high, places = min(last, close), max(last, close), 4 if scale == 10_000 else 2
                prices = ",".join(f"{float(price):.{places}f}" for price in (last, high, low, close))
                rows.append(f"{name},{day},{prices},10000000,{float(close):.{places}f}")
            number += 1
        day += timedelta(days=1)
    (folder / "bars.csv").write_text("\n".join(rows) + "\n")
    (folder / "instruments.yaml").write_text(INSTRUMENTS)
    return {"datasets": [str(folder / "bars.csv")], "instruments": str(folder / "instruments.yaml")}


class Dealer(Trader):
    """A trader with dollars on markets of three currencies, of which yen have no rate."""

    async def open(self, cash: int = 1_000_000) -> None:
        """Opens the account and goes to the close of the first day."""
        start = int(datetime(FIRST.year, FIRST.month, FIRST.day, tzinfo=UTC).timestamp()) * E9
        days = marketdata_pb2.ListTradingDaysRequest(
            start_ns=start, end_ns=start + 90 * 86_400 * E9, instrument_ids=NAMES
        )
        self.days = list((await self.data.ListTradingDays(days)).close_ns)
        await self.execution.OpenAccount(
            execution_pb2.OpenAccountRequest(request_id=new_id(), account_id=ACCOUNT, cash=usd(cash), ts_event_ns=start)
        )
        await self.next_day()
        await self.allow()

    async def next_day(self) -> execution_pb2.Account:
        """The next bar: fills, then a valuation at its close."""
        self.today += 1
        close = self.days[self.today]
        moved = await self.market.AdvanceMarket(
            venue_pb2.AdvanceMarketRequest(request_id=new_id(), to_ns=close, instrument_ids=NAMES)
        )
        cut = marketdata_pb2.CutSnapshotRequest(
            request_id=new_id(), as_of_ns=close, instrument_ids=NAMES, lookback_bars=20
        )
        self.snapshot = (await self.data.CutSnapshot(cut)).header
        request = execution_pb2.SyncMarketRequest(
            request_id=new_id(),
            account_id=ACCOUNT,
            snapshot_id=self.snapshot.snapshot_id,
            min_venue_seq=moved.last_seq,
        )
        return (await self.execution.SyncMarket(request)).account

    async def convert(self, sell: money_pb2.Money, buy: str, request_id: str = "") -> money_pb2.Money:
        """Converts; what was bought."""
        request = execution_pb2.ConvertCurrencyRequest(
            request_id=request_id or new_id(), account_id=ACCOUNT, sell=sell, buy_currency_code=buy
        )
        return (await self.execution.ConvertCurrency(request)).bought

    async def refusal(self, sell: money_pb2.Money, buy: str) -> str:
        """Why a conversion is refused."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.convert(sell, buy)
        return from_rpc_error(caught.value).reason


def euro(units: int) -> money_pb2.Money:
    return money_pb2.Money(currency_code="EUR", units=units)


def books(account: execution_pb2.Account) -> dict[str, execution_pb2.CurrencyBooks]:
    return {of.cash.currency_code: of for of in account.currencies}


def add_up(account: execution_pb2.Account, day: int) -> None:
    """Every figure of the account again, from the books, the positions and the rate of the day."""
    rate, values = close_e9("EURUSD", day), {"USD": 0, "EUR": 0}
    for position in account.positions:
        assert position.cost.currency_code == {"US": "USD", "EU": "EUR"}[position.instrument_id]
        values[position.cost.currency_code] += close_e9(position.instrument_id, day) * position.quantity_e9 // E9
    of = books(account)
    for currency, each in of.items():
        cash, cost, funding = money_e9(each.cash), money_e9(each.position_cost), money_e9(each.funding)
        profit = money_e9(each.realized_pnl) + money_e9(each.corporate_action_cash) - money_e9(each.fees)
        assert cash + cost == funding + profit, currency
        assert money_e9(each.unrealized_pnl) == values[currency] - cost
    foreign = money_e9(of["EUR"].cash) if "EUR" in of else 0
    home = money_e9(of["USD"].cash)
    assert money_e9(account.cash) == home + foreign * rate // E9
    assert money_e9(account.equity) == home + values["USD"] + (foreign + values["EUR"]) * rate // E9
    if "EUR" in of:
        parts = (account.realized_pnl, account.unrealized_pnl, account.corporate_action_cash, account.currency_pnl)
        total = 1_000_000 * E9 + sum(money_e9(part) for part in parts) - money_e9(account.fees)
        assert total == money_e9(account.equity)
    assert not account.alarms


@pytest.fixture
async def dealer(tmp_path: Path) -> AsyncIterator[Dealer]:
    whole = without_models().with_config("market_data", write(tmp_path))
    async with LocalSystem(tmp_path / "run", whole) as system:
        dealer = Dealer(system)
        await dealer.open()
        yield dealer


async def test_a_purchase_in_euros_is_owed_in_euros_and_counts_in_dollars(dealer: Dealer) -> None:
    [order] = await dealer.submit(market_order("a", "EU", 1_000))
    assert order.state == order_pb2.ORDER_STATE_ACCEPTED
    assert order.cumulative_notional.currency_code == order.fees.currency_code == "EUR"
    # 1,000 at 50 euros, 10% beyond the mark, 2% for the rate, and the fee: in dollars at 1.10.
    reserved = money_e9((await dealer.account()).account.reserved)
    assert reserved == (55_000 * E9 * 110 // 100) * 102 // 100 + 1_000 * 5_500_000
    account = await dealer.next_day()
    add_up(account, dealer.today)
    [fill] = (await dealer.execution.ListFills(execution_pb2.ListFillsRequest(account_id=ACCOUNT))).fills
    paid = fill.price_e9 * 1_000 + money_e9(fill.fee)
    assert fill.fee.currency_code == "EUR"
    assert money_e9(books(account)["EUR"].cash) == -paid
    assert money_e9(books(account)["USD"].cash) == 1_000_000 * E9
    await dealer.submit(market_order("b", "US", 100), market_order("c", "EU", -400))
    for _ in range(3):
        account = await dealer.next_day()
        add_up(account, dealer.today)
    assert money_e9(books(account)["EUR"].realized_pnl) != 0
    # Bought on credit in its own currency, only what it makes is at the mercy of the rate: that is in the profit.
    assert money_e9(account.currency_pnl) == 0


async def test_every_view_has_the_same_equity_and_what_cannot_be_measured_says_so(dealer: Dealer) -> None:
    await dealer.submit(market_order("a", "EU", 1_000), market_order("b", "US", 100))
    for _ in range(4):
        account = await dealer.next_day()
    seq = (await dealer.account()).applied_seq
    portfolio = dealer.system.stub(portfolio_pb2_grpc.PortfolioServiceStub, "portfolio")
    seen = await portfolio.GetPerformance(portfolio_pb2.GetPerformanceRequest(account_id=ACCOUNT, min_seq=seq))
    assert seen.performance.equity == account.equity
    assert seen.performance.fees == account.fees
    risk = dealer.system.stub(risk_pb2_grpc.RiskServiceStub, "risk")
    report = (await risk.GetRiskReport(risk_pb2.GetRiskReportRequest(account_id=ACCOUNT, min_seq=seq))).report
    assert report.equity == account.equity
    day = dealer.today
    dollars = {
        "EU": close_e9("EU", day) * 1_000 * close_e9("EURUSD", day) // E9,
        "US": close_e9("US", day) * 100,
    }
    assert {p.instrument_id: money_e9(p.value) for p in report.positions} == dollars
    assert money_e9(report.gross_exposure) == sum(dollars.values())
    assert report.leverage == pytest.approx(sum(dollars.values()) / money_e9(account.equity))
    assert all(not tail.HasField("value_at_risk") and "EUR" in tail.absent_reason for tail in report.tail_risks)
    assert not any(use.limit == "var_bps" for use in report.limit_uses)


async def test_limits_hold_in_the_accounts_currency(dealer: Dealer) -> None:
    await dealer.allow(order_notional_limit=usd(60_000))
    # 1,000 shares at 50 euros and 1.10, 10% beyond at worst: the limit is on the notional at the mark.
    within, beyond = await dealer.submit(market_order("a", "EU", 1_090), market_order("b", "EU", 1_091))
    assert within.state == order_pb2.ORDER_STATE_ACCEPTED
    assert list(beyond.denial_reasons) == [order_pb2.DENIAL_REASON_NOTIONAL_ABOVE_MAXIMUM]
    await dealer.allow(gross_exposure_limit=usd(100_000))
    [more] = await dealer.submit(market_order("c", "EU", 800))
    assert list(more.denial_reasons) == [order_pb2.DENIAL_REASON_GROSS_EXPOSURE_LIMIT]


async def test_without_a_rate_there_is_no_order_and_no_figure(dealer: Dealer) -> None:
    denied, accepted = await dealer.submit(market_order("a", "JP", 10), market_order("b", "EU", 10))
    assert list(denied.denial_reasons) == [order_pb2.DENIAL_REASON_PRICE_STALE]
    assert accepted.state == order_pb2.ORDER_STATE_ACCEPTED
    assert await dealer.refusal(usd(100), "JPY") == "CURRENCY_RATE_MISSING"
    assert "JPY" not in books(await dealer.next_day())


async def test_conversions_settle_debts_once_and_say_why_when_they_do_not(dealer: Dealer) -> None:
    assert await dealer.refusal(euro(1), "USD") == "INSUFFICIENT_BALANCE"
    assert await dealer.refusal(usd(1), "USD") == "INVALID_FIELD"
    assert await dealer.refusal(usd(0), "EUR") == "INVALID_FIELD"
    await dealer.submit(market_order("a", "EU", 1_000))
    before = await dealer.next_day()
    key, rate = new_id(), close_e9("EURUSD", dealer.today)
    bought = await dealer.convert(usd(60_000), "EUR", key)
    # A basis point of spread, rounded down.
    assert money_e9(bought) == 60_000 * E9 * E9 * 999_900 // (rate * 1_000_000)
    assert await dealer.convert(usd(60_000), "EUR", key) == bought
    account = (await dealer.account()).account
    of = books(account)
    assert money_e9(of["USD"].cash) == money_e9(books(before)["USD"].cash) - 60_000 * E9
    assert money_e9(of["EUR"].cash) == money_e9(books(before)["EUR"].cash) + money_e9(bought) > 0
    assert money_e9(of["EUR"].funding) == money_e9(bought)
    cost = money_e9(before.cash) - money_e9(account.cash)
    assert 0 <= cost - 60_000 * E9 // 10_000 <= 2
    assert await dealer.refusal(euro(1_000_000), "USD") == "INSUFFICIENT_BALANCE"
    account = await dealer.next_day()
    add_up(account, dealer.today)
    # The dollar fell against the euros that it bought.
    gain = money_e9(bought) * (close_e9("EURUSD", dealer.today) - rate) // E9
    assert abs(money_e9(account.currency_pnl) - (gain - cost)) <= 5


async def test_a_dividend_in_euros_is_income_in_euros(dealer: Dealer) -> None:
    async def pay(per_share: money_pb2.Money, name: str = "EU") -> execution_pb2.Account:
        action = execution_pb2.CorporateAction(
            action_id=f"dividend of {name}",
            instrument_id=name,
            ts_event_ns=dealer.days[dealer.today],
            source="test",
            cash_dividend=execution_pb2.CashDividend(per_share=per_share),
        )
        request = execution_pb2.ApplyCorporateActionsRequest(request_id=new_id(), account_id=ACCOUNT, actions=[action])
        return (await dealer.execution.ApplyCorporateActions(request)).account

    # Nothing is held of it, and nothing known of its currency: no books are opened.
    yen = await pay(money_pb2.Money(currency_code="JPY", units=5), "JP")
    assert books(yen).keys() == {"USD"}
    await dealer.submit(market_order("a", "EU", 100))
    before = await dealer.next_day()
    with pytest.raises(grpc.aio.AioRpcError, match="is not a sum in EUR"):
        await pay(usd(1))
    after = await pay(euro(2))
    assert money_e9(books(after)["EUR"].cash) == money_e9(books(before)["EUR"].cash) + 200 * E9
    assert money_e9(books(after)["EUR"].corporate_action_cash) == 200 * E9
    assert money_e9(after.corporate_action_cash) == 200 * close_e9("EURUSD", dealer.today)
    account = await dealer.next_day()
    add_up(account, dealer.today)
    seq = (await dealer.account()).applied_seq
    portfolio = dealer.system.stub(portfolio_pb2_grpc.PortfolioServiceStub, "portfolio")
    seen = await portfolio.GetPerformance(portfolio_pb2.GetPerformanceRequest(account_id=ACCOUNT, min_seq=seq))
    assert (seen.performance.equity, seen.performance.fees) == (account.equity, account.fees)


async def test_a_restart_gives_the_same_account_and_the_same_views(dealer: Dealer) -> None:
    await dealer.submit(market_order("a", "EU", 1_000), market_order("b", "US", 50))
    await dealer.next_day()
    await dealer.convert(usd(30_000), "EUR")
    await dealer.submit(market_order("c", "EU", -200))
    await dealer.next_day()
    before = await dealer.account()
    for service in ("portfolio", "execution"):
        await dealer.system.stop(service)
    for service in ("execution", "portfolio"):
        await dealer.system.start(service)
    after = await dealer.account()
    assert (after.account, after.event_hash) == (before.account, before.event_hash)
    add_up(await dealer.next_day(), dealer.today)
    seq = (await dealer.account()).applied_seq
    portfolio = dealer.system.stub(portfolio_pb2_grpc.PortfolioServiceStub, "portfolio")
    seen = await portfolio.GetPerformance(portfolio_pb2.GetPerformanceRequest(account_id=ACCOUNT, min_seq=seq))
    assert seen.performance.equity == (await dealer.account()).account.equity


async def test_an_account_in_euros_has_the_rate_the_other_way_round(dealer: Dealer) -> None:
    opening = execution_pb2.OpenAccountRequest(
        request_id=new_id(), account_id="euro", cash=euro(1_000_000), ts_event_ns=dealer.days[dealer.today]
    )
    await dealer.execution.OpenAccount(opening)
    wide = euro(10_000_000)
    policy = execution_pb2.RiskPolicy(
        version=1, ts_event_ns=dealer.days[dealer.today], max_age_ns=30 * 86_400 * E9,
        price_max_age_ns=30 * 86_400 * E9,
        trading_state=trading_pb2.TRADING_STATE_ACTIVE, gross_exposure_limit=euro(9_100), net_exposure_limit=wide,
        position_limit=wide, order_notional_limit=wide, order_notional_minimum=euro(0), sector_limit=wide,
        daily_loss_limit=wide, drawdown_limit_bps=9_000, price_collar_bps=1_000, orders_per_second=1_000,
        leverage_limit_bps=20_000, concentration_limit_bps=20_000,
    )  # fmt: skip
    request = execution_pb2.ApplyRiskPolicyRequest(request_id=new_id(), account_id="euro", policy=policy)
    request.policy.position_limit.currency_code = "USD"
    with pytest.raises(grpc.aio.AioRpcError, match="position_limit: is in USD, account euro in EUR"):
        await dealer.execution.ApplyRiskPolicy(request)
    request.policy.position_limit.currency_code = "EUR"
    request.request_id = new_id()
    await dealer.execution.ApplyRiskPolicy(request)

    async def sync() -> execution_pb2.Account:
        wanted = execution_pb2.SyncMarketRequest(
            request_id=new_id(), account_id="euro", snapshot_id=dealer.snapshot.snapshot_id
        )
        return (await dealer.execution.SyncMarket(wanted)).account

    await sync()
    # 100 shares at 100 dollars are 9,090.91 euros, rounded up.
    orders = execution_pb2.SubmitOrdersRequest(
        request_id=new_id(), account_id="euro", basket_mode=execution_pb2.BASKET_MODE_INDEPENDENT,
        orders=[market_order("a", "US", 100), market_order("b", "US", 1)],
    )  # fmt: skip
    fits, beyond = (await dealer.execution.SubmitOrders(orders)).orders
    assert fits.state == order_pb2.ORDER_STATE_ACCEPTED
    assert list(beyond.denial_reasons) == [order_pb2.DENIAL_REASON_GROSS_EXPOSURE_LIMIT]
    await dealer.next_day()
    account = await sync()
    dollars = money_e9(books(account)["USD"].cash)
    assert dollars < 0
    value = dollars + 100 * close_e9("US", dealer.today)
    assert money_e9(account.equity) == 1_000_000 * E9 + value * E9 // close_e9("EURUSD", dealer.today)
    assert not account.alarms
