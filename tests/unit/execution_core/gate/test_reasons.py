"""One order for each denial reason, broken by that reason alone; and the order of the reasons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from execution_core.gate import InstrumentFacts, Policy
from execution_core.types import DenialReason as R
from execution_core.types import OrderFlag, OrderType, Side, TimeInForce, TradingState
from tests.unit.execution_core.gate.pair import Pair
from tests.unit.execution_core.gate.twin import Order

NOW = 1_700_000_000 * 10**9
FACTS = InstrumentFacts(tick_value=10, shortable=True)
POLICY = Policy(version=1, ts_ns=NOW, max_age_ns=1000, price_max_age_ns=1000, collar_bps=500)
BUY = Order(instrument=0, side=Side.BUY, type=OrderType.LIMIT, lots=10, price=100)
SELL = replace(BUY, side=Side.SELL)


def account(facts: InstrumentFacts = FACTS, policy: Policy = POLICY, cash: int = 10**6) -> Pair:
    """Marked at 100 ticks, 1,000 nano units a lot; nothing in the way of an order."""
    pair = Pair()
    pair.set_instrument(0, facts)
    pair.set_instrument(1, FACTS)
    for index in (0, 1):
        pair.set_price(index, 100, NOW, best_bid=99, best_ask=101)
    pair.set_account(cash=cash, day_start_equity=cash, peak_equity=cash)
    pair.set_policy(policy)
    pair.set_trading_state(TradingState.ACTIVE)
    return pair


def halted() -> tuple[Pair, Order]:
    pair = account()
    pair.set_trading_state(TradingState.HALTED)
    return pair, BUY


def reduce_only() -> tuple[Pair, Order]:
    pair = account()
    pair.set_trading_state(TradingState.REDUCE_ONLY)
    pair.set_position(0, 9)
    return pair, SELL  # ten lots: through zero by one


def old_policy() -> tuple[Pair, Order]:
    return account(policy=replace(POLICY, ts_ns=NOW - 1001)), BUY


def behind() -> tuple[Pair, Order]:
    pair = account()
    pair.set_status(caught_up=False, reconciling=False)
    return pair, BUY


def reconciling() -> tuple[Pair, Order]:
    pair = account()
    pair.set_status(caught_up=True, reconciling=True)
    return pair, BUY


def third_in_a_second() -> tuple[Pair, Order]:
    pair = account(policy=replace(POLICY, burst_orders=2))
    pair.check([BUY, BUY], NOW)
    return pair, BUY


def old_price() -> tuple[Pair, Order]:
    pair = account()
    pair.set_price(0, 100, NOW - 1001, best_bid=99, best_ask=101)
    return pair, BUY


def lost_today() -> tuple[Pair, Order]:
    pair = account(policy=replace(POLICY, daily_loss_limit=50))
    pair.set_account(cash=10**6 - 50, day_start_equity=10**6, peak_equity=0)
    return pair, BUY


def drawn_down() -> tuple[Pair, Order]:
    pair = account(policy=replace(POLICY, drawdown_limit=50))
    pair.set_account(cash=10**6 - 50, day_start_equity=0, peak_equity=10**6)
    return pair, BUY


def own_ask_in_the_way() -> tuple[Pair, Order]:
    pair = account()
    pair.check([replace(SELL, price=102)], NOW)
    return pair, replace(BUY, price=102)


def seen_before() -> tuple[Pair, Order]:
    pair = account()
    pair.check([replace(BUY, client_order_hash=77)], NOW)
    return pair, replace(BUY, client_order_hash=77)


def both_sides_held() -> tuple[Pair, Order]:
    pair = account(policy=replace(POLICY, net_limit=14_000))
    pair.set_position(1, 5)
    return pair, BUY


def small_sector() -> tuple[Pair, Order]:
    pair = account()
    pair.gate.set_sector_limit(0, 9_999)
    pair.twin.sector_limits[0] = 9_999
    return pair, BUY


CASES: dict[R, Callable[[], tuple[Pair, Order]]] = {
    R.TRADING_HALTED: halted,
    R.REDUCE_ONLY_STATE: reduce_only,
    R.RISK_POLICY_STALE: old_policy,
    R.VIEW_NOT_CAUGHT_UP: behind,
    R.RECONCILING: reconciling,
    R.RATE_LIMIT_EXCEEDED: third_in_a_second,
    R.INSTRUMENT_UNKNOWN: lambda: (account(), replace(BUY, instrument=2)),
    R.INSTRUMENT_RESTRICTED: lambda: (account(replace(FACTS, restricted=True)), BUY),
    R.MARKET_CLOSED: lambda: (account(replace(FACTS, market_open=False)), BUY),
    R.PRICE_STALE: old_price,
    R.PRICE_COLLAR: lambda: (account(), replace(BUY, price=106)),
    R.QUANTITY_BELOW_MINIMUM: lambda: (account(replace(FACTS, min_lots=11)), BUY),
    R.QUANTITY_ABOVE_MAXIMUM: lambda: (account(replace(FACTS, max_lots=9)), BUY),
    R.NOTIONAL_BELOW_MINIMUM: lambda: (account(replace(FACTS, min_notional=10_001)), BUY),
    R.NOTIONAL_ABOVE_MAXIMUM: lambda: (account(replace(FACTS, max_notional=9_999)), BUY),
    R.INSUFFICIENT_FUNDS: lambda: (account(replace(FACTS, fee_ppm=1)), replace(BUY, lots=1000)),
    R.INSUFFICIENT_MARGIN: lambda: (account(policy=replace(POLICY, margin_long_bps=100_000), cash=99_999), BUY),
    R.POSITION_LIMIT: lambda: (account(replace(FACTS, position_limit=9)), BUY),
    R.GROSS_EXPOSURE_LIMIT: lambda: (account(policy=replace(POLICY, gross_limit=9_999)), BUY),
    R.NET_EXPOSURE_LIMIT: both_sides_held,
    R.SECTOR_LIMIT: small_sector,
    R.CONCENTRATION_LIMIT: lambda: (account(policy=replace(POLICY, concentration_limit=9_999)), BUY),
    R.LEVERAGE_LIMIT: lambda: (account(policy=replace(POLICY, leverage_limit_bps=99)), BUY),
    R.DAILY_LOSS_LIMIT: lost_today,
    R.DRAWDOWN_LIMIT: drawn_down,
    R.VAR_BUDGET: lambda: (
        account(replace(FACTS, var_ppm=100_000), replace(POLICY, var_budget=1_999, var_use=1_000)),
        BUY,
    ),
    R.SELF_TRADE: own_ask_in_the_way,
    R.DUPLICATE_ORDER: seen_before,
    R.REDUCE_ONLY_WOULD_INCREASE: lambda: (account(), replace(BUY, flags=OrderFlag.REDUCE_ONLY)),
    R.POST_ONLY_WOULD_CROSS: lambda: (account(), replace(BUY, price=101, flags=OrderFlag.POST_ONLY)),
    R.EXPIRE_TIME_IN_PAST: lambda: (account(), replace(BUY, time_in_force=TimeInForce.GTD, expire_ns=NOW)),
    R.UNSUPPORTED_ORDER_TYPE: lambda: (account(replace(FACTS, order_types=(OrderType.MARKET,))), BUY),
    R.SHORT_NOT_ALLOWED: lambda: (account(replace(FACTS, shortable=False)), SELL),
}

# The nearest order or account that the same rule lets pass.
JUST_WITHIN: dict[R, Callable[[], tuple[Pair, Order]]] = {
    R.REDUCE_ONLY_STATE: lambda: (reduce_only()[0], replace(SELL, lots=9)),
    R.RISK_POLICY_STALE: lambda: (account(policy=replace(POLICY, ts_ns=NOW - 1000)), BUY),
    R.PRICE_COLLAR: lambda: (account(), replace(BUY, price=105)),
    R.QUANTITY_BELOW_MINIMUM: lambda: (account(replace(FACTS, min_lots=10)), BUY),
    R.QUANTITY_ABOVE_MAXIMUM: lambda: (account(replace(FACTS, max_lots=10)), BUY),
    R.NOTIONAL_BELOW_MINIMUM: lambda: (account(replace(FACTS, min_notional=10_000)), BUY),
    R.NOTIONAL_ABOVE_MAXIMUM: lambda: (account(replace(FACTS, max_notional=10_000)), BUY),
    R.INSUFFICIENT_FUNDS: lambda: (account(), replace(BUY, lots=1000)),
    R.INSUFFICIENT_MARGIN: lambda: (account(policy=replace(POLICY, margin_long_bps=100_000), cash=100_000), BUY),
    R.POSITION_LIMIT: lambda: (account(replace(FACTS, position_limit=10)), BUY),
    R.GROSS_EXPOSURE_LIMIT: lambda: (account(policy=replace(POLICY, gross_limit=10_000)), BUY),
    R.NET_EXPOSURE_LIMIT: lambda: (both_sides_held()[0], replace(BUY, lots=9)),
    R.SECTOR_LIMIT: lambda: (small_sector()[0], replace(BUY, lots=9)),
    R.CONCENTRATION_LIMIT: lambda: (account(policy=replace(POLICY, concentration_limit=10_000)), BUY),
    R.LEVERAGE_LIMIT: lambda: (account(policy=replace(POLICY, leverage_limit_bps=100)), BUY),
    R.VAR_BUDGET: lambda: (
        account(replace(FACTS, var_ppm=100_000), replace(POLICY, var_budget=2_000, var_use=1_000)),
        BUY,
    ),
    R.SELF_TRADE: lambda: (own_ask_in_the_way()[0], replace(BUY, price=101)),
    R.POST_ONLY_WOULD_CROSS: lambda: (account(), replace(BUY, flags=OrderFlag.POST_ONLY)),
    R.EXPIRE_TIME_IN_PAST: lambda: (account(), replace(BUY, time_in_force=TimeInForce.GTD, expire_ns=NOW + 1)),
    R.SHORT_NOT_ALLOWED: lambda: (account(replace(FACTS, shortable=False)), BUY),
}


def test_every_reason_has_a_case() -> None:
    assert set(CASES) == set(R)


@pytest.mark.parametrize("reason", CASES, ids=lambda reason: reason.name)
def test_an_order_is_denied_for_this_reason_and_no_other(reason: R) -> None:
    pair, order = CASES[reason]()
    verdict = pair.check([order], NOW)[0]
    assert verdict.reasons == {reason}
    assert verdict.lots == 0


@pytest.mark.parametrize("reason", JUST_WITHIN, ids=lambda reason: reason.name)
def test_the_nearest_order_within_the_rule_passes(reason: R) -> None:
    pair, order = JUST_WITHIN[reason]()
    assert pair.check([order], NOW)[0].lots == order.lots


def test_all_violated_reasons_are_reported_and_the_lowest_number_decides() -> None:
    pair = account(replace(FACTS, market_open=False, max_lots=5, shortable=False))
    order = replace(SELL, price=50, time_in_force=TimeInForce.GTD, expire_ns=1)
    verdict = pair.check([order], NOW)[0]  # Pair compares the deciding reason too
    assert verdict.reasons == {
        R.MARKET_CLOSED,
        R.PRICE_COLLAR,
        R.QUANTITY_ABOVE_MAXIMUM,
        R.EXPIRE_TIME_IN_PAST,
        R.SHORT_NOT_ALLOWED,
    }


def test_an_at_open_order_waits_for_a_closed_market() -> None:
    pair = account(replace(FACTS, market_open=False))
    assert pair.check([replace(BUY, time_in_force=TimeInForce.AT_OPEN)], NOW)[0].lots == 10


def test_an_old_price_lets_reductions_pass_only_at_the_operators_word() -> None:
    for word in (False, True):
        pair = account(policy=replace(POLICY, stale_price_reductions=word))
        pair.set_price(0, 100, NOW - 1001, best_bid=99, best_ask=101)
        pair.set_position(0, 10)
        assert pair.check([SELL], NOW, reserve=False)[0].lots == (10 if word else 0)
        assert pair.check([BUY], NOW)[0].reasons == {R.PRICE_STALE}


def test_a_market_order_reserves_cash_at_the_collar_and_fees() -> None:
    pair = account(replace(FACTS, fee_ppm=1_000, fee_per_lot=3), replace(POLICY, fee_per_order=7))
    pair.check([replace(BUY, type=OrderType.MARKET, price=0)], NOW)
    worst = 105 * 10
    assert pair.gate.exposure()["reserved_cash"] == 10 * (worst + 3 + 2) + 7  # 1.05 of fee rounds up to 2


def test_a_stop_is_collared_around_its_trigger() -> None:
    pair = account()
    stop = replace(BUY, type=OrderType.STOP_LIMIT, trigger=120)
    assert pair.check([replace(stop, price=126)], NOW)[0].lots == 10
    assert pair.check([replace(stop, price=127)], NOW)[0].reasons == {R.PRICE_COLLAR}


def test_a_resting_stop_limit_counts_for_self_trade_once_it_is_triggered() -> None:
    pair = account()
    stop = replace(SELL, type=OrderType.STOP_LIMIT, trigger=99, price=99)
    number = pair.check([stop], NOW)[0].reservation
    assert pair.check([BUY], NOW, reserve=False)[0].lots == 10
    pair.gate.rests_at(pair.handles[number], 99)
    pair.twin.open[number].rests_at = 99
    assert pair.check([BUY], NOW, reserve=False)[0].reasons == {R.SELF_TRADE}
    pair.release(number)
    assert pair.check([BUY], NOW, reserve=False)[0].lots == 10
