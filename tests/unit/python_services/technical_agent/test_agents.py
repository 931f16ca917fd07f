"""What holds for every agent: when it abstains, what it may read, and that the same gives the same."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from python_services.kit.agents import Agent, Floats, Reason, Window
from python_services.technical_agent.agents import (
    AGENTS,
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

from .markets import BARS, DAY_NS, evidence, forecast, paired, reasons, traded, walk, window

EVERY = pytest.mark.parametrize("agent", AGENTS, ids=[agent.agent_id for agent in AGENTS])
COMPARING = (pairs.AGENT, relative_strength.AGENT)
ALONE = tuple(agent for agent in AGENTS if agent not in COMPARING)


def test_the_names_are_the_modules() -> None:
    assert [agent.agent_id for agent in AGENTS] == sorted(agent.agent_id for agent in AGENTS)
    assert all(agent.agent_id == f"technical.{agent.compute.__module__.rsplit('.', 1)[1]}" for agent in AGENTS)


@EVERY
def test_expected_returns_are_a_small_part_of_the_volatility(agent: Agent[Window]) -> None:
    found = forecast(agent, traded(1_000, seed=7))
    if found.expected_return is None or not len(found.index):
        assert agent in (pairs.AGENT, volatility.AGENT, volatility_regime.AGENT)
        return
    ratio = np.abs(found.expected_return) / found.volatility
    assert 0.0 < ratio.min() <= ratio.max() <= 0.1 + 1e-12
    assert np.median(np.abs(found.expected_return)) < 0.01


@EVERY
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
    assert details[5]


@EVERY
def test_old_data_is_stale(agent: Agent[Window]) -> None:
    made = window(walk())
    assert set(reasons(forecast(agent, replace(made, as_of_ns=made.as_of_ns + 6 * DAY_NS))).values()) == {
        Reason.STALE_DATA
    }
    weekend = forecast(agent, replace(made, as_of_ns=made.as_of_ns + 4 * DAY_NS))
    assert Reason.STALE_DATA not in reasons(weekend).values()


@EVERY
@pytest.mark.parametrize("bars", [1, 2, 19, 20, 21, 60, 61, 63, 64, 65, 80, 81, 120, 121, 300])
def test_any_length_of_history(agent: Agent[Window], bars: int) -> None:
    found = forecast(agent, traded(200, bars, moves=10))
    assert len(found.index) + len(found.abstentions) == 200
    assert {abstention.index for abstention in found.abstentions}.isdisjoint(found.index.tolist())
    if bars < agent.minimum_bars:
        assert set(reasons(found).values()) == {Reason.INSUFFICIENT_HISTORY}
    else:
        assert set(reasons(found).values()) <= {Reason.NO_SIGNAL}
        # Six approaches to a level take longer than 61 bars; walks that know nothing of each other are no pairs.
        assert len(found.index) > 0 or agent is pairs.AGENT or (agent is levels.AGENT and bars < 80)


@pytest.mark.parametrize("agent", ALONE, ids=[agent.agent_id for agent in ALONE])
def test_other_instruments_do_not_matter(agent: Agent[Window]) -> None:
    made = traded(60, moves=10)
    order = np.random.default_rng(5).permutation(60)
    whole, shuffled = forecast(agent, made), forecast(agent, columns(made, order))
    assert sorted(order[shuffled.index].tolist()) == whole.index.tolist()
    place = {int(order[i]): k for k, i in enumerate(shuffled.index)}
    same = [place[int(i)] for i in whole.index]
    assert whole.volatility.tolist() == shuffled.volatility[same].tolist()
    assert whole.confidence.tolist() == shuffled.confidence[same].tolist()
    if whole.expected_return is not None and shuffled.expected_return is not None:
        assert whole.expected_return.tolist() == shuffled.expected_return[same].tolist()
    alone = forecast(agent, columns(made, whole.index[:1]))
    assert alone.volatility.tolist() == pytest.approx([whole.volatility[0]], rel=1e-12)


@pytest.mark.parametrize("agent", COMPARING, ids=[agent.agent_id for agent in COMPARING])
def test_comparing_agents_do_not_depend_on_the_order(agent: Agent[Window]) -> None:
    made = window(paired(20))
    order = np.random.default_rng(5).permutation(40)
    whole, shuffled = forecast(agent, made), forecast(agent, columns(made, order))
    assert len(whole.index) > 0
    assert whole.expected_return is not None
    assert shuffled.expected_return is not None
    place = np.argsort(order[shuffled.index])
    np.testing.assert_allclose(whole.expected_return, shuffled.expected_return[place], rtol=1e-9)


# What an agent's statement about direction, or state, reads; yardsticks of volatility remember longer, if ever less.
READS = [
    (breakout.AGENT, "breakout_t", 61),
    (candles.AGENT, "move_t", 61),
    (mean_reversion.AGENT, "rsi_14", 61),
    (momentum.AGENT, "formation_t", 253),
    (pairs.AGENT, "spread_score", 121),
    (relative_strength.AGENT, "relative_t", 253),
    (trend.AGENT, "crossover_t", 61),
    (volatility.AGENT, "yang_zhang_20", 21),
    (volatility_regime.AGENT, "range_t", 81),
    (volume.AGENT, "obv_t", 21),
    (levels.AGENT, "levels_t", 252),
]


@pytest.mark.parametrize(("agent", "name", "bars"), READS, ids=[row[0].agent_id for row in READS])
def test_older_bars_than_it_reads_change_nothing(agent: Agent[Window], name: str, bars: int) -> None:
    made = traded(40, 300, common=0.9, moves=10)
    scale = np.ones((300, 1))
    scale[: 300 - bars] = np.random.default_rng(9).uniform(0.5, 2.0, (300 - bars, 1))
    changed = window(made.close * scale, open=made.open * scale, high=made.high * scale, low=made.low * scale,
                     volume=made.volume * scale)  # fmt: skip
    before, after = (evidence(agent, each)[name] for each in (made, changed))
    assert np.count_nonzero(before) >= 5
    assert before.tolist() == after.tolist()
    assert bars >= agent.minimum_bars or agent in (volatility.AGENT, volume.AGENT)


@EVERY
def test_the_same_window_gives_the_same_bits(agent: Agent[Window]) -> None:
    first, second = (forecast(agent, traded(200, moves=10)) for _ in range(2))
    assert first.volatility.tobytes() == second.volatility.tobytes()
    assert first.confidence.tobytes() == second.confidence.tobytes()
    assert first.abstentions == second.abstentions


@pytest.mark.parametrize("gone", [slice(None), slice(-1, None), slice(-10, -9)])
def test_without_volume_it_is_volume_that_is_missing(gone: slice) -> None:
    made = traded(30)
    volumes = made.volume.copy()
    volumes[gone, 4] = np.nan
    volumes[:, 5] = 0.0
    found = forecast(volume.AGENT, replace(made, volume=volumes))
    said = reasons(found)
    assert said[4] == said[5] == Reason.MISSING_DATA
    assert set(said.values()) == {Reason.MISSING_DATA, Reason.NO_SIGNAL}
    untouched = forecast(volume.AGENT, made)
    assert set(found.index) == set(untouched.index) - {4, 5}


def test_who_has_less_history_than_the_others_is_not_compared() -> None:
    close = walk(6)
    close[:50, 2] = np.nan
    found = forecast(relative_strength.AGENT, window(close))
    assert reasons(found)[2] == Reason.INSUFFICIENT_HISTORY
    rest = forecast(relative_strength.AGENT, window(np.delete(close, 2, axis=1)))
    np.testing.assert_allclose(found.confidence, rest.confidence, rtol=1e-9)
    few = forecast(relative_strength.AGENT, window(walk(2, drift=0.02)))
    assert {abstention.detail for abstention in few.abstentions} == {"2 to compare, 3 are needed"}


def columns(made: Window, order: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Window:
    """The same bars with other instruments, or in another order."""
    prices: dict[str, Floats] = {
        field.name: np.ascontiguousarray(getattr(made, field.name)[:, order])
        for field in fields(Window)
        if field.name in ("open", "high", "low", "close", "volume")
    }
    return replace(made, **prices)


def test_the_length_of_a_window_is_that_of_a_session() -> None:
    assert max(agent.minimum_bars for agent in AGENTS) <= BARS


@EVERY
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_whatever_the_bars_are_every_instrument_gets_an_answer(agent: Agent[Window], data: st.DataObject) -> None:
    """Holes, prices that stand still, wild jumps, no volume: a forecast of finite numbers, or a reason."""
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    bars, instruments = data.draw(st.sampled_from([30, 62, 81, 126, 260])), data.draw(st.integers(1, 12))
    sigma = data.draw(st.sampled_from([0.0, 1e-9, 0.02, 0.8]))
    close = 10.0 ** rng.uniform(-6, 6, instruments) * np.exp(
        np.cumsum(rng.normal(0, sigma, (bars, instruments)), axis=0)
    )
    close[rng.random(close.shape) < data.draw(st.sampled_from([0.0, 0.002, 0.3]))] = np.nan
    still = rng.random(instruments) < 0.2
    close[-int(rng.integers(1, bars)) :, still] = 7.0
    volume = np.where(rng.random(close.shape) < 0.05, 0.0, rng.lognormal(10.0, 3.0, close.shape))
    made = window(np.clip(close, 1e-9, 1e12), volume=volume)
    found = forecast(agent, made)
    spoken = found.index.tolist() + [abstention.index for abstention in found.abstentions]
    assert sorted(spoken) == list(range(instruments))
    assert (found.volatility > 0.0).all()
    assert ((found.confidence >= 0.0) & (found.confidence <= 1.0)).all()
    for column in (found.volatility, found.expected_return, *found.evidence.values()):
        assert column is None or np.isfinite(column).all()
    assert all(abstention.detail for abstention in found.abstentions)
