"""The worked example of Almgren and Chriss (2000), with the parameters of its table 1.

Table 1: S0 = 50 money/share, X = 1e6 shares, T = 5 days, N = 5, sigma = 0.95 money/share/day^(1/2)
(30 % a year), spread 1/8 so epsilon = 0.0625, gamma = 2.5e-7 and eta = 2.5e-6 (10 % and 1 % of a
daily volume of 5 million shares move the price by a spread). The same example computed by an
independent implementation is published with DROP (org.drip.coverage.execution.AlmgrenChriss, build
4.66.0): mean, variance, penalty and half-life for nine lambdas from 1e-9 to 9e-9.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from execution_core.algorithms.almgren_chriss import (
    ImpactModel,
    cost_variance,
    decay_rate,
    expected_cost,
    optimal_holdings,
)
from execution_core.errors import InvalidArrayError, InvalidValueError

PAPER = ImpactModel(volatility=0.95, permanent=2.5e-7, temporary=2.5e-6, half_spread=0.0625)
SHARES, HORIZON, INTERVALS = 1e6, 5.0, 5


def test_minimum_impact_strategy_of_the_paper() -> None:
    # Section 1.5: E = gamma X^2/2 + epsilon X + (eta - gamma tau/2) X^2/T = 125_000 + 62_500 + 475_000
    # and V = sigma^2 X^2 T/3 (1 - 1/N)(1 - 1/2N).
    line = optimal_holdings(SHARES, HORIZON, INTERVALS, 0.0, PAPER)
    np.testing.assert_allclose(line, [1e6, 8e5, 6e5, 4e5, 2e5, 0.0])
    assert expected_cost(line, HORIZON, PAPER) == pytest.approx(662_500)
    assert cost_variance(line, HORIZON, PAPER) == pytest.approx(0.9025 * 1e12 * 5 / 3 * (1 - 1 / 5) * (1 - 1 / 10))


def test_minimum_variance_strategy_of_the_paper() -> None:
    # Section 1.5: everything in the first period, E = epsilon X + eta X^2/tau, V = 0.
    at_once = np.array([1e6, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert expected_cost(at_once, HORIZON, PAPER) == pytest.approx(62_500 + 2_500_000)
    assert cost_variance(at_once, HORIZON, PAPER) == 0.0


def test_decay_of_the_papers_risk_aversion() -> None:
    # Lambda = 1e-6: 2 (cosh kappa - 1) = 0.9025e-6 / 2.375e-6, so kappa = arcosh(1.19), about 0.61 a day.
    kappa = decay_rate(HORIZON, INTERVALS, 1e-6, PAPER)
    assert kappa == pytest.approx(math.acosh(1.19), rel=1e-12)
    assert round(kappa, 2) == 0.61


@pytest.mark.parametrize(
    ("risk_aversion", "mean", "variance", "penalty", "half_life"),
    [
        (1e-9, 0.6625, 1.0812, 0.6636, 51.30),
        (2e-9, 0.6625, 1.0794, 0.6647, 36.27),
        (5e-9, 0.6625, 1.0740, 0.6679, 22.94),
        (8e-9, 0.6626, 1.0687, 0.6711, 18.14),
        (9e-9, 0.6626, 1.0669, 0.6722, 17.10),
    ],
)
def test_equals_the_published_table_of_drop(
    risk_aversion: float, mean: float, variance: float, penalty: float, half_life: float
) -> None:
    path = optimal_holdings(SHARES, HORIZON, INTERVALS, risk_aversion, PAPER)
    cost, spread = expected_cost(path, HORIZON, PAPER), cost_variance(path, HORIZON, PAPER)
    assert cost / 1e6 == pytest.approx(mean, abs=5e-5)
    assert spread / 1e12 == pytest.approx(variance, abs=5e-5)
    assert (cost + risk_aversion * spread) / 1e6 == pytest.approx(penalty, abs=5e-5)
    assert 1 / decay_rate(HORIZON, INTERVALS, risk_aversion, PAPER) == pytest.approx(half_life, abs=5e-3)


@pytest.mark.parametrize("risk_aversion", [1e-7, 1e-6, 2e-6, 1e-5])
def test_the_closed_form_is_the_numerical_optimum(risk_aversion: float) -> None:
    def objective(inner: np.ndarray) -> float:
        path = np.concatenate([[1.0], inner, [0.0]]) * SHARES
        return (expected_cost(path, HORIZON, PAPER) + risk_aversion * cost_variance(path, HORIZON, PAPER)) / 1e6

    found = minimize(objective, np.linspace(0.8, 0.2, 4), bounds=[(0, 1)] * 4, options={"ftol": 1e-15, "gtol": 1e-10})
    path = optimal_holdings(SHARES, HORIZON, INTERVALS, risk_aversion, PAPER)
    np.testing.assert_allclose(path[1:-1] / SHARES, found.x, atol=2e-5)


def test_extreme_risk_aversion_neither_overflows_nor_leaves_anything() -> None:
    path = optimal_holdings(SHARES, 1e4, 1000, 1.0, PAPER)
    assert np.isfinite(path).all()
    assert path[0] == SHARES
    assert path[-1] == 0.0
    assert (np.diff(path) <= 0).all()


def test_bad_input_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="volatility"):
        ImpactModel(volatility=math.nan, permanent=0, temporary=1, half_spread=0)
    with pytest.raises(InvalidValueError, match="temporary"):
        ImpactModel(volatility=1, permanent=0, temporary=0, half_spread=0)
    with pytest.raises(InvalidValueError, match="more intervals"):
        optimal_holdings(1, 100, 1, 0, PAPER)
    with pytest.raises(InvalidValueError, match="risk_aversion"):
        optimal_holdings(1, 1, 1, -1, PAPER)
    with pytest.raises(InvalidValueError, match="shares"):
        optimal_holdings(0, 1, 1, 0, PAPER)
    with pytest.raises(InvalidArrayError):
        expected_cost(np.array([1.0]), 1, PAPER)
