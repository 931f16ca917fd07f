"""Execution with a venue that errs, lies or falls silent: the ledger stays right, or trading stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from alphamesh.execution.v1 import execution_pb2, order_pb2
from alphamesh.type.v1 import money_pb2, trading_pb2
from alphamesh.venue.v1 import venue_pb2
from mesh import topology
from python_services.kit.convert import money_e9
from python_services.local import LocalSystem
from tests.services.scripted_venue.service import Book, Kind, books

from .conftest import ACCOUNT, E9, Trader, market_order, new_id, usd

State = order_pb2.OrderState
Alarm = execution_pb2.Alarm
Difference = execution_pb2.Difference
LIMIT = trading_pb2.ORDER_TYPE_LIMIT

QUICK = {"venue_timeout_s": 0.5, "venue_patience_s": 0.0, "reconcile_interval_s": 0}


def scripted(**config: object) -> topology.Topology:
    """The default services, the venue replaced by the scripted one."""
    mesh = topology.load().with_config("execution", QUICK | config)
    services = tuple(
        replace(s, module="tests.services.scripted_venue") if s.name == "venue" else s
        for s in mesh.services
        if s.name in ("market_data", "venue", "execution")
    )
    return replace(mesh, services=services)


class Rig(Trader):
    """A trader, and the book of the venue that it trades at."""

    book: Book

    async def until(self, wanted: Callable[[execution_pb2.Account], bool]) -> execution_pb2.Account:
        """The account once it is as wanted."""
        async with asyncio.timeout(10):
            while True:
                account = (await self.account()).account
                if wanted(account):
                    return account
                await asyncio.sleep(0.01)

    async def state(self, name: str, wanted: int) -> order_pb2.Order:
        """The order once it is in this state."""
        async with asyncio.timeout(10):
            while True:
                order = await self.order(name)
                if order.state == wanted:
                    return order
                await asyncio.sleep(0.01)

    async def restart(self) -> None:
        await self.system.stop("execution")
        await self.system.start("execution")

    async def reconciliation(self, *, run: bool = True) -> execution_pb2.Reconciliation:
        request = execution_pb2.GetReconciliationRequest(account_id=ACCOUNT, run=run)
        return (await self.execution.GetReconciliation(request)).reconciliation

    async def policy(self, **limits: object) -> None:
        await self.allow(**limits)


@pytest.fixture
async def rig(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with LocalSystem(tmp_path, scripted(**getattr(request, "param", {}))) as system:
        trader = Rig(system)
        trader.book = books[tmp_path / "data" / "venue"]
        await trader.open()
        yield trader


def limit_order(name: str, shares: int, price: int, **fields: object) -> order_pb2.OrderSpec:
    return market_order(name, "IBM", shares, order_type=LIMIT, price_e9=price * E9, **fields)


# --- invariants -----------------------------------------------------------------------------------------------


async def test_a_fill_worth_more_than_the_cash_stops_trading(rig: Rig) -> None:
    """The venue reports a price that nobody could have paid: it is booked, and the account may only be reduced."""
    await rig.submit(market_order("a", "IBM", 100), limit_order("rest", 10, 90))
    rig.book.fill("a", 100 * E9, 50_000 * E9)
    account = await rig.until(lambda a: a.trading_state == trading_pb2.TRADING_STATE_CANCEL_ALL)
    assert [alarm.kind for alarm in account.alarms] == [Alarm.KIND_CASH_BELOW_RESERVED]
    assert account.trading_state_reason.startswith("CASH_BELOW_RESERVED")
    assert money_e9(account.cash) < 0
    await rig.state("rest", State.ORDER_STATE_CANCELED)
    [denied] = await rig.submit(market_order("b", "MSFT", 1))
    assert denied.denial_reasons[0] == order_pb2.DENIAL_REASON_REDUCE_ONLY_STATE
    [sold] = await rig.submit(market_order("c", "IBM", -100))
    assert sold.state == State.ORDER_STATE_ACCEPTED
    before = (await rig.account()).account
    await rig.restart()
    assert (await rig.account()).account == before


async def test_an_overfill_is_an_alarm_and_stops_trading_once_it_breaks_a_cap(rig: Rig) -> None:
    await rig.allow(gross_exposure_limit=usd(11_000))
    await rig.submit(market_order("a", "IBM", 100))
    rig.book.fill("a", 100 * E9, 104 * E9)
    rig.book.fill("a", 1 * E9, 104 * E9)
    account = await rig.until(lambda a: len(a.alarms) == 1)
    assert account.alarms[0].kind == Alarm.KIND_OVERFILL
    assert account.trading_state == trading_pb2.TRADING_STATE_ACTIVE
    assert (await rig.order("a")).overfill_quantity_e9 == 1 * E9
    rig.book.fill("a", 50 * E9, 104 * E9)
    account = await rig.until(lambda a: a.trading_state == trading_pb2.TRADING_STATE_CANCEL_ALL)
    kinds = {alarm.kind for alarm in account.alarms}
    assert kinds == {Alarm.KIND_OVERFILL, Alarm.KIND_GROSS_ABOVE_CAP}
    assert account.positions[0].quantity_e9 == 151 * E9


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"instrument_id": "MSFT"}, "MSFT"),
        ({"last_quantity_e9": E9 // 2}, "increment"),
        ({"last_quantity_e9": -E9}, "without a quantity"),
        ({"last_price_e9": 100_001_000_001}, "increment"),
        ({"last_price_e9": 106 * E9}, "limit is 105"),
        ({"last_price_e9": 0}, "without a quantity or a price"),
        ({"trade_id": ""}, "trade_id"),
        ({"fee": money_pb2.Money(currency_code="EUR", units=1)}, "EUR"),
        ({"last_quantity_e9": 2**62 // E9 * E9}, "range"),
        ({"fee": money_pb2.Money(currency_code="USD", units=2**62)}, "range"),
    ],
)
async def test_a_corrupt_fill_is_not_booked_and_halts_trading(rig: Rig, wrong: dict[str, object], word: str) -> None:
    await rig.submit(limit_order("a", 100, 105))
    rig.book.fill("a", 100 * E9, 104 * E9, **wrong)
    account = await rig.until(lambda a: a.trading_state == trading_pb2.TRADING_STATE_HALTED)
    assert [alarm.kind for alarm in account.alarms] == [Alarm.KIND_REPORT_REFUSED]
    assert word in account.alarms[0].detail
    assert account.trading_state_reason.startswith("REPORT_REFUSED")
    assert (money_e9(account.cash), list(account.positions)) == (1_000_000 * E9, [])
    # The same report after a restart is not judged again; nothing is inferred behind its back either.
    await rig.restart()
    assert (await rig.account()).account.alarms[0] == account.alarms[0]
    found = await rig.reconciliation()
    assert not found.reconciled
    assert found.differences[0].kind == Difference.KIND_MISSING_FILL
    assert found.differences[0].action == ""


async def test_a_fill_of_a_rejected_order_halts_trading(rig: Rig) -> None:
    rig.book.acknowledges = False
    work = asyncio.create_task(rig.submit(market_order("a", "IBM", 1)))
    async with asyncio.timeout(5):
        while "a" not in rig.book.orders:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    rig.book.report(Kind.KIND_REJECTED, "a", reason="no")
    await work
    await rig.state("a", State.ORDER_STATE_REJECTED)
    rig.book.fill("a", E9, 104 * E9)
    account = await rig.until(lambda a: a.trading_state == trading_pb2.TRADING_STATE_HALTED)
    assert "REJECTED" in account.alarms[0].detail


async def test_a_duplicate_trade_id_is_ignored(rig: Rig) -> None:
    await rig.submit(market_order("a", "IBM", 100))
    rig.book.fill("a", 40 * E9, 104 * E9, trade_id="T")
    rig.book.report(Kind.KIND_FILL, "a", trade_id="T", last_quantity_e9=40 * E9, last_price_e9=104 * E9)
    rig.book.fill("a", 60 * E9, 104 * E9)
    order = await rig.state("a", State.ORDER_STATE_FILLED)
    assert order.cumulative_quantity_e9 == 100 * E9
    assert not (await rig.account()).account.alarms


# --- the state machine, driven -----------------------------------------------------------------------------------


async def test_a_fill_after_the_cancel(rig: Rig) -> None:
    await rig.submit(limit_order("a", 100, 105))
    await rig.execution.CancelOrder(
        execution_pb2.CancelOrderRequest(request_id=new_id(), account_id=ACCOUNT, client_order_id="a")
    )
    assert (await rig.order("a")).state == State.ORDER_STATE_CANCELED
    rig.book.fill("a", 30 * E9, 104 * E9)
    await rig.until(lambda a: bool(a.positions))
    assert (await rig.order("a")).state == State.ORDER_STATE_CANCELED
    rig.book.fill("a", 70 * E9, 104 * E9)
    order = await rig.state("a", State.ORDER_STATE_FILLED)
    assert (order.cumulative_quantity_e9, order.leaves_quantity_e9, order.overfill_quantity_e9) == (100 * E9, 0, 0)
    account = (await rig.account()).account
    assert (account.positions[0].quantity_e9, list(account.alarms)) == (100 * E9, [])


async def test_a_trigger_and_a_fill_while_a_cancel_is_pending(rig: Rig) -> None:
    stop = market_order("a", "IBM", 100, order_type=trading_pb2.ORDER_TYPE_STOP_MARKET, trigger_price_e9=106 * E9)
    await rig.submit(stop)
    rig.book.silent = True
    await rig.execution.CancelOrder(
        execution_pb2.CancelOrderRequest(request_id=new_id(), account_id=ACCOUNT, client_order_id="a")
    )
    assert (await rig.order("a")).state == State.ORDER_STATE_UNRESOLVED
    reserved = (await rig.account()).account.reserved
    assert money_e9(reserved) > 0
    rig.book.report(Kind.KIND_TRIGGERED, "a")
    await rig.state("a", State.ORDER_STATE_TRIGGERED)
    rig.book.fill("a", 40 * E9, 106 * E9)
    await rig.state("a", State.ORDER_STATE_PARTIALLY_FILLED)
    rig.book.report(Kind.KIND_EXPIRED, "a", reason="day")
    await rig.state("a", State.ORDER_STATE_EXPIRED)
    assert money_e9((await rig.account()).account.reserved) == 0


async def test_a_replace_without_an_answer_keeps_the_larger_terms_reserved(rig: Rig) -> None:
    await rig.submit(limit_order("a", 100, 100))
    small = money_e9((await rig.account()).account.reserved)
    rig.book.silent = True
    await rig.execution.ReplaceOrder(
        execution_pb2.ReplaceOrderRequest(
            request_id=new_id(), account_id=ACCOUNT, client_order_id="a", quantity_e9=200 * E9
        )
    )
    assert (await rig.order("a")).state == State.ORDER_STATE_UNRESOLVED
    assert money_e9((await rig.account()).account.reserved) > 19 * small // 10
    await rig.restart()
    assert money_e9((await rig.account()).account.reserved) < 11 * small // 10  # found working on its old terms
    assert (await rig.order("a")).state == State.ORDER_STATE_ACCEPTED


async def test_a_venue_may_take_quantity_away_unasked_and_nothing_else(rig: Rig) -> None:
    await rig.submit(limit_order("a", 100, 100))
    before = money_e9((await rig.account()).account.reserved)
    less = venue_pb2.VenueOrder()
    less.CopyFrom(rig.book.orders["a"].order)
    less.quantity_e9 = 50 * E9
    rig.book.report(Kind.KIND_REPLACED, "a", order=less, reason="SELF_TRADE")
    account = await rig.until(lambda a: money_e9(a.reserved) <= before // 2)
    order = await rig.order("a")
    assert (order.state, order.leaves_quantity_e9) == (State.ORDER_STATE_ACCEPTED, 50 * E9)
    assert not account.alarms
    less.quantity_e9 = 51 * E9
    rig.book.report(Kind.KIND_REPLACED, "a", order=less)
    account = await rig.until(lambda a: a.trading_state == trading_pb2.TRADING_STATE_HALTED)
    assert "more than is reserved" in account.alarms[0].detail


# --- reconciliation --------------------------------------------------------------------------------------------


async def test_books_that_agree_leave_no_trace(rig: Rig) -> None:
    await rig.submit(market_order("a", "IBM", 100), limit_order("b", 10, 90))
    rig.book.fill("a", 100 * E9, 104 * E9)
    await rig.state("a", State.ORDER_STATE_FILLED)
    before = (await rig.account()).event_hash
    found = await rig.reconciliation()
    assert (found.reconciled, found.orders, list(found.differences)) == (True, 2, [])
    await rig.restart()
    assert (await rig.account()).event_hash == before
    assert (await rig.reconciliation(run=False)).trigger == execution_pb2.Reconciliation.TRIGGER_START


async def test_a_missing_fill_is_inferred_marked_and_not_booked_twice(rig: Rig) -> None:
    await rig.submit(limit_order("a", 100, 105))
    rig.book.take("a", 40 * E9)
    found = await rig.reconciliation()
    assert found.reconciled
    [difference] = found.differences
    assert (difference.kind, difference.ledger_quantity_e9, difference.venue_quantity_e9) == (
        Difference.KIND_MISSING_FILL, 0, 40 * E9,
    )  # fmt: skip
    assert difference.action == "inferred a fill of 40 at 105"
    fills = (await rig.execution.ListFills(execution_pb2.ListFillsRequest(account_id=ACCOUNT))).fills
    assert [(fill.inferred, fill.quantity_e9) for fill in fills] == [(True, 40 * E9)]
    # The report comes late after all: the fill is known.
    rig.book.report(
        Kind.KIND_FILL, "a", trade_id="late", last_quantity_e9=40 * E9, last_price_e9=104 * E9,
        cumulative_quantity_e9=40 * E9,
    )  # fmt: skip
    rig.book.fill("a", 60 * E9, 104 * E9)
    order = await rig.state("a", State.ORDER_STATE_FILLED)
    assert (order.cumulative_quantity_e9, order.overfill_quantity_e9) == (100 * E9, 0)
    assert (await rig.reconciliation()).differences == []


@pytest.mark.parametrize("rig", [{"orphan_orders": "cancel"}, {"orphan_orders": "adopt"}], indirect=True)
async def test_an_orphan_order_is_cancelled_or_adopted(rig: Rig, request: pytest.FixtureRequest) -> None:
    await rig.submit(limit_order("mine", 10, 90))
    orphan = venue_pb2.VenueOrder()
    orphan.CopyFrom(rig.book.orders["mine"].order)
    orphan.client_order_id, orphan.quantity_e9 = "orphan", 20 * E9
    rig.book.enter(orphan)
    found = await rig.reconciliation()
    assert found.reconciled
    adopts = request.node.callspec.params["rig"]["orphan_orders"] == "adopt"
    assert [d.action for d in found.differences] == ["adopted" if adopts else "cancelled at the venue"]
    assert rig.book.orders["orphan"].open == adopts
    if adopts:
        order = await rig.order("orphan")
        assert (order.state, order.leaves_quantity_e9) == (State.ORDER_STATE_ACCEPTED, 20 * E9)
        rig.book.fill("orphan", 20 * E9, 90 * E9)
        await rig.state("orphan", State.ORDER_STATE_FILLED)
        before = (await rig.account()).account
        await rig.restart()
        assert (await rig.account()).account == before


async def test_a_position_that_nothing_explains_halts_trading(rig: Rig) -> None:
    await rig.submit(limit_order("a", 10, 105))
    stranger = venue_pb2.VenueOrder()
    stranger.CopyFrom(rig.book.orders["a"].order)
    stranger.client_order_id = "stranger"
    rig.book.enter(stranger)
    rig.book.take("stranger", 10 * E9)
    found = await rig.reconciliation()
    assert not found.reconciled
    assert [d.kind for d in found.differences] == [Difference.KIND_ORPHAN_ORDER]
    account = await rig.until(lambda a: a.trading_state == trading_pb2.TRADING_STATE_HALTED)
    assert account.alarms[-1].kind == Alarm.KIND_UNRECONCILED
    assert "stranger" in account.trading_state_reason
    # The same again is no news.
    seq = (await rig.account()).applied_seq
    await rig.reconciliation()
    assert (await rig.account()).applied_seq == seq


async def test_an_order_that_the_venue_forgot_halts_trading_and_keeps_its_exposure(rig: Rig) -> None:
    await rig.submit(limit_order("a", 10, 105))
    del rig.book.orders["a"]
    found = await rig.reconciliation()
    assert [(d.kind, d.action) for d in found.differences] == [(Difference.KIND_ORDER_UNKNOWN_TO_VENUE, "")]
    account = await rig.until(lambda a: a.trading_state == trading_pb2.TRADING_STATE_HALTED)
    assert money_e9(account.reserved) > 0


@pytest.mark.parametrize("rig", [{"venue_timeout_s": 30}], indirect=True)
async def test_orders_that_were_durable_and_never_sent_are_sent_at_the_next_start(rig: Rig) -> None:
    """A kill of everything between the two: no trace in the ledger, the orders in one request as they were."""
    rig.book.unreachable = True
    call = asyncio.ensure_future(rig.submit(market_order("a", "IBM", 100), limit_order("b", 10, 90)))
    await rig.until(lambda account: money_e9(account.reserved) > 11_000 * E9)
    seq = (await rig.account()).applied_seq
    await rig.system.stop("execution")
    with pytest.raises(grpc.aio.AioRpcError):
        await call
    rig.book.unreachable = False
    await rig.system.start("execution")
    for name in ("a", "b"):
        await rig.state(name, State.ORDER_STATE_ACCEPTED)
    [sent] = rig.book.submissions
    assert [order.client_order_id for order in sent.orders] == ["a", "b"]
    assert (await rig.account()).applied_seq == seq + 2  # accepted, twice, and nothing else


async def test_a_failed_query_is_not_a_flat_position(rig: Rig) -> None:
    await rig.submit(market_order("a", "IBM", 100), limit_order("b", 10, 90))
    rig.book.fill("a", 100 * E9, 104 * E9)
    await rig.state("a", State.ORDER_STATE_FILLED)
    before = await rig.account()
    rig.book.blind = True
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rig.reconciliation()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert await rig.account() == before


async def test_after_a_reconnect_the_venue_is_asked_by_itself(rig: Rig) -> None:
    """No restart of execution: the order in doubt is settled when the venue is back."""
    await rig.submit(limit_order("b", 10, 90))
    await rig.system.stop("venue")
    [lost] = await rig.submit(market_order("lost", "IBM", 100))
    assert lost.state == State.ORDER_STATE_UNRESOLVED
    rig.book.close("b")
    await rig.system.start("venue")
    await rig.state("lost", State.ORDER_STATE_REJECTED)
    await rig.state("b", State.ORDER_STATE_CANCELED)
    found = await rig.reconciliation(run=False)
    assert found.trigger == execution_pb2.Reconciliation.TRIGGER_RECONNECT
    assert money_e9((await rig.account()).account.reserved) == 0


@pytest.mark.parametrize("rig", [{"reconcile_interval_s": 0.2}], indirect=True)
async def test_the_venue_is_asked_from_time_to_time(rig: Rig) -> None:
    await rig.submit(limit_order("a", 10, 105))
    rig.book.take("a", 10 * E9)
    order = await rig.state("a", State.ORDER_STATE_FILLED)
    assert order.cumulative_quantity_e9 == 10 * E9
    found = await rig.reconciliation(run=False)
    assert found.trigger == execution_pb2.Reconciliation.TRIGGER_PERIODIC
