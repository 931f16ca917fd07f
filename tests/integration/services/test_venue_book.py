"""Accounts that trade with each other: through the gate, the ledger and a venue with books, all running for real."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from alphamesh.execution.v1 import execution_pb2, execution_pb2_grpc, order_pb2
from alphamesh.marketdata.v1 import marketdata_pb2, marketdata_pb2_grpc
from alphamesh.type.v1 import trading_pb2
from alphamesh.venue.v1 import venue_pb2, venue_pb2_grpc
from mesh import topology
from python_services.kit.convert import money_e9
from python_services.kit.errors import from_rpc_error
from python_services.local import LocalSystem

from .conftest import E9, INSTRUMENTS, market_order, new_id, usd

State = order_pb2.OrderState
BUY, SELL = trading_pb2.SIDE_BUY, trading_pb2.SIDE_SELL
LIMIT = trading_pb2.ORDER_TYPE_LIMIT
GTC = trading_pb2.TIME_IN_FORCE_GTC
CLOSE = 1_246_478_400 * E9  # 2009-07-01 16:00 in New York
CASH = 1_000_000


class Pit:
    """Two accounts of one execution service, and the venue where they meet."""

    def __init__(self, system: LocalSystem) -> None:
        self.system = system
        self.execution = system.stub(execution_pb2_grpc.ExecutionServiceStub, "execution")
        self.venue = system.stub(venue_pb2_grpc.VenueServiceStub, "venue")
        self.market = system.stub(venue_pb2_grpc.PaperMarketServiceStub, "venue")
        self.data = system.stub(marketdata_pb2_grpc.MarketDataServiceStub, "market_data")

    async def open(self) -> None:
        moved = await self.market.AdvanceMarket(
            venue_pb2.AdvanceMarketRequest(request_id=new_id(), to_ns=CLOSE, instrument_ids=INSTRUMENTS)
        )
        cut = marketdata_pb2.CutSnapshotRequest(
            request_id=new_id(), as_of_ns=CLOSE, instrument_ids=INSTRUMENTS, lookback_bars=20
        )
        snapshot_id = (await self.data.CutSnapshot(cut)).header.snapshot_id
        for account_id in ("alpha", "beta"):
            await self.execution.OpenAccount(
                execution_pb2.OpenAccountRequest(
                    request_id=new_id(), account_id=account_id, cash=usd(CASH), ts_event_ns=CLOSE - 1
                )
            )
            await self.execution.SyncMarket(
                execution_pb2.SyncMarketRequest(
                    request_id=new_id(), account_id=account_id, snapshot_id=snapshot_id, min_venue_seq=moved.last_seq
                )
            )
            limit = usd(2_000_000)
            policy = execution_pb2.RiskPolicy(
                version=1,
                ts_event_ns=CLOSE,
                max_age_ns=30 * 86_400 * E9,
                price_max_age_ns=30 * 86_400 * E9,
                trading_state=trading_pb2.TRADING_STATE_ACTIVE,
                gross_exposure_limit=limit,
                net_exposure_limit=limit,
                position_limit=limit,
                order_notional_limit=limit,
                order_notional_minimum=usd(0),
                sector_limit=limit,
                daily_loss_limit=usd(500_000),
                drawdown_limit_bps=9_000,
                price_collar_bps=1_000,
                orders_per_second=1_000,
                leverage_limit_bps=20_000,
                concentration_limit_bps=20_000,
                short_allowed=True,
            )
            await self.execution.ApplyRiskPolicy(
                execution_pb2.ApplyRiskPolicyRequest(request_id=new_id(), account_id=account_id, policy=policy)
            )

    async def submit(self, account_id: str, *orders: order_pb2.OrderSpec) -> list[order_pb2.Order]:
        request = execution_pb2.SubmitOrdersRequest(
            request_id=new_id(),
            account_id=account_id,
            orders=orders,
            basket_mode=execution_pb2.BASKET_MODE_INDEPENDENT,
        )
        return list((await self.execution.SubmitOrders(request)).orders)

    async def account(self, account_id: str) -> execution_pb2.Account:
        """The account, with everything that the venue has reported so far."""
        seq = (await self.venue.GetBook(venue_pb2.GetBookRequest(instrument_id="IBM"))).applied_seq
        request = execution_pb2.GetAccountRequest(account_id=account_id, min_venue_seq=seq)
        return (await self.execution.GetAccount(request)).account

    async def order(self, account_id: str, identifier: str) -> order_pb2.Order:
        await self.account(account_id)
        request = execution_pb2.GetOrderRequest(account_id=account_id, client_order_id=identifier)
        return (await self.execution.GetOrder(request)).order

    async def fills(self, account_id: str) -> list[order_pb2.Fill]:
        await self.account(account_id)
        return list((await self.execution.ListFills(execution_pb2.ListFillsRequest(account_id=account_id))).fills)

    async def tape(self) -> list[venue_pb2.Trade]:
        found: list[venue_pb2.Trade] = []
        stream = self.venue.StreamTrades(venue_pb2.StreamTradesRequest(from_seq=1, instrument_ids=["IBM"]))
        async for response in stream:
            found += response.trades
            if found:
                return found
        raise AssertionError("the stream ended")


def limit_order(identifier: str, shares: int, dollars: float, **fields: object) -> order_pb2.OrderSpec:
    settings = {"order_type": LIMIT, "time_in_force": GTC, "price_e9": round(dollars * 100) * E9 // 100}
    return market_order(identifier, "IBM", shares, **(settings | fields))


@pytest.fixture
async def pit(tmp_path: Path) -> AsyncIterator[Pit]:
    whole = topology.load().with_config("venue", {"market": "book"})
    names = ("market_data", "venue", "execution")
    async with LocalSystem(tmp_path, replace(whole, services=tuple(s for s in whole.services if s.name in names))) as s:
        pit = Pit(s)
        await pit.open()
        yield pit


async def test_two_accounts_trade_and_both_ledgers_agree_with_the_tape(pit: Pit) -> None:
    await pit.submit("alpha", limit_order("offer", -300, 104.50), limit_order("higher", -100, 104.60))
    await pit.submit("beta", limit_order("bid", 350, 104.55), market_order("now", "IBM", 30))
    offer, bid = await pit.order("alpha", "offer"), await pit.order("beta", "bid")
    assert (offer.state, offer.cumulative_quantity_e9) == (State.ORDER_STATE_FILLED, 300 * E9)
    assert (bid.state, bid.leaves_quantity_e9) == (State.ORDER_STATE_PARTIALLY_FILLED, 50 * E9)
    tape = await pit.tape()
    assert [(t.price_e9, t.quantity_e9) for t in tape] == [(104_500_000_000, 300 * E9), (104_600_000_000, 30 * E9)]
    total = 0
    for account_id, sign, side in (("alpha", -1, "S"), ("beta", 1, "B")):
        fills = await pit.fills(account_id)
        assert [(f.trade_id, f.price_e9, f.quantity_e9) for f in fills] == [
            (f"{t.trade_id}-{side}", t.price_e9, t.quantity_e9) for t in tape
        ]
        account = await pit.account(account_id)
        assert [(p.instrument_id, p.quantity_e9) for p in account.positions] == [("IBM", sign * 330 * E9)]
        traded = sum(fill.price_e9 * fill.quantity_e9 // E9 for fill in fills)
        fees = sum(money_e9(fill.fee) for fill in fills)
        assert fees > 0
        assert money_e9(account.cash) == CASH * E9 - sign * traded - fees
        total += money_e9(account.cash) + fees
    assert total == 2 * CASH * E9  # what one paid the other got
    makers = {fill.liquidity_flag for fill in await pit.fills("alpha")}
    takers = {fill.liquidity_flag for fill in await pit.fills("beta")}
    assert (makers, takers) == ({trading_pb2.LIQUIDITY_FLAG_MAKER}, {trading_pb2.LIQUIDITY_FLAG_TAKER})
    for account_id, left in (("alpha", 70 * E9), ("beta", 50 * E9)):
        request = venue_pb2.ListOrdersRequest(account_id=account_id, open_only=True)
        assert [o.leaves_quantity_e9 for o in (await pit.venue.ListOrders(request)).orders] == [left]
        assert (await pit.account(account_id)).open_orders == 1


async def test_cancel_replace_and_an_auction_reach_the_ledgers(pit: Pit) -> None:
    phase = venue_pb2.SESSION_PHASE_OPENING_AUCTION
    await pit.market.SetPhase(venue_pb2.SetPhaseRequest(request_id=new_id(), instrument_ids=["IBM"], phase=phase))
    await pit.submit("alpha", limit_order("a", -100, 104), limit_order("away", -10, 110))
    await pit.submit("beta", limit_order("b", 60, 105), limit_order("c", 10, 100))
    replaced = await pit.execution.ReplaceOrder(
        execution_pb2.ReplaceOrderRequest(
            request_id=new_id(), account_id="beta", client_order_id="b", quantity_e9=80 * E9, price_e9=104_500_000_000
        )
    )
    assert replaced.order.spec.price_e9 == 104_500_000_000
    canceled = await pit.execution.CancelOrder(
        execution_pb2.CancelOrderRequest(request_id=new_id(), account_id="beta", client_order_id="c")
    )
    assert canceled.order.state == State.ORDER_STATE_CANCELED
    phase = venue_pb2.SESSION_PHASE_CONTINUOUS
    opened = await pit.market.SetPhase(
        venue_pb2.SetPhaseRequest(request_id=new_id(), instrument_ids=["IBM"], phase=phase)
    )
    [outcome] = opened.outcomes
    assert outcome.auction_quantity_e9 == 80 * E9
    for account_id, left in (("alpha", 20), ("beta", 0)):
        [fill] = await pit.fills(account_id)
        assert (fill.price_e9, fill.quantity_e9) == (outcome.auction_price_e9, 80 * E9)
        assert fill.liquidity_flag == trading_pb2.LIQUIDITY_FLAG_AUCTION
        order = await pit.order(account_id, "a" if account_id == "alpha" else "b")
        assert order.leaves_quantity_e9 == left * E9
    book = await pit.venue.GetBook(venue_pb2.GetBookRequest(instrument_id="IBM"))
    assert [(level.price_e9 // E9, level.quantity_e9 // E9) for level in book.asks] == [(104, 20), (110, 10)]


async def test_a_quantity_that_self_trade_prevention_takes_away_is_restated(pit: Pit) -> None:
    """The venue may change an order that nobody asked it to change: the ledger follows."""
    await pit.submit("alpha", limit_order("offer", -300, 104.50))
    other = venue_pb2.VenueOrder(
        client_order_id="from-elsewhere",
        account_id="alpha",
        instrument_id="IBM",
        side=BUY,
        order_type=LIMIT,
        time_in_force=GTC,
        quantity_e9=100 * E9,
        price_e9=104_500_000_000,
        ts_init_ns=CLOSE,
        self_trade_prevention=venue_pb2.SELF_TRADE_PREVENTION_DECREMENT_AND_CANCEL,
    )
    await pit.venue.SubmitOrders(venue_pb2.SubmitOrdersRequest(request_id=new_id(), orders=[other]))
    order = await pit.order("alpha", "offer")
    assert (order.state, order.spec.quantity_e9, order.leaves_quantity_e9) == (
        State.ORDER_STATE_ACCEPTED,
        200 * E9,
        200 * E9,
    )
    await pit.submit("beta", limit_order("bid", 200, 104.50))
    assert (await pit.order("alpha", "offer")).state == State.ORDER_STATE_FILLED


@pytest.mark.parametrize("victims", [("venue",), ("execution",), ("execution", "venue")], ids="+".join)
async def test_a_restart_in_the_middle_changes_nothing(pit: Pit, victims: tuple[str, ...]) -> None:
    await pit.submit("alpha", limit_order("offer", -300, 104.50))
    await pit.submit("beta", limit_order("bid", 100, 104.50))
    before = [await pit.account(name) for name in ("alpha", "beta")]
    book = await pit.venue.GetBook(venue_pb2.GetBookRequest(instrument_id="IBM"))
    for name in victims:
        await pit.system.stop(name)
    for name in reversed(victims):
        await pit.system.start(name)
    assert await pit.venue.GetBook(venue_pb2.GetBookRequest(instrument_id="IBM")) == book
    assert [await pit.account(name) for name in ("alpha", "beta")] == before
    await pit.submit("beta", limit_order("rest", 200, 104.50))
    assert (await pit.order("alpha", "offer")).state == State.ORDER_STATE_FILLED
    assert [(await pit.account(name)).positions[0].quantity_e9 // E9 for name in ("alpha", "beta")] == [-300, 300]


async def test_a_venue_on_bars_says_that_it_has_no_books(system: LocalSystem) -> None:
    venue = system.stub(venue_pb2_grpc.VenueServiceStub, "venue")
    market = system.stub(venue_pb2_grpc.PaperMarketServiceStub, "venue")
    phase = venue_pb2.SESSION_PHASE_HALTED
    calls = (
        venue.GetBook(venue_pb2.GetBookRequest(instrument_id="IBM")),
        anext(aiter(venue.StreamTrades(venue_pb2.StreamTradesRequest(from_seq=1)))),
        market.SetPhase(venue_pb2.SetPhaseRequest(request_id=new_id(), instrument_ids=["IBM"], phase=phase)),
    )
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        error = from_rpc_error(caught.value)
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "VENUE_HAS_NO_BOOKS")
        assert "market: book" in error.message
