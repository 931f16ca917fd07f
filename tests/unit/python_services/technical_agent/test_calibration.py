"""Every directional agent's statistic is standard normal in a random walk, and its confidence means that."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from python_services.kit.agents import Agent, Floats, Window
from python_services.technical_agent.agents import (
    breakout,
    candles,
    levels,
    mean_reversion,
    momentum,
    pairs,
    relative_strength,
    trend,
    volatility_regime,
    volume,
)

from .markets import evidence, forecast, traded, walk, window

INSTRUMENTS = 4_000
BEYOND = 2.0 * (1.0 - NormalDist().cdf(1.0))


@pytest.fixture(scope="module")
def independent() -> Window:
    return traded(INSTRUMENTS)


@pytest.fixture(scope="module")
def alike() -> Window:
    return traded(1_000, seed=3, common=0.4)


def assert_standard_normal(t: Floats) -> None:
    assert abs(t.mean()) < 0.07
    assert t.std() == pytest.approx(1.0, abs=0.06)
    assert np.mean(np.abs(t) > 1.0) == pytest.approx(BEYOND, abs=0.03)
    assert np.mean(np.abs(t) > 1.96) == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (candles.AGENT, "move_t"),
        (mean_reversion.AGENT, "distance_t"),
        (momentum.AGENT, "formation_t"),
        (relative_strength.AGENT, "relative_t"),
        (trend.AGENT, "crossover_t"),
        (volatility_regime.AGENT, "range_t"),
        (volume.AGENT, "obv_t"),
    ],
)
def test_a_statistic_is_standard_normal_in_a_random_walk(agent: Agent[Window], name: str, independent: Window) -> None:
    assert_standard_normal(evidence(agent, independent)[name])


def test_relative_strength_is_so_in_a_market_that_all_share(alike: Window) -> None:
    assert_standard_normal(evidence(relative_strength.AGENT, alike)["relative_t"])


@pytest.mark.parametrize("instruments", [3, 4, 10])
def test_relative_strength_is_so_among_few(instruments: int) -> None:
    t = [evidence(relative_strength.AGENT, window(walk(instruments, seed=s)))["relative_t"] for s in range(600)]
    assert np.concatenate(t).std() == pytest.approx(1.0, abs=0.06)


def test_breakouts_are_as_rare_as_they_should_be(independent: Window) -> None:
    """Each tail of the statistic on its own: in the middle of the channel it is cut off, where nothing is said."""
    t = evidence(breakout.AGENT, independent)["breakout_t"]
    for limit, off in ((1.0, 0.03), (1.5, 0.02), (2.0, 0.01)):
        expected = 1.0 - NormalDist().cdf(limit)
        assert np.mean(t > limit) == pytest.approx(expected, abs=off)
        assert np.mean(t < -limit) == pytest.approx(expected, abs=off)
    close, highest = independent.close[-1], independent.high[-56:-1].max(axis=0)
    assert t[close > highest].min() > 1.6
    assert t[close < highest].max() < 1.75


def test_a_level_is_a_fair_coin_in_a_random_walk(independent: Window) -> None:
    found = evidence(levels.AGENT, independent)
    held, broken = found["held"].sum(), found["broken"].sum()
    assert held / (held + broken) == pytest.approx(0.5, abs=0.01)
    open_ = (found["side"] != 0.0) & (found["held"] + found["broken"] >= levels.APPROACHES)
    assert 0.3 < open_.mean() < 0.7
    assert_standard_normal(found["levels_t"][open_])


def test_a_spread_that_is_a_random_walk_is_found_to_come_back_as_rarely_as_stated() -> None:
    rng = np.random.default_rng(5)
    other = rng.normal(0.0, 0.02, (pairs.FORMATION, INSTRUMENTS))
    mine = 1.3 * other + rng.normal(0.0, 0.01, other.shape)
    t, _ = pairs.spread(mine, other)
    for limit in (1.0, 1.645, 2.326):
        assert np.mean(t > limit) == pytest.approx(1.0 - NormalDist().cdf(limit), rel=0.35)
    speaking = forecast(pairs.AGENT, window(100.0 * np.exp(np.cumsum(np.stack([mine, other], axis=2).reshape(
        pairs.FORMATION, -1)[:, :1_000], axis=0)[[0, *range(pairs.FORMATION)]])))  # fmt: skip
    assert len(speaking.index) < 0.05 * 1_000
    assert speaking.confidence.min(initial=1.0) >= 0.95


# Share of a random walk that is spoken about: 32 percent lie beyond one deviation, conditions take from them.
SPEAKING = [
    (breakout.AGENT, 0.02, 0.09),
    (candles.AGENT, 0.02, 0.12),
    (levels.AGENT, 0.05, 0.20),
    (mean_reversion.AGENT, 0.15, 0.34),
    (momentum.AGENT, 0.28, 0.35),
    (relative_strength.AGENT, 0.28, 0.35),
    (trend.AGENT, 0.28, 0.35),
    (volatility_regime.AGENT, 0.28, 0.35),
    (volume.AGENT, 0.15, 0.34),
]


@pytest.mark.parametrize(("agent", "least", "most"), SPEAKING)
def test_how_much_is_said_of_noise(agent: Agent[Window], least: float, most: float, independent: Window) -> None:
    found = forecast(agent, independent)
    assert least < len(found.index) / INSTRUMENTS < most
    assert found.confidence.min() >= 0.68
    if most > 0.1:
        assert found.confidence.mean() == pytest.approx(0.84, abs=0.04)
    if found.expected_return is not None:
        assert abs(np.sign(found.expected_return).mean()) < 0.25


def test_no_pair_is_found_among_independent_walks(independent: Window, alike: Window) -> None:
    assert len(forecast(pairs.AGENT, independent).index) == 0
    assert len(forecast(pairs.AGENT, alike).index) == 0
