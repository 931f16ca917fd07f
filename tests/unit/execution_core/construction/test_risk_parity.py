"""Risk parity: closed forms, the risk shares themselves, and the hard case for the descent."""

from __future__ import annotations

import numpy as np
import pytest

from execution_core.construction.risk_parity import risk_parity, risk_shares
from execution_core.errors import CoreError, InvalidValueError


def test_two_assets_equal_inverse_volatility_whatever_the_correlation() -> None:
    """Maillard, Roncalli and Teiletche (2010), section 2.3: w1 = s2 / (s1 + s2)."""
    for correlation in (-0.9, 0.0, 0.7):
        matrix = np.array([[0.04, correlation * 0.2 * 0.1], [correlation * 0.2 * 0.1, 0.01]])
        np.testing.assert_allclose(risk_parity(matrix), [1 / 3, 2 / 3], rtol=1e-9)


def test_four_assets_of_the_paper() -> None:
    """Maillard, Roncalli and Teiletche (2010), section 3.3: volatilities 10, 20, 30, 40% and the
    correlations of their example; equal risk contributions 38.4, 19.2, 24.3, 18.2%."""
    deviation = np.diag([0.1, 0.2, 0.3, 0.4])
    correlation = np.array([[1, 0.8, 0, 0], [0.8, 1, 0, 0], [0, 0, 1, -0.5], [0, 0, -0.5, 1]])
    weights = risk_parity(deviation @ correlation @ deviation)
    np.testing.assert_allclose(weights, [0.384, 0.192, 0.243, 0.182], atol=5e-4)


@pytest.mark.parametrize("signs", [1.0, None])
@pytest.mark.parametrize("size", [1, 3, 50, 200])
def test_shares_equal_the_budgets(size: int, signs: float | None) -> None:
    """`signs` None: factors of both signs, where coordinate descent alone would crawl."""
    random = np.random.Generator(np.random.SFC64(size))
    factors = random.normal(0, 0.01, (size, 4))
    factors = np.abs(factors) if signs else factors
    matrix = factors @ factors.T + np.diag(random.uniform(0.003, 0.02, size) ** 2)
    budgets = random.uniform(0.5, 2.0, size)
    weights = risk_parity(matrix, budgets)
    assert weights.sum() == pytest.approx(1.0)
    assert (weights > 0).all()
    np.testing.assert_allclose(risk_shares(weights, matrix), budgets / budgets.sum(), rtol=1e-7)


def test_a_singular_covariance_has_risk_parity_unless_a_long_only_portfolio_is_riskless() -> None:
    random = np.random.Generator(np.random.SFC64(9))
    own, market = random.normal(0, 0.01, (15, 40)), random.normal(0, 0.03, (15, 1))
    matrix = np.cov((own + market).T)
    np.testing.assert_allclose(risk_shares(risk_parity(matrix), matrix), np.full(40, 1 / 40), rtol=1e-6)
    with pytest.raises(CoreError, match="does not converge"):
        risk_parity(np.cov(own.T))


def test_bad_budgets_and_riskless_portfolios_are_refused() -> None:
    with pytest.raises(InvalidValueError, match=r"^budgets"):
        risk_parity(np.eye(3), np.array([1.0, 0.0, 1.0]))
    with pytest.raises(InvalidValueError, match=r"^budgets"):
        risk_parity(np.eye(3), np.array([1.0, np.nan, 1.0]))
    with pytest.raises(InvalidValueError, match=r"^weights"):
        risk_shares(np.zeros(3), np.eye(3))
