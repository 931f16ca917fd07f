"""The agents: calibrated against a random walk, right about planted patterns, silent when they must be."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from python_services.kit import agents as kit
from python_services.kit.agents import Agent, Floats, Forecast, Reason, Window
from python_services.technical_agent.agents import AGENTS, mean_reversion, momentum, trend, volatility

DAY_NS = 86_400 * 10**9
BARS = 126
DIRECTIONAL = (mean_reversion.AGENT, momentum.AGENT, trend.AGENT)
ALONE = (mean_reversion.AGENT, trend.AGENT, volatility.AGENT)


def window(close: Floats, **changes: Floats) -> Window:
    """Bars that open at the close before, with the highest and lowest at open or close."""
    before = np.vstack([close[:1], close[:-1]])
    opens = np.where(np.isnan(before), close, before)
    volume = np.where(np.isnan(close), np.nan, 1e6)
    columns = {"open": opens, "high": np.fmax(opens, close), "low": np.fmin(opens, close), "close": close}
    columns |= {"volume": volume} | changes
    times = np.arange(1, len(close) + 1, dtype=np.int64) * DAY_NS
    names = ("open", "high", "low", "close", "volume")
    return Window(int(times[-1]), times, *(np.ascontiguousarray(columns[name]) for name in names))


def forecast(agent: Agent[Window], made: Window) -> Forecast:
    return kit.forecast(agent, made, made)


def walk(instruments: int = 2, bars: int = BARS, *, seed: int = 1, drift: float = 0.0, sigma: float = 0.02) -> Floats:
    steps = np.random.default_rng(seed).normal(drift, sigma, (bars, instruments))
    return 100.0 * np.exp(np.cumsum(steps, axis=0))


def reasons(found: Forecast) -> dict[int, Reason]:
    return {abstention.index: abstention.reason for abstention in found.abstentions}


@dataclass
class Statistic:
    """All values of one agent's statistic, whether it spoke or not."""

    values: Floats

    @staticmethod
    def of(agent: Agent[Window], name: str, close: Floats) -> Statistic:
        made = window(close)
        return Statistic(agent.compute(made, np.ones(close.shape[1], dtype=np.bool_)).evidence[name])


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (trend.AGENT, "crossover_t"),
        (mean_reversion.AGENT, "distance_t"),
        (momentum.AGENT, "formation_t"),
        (momentum.AGENT, "relative_t"),
    ],
)
def test_statistics_are_standard_normal_in_a_random_walk(agent: Agent[Window], name: str) -> None:
    t = Statistic.of(agent, name, walk(4_000)).values
    assert abs(t.mean()) < 0.06
    assert t.std() == pytest.approx(1.0, abs=0.06)
    assert np.mean(np.abs(t) > 1.96) == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize("agent", DIRECTIONAL)
def test_a_random_walk_gives_confidence_that_is_uniform_beyond_the_band(agent: Agent[Window]) -> None:
    found = forecast(agent, window(walk(4_000)))
    # 32 percent lie beyond one deviation; a second condition may only take from them.
    assert 0.1 < len(found.index) / 4_000 < 0.34
    assert found.confidence.min() >= 0.68
    assert found.confidence.mean() == pytest.approx(0.84, abs=0.03)


def test_momentum_combines_both_parts_to_a_standard_normal() -> None:
    for instruments in (1, 2, 5):
        signs = []
        for seed in range(400 // instruments):
            found = forecast(momentum.AGENT, window(walk(instruments, seed=seed)))
            signs.append(len(found.index) / instruments)
        assert np.mean(signs) == pytest.approx(0.317, abs=0.07)


def test_trend_and_momentum_follow_and_reversal_opposes() -> None:
    up, down = walk(1, drift=0.01), walk(1, drift=-0.01)
    made = window(np.hstack([up, down]))
    for agent in (trend.AGENT, momentum.AGENT):
        found = forecast(agent, made)
        assert found.expected_return is not None
        assert np.sign(found.expected_return).tolist() == [1.0, -1.0]
    spike = walk(2)
    spike[-1] *= (1.15, 0.85)
    found = forecast(mean_reversion.AGENT, window(spike))
    assert found.expected_return is not None
    assert np.sign(found.expected_return).tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("agent", DIRECTIONAL)
def test_expected_returns_are_a_small_part_of_the_volatility(agent: Agent[Window]) -> None:
    found = forecast(agent, window(walk(2_000, drift=0.002)))
    assert found.expected_return is not None
    ratio = np.abs(found.expected_return) / found.volatility
    assert 0.0 < ratio.min() <= ratio.max() <= 0.1 + 1e-12
    assert np.median(np.abs(found.expected_return)) < 0.01


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


@pytest.mark.parametrize("agent", AGENTS, ids=[agent.agent_id for agent in AGENTS])
def test_why_an_agent_abstains(agent: Agent[Window]) -> None:
    close = walk(6)
    close[:100, 1] = np.nan  # listed a month ago
    close[-1, 2] = np.nan  # no bar today
    close[-30, 3] = np.nan  # one missing
    close[:, 4] = np.nan  # never listed
    close[:, 5] = 50.0  # does not move
    found = forecast(agent, window(close))
    assert reasons(found) | {0: None} == {
        0: None,
        1: Reason.INSUFFICIENT_HISTORY,
        2: Reason.STALE_DATA,
        3: Reason.MISSING_DATA,
        4: Reason.INSUFFICIENT_HISTORY,
        5: Reason.NO_SIGNAL,
    }
    details = {abstention.index: abstention.detail for abstention in found.abstentions}
    assert details[1].startswith("26 bars of history")
    assert "1970-05-06" in details[2]
    assert details[3].startswith("no bar 29 bars ago")
    assert details[5] == "the price did not move"


@pytest.mark.parametrize("agent", AGENTS, ids=[agent.agent_id for agent in AGENTS])
def test_old_data_is_stale(agent: Agent[Window]) -> None:
    made = window(walk())
    assert set(reasons(forecast(agent, replace(made, as_of_ns=made.as_of_ns + 6 * DAY_NS))).values()) == {
        Reason.STALE_DATA
    }
    weekend = forecast(agent, replace(made, as_of_ns=made.as_of_ns + 4 * DAY_NS))
    assert Reason.STALE_DATA not in reasons(weekend).values()


@pytest.mark.parametrize("agent", AGENTS, ids=[agent.agent_id for agent in AGENTS])
@pytest.mark.parametrize("bars", [1, 2, 19, 20, 21, 60, 61, 63, 64, 65])
def test_any_length_of_history(agent: Agent[Window], bars: int) -> None:
    found = forecast(agent, window(walk(50, bars)))
    assert len(found.index) + len(found.abstentions) == 50
    if bars < agent.minimum_bars:
        assert set(reasons(found).values()) == {Reason.INSUFFICIENT_HISTORY}
    else:
        assert len(found.index) > 0


@pytest.mark.parametrize("agent", ALONE, ids=[agent.agent_id for agent in ALONE])
def test_other_instruments_do_not_matter(agent: Agent[Window]) -> None:
    close = walk(40)
    order = np.random.default_rng(5).permutation(40)
    whole, shuffled = forecast(agent, window(close)), forecast(agent, window(close[:, order]))
    assert sorted(order[shuffled.index].tolist()) == whole.index.tolist()
    place = {int(order[i]): k for k, i in enumerate(shuffled.index)}
    same = [place[int(i)] for i in whole.index]
    assert whole.volatility.tolist() == shuffled.volatility[same].tolist()
    assert whole.confidence.tolist() == shuffled.confidence[same].tolist()
    if whole.expected_return is not None and shuffled.expected_return is not None:
        assert whole.expected_return.tolist() == shuffled.expected_return[same].tolist()
    alone = forecast(agent, window(close[:, whole.index[:1]]))
    assert alone.volatility[0] == whole.volatility[0]


def test_momentum_compares_but_does_not_depend_on_the_order() -> None:
    close = walk(40)
    order = np.random.default_rng(5).permutation(40)
    whole, shuffled = (forecast(momentum.AGENT, window(close[:, columns])) for columns in (np.arange(40), order))
    assert whole.expected_return is not None
    assert shuffled.expected_return is not None
    place = np.argsort(order[shuffled.index])
    np.testing.assert_allclose(whole.expected_return, shuffled.expected_return[place], rtol=1e-12)


def test_older_bars_than_declared_do_not_matter_to_trend_and_reversal_signals() -> None:
    close = walk(40)
    changed = close.copy()
    changed[: BARS - 61] *= np.random.default_rng(9).uniform(0.5, 2.0, (BARS - 61, 1))
    for agent, name in ((trend.AGENT, "crossover_t"), (mean_reversion.AGENT, "rsi_14")):
        before, after = (Statistic.of(agent, name, prices).values for prices in (close, changed))
        assert before.tolist() == after.tolist()


def test_the_same_window_gives_the_same_bits() -> None:
    made = window(walk(200))
    first, second = ([forecast(agent, made) for agent in AGENTS] for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert a.volatility.tobytes() == b.volatility.tobytes()
        assert a.confidence.tobytes() == b.confidence.tobytes()
        assert a.abstentions == b.abstentions
