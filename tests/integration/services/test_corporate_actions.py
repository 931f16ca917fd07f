"""Splits, dividends and symbol changes with the real services, and accounts that know nothing of each other."""

from __future__ import annotations

import grpc
import pytest

from alphamesh.execution.v1 import execution_pb2, order_pb2
from alphamesh.portfolio.v1 import portfolio_pb2, portfolio_pb2_grpc
from alphamesh.type.v1 import money_pb2, trading_pb2
from python_services.kit.convert import money_e9
from python_services.kit.errors import from_rpc_error

from .conftest import ACCOUNT, E9, Trader, market_order, new_id, usd

LIMIT = trading_pb2.ORDER_TYPE_LIMIT
GTC = trading_pb2.TIME_IN_FORCE_GTC


async def act(trader: Trader, identifier: str, **what: object) -> execution_pb2.ApplyCorporateActionsResponse:
    action = execution_pb2.CorporateAction(
        action_id=identifier, instrument_id="IBM", ts_event_ns=trader.days[trader.today], source="test", **what
    )  # type: ignore[arg-type]
    request = execution_pb2.ApplyCorporateActionsRequest(request_id=new_id(), account_id=ACCOUNT, actions=[action])
    return await trader.execution.ApplyCorporateActions(request)


def position(account: execution_pb2.Account, name: str = "IBM") -> tuple[int, int]:
    """(quantity, cost)."""
    [found] = [p for p in account.positions if p.instrument_id == name]
    return found.quantity_e9, money_e9(found.cost)


async def test_a_split_keeps_value_and_cost_and_sends_orders_on_the_new_terms(trader: Trader) -> None:
    await trader.submit(market_order("a", "IBM", 101))
    before = await trader.next_day()
    resting = {"order_type": LIMIT, "time_in_force": GTC}
    await trader.submit(
        market_order("even", "IBM", 10, price_e9=90 * E9, **resting),
        market_order("odd", "IBM", 10, price_e9=90_010_000_000, **resting),
    )
    split = execution_pb2.Split(new_shares=3, old_shares=2, fraction_price_e9=70 * E9)
    done = await act(trader, "split", split=split)
    assert sorted(done.cancelled_order_ids) == ["even", "odd"]
    [sent] = done.orders
    assert (sent.spec.client_order_id, sent.spec.quantity_e9, sent.spec.price_e9) == ("even~split", 15 * E9, 60 * E9)
    assert sent.state == order_pb2.ORDER_STATE_ACCEPTED
    quantity, cost = position(done.account)
    assert quantity == 151 * E9
    assert money_e9(done.account.cash) == money_e9(before.cash) + 35 * E9  # half a share at 70
    paid_out = position(before)[1] - cost
    assert money_e9(done.account.realized_pnl) == 35 * E9 - paid_out
    assert abs(paid_out - position(before)[1] // 303) <= 1
    assert not done.account.alarms
    again = await act(trader, "split", split=split)
    assert again.account == done.account
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await act(trader, "split", split=execution_pb2.Split(new_shares=2, old_shares=1, fraction_price_e9=1))
    assert from_rpc_error(caught.value).reason == "ACTION_ID_REUSED"
    current = (await trader.account()).account
    await trader.system.stop("execution")
    await trader.system.start("execution")
    assert (await trader.account()).account == current


async def test_a_dividend_is_cash_and_income_and_the_views_follow(trader: Trader) -> None:
    await trader.submit(market_order("a", "IBM", 100))
    before = await trader.next_day()
    per_share = money_pb2.Money(currency_code="USD", nanos=550_000_000)
    done = await act(trader, "dividend", cash_dividend=execution_pb2.CashDividend(per_share=per_share))
    assert money_e9(done.account.cash) == money_e9(before.cash) + 55 * E9
    assert money_e9(done.account.corporate_action_cash) == 55 * E9
    assert done.account.realized_pnl == before.realized_pnl
    account = await trader.next_day()
    assert money_e9(account.equity) == money_e9(account.cash) + 100 * account.positions[0].mark_e9
    assert money_e9(account.unrealized_pnl) == 100 * account.positions[0].mark_e9 - position(account)[1]
    profit = money_e9(account.realized_pnl) + money_e9(account.unrealized_pnl) + 55 * E9 - money_e9(account.fees)
    assert money_e9(account.equity) == 1_000_000 * E9 + profit
    # Portfolio and risk rebuild the same cash from the events, or they would have stopped.
    portfolio = trader.system.stub(portfolio_pb2_grpc.PortfolioServiceStub, "portfolio")
    seq = (await trader.account()).applied_seq
    seen = await portfolio.GetPerformance(portfolio_pb2.GetPerformanceRequest(account_id=ACCOUNT, min_seq=seq))
    assert money_e9(seen.performance.equity) == money_e9(account.equity)


async def test_a_symbol_change_moves_the_position(trader: Trader) -> None:
    await trader.submit(market_order("a", "IBM", 100))
    before = await trader.next_day()
    await trader.submit(market_order("rest", "IBM", 10, order_type=LIMIT, price_e9=20 * E9, time_in_force=GTC))
    change = execution_pb2.SymbolChange(new_instrument_id="MSFT")
    done = await act(trader, "rename", symbol_change=change)
    assert position(done.account, "MSFT") == position(before)
    assert [p.instrument_id for p in done.account.positions] == ["MSFT"]
    assert [order.spec.instrument_id for order in done.orders] == ["MSFT"]
    [sold] = await trader.submit(market_order("b", "MSFT", -100))
    assert sold.state == order_pb2.ORDER_STATE_ACCEPTED
    assert not (await trader.next_day()).positions
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await act(trader, "wrong", symbol_change=execution_pb2.SymbolChange(new_instrument_id="TSLA"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_accounts_have_their_own_limits_cash_and_reservations(trader: Trader) -> None:
    start = trader.days[trader.today]
    opening = execution_pb2.OpenAccountRequest(
        request_id=new_id(), account_id="other", cash=usd(500_000), ts_event_ns=start
    )
    await trader.execution.OpenAccount(opening)
    await trader.allow(gross_exposure_limit=usd(15_000))
    [mine] = await trader.submit(market_order("a", "IBM", 100))
    assert mine.state == order_pb2.ORDER_STATE_ACCEPTED
    # The other has neither policy nor price yet: nothing that the first was given holds for it.
    request = execution_pb2.SubmitOrdersRequest(
        request_id=new_id(), account_id="other", orders=[market_order("a", "IBM", 100)],
        basket_mode=execution_pb2.BASKET_MODE_INDEPENDENT,
    )  # fmt: skip
    [theirs] = (await trader.execution.SubmitOrders(request)).orders
    assert order_pb2.DENIAL_REASON_RISK_POLICY_STALE in theirs.denial_reasons
    other = (await trader.execution.GetAccount(execution_pb2.GetAccountRequest(account_id="other"))).account
    assert (money_e9(other.cash), money_e9(other.reserved), other.policy_version) == (500_000 * E9, 0, 0)
    state = execution_pb2.SetTradingStateRequest(
        request_id=new_id(), account_id="other", trading_state=trading_pb2.TRADING_STATE_HALTED, reason="drill"
    )
    await trader.execution.SetTradingState(state)
    assert (await trader.account()).account.trading_state == trading_pb2.TRADING_STATE_ACTIVE


async def test_actions_of_one_request_are_applied_in_order_or_not_at_all(trader: Trader) -> None:
    await trader.submit(market_order("a", "IBM", 100))
    before = await trader.next_day()
    when = trader.days[trader.today]
    double, triple = (execution_pb2.Split(new_shares=new, old_shares=1, fraction_price_e9=E9) for new in (2, 3))
    actions = [
        execution_pb2.CorporateAction(action_id=name, instrument_id="IBM", ts_event_ns=when, source="test", split=split)
        for name, split in (("one", double), ("two", triple), ("one", double))
    ]
    wrong = execution_pb2.CorporateAction(action_id="no", instrument_id="IBM", ts_event_ns=when, source="test")
    wrong.cash_dividend.per_share.CopyFrom(money_pb2.Money(currency_code="EUR", units=1))
    request = execution_pb2.ApplyCorporateActionsRequest(
        request_id=new_id(), account_id=ACCOUNT, actions=[*actions, wrong]
    )
    with pytest.raises(grpc.aio.AioRpcError, match=r"actions\[3\]\.cash_dividend\.per_share"):
        await trader.execution.ApplyCorporateActions(request)
    assert position((await trader.account()).account) == position(before)
    request = execution_pb2.ApplyCorporateActionsRequest(request_id=new_id(), account_id=ACCOUNT, actions=actions)
    after = (await trader.execution.ApplyCorporateActions(request)).account
    assert position(after) == (600 * E9, position(before)[1])
