"""Figures against a plain calculation, and what is left out when it is not defined."""

from __future__ import annotations

import statistics

import pytest

from python_services.portfolio.performance import figures

NANO = 1_000_000_000


def test_figures_of_a_curve() -> None:
    curve = [100.0, 110.0, 99.0, 105.0]
    returns = [0.1, -0.1, 105 / 99 - 1]
    found = figures([int(value * NANO) for value in curve], 200 * NANO, 252.0)
    assert found["max_drawdown"] == pytest.approx(0.1)
    assert found["turnover"] == pytest.approx(100 / statistics.fmean(curve))
    assert found["volatility"] == pytest.approx(statistics.stdev(returns) * 252**0.5)
    assert found["sharpe"] == pytest.approx(statistics.fmean(returns) / statistics.stdev(returns) * 252**0.5)


def test_a_curve_that_never_falls_has_a_drawdown_of_zero() -> None:
    assert figures([1 * NANO, 2 * NANO], 0, 252.0)["max_drawdown"] == 0.0


def test_too_few_valuations_give_nothing() -> None:
    assert figures([], 0, 252.0) == {}
    assert figures([NANO], 0, 252.0) == {}
    assert set(figures([NANO, 2 * NANO], 0, 252.0)) == {"turnover", "max_drawdown"}


def test_no_sharpe_without_volatility() -> None:
    assert "sharpe" not in figures([NANO] * 5, 0, 252.0)


def test_nothing_is_computed_on_an_equity_below_zero() -> None:
    assert figures([NANO, -NANO, NANO], 0, 252.0) == {}
