"""VaR and ES: worked by hand, against plain Python, and the parts that must sum to the whole."""

from __future__ import annotations

import math

import numpy as np
import pytest

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.risk import var
from execution_core.risk.tail import tail, weighted_tail

RANDOM = np.random.Generator(np.random.SFC64(21))
RETURNS = RANDOM.standard_t(4, (400, 6)) * 0.01 + RANDOM.normal(0, 0.006, (400, 1))
BOOK = np.array([100.0, -50.0, 30.0, 0.0, 200.0, -10.0])


def plain_tail(losses: list[float], weights: list[float], level: float) -> tuple[float, float]:
    """VaR: the first loss, in rising order, at which the probability reaches the level.

    ES: walk down from the worst loss until 1 - level of probability is used up.
    """
    pairs = sorted(zip(losses, weights, strict=True))
    total = math.fsum(weights)
    reached, value_at_risk = 0.0, pairs[-1][0]
    for loss, weight in pairs:
        reached += weight / total
        if reached >= level - 1e-9:
            value_at_risk = loss
            break
    left, gathered = 1.0 - level, 0.0
    for loss, weight in reversed(pairs):
        used = min(left, weight / total)
        gathered += used * loss
        left -= used
    return value_at_risk, gathered / (1.0 - level)


def test_a_hundred_losses_by_hand() -> None:
    losses = np.arange(1.0, 101.0)
    answer = tail(losses, 0.95)
    assert (answer.var, answer.es) == (95.0, pytest.approx(98.0))
    answer = tail(losses, 0.945)  # half of the 95 belongs to the worst 5.5%
    assert (answer.var, answer.es) == (95.0, pytest.approx((96 + 97 + 98 + 99 + 100 + 0.5 * 95) / 5.5))


@pytest.mark.parametrize("level", [0.01, 0.5, 0.9, 0.95, 0.975, 0.99, 0.999])
@pytest.mark.parametrize("count", [1, 2, 20, 100, 399])
def test_tail_equals_its_twin(level: float, count: int) -> None:
    losses = RETURNS.ravel()[:count] * 1000
    ours = tail(losses, level)
    expected = plain_tail(losses.tolist(), [1.0] * count, level)
    assert (ours.var, ours.es) == pytest.approx(expected, rel=1e-9)
    weighted = weighted_tail(losses, np.full(count, 0.3), level)
    assert (weighted.var, weighted.es) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("level", [0.9, 0.99])
def test_weighted_tail_equals_its_twin(level: float) -> None:
    losses = RETURNS[:, 0]
    weights = 0.98 ** np.arange(400.0)
    ours = weighted_tail(losses, weights, level)
    assert (ours.var, ours.es) == pytest.approx(plain_tail(losses.tolist(), weights.tolist(), level), rel=1e-9)


def test_normal_and_t_factors_are_the_textbooks() -> None:
    """2.326 and 2.665 at 99% (McNeil, Frey and Embrechts 2015, table 2.2 for the normal)."""
    assert var.quantile_factors(0.99) == pytest.approx((2.32635, 2.66521), abs=5e-6)
    assert var.quantile_factors(0.95) == pytest.approx((1.64485, 2.06271), abs=5e-6)
    # t4 quantile 3.74695 scaled by sqrt(2 / 4); ES ratio 5.2206 / 3.7469 from the same chapter.
    value, shortfall = var.quantile_factors(0.99, 4.0)
    assert value == pytest.approx(3.746947 / math.sqrt(2), rel=1e-6)
    assert shortfall == pytest.approx(5.22059 / math.sqrt(2), rel=1e-5)
    assert var.quantile_factors(0.99, 1e7) == pytest.approx(var.quantile_factors(0.99), rel=1e-6)


def test_parametric_by_hand() -> None:
    """Jorion's two currencies: 2 million at 5% and 1 million at 12%, uncorrelated, 95%."""
    covariance = np.diag([0.05**2, 0.12**2])
    level = 0.5 * (1.0 + math.erf(1.65 / math.sqrt(2.0)))  # the book takes 1.65 deviations
    parts = var.parametric(np.array([2.0, 1.0]), covariance, level=level)
    # Jorion (2007), section 7.2: VaR 257,738, components 105,630 and 152,108.
    assert parts.risk.var * 1e6 == pytest.approx(257_738, abs=1)
    np.testing.assert_allclose(parts.component * 1e6, [105_630, 152_108], atol=1)


def test_mean_and_horizon() -> None:
    covariance = np.cov(RETURNS.T)
    mean = RETURNS.mean(axis=0)
    day = var.parametric(BOOK, covariance).risk.var
    ten = var.parametric(BOOK, covariance, mean=mean, horizon=10.0).risk
    assert ten.var == pytest.approx(day * math.sqrt(10) - 10 * BOOK @ mean)


@pytest.mark.parametrize("degrees", [None, 4.0])
def test_parts_sum_to_the_whole_and_marginal_is_the_derivative(degrees: float | None) -> None:
    covariance = np.cov(RETURNS.T)
    mean = RETURNS.mean(axis=0)
    parts = var.parametric(BOOK, covariance, mean=mean, degrees=degrees)
    assert parts.component.sum() == pytest.approx(parts.risk.var)
    assert parts.es.sum() == pytest.approx(parts.risk.es)
    for asset in range(6):
        bump = np.zeros(6)
        bump[asset] = 1e-4
        up = var.parametric(BOOK + bump, covariance, mean=mean, degrees=degrees).risk.var
        down = var.parametric(BOOK - bump, covariance, mean=mean, degrees=degrees).risk.var
        assert parts.marginal[asset] == pytest.approx((up - down) / 2e-4, abs=1e-8)
    change = var.incremental(BOOK, bump, covariance)
    assert change == pytest.approx(1e-4 * var.parametric(BOOK, covariance).marginal[5], rel=1e-3)


def test_a_riskless_book_has_no_var_and_no_gradient() -> None:
    parts = var.parametric(np.zeros(6), np.cov(RETURNS.T))
    assert parts.risk.var == parts.risk.es == 0.0
    np.testing.assert_array_equal(parts.marginal, 0.0)


@pytest.mark.parametrize("window", [0, 5])
def test_historical_parts_sum_to_the_whole(window: int) -> None:
    whole = var.historical(BOOK, RETURNS, level=0.97)
    parts = var.historical_parts(BOOK, RETURNS, level=0.97, window=window)
    assert (parts.risk.var, parts.risk.es) == pytest.approx((whole.var, whole.es))
    assert parts.component.sum() == pytest.approx(whole.var)
    assert parts.es.sum() == pytest.approx(whole.es)
    assert parts.component[3] == 0.0


def test_filtered_returns_follow_the_riskmetrics_recursion() -> None:
    seed = np.mean(RETURNS[:50] ** 2, axis=0)
    scaled, variance = np.empty_like(RETURNS), seed
    for t, row in enumerate(RETURNS):
        scaled[t] = row / np.sqrt(variance)
        variance = 0.94 * variance + 0.06 * row**2
    np.testing.assert_allclose(var.filtered_returns(RETURNS), scaled * np.sqrt(variance), rtol=1e-12)


def test_filtered_var_rises_with_today_s_volatility_and_plain_does_not() -> None:
    calm = RETURNS.copy()
    wild = np.vstack([RETURNS[:-5], RETURNS[-5:] * 6])
    ratio = [var.historical(BOOK, x, method="filtered").var for x in (wild, calm)]
    assert ratio[0] > 1.5 * ratio[1]


def test_age_weights_forget() -> None:
    crash_long_ago = RETURNS.copy()
    crash_long_ago[0] = -0.5 * np.sign(BOOK)
    old = var.historical(BOOK, crash_long_ago, level=0.999)
    aged = var.historical(BOOK, crash_long_ago, level=0.999, method="age_weighted", decay=0.97)
    assert old.var > 100
    assert aged.var < 20


def test_liquidity_by_hand() -> None:
    """Half of spread mean + 3 deviations: 1 million at 0.2% and 0.05% costs 1,750."""
    cost = var.liquidity_cost(np.array([-1e6]), np.array([0.002]), np.array([0.0005]))
    assert cost == pytest.approx(1750.0)
    assert var.liquidation_factor(1.0) == 1.0
    # Selling evenly over 4 days: variances (1 + 9/16 + 4/16 + 1/16).
    assert var.liquidation_factor(4.0) == pytest.approx(math.sqrt(1 + 9 / 16 + 4 / 16 + 1 / 16))


def test_bad_arguments_are_refused() -> None:
    covariance = np.cov(RETURNS.T)
    for level in (0.0, 1.0, 99, math.nan):
        with pytest.raises(InvalidValueError, match=r"^level"):
            tail(np.ones(3), level)
    with pytest.raises(InvalidArrayError, match=r"^losses"):
        tail(np.array([]), 0.9)
    with pytest.raises(InvalidValueError, match=r"^losses"):
        tail(np.array([1.0, np.nan]), 0.9)
    with pytest.raises(InvalidArrayError, match=r"^weights"):
        weighted_tail(np.ones(3), np.ones(2), 0.9)
    with pytest.raises(InvalidValueError, match=r"^weights"):
        weighted_tail(np.ones(3), np.zeros(3), 0.9)
    with pytest.raises(InvalidValueError, match=r"^degrees"):
        var.parametric(BOOK, covariance, degrees=2.0)
    with pytest.raises(InvalidArrayError, match=r"^exposures"):
        var.parametric(BOOK[:5], covariance)
    with pytest.raises(InvalidValueError, match=r"^horizon"):
        var.parametric(BOOK, covariance, horizon=0.0)
    with pytest.raises(InvalidValueError, match=r"^method"):
        var.historical(BOOK, RETURNS, method="other")  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match=r"^returns"):
        var.filtered_returns(RETURNS * 0.0)
    with pytest.raises(InvalidValueError, match=r"^days"):
        var.liquidation_factor(0.5)
    with pytest.raises(InvalidValueError, match=r"^spread_mean"):
        var.liquidity_cost(np.ones(1), -np.ones(1), np.ones(1))
