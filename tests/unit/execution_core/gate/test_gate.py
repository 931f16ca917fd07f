"""Baskets, reservations and their ends, exchanges, copies, and what the gate refuses to be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from execution_core.errors import CapacityError, CoreError, InvalidArrayError, InvalidValueError
from execution_core.gate import Gate, InstrumentFacts, Mode, reasons
from execution_core.gate.layout import LOTS_MAX, MONEY_MAX, PRICE_MAX
from execution_core.types import GATE_ORDER, GATE_PRICE, VERDICT, DenialReason, OrderType, Side, TradingState
from tests.unit.execution_core.gate.pair import Pair, as_rows
from tests.unit.execution_core.gate.test_reasons import BUY, FACTS, NOW, POLICY, SELL, account


def test_a_new_gate_is_closed() -> None:
    gate = Gate(instruments=1)
    mask = int(gate.check(as_rows([BUY]), NOW)[0]["mask"])
    closed = {DenialReason.TRADING_HALTED, DenialReason.RISK_POLICY_STALE, DenialReason.INSTRUMENT_UNKNOWN}
    assert set(reasons(mask)) == closed
    assert reasons(mask)[0] == DenialReason.TRADING_HALTED


def test_orders_of_one_call_see_the_reservations_of_those_before() -> None:
    pair = account(replace(FACTS, position_limit=25))
    verdicts = pair.check([BUY, BUY, BUY, SELL], NOW)
    assert [verdict.lots for verdict in verdicts] == [10, 10, 0, 0]
    assert verdicts[2].reasons == {DenialReason.POSITION_LIMIT}
    assert verdicts[3].reasons == {DenialReason.SELF_TRADE}


def test_a_basket_is_all_or_nothing() -> None:
    pair = account(replace(FACTS, position_limit=25))
    verdicts = pair.check([BUY, BUY, BUY], NOW, mode=Mode.ALL)
    assert [verdict.lots for verdict in verdicts] == [0, 0, 0]
    assert [verdict.mask == 0 for verdict in verdicts] == [True, True, False]
    assert pair.gate.exposure()["open_orders"] == 0
    assert [verdict.lots for verdict in pair.check([BUY, BUY], NOW, mode=Mode.ALL)] == [10, 10]


def test_a_basket_gets_as_much_as_fits() -> None:
    pair = account(replace(FACTS, position_limit=25))
    verdicts = pair.check([BUY, BUY, BUY, BUY], NOW, mode=Mode.FIT)
    assert [verdict.lots for verdict in verdicts] == [10, 10, 5, 0]
    assert verdicts[2].reasons == {DenialReason.POSITION_LIMIT}


def test_what_fits_below_the_minimum_is_nothing() -> None:
    pair = account(replace(FACTS, position_limit=25, min_lots=6))
    verdicts = pair.check([BUY, BUY, BUY], NOW, mode=Mode.FIT)
    assert [verdict.lots for verdict in verdicts] == [10, 10, 0]
    assert verdicts[2].reasons == {DenialReason.POSITION_LIMIT, DenialReason.QUANTITY_BELOW_MINIMUM}


def test_a_flip_is_cut_to_the_reduction() -> None:
    pair = account()
    pair.set_position(0, 7)
    pair.set_trading_state(TradingState.REDUCE_ONLY)
    assert pair.check([SELL], NOW, mode=Mode.FIT)[0].lots == 7


def test_a_remainder_below_the_minimum_notional_can_be_closed_but_not_opened() -> None:
    pair = account(replace(FACTS, min_notional=1_001))
    pair.set_position(0, 1)
    sell, buy = (pair.check([replace(order, lots=1)], NOW, reserve=False)[0] for order in (SELL, BUY))
    assert sell.lots == 1
    assert buy.reasons == {DenialReason.NOTIONAL_BELOW_MINIMUM}


def test_two_reductions_together_may_not_flip() -> None:
    pair = account()
    pair.set_position(0, 15)
    pair.set_trading_state(TradingState.FLATTEN)
    verdicts = pair.check([SELL, SELL, replace(SELL, lots=5)], NOW)
    assert [verdict.lots for verdict in verdicts] == [10, 0, 5]


def test_a_reservation_becomes_a_position_fill_by_fill() -> None:
    pair = account(replace(FACTS, fee_ppm=1_000))
    number = pair.check([BUY], NOW)[0].reservation
    assert pair.gate.exposure()["reserved_cash"] == 10 * 1_001
    assert pair.fill(number, 0, Side.BUY, 4, 99, fee=2) == 0
    assert pair.gate.cash == 10**6 - 4 * 990 - 2
    assert pair.gate.reserved_lots(pair.handles[number]) == 6
    assert pair.fill(number, 0, Side.BUY, 6, 100) == 0
    assert pair.gate.exposure()["reserved_cash"] == pair.gate.exposure()["open_orders"] == 0
    assert pair.gate.position(0) == 10


def test_overfills_and_late_fills_are_taken_and_told() -> None:
    pair = account()
    number = pair.check([BUY], NOW)[0].reservation
    assert pair.fill(number, 0, Side.BUY, 12, 100) == 2
    assert pair.fill(number, 0, Side.BUY, 3, 100) == 3
    assert pair.gate.position(0) == 15


def test_a_handle_ends_once_and_its_slot_is_not_mistaken_for_it() -> None:
    pair = account()
    gate = pair.gate
    first = pair.check([BUY], NOW)[0].reservation
    old = pair.handles[first]
    assert pair.release(first, 4) == 4
    assert pair.release(first) == 6
    second = pair.check([BUY], NOW)[0].reservation
    assert gate.reserved_lots(pair.handles[second]) == 10
    assert gate.reserved_lots(old) == 0
    for end in (gate.release, gate.expire):
        with pytest.raises(InvalidValueError, match="not open"):
            end(old)
    assert gate.expire(pair.handles[second]) == 10


def test_an_exchange_judges_as_if_the_old_order_were_gone() -> None:
    pair = account(replace(FACTS, position_limit=12))
    number = pair.check([BUY], NOW)[0].reservation
    assert pair.check([replace(BUY, lots=12)], NOW)[0].lots == 0
    denied = pair.exchange(number, replace(BUY, lots=13), NOW)
    assert denied.reasons == {DenialReason.POSITION_LIMIT}
    granted = pair.exchange(number, replace(BUY, lots=12, price=101), NOW)
    assert granted.lots == 12
    assert pair.gate.exposure()["open_orders"] == 1
    assert pair.gate.exposure()["reserved_cash"] == 12 * 1_010
    with pytest.raises(InvalidValueError, match="not open"):
        pair.gate.exchange(pair.handles[number], as_rows([BUY]), NOW)


def test_an_exchange_needs_no_free_reservation() -> None:
    pair = Pair(reservations=1)
    source = account()
    pair.set_instrument(0, FACTS)
    pair.set_price(0, 100, NOW)
    pair.set_account(cash=10**6, day_start_equity=0, peak_equity=0)
    pair.set_policy(POLICY)
    pair.set_trading_state(TradingState.ACTIVE)
    number = pair.check([BUY], NOW)[0].reservation
    assert pair.check([BUY], NOW)[0].reasons == {DenialReason.RATE_LIMIT_EXCEEDED}
    assert pair.exchange(number, replace(BUY, lots=3), NOW).lots == 3
    assert source.gate.cash == 10**6


def test_one_order_given_as_numbers_gets_the_same_verdict() -> None:
    pair = account(replace(FACTS, position_limit=12))
    gate = pair.gate
    for order in (
        BUY,
        replace(BUY, lots=13),
        replace(SELL, type=OrderType.MARKET, price=0),
        replace(BUY, instrument=9),
    ):
        for mode in Mode:
            row = gate.check(as_rows([order]), NOW, mode=mode, reserve=False)[0]
            one = gate.check_one(
                order.instrument, order.side, order.type, order.lots, NOW, price=order.price, mode=mode, reserve=False
            )
            assert one == (int(row["mask"]), int(row["lots"]), 0)
    mask, lots, handle = gate.check_one(0, Side.BUY, OrderType.LIMIT, 5, NOW, 100, client_order_hash=5)
    assert (mask, lots, gate.reserved_lots(handle)) == (0, 5, 5)


def test_duplicates_are_remembered_for_as_many_orders_as_promised() -> None:
    pair = Pair(reservations=4, recent=8)
    assert pair.twin.memory >= 8
    pair.set_instrument(0, FACTS)
    pair.set_price(0, 100, NOW)
    pair.set_account(cash=10**9, day_start_equity=0, peak_equity=0)
    pair.set_policy(POLICY)
    pair.set_trading_state(TradingState.ACTIVE)
    for k in range(100):
        verdict = pair.check([replace(BUY, client_order_hash=k + 1)], NOW + k)[0]
        pair.release(verdict.reservation)
        for back in (1, 8):
            if k >= back:
                again = replace(BUY, client_order_hash=k + 2 - back)
                assert pair.check([again], NOW + k)[0].reasons == {DenialReason.DUPLICATE_ORDER}


def test_rate_limits_slide_exactly() -> None:
    second = 10**9
    policy = replace(POLICY, max_age_ns=10**12, price_max_age_ns=10**12, burst_orders=2, rate_orders=3)
    pair = account(policy=replace(policy, rate_window_ns=10 * second))
    times = [0, 0.6, 0.9, 1.0, 1.5, 10.0, 10.5, 10.7, 11.0]
    passed = [bool(pair.check([BUY], NOW + int(t * second))[0].lots) for t in times]
    #         0     .6    .9     1.0   1.5    10.0  10.5   10.7   11.0
    assert passed == [True, True, False, True, False, True, False, True, True]


def test_prices_move_worst_cases_of_positions_and_open_orders() -> None:
    pair = account()
    pair.set_position(0, 5)
    pair.check([BUY, replace(SELL, lots=30, price=105)], NOW)
    pair.set_price(0, 110, NOW)
    exposure = pair.gate.exposure()
    assert exposure["gross"] == 25 * 1_100
    assert (exposure["net_long"], exposure["net_short"]) == (15 * 1_100, 25 * 1_100)
    pair.gate.set_tick_value(0, 20)
    assert pair.gate.exposure()["gross"] == 25 * 2_200


def test_sectors_can_be_changed_under_open_orders() -> None:
    pair = account()
    pair.check([BUY], NOW)
    pair.set_instrument(0, replace(FACTS, sector=2))
    pair.gate.set_sector_limit(2, 10_000)
    pair.twin.sector_limits[2] = 10_000
    assert pair.check([replace(BUY, lots=1)], NOW)[0].reasons == {DenialReason.SECTOR_LIMIT}
    assert pair.check([replace(BUY, lots=1, instrument=1)], NOW)[0].lots == 1


def test_a_snapshot_restores_to_the_bit_and_an_edited_one_is_refused() -> None:
    pair = account()
    number = pair.check([replace(BUY, client_order_hash=4)], NOW)[0].reservation
    snapshot, digest = pair.gate.snapshot(), pair.gate.digest()
    pair.release(number)
    assert pair.gate.digest() != digest
    other = Gate(instruments=1, reservations=1, sectors=1, recent=1)
    other.restore(snapshot)
    assert other.digest() == digest
    assert other.reserved_lots(pair.handles[number]) == 10
    duplicate = other.check(as_rows([replace(BUY, client_order_hash=4)]), NOW)[0]
    assert reasons(duplicate["mask"]) == (DenialReason.DUPLICATE_ORDER,)
    gross = np.flatnonzero(snapshot == 10_000)
    for word in (gross[0], 0):
        bad = snapshot.copy()
        bad[word] += 1
        with pytest.raises(InvalidArrayError):
            other.restore(bad)
    with pytest.raises(InvalidArrayError):
        other.restore(snapshot[:-1])
    assert other.digest() == digest


def test_growing_keeps_everything() -> None:
    pair = account()
    number = pair.check([replace(BUY, client_order_hash=4)], NOW)[0].reservation
    pair.gate.grow(instruments=1000)
    pair.agree()
    pair.set_instrument(999, FACTS)
    pair.set_price(999, 100, NOW)
    assert pair.check([replace(BUY, instrument=999)], NOW)[0].lots == 10
    assert pair.check([replace(BUY, client_order_hash=4)], NOW)[0].reasons == {DenialReason.DUPLICATE_ORDER}
    assert pair.fill(number, 0, Side.BUY, 10, 100) == 0
    with pytest.raises(InvalidValueError):
        pair.gate.grow(instruments=999)


def test_order_limits_are_set_for_all_instruments_at_once() -> None:
    pair = account()
    pair.gate.set_order_limits(min_notional=10_001, max_notional=20_000, shortable=False)
    for index in (0, 1):
        orders = [replace(BUY, instrument=index), replace(SELL, instrument=index, price=105)]
        masks = pair.gate.check(as_rows(orders), NOW)
        assert set(reasons(masks[0]["mask"])) == {DenialReason.NOTIONAL_BELOW_MINIMUM}
        assert set(reasons(masks[1]["mask"])) == {DenialReason.SHORT_NOT_ALLOWED}
    pair.gate.set_market(0, market_open=True, restricted=True)
    assert (pair.gate.restricted(0), pair.gate.restricted(1)) == (True, False)


def row(**fields: int) -> Any:
    rows = as_rows([BUY])
    for name, value in fields.items():
        rows[name] = value
    return rows


def read_only(length: int) -> Any:
    out = np.zeros(length, VERDICT)
    out.setflags(write=False)
    return out


BAD_CALLS: dict[str, Callable[[Gate, int], object]] = {
    "side": lambda g, h: g.check(row(side=3), NOW),
    "lots 0": lambda g, h: g.check(row(lots=0), NOW),
    "lots negative": lambda g, h: g.check(row(lots=-(2**63)), NOW),
    "lots too many": lambda g, h: g.check(row(lots=LOTS_MAX + 1), NOW),
    "price missing": lambda g, h: g.check(row(price=0), NOW),
    "price negative": lambda g, h: g.check(row(price=-1), NOW),
    "price too high": lambda g, h: g.check(row(price=PRICE_MAX + 1), NOW),
    "trigger": lambda g, h: g.check(row(type=OrderType.STOP_MARKET, trigger=-1), NOW),
    "type 0": lambda g, h: g.check(row(type=0), NOW),
    "type 200": lambda g, h: g.check(row(type=200), NOW),
    "time in force": lambda g, h: g.check(row(time_in_force=0), NOW),
    "flags": lambda g, h: g.check(row(flags=4), NOW),
    "expire": lambda g, h: g.check(row(time_in_force=5, expire_ns=-1), NOW),
    "second row": lambda g, h: g.check(np.concatenate([row(), row(side=0)]), NOW),
    "now negative": lambda g, h: g.check(row(), -1),
    "now too large": lambda g, h: g.check(row(), 2**63),
    "now a float": lambda g, h: g.check(row(), 1.5),  # type: ignore[arg-type]
    "orders of another dtype": lambda g, h: g.check(np.zeros(1, VERDICT), NOW),
    "orders 2-d": lambda g, h: g.check(np.zeros((1, 1), GATE_ORDER), NOW),
    "out too short": lambda g, h: g.check(row(), NOW, out=np.zeros(0, VERDICT)),
    "out read-only": lambda g, h: g.check(row(), NOW, out=read_only(1)),
    "out of another dtype": lambda g, h: g.check(row(), NOW, out=np.zeros(1, GATE_ORDER)),
    "one: side": lambda g, h: g.check_one(0, 0, 1, 1, NOW),
    "one: side far off": lambda g, h: g.check_one(0, 10**15, 1, 1, NOW),
    "one: side lowest": lambda g, h: g.check_one(0, -(2**63), 1, 1, NOW),
    "one: type far off": lambda g, h: g.check_one(0, 1, 2**63 - 1, 1, NOW),
    "one: flags": lambda g, h: g.check_one(0, 1, 1, 1, NOW, flags=-1),
    "one: time in force": lambda g, h: g.check_one(0, 1, 1, 1, NOW, time_in_force=2**40),
    "one: expire": lambda g, h: g.check_one(0, 1, 1, 1, NOW, time_in_force=5, expire_ns=-(2**63)),
    "one: lots lowest": lambda g, h: g.check_one(0, 1, 1, -(2**63), NOW),
    "one: price a float": lambda g, h: g.check_one(0, 1, 2, 1, NOW, 99.5),  # type: ignore[arg-type]
    "one: lots beyond 64 bits": lambda g, h: g.check_one(0, 1, 1, 2**64, NOW),
    "one: now": lambda g, h: g.check_one(0, 1, 1, 1, -1),
    "exchange of two": lambda g, h: g.exchange(h, np.concatenate([row(), row()]), NOW),
    "exchange malformed": lambda g, h: g.exchange(h, row(lots=0), NOW),
    "fill of nothing": lambda g, h: g.fill(h, instrument=0, side=Side.BUY, lots=0, price=1),
    "fill at 0": lambda g, h: g.fill(h, instrument=0, side=Side.BUY, lots=1, price=0),
    "fill on the wrong side": lambda g, h: g.fill(h, instrument=0, side=Side.SELL, lots=1, price=100),
    "fill of the wrong instrument": lambda g, h: g.fill(h, instrument=1, side=Side.BUY, lots=1, price=100),
    "fill of an unknown instrument": lambda g, h: g.fill(0, instrument=3, side=Side.BUY, lots=1, price=100),
    "fill beyond the range": lambda g, h: g.fill(0, instrument=0, side=Side.BUY, lots=LOTS_MAX, price=PRICE_MAX),
    "fill with NaN": lambda g, h: g.fill(h, instrument=0, side=Side.BUY, lots=1, price=float("nan")),  # type: ignore[arg-type]
    "release negative": lambda g, h: g.release(h, -1),
    "release of nobody's": lambda g, h: g.release(2**62),
    "price 0": lambda g, h: g.set_price(0, 0, NOW),
    "price beyond the range": lambda g, h: g.set_price(1, PRICE_MAX, NOW),
    "price of an unknown": lambda g, h: g.set_price(2, 1, NOW),
    "prices with a bad row": lambda g, h: g.set_prices(prices((0, 200), (0, 0))),
    "prices with an unknown": lambda g, h: g.set_prices(prices((0, 200), (3, 1))),
    "position": lambda g, h: g.set_position(0, LOTS_MAX + 1),
    "cash": lambda g, h: g.set_account(cash=MONEY_MAX + 1, day_start_equity=0, peak_equity=0),
    "sector": lambda g, h: g.set_instrument(0, replace(FACTS, sector=4)),
    "index": lambda g, h: g.set_instrument(4, FACTS),
    "tick value": lambda g, h: g.set_instrument(0, replace(FACTS, tick_value=MONEY_MAX)),
    "rate limit beyond memory": lambda g, h: g.set_policy(replace(POLICY, rate_orders=10**6)),
}


def prices(*rows: tuple[int, int]) -> Any:
    updates = np.zeros(len(rows), GATE_PRICE)
    for update, (index, price) in zip(updates, rows, strict=True):
        update["instrument"], update["price"] = index, price
    return updates


@pytest.mark.parametrize("name", BAD_CALLS)
def test_a_refused_call_changes_nothing(name: str) -> None:
    pair = account()
    handle = pair.handles[pair.check([BUY], NOW)[0].reservation]
    pair.gate.set_position(1, 10**12)
    before = pair.gate.digest()
    with pytest.raises(CoreError):
        BAD_CALLS[name](pair.gate, handle)
    assert pair.gate.digest() == before


@pytest.mark.parametrize(
    "build",
    [
        lambda: InstrumentFacts(tick_value=0),
        lambda: InstrumentFacts(tick_value=1, min_lots=0),
        lambda: InstrumentFacts(tick_value=1, max_notional=-1),
        lambda: InstrumentFacts(tick_value=1, fee_ppm=1_000_001),
        lambda: InstrumentFacts(tick_value=1.5),  # type: ignore[arg-type]
        lambda: replace(POLICY, version=0),
        lambda: replace(POLICY, collar_bps=10_001),
        lambda: replace(POLICY, gross_limit=MONEY_MAX + 1),
        lambda: replace(POLICY, leverage_limit_bps=0),
        lambda: replace(POLICY, burst_orders=0),
        lambda: replace(POLICY, var_use=-1),
        lambda: replace(POLICY, max_age_ns=float("nan")),  # type: ignore[arg-type]
        lambda: Gate(instruments=0),
        lambda: Gate(reservations=2**20),
    ],
)
def test_facts_and_policies_out_of_range_are_refused(build: Callable[[], object]) -> None:
    with pytest.raises(InvalidValueError):
        build()


def test_a_policy_whose_margins_leave_the_range_is_refused_whole() -> None:
    pair = account(replace(FACTS, tick_value=10**12), cash=MONEY_MAX)
    pair.set_position(0, 10**4)
    before = pair.gate.digest()
    with pytest.raises(InvalidValueError):
        pair.gate.set_policy(replace(POLICY, margin_long_bps=100_000, gross_limit=1))
    assert pair.gate.digest() == before
    with pytest.raises(CapacityError):
        pair.gate.set_policy(replace(POLICY, burst_orders=10**6))


def test_strided_arrays_are_read_as_they_lie() -> None:
    pair = account(replace(FACTS, position_limit=25))
    orders = as_rows([BUY, replace(BUY, lots=999), BUY, replace(BUY, lots=999)])[::2]
    verdicts = np.zeros(4, VERDICT)
    pair.gate.check(orders, NOW, out=verdicts[::2])
    assert verdicts["lots"].tolist() == [10, 0, 10, 0]


def test_a_long_list_of_own_orders_keeps_the_best_quote() -> None:
    pair = account()
    numbers = [pair.check([replace(BUY, lots=1, price=p)], NOW)[0].reservation for p in (96, 98, 97, 98, 95)]
    for number, best in zip((numbers[1], numbers[3], numbers[0], numbers[2]), (98, 97, 97, 95), strict=True):
        pair.release(number)
        sell = replace(SELL, lots=1, price=best)
        assert pair.check([sell], NOW, reserve=False)[0].reasons == {DenialReason.SELF_TRADE}
        assert pair.check([replace(sell, price=best + 1)], NOW, reserve=False)[0].lots == 1


def test_reservations_end_together_up_to_the_first_that_is_closed() -> None:
    gate = account().gate
    handles = [gate.check_one(0, Side.BUY, OrderType.LIMIT, 5, NOW, 100)[2] for _ in range(3)]
    gate.release(handles[1])
    with pytest.raises(InvalidValueError, match="reservation"):
        gate.release_all(handles)
    assert [gate.reserved_lots(handle) for handle in handles] == [0, 0, 5]
    free, gross, worst = gate.worst_case()
    assert gross == gate.exposure()["gross"] == worst.sum() > 0
    assert free == gate.cash - gate.exposure()["reserved_cash"]
