"""Value at risk and expected shortfall against plain calculations."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from python_services.risk.measures import ES_FACTOR, VAR_FACTOR, Panel, panel, tail_risk


def history(returns: np.ndarray, size: int | None = None) -> Panel:
    columns = np.arange(returns.shape[1])
    return Panel(columns=columns, returns=returns, size=size or returns.shape[1], decay=0.94)


def test_the_parametric_view_where_tails_are_thin() -> None:
    outcome = np.tile([0.01, -0.01], 60)[:, None]
    found = tail_risk(np.array([0.5]), history(outcome))
    assert found is not None
    assert found.value_at_risk == pytest.approx(statistics.NormalDist().inv_cdf(0.99) * 0.005)
    assert found.expected_shortfall == pytest.approx(ES_FACTOR * 0.005)
    assert ES_FACTOR > VAR_FACTOR


def test_the_historical_view_where_they_are_fat() -> None:
    returns = np.full((250, 1), 0.001)
    returns[10:13, 0] = [-0.3, -0.2, -0.1]  # long ago: the weighted variance has forgotten them
    found = tail_risk(np.array([1.0]), history(returns))
    assert found is not None
    assert found.value_at_risk == pytest.approx(0.1)  # the third worst of 250
    assert found.expected_shortfall == pytest.approx((0.3 + 0.2 + 0.5 * 0.1) / 2.5)  # the worst 2.5 days


def test_shorts_lose_when_prices_rise_and_hedges_cancel() -> None:
    rng = np.random.default_rng(2)
    returns = rng.normal(0.0, 0.02, (200, 1))
    both = np.hstack([returns, returns])
    short = tail_risk(np.array([-1.0]), history(returns))
    hedged = tail_risk(np.array([1.0, -1.0]), history(both))
    assert short is not None
    assert short.value_at_risk >= np.sort(returns[:, 0])[-2] - 1e-12
    assert hedged == (0.0, 0.0)


def test_nothing_held_is_no_risk() -> None:
    assert tail_risk(np.zeros(1), history(np.full((100, 1), 0.1))) == (0.0, 0.0)


def test_too_little_history_is_said_and_not_guessed() -> None:
    close = np.cumprod(1.0 + np.random.default_rng(1).normal(0, 0.01, (100, 2)), axis=0)
    close[:-5, 1] = np.nan
    found = panel(close, 30, 0.94)
    assert tail_risk(np.array([0.5, 0.1]), found) is None
    assert tail_risk(np.array([0.5, 0.0]), found) is not None
