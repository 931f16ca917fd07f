"""The view of the ledger, fed by a real journal over a real event log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from alphamesh.audit.v1 import event_pb2
from alphamesh.execution.v1 import order_pb2
from alphamesh.type.v1 import trading_pb2
from python_services.kit.errors import ServiceError
from python_services.kit.eventlog import LocalEventLog
from python_services.kit.ledger_view import AccountView, LedgerMismatchError, LedgerView
from python_services.kit.views import Follower
from tests.unit.python_services.kit.ledger_events import ACCOUNT, NANO, LedgerWriter, instruments

ACTIVE, REDUCE_ONLY = trading_pb2.TRADING_STATE_ACTIVE, trading_pb2.TRADING_STATE_REDUCE_ONLY
HALTED = trading_pb2.TRADING_STATE_HALTED


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[LedgerWriter]:
    writer = LedgerWriter(tmp_path)
    yield writer
    writer.journal.close()


async def follow(ledger: LedgerWriter) -> LedgerView:
    """The view after all events, followed through the event log."""
    await ledger.journal.commit()
    log, view = LocalEventLog(), LedgerView(instruments("AAPL", "IBM"))
    log.attach(ledger.journal)

    async def refetch(from_seq: int) -> AsyncIterator[event_pb2.EventFrame]:
        for frame in ledger.journal.read(from_seq):
            yield frame

    follower = Follower(log, "execution", view.apply, refetch)
    running = asyncio.create_task(follower.run())
    waiting = asyncio.create_task(follower.wait_for(ledger.journal.last_seq))
    done, _ = await asyncio.wait({running, waiting}, timeout=10.0, return_when=asyncio.FIRST_COMPLETED)
    for task in (running, waiting):
        task.cancel()
    await asyncio.gather(running, waiting, return_exceptions=True)
    for task in done:
        await task
    return view


async def account_of(ledger: LedgerWriter) -> AccountView:
    return (await follow(ledger)).account(ACCOUNT)


async def test_fills_move_cash_positions_fees_and_turnover(ledger: LedgerWriter) -> None:
    ledger.open(100_000)
    ledger.trade("AAPL", 100, 200)
    ledger.trade("AAPL", -40, 250)
    account = await account_of(ledger)
    assert account.cash_e9 == (100_000 - 20_000 + 10_000 - 2) * NANO
    assert account.quantity_e9("AAPL") == 60 * NANO
    assert account.holdings["AAPL"].cost_e9 == 60 * 200 * NANO
    assert (account.fees_e9, account.traded_notional_e9, account.fills) == (2 * NANO, 30_000 * NANO, 2)
    assert account.orders == {}


async def test_a_trade_through_zero_opens_the_rest_at_its_own_price(ledger: LedgerWriter) -> None:
    ledger.open(100_000)
    ledger.trade("AAPL", 10, 100)
    ledger.trade("AAPL", -25, 120)
    holding = (await account_of(ledger)).holdings["AAPL"]
    assert (holding.quantity_e9, holding.cost_e9) == (-15 * NANO, -15 * 120 * NANO)


async def test_a_flat_position_is_gone(ledger: LedgerWriter) -> None:
    ledger.open(100_000)
    ledger.trade("AAPL", 10, 100)
    ledger.trade("AAPL", -10, 90)
    account = await account_of(ledger)
    assert account.holdings == {}
    assert account.quantity_e9("AAPL") == 0


async def test_leaves_of_working_orders(ledger: LedgerWriter) -> None:
    ledger.open(100_000)
    partly = ledger.submit("AAPL", 100)
    ledger.fill(partly, "AAPL", 30, 100 * NANO, state=order_pb2.ORDER_STATE_PARTIALLY_FILLED)
    ledger.submit("AAPL", -50)
    cut = ledger.submit("IBM", 80, approved=20)
    ledger.submit("IBM", 10, approved=0)  # denied
    account = await account_of(ledger)
    assert account.open_quantities() == {"AAPL": (70 * NANO, 50 * NANO), "IBM": (20 * NANO, 0)}

    ledger.change(cut, order_pb2.ORDER_STATE_CANCELED)
    ledger.change(partly, order_pb2.ORDER_STATE_UNRESOLVED)
    account = await account_of(ledger)
    assert account.open_quantities() == {"AAPL": (70 * NANO, 50 * NANO)}


async def test_a_fill_after_the_cancel_still_counts(ledger: LedgerWriter) -> None:
    ledger.open(100_000)
    order = ledger.submit("AAPL", 10)
    ledger.change(order, order_pb2.ORDER_STATE_CANCELED)
    ledger.fill(order, "AAPL", 10, 100 * NANO)
    account = await account_of(ledger)
    assert account.quantity_e9("AAPL") == 10 * NANO
    assert account.open_quantities() == {}


async def test_valuations_move_peak_and_day_start(ledger: LedgerWriter) -> None:
    ledger.open(100_000)
    ledger.trade("AAPL", 100, 200)
    for day, mark in ((1, 210), (2, 190), (2, 180), (3, 185)):
        ledger.value({"AAPL": mark}, day)
    account = await account_of(ledger)
    base = (100_000 - 20_000 - 1) * NANO
    # Two valuations of one moment count once, and the later stands.
    assert account.equity_e9 == [base + 100 * mark * NANO for mark in (210, 180, 185)]
    assert account.peak_equity_e9 == base + 21_000 * NANO
    assert account.day_start_equity_e9 == base + 18_000 * NANO
    assert account.marks_e9 == {"AAPL": 185 * NANO}


async def test_the_stricter_trading_state_is_in_force(ledger: LedgerWriter) -> None:
    ledger.open(1_000)
    assert (await account_of(ledger)).trading_state == ACTIVE
    ledger.policy(7, REDUCE_ONLY)
    ledger.state(HALTED)
    account = await account_of(ledger)
    assert (account.trading_state, account.policy_version) == (HALTED, 7)
    ledger.state(ACTIVE)
    assert (await account_of(ledger)).trading_state == REDUCE_ONLY


async def test_the_multiplier_counts(ledger: LedgerWriter) -> None:
    ledger.open(100_000)
    await ledger.journal.commit()
    view = LedgerView(instruments("AAPL", multiplier_e9=50 * NANO))
    assert view.notional_e9("AAPL", 2 * NANO, -3 * NANO) == -300 * NANO


async def test_policies_do_not_touch_what_a_proposal_rests_on(ledger: LedgerWriter) -> None:
    ledger.open(1_000)
    ledger.value({}, 1)
    ledger.policy(1, ACTIVE)
    account = await account_of(ledger)
    assert (account.seq, account.policy_seq) == (2, 3)


async def test_a_rebuilt_view_equals_the_one_it_replaces(ledger: LedgerWriter) -> None:
    ledger.open(100_000)
    ledger.trade("AAPL", 100, 200)
    ledger.value({"AAPL": 201, "IBM": 100}, 1)
    first = await follow(ledger)
    assert (await follow(ledger)).accounts == first.accounts


async def test_cash_that_is_not_the_ledgers_stops_the_view(ledger: LedgerWriter) -> None:
    ledger.open(100_000)
    ledger.value({}, 1, cash_e9=99_999 * NANO)
    with pytest.raises(LedgerMismatchError, match=r"cash 100000 in the view and 99999 in the ledger at seq 2"):
        await follow(ledger)


async def test_an_unknown_account_is_named(ledger: LedgerWriter) -> None:
    ledger.open(1)
    view = await follow(ledger)
    with pytest.raises(ServiceError, match="'nobody' is not known"):
        view.account("nobody")
