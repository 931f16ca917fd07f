"""Tail risk, its parts and liquidity against formulas written out here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from execution_core.risk.covariance import ewma
from python_services.risk.analysis import Market, Method, liquidation_days, liquidity, market, stress_table, tails
from python_services.risk.config import Report
from python_services.risk.measures import panel
from python_services.risk.scenarios import Reverse, Scenario
from python_services.risk.stress import Stress

HOW = Report(levels=(0.95, 0.99), historical="plain", draws=100_000)
RETURNS = np.random.default_rng(5).normal(0.0, [0.02, 0.01], (200, 2))
KNOWN = Market(returns=RETURNS, covariance=ewma(RETURNS, decay=0.94), decay=0.94)
WEIGHTS = np.array([0.5, -0.25])
Z = {0.95: 1.6448536269514722, 0.99: 2.3263478740408408}


def test_parametric_is_a_quantile_of_the_normal() -> None:
    ages = np.arange(199, -1, -1)
    chances = 0.94**ages / (0.94**ages).sum()
    deviation = np.sqrt(chances @ (RETURNS @ WEIGHTS) ** 2)
    found = [tail for tail in tails(WEIGHTS, KNOWN, HOW) if tail.method is Method.PARAMETRIC]
    for tail in found:
        assert tail.var == pytest.approx(Z[tail.level] * deviation)
        density = np.exp(-0.5 * Z[tail.level] ** 2) / np.sqrt(2 * np.pi)
        assert tail.es == pytest.approx(deviation * density / (1 - tail.level))


def test_historical_is_the_loss_at_its_rank() -> None:
    losses = np.sort(-(RETURNS @ WEIGHTS))
    found = {tail.level: tail for tail in tails(WEIGHTS, KNOWN, HOW) if tail.method is Method.HISTORICAL}
    assert found[0.95].var == pytest.approx(losses[189])
    assert found[0.99].es == pytest.approx(losses[-2:].mean())


def test_filtering_rescales_history_to_todays_volatility() -> None:
    # A calm past and a stormy present: the filtered quantile knows the storm, the plain one hardly.
    stormy = RETURNS.copy()
    stormy[:150] *= 0.1
    known = Market(returns=stormy, covariance=ewma(stormy, decay=0.94), decay=0.94)

    def estimate(variant: str) -> float:
        found = tails(WEIGHTS, known, replace(HOW, historical=variant))
        var = next(tail.var for tail in found if tail.method is Method.HISTORICAL and tail.level == 0.95)
        assert var is not None
        return var

    assert estimate("filtered") > 1.3 * estimate("plain")


def test_monte_carlo_is_seeded_and_near_the_exact_quantile() -> None:
    normal = {(t.method, t.level): t for t in tails(WEIGHTS, KNOWN, replace(HOW, degrees=None))}
    for level in HOW.levels:
        exact, drawn = normal[Method.PARAMETRIC, level], normal[Method.MONTE_CARLO, level]
        assert drawn.variant == "normal"
        assert drawn.var == pytest.approx(exact.var, rel=0.03)
        assert drawn.component.tolist() == pytest.approx((exact.component * (drawn.var / exact.var)).tolist())
    heavy = {(t.method, t.level): t for t in tails(WEIGHTS, KNOWN, HOW)}
    assert heavy[Method.MONTE_CARLO, 0.99].var > normal[Method.MONTE_CARLO, 0.99].var
    again = {(t.method, t.level): t for t in tails(WEIGHTS, KNOWN, HOW)}
    assert again[Method.MONTE_CARLO, 0.99].var == heavy[Method.MONTE_CARLO, 0.99].var
    other = {(t.method, t.level): t for t in tails(WEIGHTS, KNOWN, replace(HOW, seed=8))}
    assert other[Method.MONTE_CARLO, 0.99].var != heavy[Method.MONTE_CARLO, 0.99].var


def test_too_little_history_is_absent_with_the_instrument_named() -> None:
    close = 100.0 * np.cumprod(1.0 + RETURNS, axis=0)
    close[:180, 1] = np.nan
    known = market(("OLD", "NEW"), panel(close, 30, 0.94), 30)
    assert known.reason.startswith("NEW has fewer than 30 returns")
    for tail in tails(WEIGHTS, known, HOW):
        assert (tail.var, tail.es, tail.reason) == (None, None, known.reason)
        assert not tail.component.size
    assert liquidity(WEIGHTS, np.ones(2), known, HOW) is None


def test_nothing_held_risks_nothing() -> None:
    known = market((), panel(np.empty((50, 0)), 30, 0.94), 30)
    assert {(tail.var, tail.es, tail.reason) for tail in tails(np.empty(0), known, HOW)} == {(0.0, 0.0, "")}


def test_days_to_close_a_position() -> None:
    volumes = np.array([[5000.0, np.nan, 0.0], [1000.0, 400.0, np.nan], [3000.0, np.nan, np.nan]])
    how = replace(HOW, participation=0.1, volume_bars=2)
    days = liquidation_days(np.array([1000.0, -20.0, 1.0]), volumes, how)
    assert days[:2].tolist() == pytest.approx([5.0, 0.5])
    assert np.isnan(days[2])


def test_slow_positions_risk_more() -> None:
    how = replace(HOW, spread_bps=20.0, spread_deviation_bps=10.0)
    quick = liquidity(WEIGHTS, np.array([0.1, 1.0]), KNOWN, how)
    parametric = next(t for t in tails(WEIGHTS, KNOWN, HOW) if t.method is Method.PARAMETRIC and t.level == 0.99)
    assert quick is not None
    assert quick.cost == pytest.approx(0.75 * 0.5 * (0.0020 + 3 * 0.0010))
    assert quick.value_at_risk == pytest.approx(parametric.var + quick.cost)
    slow = liquidity(WEIGHTS, np.array([4.0, 4.0]), KNOWN, how)
    assert slow is not None
    # Sold evenly over four days: variances 1, 9/16, 1/4 and 1/16 of a day's add up.
    factor = np.sqrt(1 + 9 / 16 + 1 / 4 + 1 / 16)
    assert slow.value_at_risk == pytest.approx(factor * parametric.var + slow.cost)
    assert slow.days == 4.0


def test_a_filter_that_cannot_start_is_absent_with_the_reason() -> None:
    still = RETURNS.copy()
    still[:60, 1] = 0.0
    known = Market(returns=still, covariance=ewma(still, decay=0.94), decay=0.94)
    found = tails(WEIGHTS, known, replace(HOW, historical="filtered"))
    by_method = {tail.method: tail for tail in found}
    assert by_method[Method.HISTORICAL].var is None
    assert "without a move" in by_method[Method.HISTORICAL].reason
    assert by_method[Method.PARAMETRIC].var is not None


def test_a_book_hedged_to_nothing_risks_nothing() -> None:
    twins = np.repeat(RETURNS[:, :1], 2, axis=1)
    known = Market(returns=twins, covariance=ewma(twins, decay=0.94), decay=0.94)
    hedged = np.array([0.5, -0.5])
    for found in tails(hedged, known, HOW):
        assert found.var == pytest.approx(0.0, abs=1e-9), found.method
        assert found.component.sum() == pytest.approx(found.var, abs=1e-9)
    scenario = Scenario(name="tenth", description="", kind=Reverse(loss=0.1))
    (row,) = stress_table(("A", "B"), hedged, known, Stress([scenario], {}, {}), 0)
    assert (row.gain, row.reason.count("without risk")) == (None, 1)


def test_what_moved_only_long_ago_is_absent_with_the_reason() -> None:
    close = np.full((1000, 1), 100.0)
    close[0] = 50.0
    known = market(("A",), panel(close, 30, 0.94), 30)
    assert known.reason == "A has not moved for longer than its variance remembers"
    assert all(tail.var is None for tail in tails(np.ones(1), known, HOW))
