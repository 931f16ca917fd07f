"""What a user sees of a proposal: limits kept, cash never overspent, holdings left alone where nothing is known."""

from __future__ import annotations

import time

import numpy as np
import pytest

from execution_core.construction.risk_parity import risk_shares
from execution_core.errors import InfeasibleError
from execution_core.risk.covariance import ledoit_wolf
from python_services.kit.history import usable_returns
from python_services.portfolio import logic
from tests.unit.python_services.portfolio.books import ESTIMATES, MANDATE, NANO, book, closes, forecast, mandate

PRICES = [100.0, 50.0, 25.5, 300.25]
METHODS = ("mean_variance", "risk_parity")


def spent(plan: logic.Plan, held: logic.Book, cost: float) -> float:
    """Cash after the trades and their costs, dollars."""
    value = int((plan.lots * held.lot_values).sum())
    trades = int((np.abs(plan.lots - held.held) * held.lot_values).sum())
    return (held.equity - held.elsewhere - value - trades * cost) / NANO


@pytest.mark.parametrize("method", METHODS)
def test_limits_hold_and_cash_is_not_overspent(method: str) -> None:
    empty = book([0, 0, 0, 0], PRICES)
    plan = logic.plan(closes(4), empty, forecast([0.05, 0.04, 0.03, 0.02]), mandate(method=method), ESTIMATES)
    assert plan.weights.max() <= MANDATE.maximum_weight
    assert (plan.lots >= 0).all()
    assert 0.95 < plan.weights.sum() <= 0.99
    assert spent(plan, empty, MANDATE.cost_per_notional) >= 0.01 * 1_000_000 - 1e-6
    assert plan.turnover == pytest.approx(plan.weights.sum() / 2)
    assert plan.cost == pytest.approx(plan.weights.sum() * MANDATE.cost_per_notional)
    assert plan.expected_return == pytest.approx(plan.weights @ [0.05, 0.04, 0.03, 0.02])
    assert plan.expected_volatility is not None


def test_confidence_scales_the_forecast() -> None:
    empty = book([0, 0, 0, 0], PRICES)
    few = forecast([0.01, 0.0, 0.0, 0.0], confidence=0.2)
    same = forecast([0.002, 0.0, 0.0, 0.0])
    plans = [logic.plan(closes(4), empty, given, MANDATE, ESTIMATES) for given in (few, same)]
    assert plans[0].lots.tolist() == plans[1].lots.tolist()


def test_a_trade_must_earn_its_cost() -> None:
    held = book([2000, 4000, 7000, 500], PRICES)
    free = logic.plan(closes(4), held, forecast([0.011, 0.01, 0.01, 0.01]), mandate(cost_per_notional=0.0), ESTIMATES)
    dear = logic.plan(closes(4), held, forecast([0.011, 0.01, 0.01, 0.01]), mandate(cost_per_notional=0.05), ESTIMATES)
    assert free.turnover > 0.02
    assert dear.turnover == 0.0
    assert dear.lots.tolist() == held.held.tolist()


@pytest.mark.parametrize("method", METHODS)
def test_turnover_stays_below_its_limit(method: str) -> None:
    held = book([4000, 6000, 0, 0], PRICES)
    given = mandate(method=method, maximum_turnover=0.05)
    plan = logic.plan(closes(4), held, forecast([-0.05, -0.05, 0.05, 0.05]), given, ESTIMATES)
    assert 0.03 < plan.turnover <= 0.05 + 1e-9
    assert "turnover upper" in plan.solver


@pytest.mark.parametrize("method", METHODS)
def test_instruments_without_a_forecast_hold_their_position(method: str) -> None:
    held = book([1000, 2000, 300, 400], PRICES)
    only_two = forecast([0.05, -0.05])
    plan = logic.plan(closes(4), held, only_two, mandate(method=method), ESTIMATES)
    assert plan.lots[2:].tolist() == [300, 400]
    assert plan.lots[1] == 0
    assert "held as they are: S2, S3" in plan.solver


def test_a_young_instrument_is_held_and_named() -> None:
    prices = closes(4)
    prices[:-10, 3] = np.nan
    plan = logic.plan(prices, book([0, 0, 0, 7], PRICES), forecast([0.05] * 4), MANDATE, ESTIMATES)
    assert plan.lots[3] == 7
    assert "held as they are: S3" in plan.solver
    assert plan.expected_volatility is None  # of what S3 does nothing is known


def test_without_any_forecast_everything_is_held() -> None:
    held = book([10, 20, 30, 40], PRICES)
    plan = logic.plan(closes(4), held, forecast([]), MANDATE, ESTIMATES)
    assert plan.lots.tolist() == [10, 20, 30, 40]
    assert (plan.turnover, plan.expected_return) == (0.0, None)
    assert plan.solver.startswith("no instrument can be traded")


def test_an_instrument_without_a_mark_is_held() -> None:
    plan = logic.plan(closes(4), book([0, 0, 0, 5], [100.0, 50.0, 25.0, 0.0]), forecast([0.05] * 4), MANDATE, ESTIMATES)
    assert plan.lots[3] == 5


def test_what_is_held_adds_to_the_risk_of_its_neighbours() -> None:
    # S0 and S1 move together; a large fixed holding of S1 makes S0 less attractive than it is alone.
    prices = closes(2, seed=3)
    prices[:, 1] = prices[:, 0] * np.exp(np.random.default_rng(1).normal(0.0, 0.001, len(prices)))
    with_neighbour = logic.plan(prices, book([0, 12_000], [100.0, 50.0]), forecast([0.004]), MANDATE, ESTIMATES)
    alone = logic.plan(prices, book([0, 0], [100.0, 50.0]), forecast([0.004]), MANDATE, ESTIMATES)
    assert 0 <= with_neighbour.lots[0] < alone.lots[0]


def test_risk_parity_invests_where_the_forecast_is_positive_in_equal_risk() -> None:
    given = mandate(method="risk_parity", maximum_weight=1.0)
    prices = closes(4)
    plan = logic.plan(prices, book([0, 0, 0, 0], PRICES), forecast([0.01, 0.02, -0.01, 0.03]), given, ESTIMATES)
    assert plan.lots[2] == 0
    chosen = [0, 1, 3]
    covariance, _ = ledoit_wolf(usable_returns(prices, 30)[1])
    shares = risk_shares(plan.weights[chosen], np.ascontiguousarray(covariance[np.ix_(chosen, chosen)]))
    np.testing.assert_allclose(shares, 1 / 3, atol=2e-3)


def test_trades_below_the_minimum_are_left_out() -> None:
    held = book([3998, 7990, 10, 0], PRICES)
    given = mandate(minimum_trade_e9=500 * NANO, maximum_turnover=20.0)
    plan = logic.plan(closes(4), held, forecast([0.05, 0.05, -0.05, -0.05]), given, ESTIMATES)
    traded = np.abs(plan.lots - held.held) * held.lot_values
    assert ((traded == 0) | (traded >= 500 * NANO)).all()
    assert plan.lots[2] == 10  # aimed at zero, but 255 dollars are not worth the trade


def test_a_position_that_grew_past_its_limit_comes_back_at_the_turnover_limit() -> None:
    held = book([6000, 2000, 0, 0], PRICES)  # 60% in S0, the mandate allows 40%
    given = mandate(maximum_turnover=0.05)
    plan = logic.plan(closes(4), held, forecast([0.05, 0.05, 0.05, 0.05]), given, ESTIMATES)
    assert plan.weights[0] == pytest.approx(0.5, abs=0.002)
    assert plan.turnover <= 0.05 + 1e-9
    assert "as fast as the turnover limit allows" in plan.solver


def test_shorts_where_the_mandate_allows_them() -> None:
    given = mandate(short_allowed=True, maximum_gross=1.5)
    plan = logic.plan(closes(4), book([0, 0, 0, 0], PRICES), forecast([0.05, 0.05, -0.05, -0.05]), given, ESTIMATES)
    assert (plan.lots[:2] > 0).all()
    assert (plan.lots[2:] < 0).all()
    assert np.abs(plan.weights).sum() <= 1.5


def test_money_in_positions_elsewhere_cannot_be_spent() -> None:
    held = book([0, 0, 0, 0], PRICES, elsewhere=700_000)
    plan = logic.plan(closes(4), held, forecast([0.05] * 4), MANDATE, ESTIMATES)
    assert plan.weights.sum() <= 0.29
    assert spent(plan, held, MANDATE.cost_per_notional) >= 0.0


def test_holdings_beyond_the_equity_are_infeasible_and_named() -> None:
    held = book([0, 25_000, 0, 0], PRICES)  # 1.25 million held by an account worth one
    only_first = forecast([0.05])
    with pytest.raises(InfeasibleError, match="positions that must be held cost"):
        logic.plan(closes(4), held, only_first, MANDATE, ESTIMATES)


@pytest.mark.parametrize("method", METHODS)
def test_500_instruments_are_sane_and_quick(method: str) -> None:
    names = 500
    rng = np.random.default_rng(5)
    prices = closes(names)
    marks = rng.uniform(5.0, 500.0, names).round(2).tolist()
    held = book([int(0.9 * 10_000_000 / names / mark) for mark in marks], marks, equity=10_000_000)
    given = forecast(rng.normal(0.0, 0.02, names).tolist(), confidence=0.5)
    wanted = mandate(method=method, maximum_weight=0.05, maximum_turnover=0.2)
    logic.plan(prices, held, given, wanted, ESTIMATES)  # loads what is compiled
    started = time.perf_counter()
    plan = logic.plan(prices, held, given, wanted, ESTIMATES)
    elapsed = time.perf_counter() - started
    assert plan.weights.max() <= 0.05 + 1e-9
    assert plan.turnover <= 0.2 + 1e-9
    assert spent(plan, held, 0.001) >= 0.0
    assert elapsed < 2.0  # tens of milliseconds; the bound only catches a mistake of a different order
