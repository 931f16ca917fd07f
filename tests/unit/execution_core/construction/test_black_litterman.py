"""Black-Litterman against the worked example of He and Litterman (1999)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from execution_core.construction.black_litterman import black_litterman, equilibrium
from execution_core.construction.constraints import Constraints
from execution_core.construction.mean_variance import optimise
from execution_core.errors import InvalidArrayError, InvalidValueError

# He and Litterman (1999), "The intuition behind Black-Litterman model portfolios", tables 1 and 2:
# Australia, Canada, France, Germany, Japan, United Kingdom, United States.
UPPER = [
    [0.488, 0.478, 0.515, 0.439, 0.512, 0.491],
    [0.664, 0.655, 0.310, 0.608, 0.779],
    [0.861, 0.355, 0.783, 0.668],
    [0.354, 0.777, 0.653],
    [0.405, 0.306],
    [0.652],
]
VOLATILITY = np.array([0.160, 0.203, 0.248, 0.271, 0.210, 0.200, 0.187])
MARKET = np.array([0.016, 0.022, 0.052, 0.055, 0.116, 0.124, 0.615])
CORRELATION = np.eye(7)
for i, row in enumerate(UPPER):
    for j, value in enumerate(row):
        CORRELATION[i, i + 1 + j] = CORRELATION[i + 1 + j, i] = value
COVARIANCE = CORRELATION * np.outer(VOLATILITY, VOLATILITY)
# "Germany outperforms the other European markets by 5%", the others by market weight.
VIEW = np.array([[0.0, 0.0, -0.295, 1.0, 0.0, -0.705, 0.0]])


def test_equilibrium_returns_of_table_2() -> None:
    prior = equilibrium(MARKET, COVARIANCE, risk_aversion=2.5)
    np.testing.assert_allclose(prior * 100, [3.9, 6.9, 8.4, 9.0, 4.3, 6.8, 7.6], atol=0.051)


def test_one_view_on_germany_is_table_4() -> None:
    prior = equilibrium(MARKET, COVARIANCE, risk_aversion=2.5)
    answer = black_litterman(prior, COVARIANCE, VIEW, np.array([0.05]), tau=0.05)
    np.testing.assert_allclose(answer.expected * 100, [4.3, 7.6, 9.3, 11.0, 4.5, 7.0, 8.1], atol=0.051)
    # Their optimal weights, unconstrained: (delta Sigma*)^-1 mu*, in percent.
    weights = np.linalg.solve(2.5 * answer.covariance, answer.expected) * 100
    np.testing.assert_allclose(weights, [1.5, 2.1, -4.0, 35.4, 11.0, -9.5, 58.6], atol=0.15)


def test_without_a_new_opinion_the_market_stays() -> None:
    prior = equilibrium(MARKET, COVARIANCE)
    answer = black_litterman(prior, COVARIANCE, VIEW, VIEW @ prior)
    np.testing.assert_allclose(answer.expected, prior, rtol=1e-12)
    free = Constraints(lower=-1.0, upper=1.0, budget=None)
    optimal = optimise(answer.expected, COVARIANCE, risk_aversion=2.5, constraints=free)
    np.testing.assert_allclose(optimal.weights, MARKET, atol=1e-6)


@pytest.mark.parametrize("belief", [0.001, 0.25, 0.6, 1.0])
def test_confidence_is_the_share_of_the_way_to_the_view(belief: float) -> None:
    prior = equilibrium(MARKET, COVARIANCE)
    answer = black_litterman(prior, COVARIANCE, VIEW, np.array([0.05]), confidence=np.array([belief]))
    before, after = float((VIEW @ prior)[0]), float((VIEW @ answer.expected)[0])
    assert after == pytest.approx(before + belief * (0.05 - before))


def test_two_views_equal_the_textbook_inverse() -> None:
    """mu* = ((tau Sigma)^-1 + P' Omega^-1 P)^-1 ((tau Sigma)^-1 pi + P' Omega^-1 q)."""
    prior = equilibrium(MARKET, COVARIANCE)
    views = np.vstack([VIEW, np.eye(7)[4] - np.eye(7)[0]])
    values, variances = np.array([0.05, -0.02]), np.array([0.001, 0.003])
    answer = black_litterman(prior, COVARIANCE, views, values, tau=0.1, variances=variances)
    inverse = np.linalg.inv(0.1 * COVARIANCE)
    middle = np.linalg.inv(inverse + views.T @ np.diag(1 / variances) @ views)
    expected = middle @ (inverse @ prior + views.T @ (values / variances))
    np.testing.assert_allclose(answer.expected, expected, rtol=1e-9)
    np.testing.assert_allclose(answer.covariance, COVARIANCE + middle, rtol=1e-9)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"views": np.ones((1, 3))}, InvalidArrayError, "views"),
        ({"views": np.zeros((1, 7))}, InvalidValueError, "views"),
        ({"values": np.ones(2)}, InvalidArrayError, "values"),
        ({"tau": 0.0}, InvalidValueError, "tau"),
        ({"variances": np.zeros(1)}, InvalidValueError, "variances"),
        ({"confidence": np.array([1.5])}, InvalidValueError, "confidence"),
        ({"confidence": np.ones(1), "variances": np.ones(1)}, InvalidValueError, "confidence"),
        (
            {"views": np.vstack([VIEW, VIEW]), "values": np.ones(2), "confidence": np.ones(2)},
            InvalidValueError,
            "views",
        ),
    ],
)
def test_bad_views_are_refused(change: dict[str, Any], error: type[Exception], words: str) -> None:
    arguments: dict[str, Any] = {"views": VIEW, "values": np.array([0.05])} | change
    with pytest.raises(error, match=f"^{words}"):
        black_litterman(MARKET, COVARIANCE, **arguments)
