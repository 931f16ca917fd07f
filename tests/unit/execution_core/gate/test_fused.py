"""Gates and a book together: after any flow, the accounts hold what the book says they hold."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from execution_core.errors import InvalidValueError
from execution_core.gate import Gate, InstrumentFacts, Policy, reasons
from execution_core.gate.fused import GatedBook
from execution_core.matching import MatchingEngine
from execution_core.types import (
    DenialReason,
    LiquidityFlag,
    MatchEventKind,
    OrderType,
    Side,
    TimeInForce,
    TradingState,
)

NOW = 1_700_000_000 * 10**9
TICK_VALUE = 1_000
MAKER, TAKER = -150, 333


def open_gate(position_limit: int = 200) -> Gate:
    gate = Gate(instruments=1)
    facts = InstrumentFacts(tick_value=TICK_VALUE, shortable=True, fee_ppm=1_000, position_limit=position_limit)
    gate.set_instrument(0, facts)
    gate.set_price(0, 1_000, NOW)
    gate.set_account(cash=10**12, day_start_equity=0, peak_equity=0)
    gate.set_policy(Policy(version=1, ts_ns=NOW, max_age_ns=10**12, price_max_age_ns=10**12))
    gate.set_trading_state(TradingState.ACTIVE)
    return gate


def floor(accounts: int = 2) -> tuple[GatedBook, list[Gate]]:
    """A book and the gates of accounts 1, 2, ..., the first of which is at index 1."""
    gates = [open_gate() for _ in range(accounts + 1)]
    seats = {account: (gates[account], 0) for account in range(1, accounts + 1)}
    return GatedBook(MatchingEngine(), seats, maker_fee_ppm=MAKER, taker_fee_ppm=TAKER), gates


def test_a_fill_reaches_both_accounts() -> None:
    book, (_, maker, taker) = floor()
    _, _, resting, _ = book.submit(1, Side.SELL, 10, NOW, 1_000)
    assert maker.reserved_lots(resting) == 10
    *_, events = book.submit(2, Side.BUY, 4, NOW, 1_002)
    assert events["kind"].tolist() == [MatchEventKind.ACCEPTED, MatchEventKind.FILL, MatchEventKind.FILL]
    assert (taker.position(0), maker.position(0)) == (4, -4)
    value = 4 * 1_000 * TICK_VALUE
    assert taker.cash == 10**12 - value - 1_332
    assert maker.cash == 10**12 + value + 600
    assert (taker.exposure()["open_orders"], maker.reserved_lots(resting)) == (0, 6)


def test_a_denied_order_never_reaches_the_book() -> None:
    book, _ = floor()
    mask, lots, _, events = book.submit(1, Side.BUY, 201, NOW, 1_000)
    assert reasons(mask) == (DenialReason.POSITION_LIMIT,)
    assert (lots, len(events), book.book.order_count) == (0, 0, 0)


def test_as_much_as_fits_is_what_the_book_gets() -> None:
    book, _ = floor()
    _, lots, _, _ = book.submit(1, Side.BUY, 201, NOW, 1_000, mode=2)
    assert lots == 200
    assert book.book.orders()["quantity"].tolist() == [200]


def test_what_the_book_refuses_is_released() -> None:
    book, gates = floor()
    *_, events = book.submit(1, Side.BUY, 5, NOW, 1_000, OrderType.ICEBERG, display_quantity=9)
    assert events["kind"].tolist() == [MatchEventKind.REJECTED]
    assert gates[1].exposure()["open_orders"] == 0


def test_the_remainder_of_an_immediate_order_is_released() -> None:
    book, (_, _, taker) = floor()
    book.submit(1, Side.SELL, 3, NOW, 1_000)
    book.submit(2, Side.BUY, 10, NOW, 1_000, time_in_force=TimeInForce.IOC)
    assert taker.position(0) == 3
    assert taker.exposure()["open_orders"] == taker.exposure()["reserved_cash"] == 0


def test_a_triggered_stop_limit_rests_and_a_closing_halts_reservation_ends() -> None:
    book, (_, maker, _) = floor()
    _, _, stop, _ = book.submit(1, Side.BUY, 5, NOW, 1_004, OrderType.STOP_LIMIT, stop_price=1_002)
    book.submit(2, Side.SELL, 1, NOW, 1_003)
    assert maker.reserved_lots(stop) == 5
    book.book.submit(Side.BUY, 1, 1_003, 0, NOW)  # an account without a gate trades: the stop fires
    book.settle()
    assert book.book.orders()["price"].tolist() == [1_004]
    # Its own sell at the price where its buy rests now would be a self-trade.
    mask, *_ = book.submit(1, Side.SELL, 1, NOW, 1_004)
    assert DenialReason.SELF_TRADE in reasons(mask)
    book.book.mass_cancel(1, NOW)
    book.settle()
    assert maker.exposure()["open_orders"] == 0


def test_a_gate_that_moves_keeps_its_seat() -> None:
    book, gates = floor()
    gates[1].grow(instruments=500)
    gates[2].restore(gates[2].snapshot())
    book.submit(1, Side.SELL, 10, NOW, 1_000)
    book.submit(2, Side.BUY, 4, NOW, 1_000)
    assert (gates[1].position(0), gates[2].position(0)) == (-4, 4)


def test_a_random_flow_leaves_gates_and_book_agreed() -> None:
    draw = np.random.default_rng(8)
    book, gates = floor(3)
    cash = dict.fromkeys((1, 2, 3), 10**12)
    ids: dict[int, list[int]] = {1: [], 2: [], 3: []}
    for step in range(600):
        account = int(draw.integers(1, 4))
        if draw.random() < 0.3 and ids[account]:
            events = book.cancel(account, ids[account].pop(int(draw.integers(len(ids[account])))), NOW + step)
        else:
            kind = OrderType.LIMIT if draw.random() < 0.8 else OrderType.MARKET
            price = int(draw.integers(990, 1_011)) if kind == OrderType.LIMIT else 0
            force = TimeInForce.DAY if kind == OrderType.LIMIT else TimeInForce.IOC
            side, lots = int(draw.integers(1, 3)), int(draw.integers(1, 30))
            *_, events = book.submit(account, side, lots, NOW + step, price, kind, force)
            if len(events) and events["kind"][0] == MatchEventKind.ACCEPTED:
                ids[account].append(int(events["order_id"][0]))
        for event in events[events["kind"] == MatchEventKind.FILL]:
            value = int(event["quantity"]) * int(event["price"]) * TICK_VALUE
            rate = MAKER if event["liquidity"] == LiquidityFlag.MAKER else TAKER
            cash[int(event["account"])] += (-value if event["side"] == Side.BUY else value) - -(-value * rate // 10**6)
    live = book.book.orders()
    for account in (1, 2, 3):
        mine = live[live["account"] == account]
        gate = gates[account]
        assert gate.position(0) == book.book.position(account)
        assert gate.cash == cash[account]
        assert gate.exposure()["open_orders"] == len(mine)
        for order in mine:
            assert gate.reserved_lots(int(order["client_tag"])) == order["leaves"]
    assert any(gates[account].position(0) for account in (1, 2, 3))
    assert sum(gates[account].position(0) for account in (1, 2, 3)) == 0


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda b: b.submit(9, 1, 1, NOW, 1_000), "account"),
        (lambda b: b.submit(1, 1, 1, NOW, 1_000, self_trade=256), "self_trade"),
        (lambda b: b.submit(1, 1, 2**64, NOW, 1_000), "order"),
        (lambda b: b.submit(1, 1, 1, NOW, 1_000.0), "order"),
        (lambda b: b.submit(1, 0, 1, NOW, 1_000), "side"),
        (lambda b: b.submit(1, 1, 1, -1, 1_000), "now_ns"),
        (lambda b: b.cancel(-1, 1, NOW), "account"),
        (lambda b: b.cancel(1, 2**64, NOW), "order_id"),
        (lambda b: GatedBook(b.book, {5_000: (open_gate(), 0)}), "account"),
        (lambda b: GatedBook(b.book, {1: (open_gate(), 1)}), "instrument"),
        (lambda b: GatedBook(b.book, {}, maker_fee_ppm=2_000_000), "maker_fee_ppm"),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(call: Callable[[GatedBook], object], names: str) -> None:
    book, gates = floor()
    before = book.book.snapshot().tobytes(), gates[1].snapshot().tobytes()
    with pytest.raises(InvalidValueError, match=names):
        call(book)
    assert (book.book.snapshot().tobytes(), gates[1].snapshot().tobytes()) == before
