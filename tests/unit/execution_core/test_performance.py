"""Performance figures: worked by hand, and absent where they have no meaning."""

from __future__ import annotations

import math

import numpy as np
import pytest

from execution_core import performance
from execution_core.errors import InvalidArrayError, InvalidValueError

EQUITY = np.array([100.0, 110.0, 99.0, 104.0, 88.0, 120.0])
RETURNS = np.array([0.02, -0.01, 0.03, -0.02])


def test_returns_by_hand() -> None:
    np.testing.assert_allclose(performance.returns_from_equity(EQUITY)[:2], [0.1, -0.1])
    assert performance.total_return(EQUITY) == pytest.approx(0.2)
    assert performance.returns_from_equity(EQUITY[:1]).size == 0
    assert performance.total_return(EQUITY[:1]) is None


def test_sharpe_sortino_and_volatility_by_hand() -> None:
    deviation = math.sqrt((0.015**2 + 0.015**2 + 0.025**2 + 0.025**2) / 3)
    shortfall = math.sqrt((0.01**2 + 0.02**2) / 4)
    assert performance.volatility(RETURNS) == pytest.approx(deviation)
    assert performance.volatility(RETURNS, periods_per_year=252) == pytest.approx(deviation * math.sqrt(252))
    assert performance.sharpe(RETURNS) == pytest.approx(0.005 / deviation * math.sqrt(252))
    assert performance.sharpe(RETURNS, periods_per_year=12, risk_free=0.001) == pytest.approx(
        0.004 / deviation * math.sqrt(12)
    )
    assert performance.sortino(RETURNS) == pytest.approx(0.005 / shortfall * math.sqrt(252))


def test_drawdown_names_its_peak_and_trough() -> None:
    assert performance.max_drawdown(EQUITY) == pytest.approx((1 - 88 / 110, 1, 4))
    twice = np.array([10.0, 5.0, 10.0, 5.0])
    assert performance.max_drawdown(twice) == (0.5, 0, 1)


def test_turnover_and_hit_rate_by_hand() -> None:
    weights = np.array([[0.5, 0.5], [0.7, 0.3], [0.7, 0.3]])
    assert performance.turnover(weights) == pytest.approx(0.1)
    assert performance.hit_rate(np.array([0.1, 0.0, -0.1, 0.2])) == pytest.approx(2 / 3)


def test_what_cannot_be_computed_is_none() -> None:
    one, none = RETURNS[:1], RETURNS[:0]
    for few in (one, none):
        assert performance.sharpe(few) is None
        assert performance.sortino(few) is None
        assert performance.volatility(few) is None
    steady = np.full(50, 0.1 / 3)
    assert performance.sharpe(steady) is None
    assert performance.sharpe(np.zeros(5)) is None
    assert performance.sortino(np.array([0.01, 0.02])) is None
    assert performance.max_drawdown(np.array([1.0, 2.0, 2.0, 3.0])) is None
    assert performance.turnover(np.ones((1, 3))) is None
    assert performance.hit_rate(np.zeros(4)) is None


@pytest.mark.parametrize("bad", [np.array([1.0, np.nan]), np.array([1.0, np.inf]), np.array([1.0, 0.0])])
def test_bad_equity_is_refused(bad: np.ndarray) -> None:
    for function in (performance.returns_from_equity, performance.max_drawdown, performance.total_return):
        with pytest.raises(InvalidValueError, match=r"^equity"):
            function(bad)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(InvalidArrayError):
        performance.returns_from_equity(np.array([]))
    with pytest.raises(InvalidArrayError):
        performance.sharpe(np.array([1, 2]))
    with pytest.raises(InvalidValueError, match=r"^periods_per_year"):
        performance.sharpe(RETURNS, periods_per_year=0)
    with pytest.raises(InvalidArrayError):
        performance.turnover(RETURNS)
