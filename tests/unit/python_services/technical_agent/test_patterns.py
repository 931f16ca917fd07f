"""Each agent is right about what it is made for, planted into a made-up market."""

from __future__ import annotations

import numpy as np
import pytest

from python_services.technical_agent.agents import (
    breakout,
    candles,
    levels,
    mean_reversion,
    momentum,
    pairs,
    relative_strength,
    trend,
    volatility,
    volatility_regime,
    volume,
)

from .markets import BARS, evidence, forecast, signs, traded, walk, window


def test_trend_and_momentum_follow() -> None:
    up, down = walk(1, drift=0.01), walk(1, drift=-0.01)
    made = window(np.hstack([up, down]))
    for agent in (trend.AGENT, momentum.AGENT):
        assert signs(forecast(agent, made), 2) == [1.0, -1.0]


def test_momentum_leaves_out_the_last_twelfth() -> None:
    close = walk(4)
    changed = close.copy()
    changed[-10:] *= np.linspace(1.0, 2.0, 10)[:, None]
    before, after = (evidence(momentum.AGENT, window(prices))["formation_t"] for prices in (close, changed))
    assert before.tolist() == after.tolist()
    changed[:-10] *= np.linspace(1.0, 2.0, BARS - 10)[:, None]
    assert (evidence(momentum.AGENT, window(changed))["formation_t"] > before).all()


def test_relative_strength_follows_who_beats_the_market_and_not_the_market() -> None:
    rng = np.random.default_rng(4)
    steps = rng.normal(0.004, 0.02, (BARS, 1)) + rng.normal(0.0, 0.01, (BARS, 6))
    steps[:, 0] += 0.004
    steps[:, 1] -= 0.004
    found = forecast(relative_strength.AGENT, window(100.0 * np.exp(np.cumsum(steps, axis=0))))
    assert signs(found, 6)[:2] == [1.0, -1.0]
    assert found.expected_return is not None
    assert abs((found.expected_return / found.volatility).sum()) < 0.1


def test_reversal_opposes() -> None:
    spike = walk(2)
    spike[-1] *= (1.15, 0.85)
    assert signs(forecast(mean_reversion.AGENT, window(spike)), 2) == [-1.0, 1.0]


def test_a_breakout_needs_a_close_beyond_the_channel_and_a_decisive_move() -> None:
    quiet = 100.0 * np.exp(0.01 * np.sin(np.arange(BARS))[:, None] * np.ones((1, 5)))
    quiet[-1] = quiet[-56:-1].max() * np.array([1.02, 1.0, 0.9999, 1.0, 1.0])
    quiet[-1, 3] = quiet[:-1].min() * 0.98
    quiet[-2:, 4] = quiet[:-2].max() * np.array([1.02, 1.0201])  # creeps on after yesterday's breakout
    made = window(quiet)
    assert signs(forecast(breakout.AGENT, made), 5) == [1.0, 0.0, 0.0, -1.0, 0.0]
    assert evidence(breakout.AGENT, made)["donchian_high_55"][0] == pytest.approx(quiet[-56:-1, 0].max())


def test_volume_follows_what_it_confirms_only() -> None:
    made = traded(4, seed=11)
    steps = np.array([1.0, -1.0, 1.0, 1.0]) * np.where(np.arange(20) % 4 == 3, -1.0, 1.0)[:, None] * 0.01
    close = made.close.copy()
    close[-20:] = close[-21] * np.exp(np.cumsum(steps, axis=0))
    heavy = np.where(np.sign(steps) == np.array([1.0, -1.0, -1.0, 1.0]), 4e6, 1e6)
    volumes = np.full(close.shape, 1e6)
    volumes[-20:] = heavy
    changed = window(close, volume=volumes)
    # Up on volume, down on volume, up against volume, up on volume that is counted twice.
    assert signs(forecast(volume.AGENT, changed), 4) == [1.0, -1.0, 0.0, 1.0]
    volumes[:, 3] *= 2.0
    twice = forecast(volume.AGENT, window(close, volume=volumes))
    assert twice.confidence.tolist() == forecast(volume.AGENT, changed).confidence.tolist()


def swinging(last: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Between 95 and 105, with a period of 16 bars, ending at `last`."""
    bars = np.arange(BARS)
    close = 100.0 + 5.0 * np.cos(2.0 * np.pi * (bars - BARS + 1) / 16.0) * np.sign(last - 100.0)
    return close[:, None]


def test_levels_that_have_held_are_expected_to_hold() -> None:
    made = window(np.hstack([swinging(95.0), swinging(105.0)]))
    found = forecast(levels.AGENT, made)
    assert signs(found, 2) == [1.0, -1.0]
    assert found.evidence["side"].tolist() == [1.0, -1.0]
    assert found.evidence["level"] == pytest.approx([95.0, 105.0], rel=0.005)
    assert (found.evidence["touches"] >= 3.0).all()
    assert (found.evidence["held"] > 2.0 * found.evidence["broken"]).all()


def test_levels_that_have_broken_are_expected_to_break() -> None:
    """A climb that pauses and dips at every step: each old high is met from below, and passed."""
    steps = np.concatenate([np.full(4, 1.6), np.full(4, -1.3)] * 40)[-BARS - 6 : -6]
    made = window(60.0 + np.cumsum(steps)[:, None])
    found = evidence(levels.AGENT, made)
    assert found["broken"][0] > found["held"][0]
    assert found["levels_t"][0] * found["side"][0] <= 0.0


def test_a_pair_that_came_apart_is_expected_to_meet_again() -> None:
    rng = np.random.default_rng(8)
    common = rng.normal(0.0, 0.02, (BARS, 1))
    gap = np.zeros(BARS)
    for bar in range(1, BARS):
        gap[bar] = 0.6 * gap[bar - 1] + rng.normal(0.0, 0.006)
    gap[-1] = 0.05
    path = np.cumsum(common, axis=0)
    close = 100.0 * np.exp(np.hstack([path + gap[:, None], path, np.cumsum(rng.normal(0, 0.02, (BARS, 2)), axis=0)]))
    found = forecast(pairs.AGENT, window(close))
    assert signs(found, 4) == [-1.0, 1.0, 0.0, 0.0]
    assert found.evidence["partner_row"].tolist() == [1.0, 0.0]
    assert (found.evidence["correlation"] > 0.9).all()
    assert found.evidence["spread_score"][0] == pytest.approx(-found.evidence["spread_score"][1])
    assert found.evidence["hedge_ratio"] == pytest.approx([1.0, 1.0], abs=0.15)


def test_two_of_one_drift_for_good_are_no_pair() -> None:
    rng = np.random.default_rng(8)
    common = rng.normal(0.0, 0.02, (BARS, 1))
    close = 100.0 * np.exp(np.cumsum(common + np.array([0.004, -0.004]) + rng.normal(0, 0.004, (BARS, 2)), axis=0))
    made = window(close)
    assert (evidence(pairs.AGENT, made)["correlation"] > 0.8).all()
    assert len(forecast(pairs.AGENT, made).index) == 0


def test_a_candle_speaks_against_the_move_before_it_only() -> None:
    made = traded(3, seed=12)
    open_, high, low, close = (getattr(made, name).copy() for name in ("open", "high", "low", "close"))
    for bar in range(BARS - 14, BARS):
        drift = np.array([-0.012, 0.012, 0.012])
        open_[bar] = close[bar - 1]
        close[bar] = open_[bar] * np.exp(drift)
        high[bar], low[bar] = np.maximum(open_[bar], close[bar]) * 1.002, np.minimum(open_[bar], close[bar]) * 0.998
    # Engulfed by the last bar: bullish after the fall, bearish after the rise; bullish after a rise says nothing.
    last, before = BARS - 1, BARS - 2
    close[before, 2] = open_[before, 2] * 0.99
    low[before, 2] = close[before, 2] * 0.998
    bullish = np.array([True, False, True])
    bottom, top = np.minimum(open_[before], close[before]), np.maximum(open_[before], close[before])
    open_[last] = np.where(bullish, bottom * 0.999, top * 1.001)
    close[last] = np.where(bullish, top * 1.001, bottom * 0.999)
    high[last], low[last] = np.maximum(open_[last], close[last]) * 1.001, np.minimum(open_[last], close[last]) * 0.999
    found = forecast(candles.AGENT, window(close, open=open_, high=high, low=low))
    assert signs(found, 3) == [1.0, -1.0, 0.0]
    assert found.evidence["engulfing"].tolist() == [1.0, -1.0]


@pytest.mark.parametrize("sigma", [0.005, 0.02, 0.05])
def test_volatility_finds_the_true_one(sigma: float) -> None:
    rng = np.random.default_rng(3)
    path = np.exp(np.cumsum(rng.normal(0.0, sigma / 10.0, (BARS * 100, 200)), axis=0)).reshape(BARS, 100, 200)
    made = window(path[:, -1], open=path[:, 0], high=path.max(axis=1), low=path.min(axis=1))
    found = forecast(volatility.AGENT, made)
    assert found.expected_return is None
    assert np.median(found.volatility) == pytest.approx(sigma * np.sqrt(20), rel=0.06)
    assert np.median(found.confidence) > 0.8
    assert len(found.index) == 200


def test_volatility_is_lower_when_the_market_has_calmed_down() -> None:
    calm, wild = walk(1, sigma=0.01), walk(1, sigma=0.04)
    calming = np.vstack([wild[:60], wild[59] * walk(1, 66, sigma=0.01, seed=5) / 100.0])
    found = forecast(volatility.AGENT, window(np.hstack([calm, wild, calming])))
    assert found.volatility[0] < found.volatility[2] < found.volatility[1]


def test_a_state_of_volatility_is_told_and_expected_to_last() -> None:
    waking = np.vstack([walk(1, BARS - 20, sigma=0.01), 100.0 * walk(1, 20, sigma=0.03, seed=2) / 100.0])
    falling_asleep = np.vstack([walk(1, BARS - 20, sigma=0.03), 100.0 * walk(1, 20, sigma=0.01, seed=2) / 100.0])
    waking[-20:] *= waking[-21] / 100.0
    falling_asleep[-20:] *= falling_asleep[-21] / 100.0
    found = forecast(volatility_regime.AGENT, window(np.hstack([waking, falling_asleep])))
    assert found.expected_return is None
    assert found.evidence["regime"].tolist() == [1.0, -1.0]
    assert found.confidence.min() > 0.99
    for row in range(2):
        now, before = found.evidence["now_20"][row], found.evidence["before_60"][row]
        daily = found.volatility[row] / np.sqrt(volatility_regime.HORIZON)
        assert min(now, before) < daily < max(now, before)
        assert abs(daily - now) < abs(daily - before)
