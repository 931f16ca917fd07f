"""Execution with the real venue and real bars: outcomes that a trader would notice."""

from __future__ import annotations

import grpc
import pytest

from alphamesh.execution.v1 import execution_pb2, order_pb2
from alphamesh.type.v1 import trading_pb2
from alphamesh.venue.v1 import venue_pb2
from python_services.kit.convert import money_e9
from python_services.kit.errors import from_rpc_error
from python_services.kit.journal import check_frame

from .conftest import ACCOUNT, E9, INSTRUMENTS, Trader, market_order, new_id, usd

State = order_pb2.OrderState
LIMIT, STOP = trading_pb2.ORDER_TYPE_LIMIT, trading_pb2.ORDER_TYPE_STOP_MARKET
GTC = trading_pb2.TIME_IN_FORCE_GTC


def shares(account: execution_pb2.Account, instrument: str) -> int:
    return sum(p.quantity_e9 // E9 for p in account.positions if p.instrument_id == instrument)


async def test_a_market_order_fills_at_the_next_open(trader: Trader) -> None:
    accepted = await trader.submit(market_order("a", "IBM", 100))
    assert accepted[0].state == State.ORDER_STATE_ACCEPTED
    reserved = (await trader.account()).account
    assert money_e9(reserved.reserved) > 100 * 100 * E9
    account = await trader.next_day()
    order = await trader.order("a")
    assert order.state == State.ORDER_STATE_FILLED
    assert (order.cumulative_quantity_e9, order.leaves_quantity_e9) == (100 * E9, 0)
    assert shares(account, "IBM") == 100
    fills = await trader.execution.ListFills(execution_pb2.ListFillsRequest(account_id=ACCOUNT))
    paid = sum(f.price_e9 * f.quantity_e9 // E9 + money_e9(f.fee) for f in fills.fills)
    assert money_e9(account.cash) == 1_000_000 * E9 - paid
    assert money_e9(account.reserved) == 0
    mark = account.positions[0].mark_e9
    assert money_e9(account.equity) == money_e9(account.cash) + 100 * mark


async def test_a_large_order_is_capped_by_the_bars_volume_and_the_rest_expires(trader: Trader) -> None:
    await trader.allow(price_collar_bps=10)
    [order] = await trader.submit(market_order("big", "IBM", 900_000), mode=execution_pb2.BASKET_MODE_AS_MUCH_AS_FITS)
    approved = order.approved_quantity_e9 // E9
    assert 8_000 < approved < 10_000  # what a million buys at about 105
    account = await trader.next_day()
    assert shares(account, "IBM") == approved


async def test_every_violated_rule_is_reported_the_deciding_one_first(trader: Trader) -> None:
    await trader.allow(order_notional_limit=usd(1_000), position_limit=usd(5_000), concentration_limit_bps=50)
    [denied] = await trader.submit(market_order("x", "IBM", 100))
    assert denied.state == State.ORDER_STATE_DENIED
    names = [order_pb2.DenialReason.Name(reason) for reason in denied.denial_reasons]
    assert names == ["DENIAL_REASON_NOTIONAL_ABOVE_MAXIMUM", "DENIAL_REASON_CONCENTRATION_LIMIT"]
    assert (await trader.account()).account.reserved.units == 0


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ({"short_allowed": False}, "SHORT_NOT_ALLOWED"),
        ({"trading_state": trading_pb2.TRADING_STATE_HALTED}, "TRADING_HALTED"),
        ({"trading_state": trading_pb2.TRADING_STATE_REDUCE_ONLY}, "REDUCE_ONLY_STATE"),
        ({"restricted_instrument_ids": ["IBM"]}, "INSTRUMENT_RESTRICTED"),
        ({"order_notional_minimum": usd(50_000)}, "NOTIONAL_BELOW_MINIMUM"),
        ({"gross_exposure_limit": usd(1)}, "GROSS_EXPOSURE_LIMIT"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_the_gate_enforces_the_policy(trader: Trader, policy: dict[str, object], reason: str) -> None:
    await trader.allow(**policy)
    amount = -100 if reason == "SHORT_NOT_ALLOWED" else 100
    [order] = await trader.submit(market_order("x", "IBM", amount))
    assert order.state == State.ORDER_STATE_DENIED
    assert f"DENIAL_REASON_{reason}" in [order_pb2.DenialReason.Name(r) for r in order.denial_reasons]


async def test_unknown_instruments_and_unsupported_orders_are_denied_by_name(trader: Trader) -> None:
    oco = market_order("oco", "IBM", 1, contingency_type=order_pb2.CONTINGENCY_TYPE_OCO, linked_order_ids=["b"])
    unknown, contingent = await trader.submit(market_order("u", "TSLA", 1), oco)
    assert list(unknown.denial_reasons) == [order_pb2.DENIAL_REASON_INSTRUMENT_UNKNOWN]
    assert list(contingent.denial_reasons) == [order_pb2.DENIAL_REASON_UNSUPPORTED_ORDER_TYPE]


async def test_an_off_increment_price_is_refused_and_nothing_changes(trader: Trader) -> None:
    before = (await trader.account()).applied_seq
    bad = market_order("b", "IBM", 10, order_type=LIMIT, price_e9=100_005_000_000)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await trader.submit(market_order("a", "IBM", 10), bad)
    error = from_rpc_error(caught.value)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.violations[0][0] == "orders[1].price_e9"
    assert "0.01" in error.message
    assert "100.01" in error.message
    assert (await trader.account()).applied_seq == before


async def test_limit_and_stop_orders_wait_for_their_price(trader: Trader) -> None:
    low = market_order("low", "IBM", 10, order_type=LIMIT, price_e9=100 * E9, time_in_force=GTC)
    stop = market_order("stop", "IBM", 10, order_type=STOP, trigger_price_e9=106 * E9, time_in_force=GTC)
    await trader.submit(low, stop)
    states = set()
    for _ in range(15):
        await trader.next_day()
        states |= {("low", (await trader.order("low")).state), ("stop", (await trader.order("stop")).state)}
    # IBM fell below 100 in the second week of July 2009 and rose above 106 in the third.
    assert ("low", State.ORDER_STATE_ACCEPTED) in states
    assert ("low", State.ORDER_STATE_FILLED) in states
    assert ("stop", State.ORDER_STATE_FILLED) in states
    fills = (await trader.execution.ListFills(execution_pb2.ListFillsRequest(account_id=ACCOUNT))).fills
    price = {fill.client_order_id: fill.price_e9 for fill in fills}
    assert price["low"] <= 100 * E9
    assert price["stop"] >= 106 * E9


async def test_cancel_and_replace(trader: Trader) -> None:
    resting = market_order("r", "IBM", 10, order_type=LIMIT, price_e9=90 * E9, time_in_force=GTC)
    await trader.submit(resting)
    replaced = await trader.execution.ReplaceOrder(
        execution_pb2.ReplaceOrderRequest(
            request_id=new_id(), account_id=ACCOUNT, client_order_id="r", price_e9=91 * E9, quantity_e9=20 * E9
        )
    )
    assert replaced.order.state == State.ORDER_STATE_ACCEPTED
    assert (replaced.order.spec.price_e9, replaced.order.leaves_quantity_e9) == (91 * E9, 20 * E9)
    reserved = money_e9((await trader.account()).account.reserved)
    assert 20 * 91 * E9 <= reserved < 20 * 92 * E9
    canceled = await trader.execution.CancelOrder(
        execution_pb2.CancelOrderRequest(request_id=new_id(), account_id=ACCOUNT, client_order_id="r")
    )
    assert canceled.order.state == State.ORDER_STATE_CANCELED
    assert money_e9((await trader.account()).account.reserved) == 0
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await trader.execution.CancelOrder(
            execution_pb2.CancelOrderRequest(request_id=new_id(), account_id=ACCOUNT, client_order_id="r")
        )
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_replace_that_the_gate_denies_changes_nothing(trader: Trader) -> None:
    await trader.submit(market_order("r", "IBM", 10, order_type=LIMIT, price_e9=90 * E9, time_in_force=GTC))
    before = await trader.account()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await trader.execution.ReplaceOrder(
            execution_pb2.ReplaceOrderRequest(
                request_id=new_id(), account_id=ACCOUNT, client_order_id="r", quantity_e9=10_000_000 * E9
            )
        )
    assert from_rpc_error(caught.value).reason == "REPLACE_DENIED"
    after = await trader.account()
    assert after.account.reserved == before.account.reserved
    assert after.event_hash == before.event_hash


@pytest.mark.parametrize("restart", [False, True], ids=["same process", "after a restart"])
async def test_a_repeat_gets_the_first_answer(trader: Trader, restart: bool) -> None:
    request_id = new_id()
    first = await trader.submit(market_order("a", "IBM", 10), request_id=request_id)
    await trader.next_day()
    if restart:
        await trader.system.stop("execution")
        await trader.system.start("execution")
    assert await trader.submit(market_order("a", "IBM", 10), request_id=request_id) == first
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await trader.submit(market_order("a", "IBM", 11), request_id=request_id)
    assert from_rpc_error(caught.value).reason == "REQUEST_ID_REUSED"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await trader.submit(market_order("a", "IBM", 11))
    assert from_rpc_error(caught.value).reason == "CLIENT_ORDER_ID_REUSED"
    [order] = await trader.submit(market_order("a", "IBM", 10))
    assert order.state == State.ORDER_STATE_FILLED


async def test_a_basket_passes_as_a_whole_or_not_at_all(trader: Trader) -> None:
    await trader.allow(gross_exposure_limit=usd(15_000))
    basket = [market_order("a", "IBM", 100), market_order("b", "IBM", 100)]
    orders = await trader.submit(*basket, mode=execution_pb2.BASKET_MODE_ALL_OR_NOTHING)
    assert [order.state for order in orders] == [State.ORDER_STATE_DENIED] * 2
    assert all(order_pb2.DENIAL_REASON_GROSS_EXPOSURE_LIMIT in order.denial_reasons for order in orders)
    fitting = [market_order("c", "IBM", 100), market_order("d", "IBM", 100)]
    orders = await trader.submit(*fitting, mode=execution_pb2.BASKET_MODE_AS_MUCH_AS_FITS)
    assert orders[0].approved_quantity_e9 == 100 * E9
    assert 0 < orders[1].approved_quantity_e9 < 100 * E9


async def test_validate_only_changes_nothing(trader: Trader) -> None:
    before = await trader.account()
    [order] = await trader.submit(market_order("a", "IBM", 10), validate_only=True)
    assert order.state == State.ORDER_STATE_INITIALIZED
    [denied] = await trader.submit(market_order("b", "TSLA", 10), validate_only=True)
    assert denied.state == State.ORDER_STATE_DENIED
    assert await trader.account() == before


async def test_the_kill_ladder(trader: Trader) -> None:
    await trader.submit(market_order("a", "IBM", 100))
    await trader.next_day()
    await trader.submit(market_order("rest", "IBM", 10, order_type=LIMIT, price_e9=90 * E9, time_in_force=GTC))

    async def step(state: trading_pb2.TradingState.ValueType) -> None:
        await trader.execution.SetTradingState(
            execution_pb2.SetTradingStateRequest(
                request_id=new_id(), account_id=ACCOUNT, trading_state=state, reason="drill"
            )
        )

    await step(trading_pb2.TRADING_STATE_CANCEL_ALL)
    assert (await trader.order("rest")).state == State.ORDER_STATE_CANCELED
    [denied] = await trader.submit(market_order("more", "IBM", 1))
    assert denied.denial_reasons[0] == order_pb2.DENIAL_REASON_REDUCE_ONLY_STATE
    await step(trading_pb2.TRADING_STATE_FLATTEN)
    account = await trader.next_day()
    assert not account.positions
    await step(trading_pb2.TRADING_STATE_HALTED)
    assert (await trader.account()).account.trading_state == trading_pb2.TRADING_STATE_HALTED
    # The stricter of the operator's and the policy's state is in force.
    await step(trading_pb2.TRADING_STATE_ACTIVE)
    await trader.allow(trading_state=trading_pb2.TRADING_STATE_REDUCE_ONLY)
    assert (await trader.account()).account.trading_state == trading_pb2.TRADING_STATE_REDUCE_ONLY


async def test_a_restart_gives_the_same_state(trader: Trader) -> None:
    await trader.submit(market_order("a", "IBM", 100), market_order("b", "AAPL", 50))
    await trader.next_day()
    await trader.submit(
        market_order("c", "IBM", -30),
        market_order("d", "IBM", 5, order_type=LIMIT, price_e9=90 * E9, time_in_force=GTC),
    )
    before = await trader.account()
    await trader.system.stop("execution")
    await trader.system.start("execution")
    assert await trader.account() == before
    account = await trader.next_day()
    assert shares(account, "IBM") == 70


async def test_an_order_without_an_answer_keeps_its_exposure_until_the_venue_is_asked(trader: Trader) -> None:
    await trader.system.stop("venue")
    [order] = await trader.submit(market_order("lost", "IBM", 100))
    assert order.state == State.ORDER_STATE_UNRESOLVED
    assert money_e9((await trader.account()).account.reserved) > 0
    await trader.system.start("venue")
    await trader.system.stop("execution")
    await trader.system.start("execution")
    order = await trader.order("lost")
    assert (order.state, order.reason) == (State.ORDER_STATE_REJECTED, "the venue does not know the order")
    assert money_e9((await trader.account()).account.reserved) == 0


async def test_the_venue_rebuilds_its_books(trader: Trader) -> None:
    trailing = market_order(
        "trail", "IBM", -10, order_type=trading_pb2.ORDER_TYPE_TRAILING_STOP_MARKET, time_in_force=GTC,
        trailing_offset_e9=2 * E9,
    )  # fmt: skip
    await trader.submit(market_order("a", "IBM", 10))
    await trader.next_day()
    await trader.submit(trailing)
    await trader.next_day()
    await trader.system.stop("venue")
    await trader.system.start("venue")
    account = await trader.next_day()
    for _ in range(20):
        if not account.positions:
            break
        account = await trader.next_day()
    assert (await trader.order("trail")).state == State.ORDER_STATE_FILLED


async def test_the_journal_streams_its_events_as_one_chain(trader: Trader) -> None:
    await trader.submit(market_order("a", "IBM", 10))
    request = execution_pb2.StreamEventsRequest(from_seq=1, stop_at_end=True)
    seq, last, link = 1, bytes(32), bytes(32)
    schemas = []
    async for response in trader.execution.StreamEvents(request):
        if response.HasField("frame"):
            assert check_frame(response.frame, seq, link) == ""
            seq, link, last = seq + response.frame.count, response.frame.sha256, response.frame.events[-1].hash
            schemas += [event.schema.rpartition(".")[2] for event in response.frame.events]
    assert schemas == ["AccountOpened", "AccountValued", "RiskPolicyApplied", "OrderInitialized", "OrderStateChanged"]
    assert (await trader.account()).event_hash == last


async def test_pages_are_complete_and_tokens_belong_to_their_method(trader: Trader) -> None:
    await trader.submit(*(market_order(f"o{i}", "IBM", 1) for i in range(7)))
    found, token = [], ""
    while True:
        request = execution_pb2.ListOrdersRequest(account_id=ACCOUNT, page_size=3, page_token=token)
        response = await trader.execution.ListOrders(request)
        found += [order.spec.client_order_id for order in response.orders]
        token = response.next_page_token
        if not token:
            break
        last_token = token
    assert found == [f"o{i}" for i in range(7)]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await trader.execution.ListFills(execution_pb2.ListFillsRequest(account_id=ACCOUNT, page_token=last_token))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_an_order_is_never_matched_on_a_bar_from_before_it_was_sent(trader: Trader) -> None:
    """Also when the venue lost the move of its clock in a crash and is told again later."""
    trader.today += 1  # market_data and the trader are a day ahead of the venue
    sent = venue_pb2.VenueOrder(
        client_order_id="x", account_id=ACCOUNT, instrument_id="IBM", side=trading_pb2.SIDE_BUY,
        order_type=trading_pb2.ORDER_TYPE_MARKET, time_in_force=trading_pb2.TIME_IN_FORCE_DAY,
        quantity_e9=E9, ts_init_ns=trader.days[trader.today],
    )  # fmt: skip
    await trader.venue.SubmitOrders(venue_pb2.SubmitOrdersRequest(request_id=new_id(), orders=[sent]))
    trader.today += 1
    await trader.market.AdvanceMarket(
        venue_pb2.AdvanceMarketRequest(request_id=new_id(), to_ns=trader.days[trader.today], instrument_ids=INSTRUMENTS)
    )
    async for response in trader.venue.StreamReports(venue_pb2.StreamReportsRequest(from_seq=1)):
        fills = [report for report in response.reports if report.kind == venue_pb2.Report.KIND_FILL]
        if fills:
            assert trader.days[trader.today - 1] < fills[0].ts_event_ns < trader.days[trader.today]
            break
