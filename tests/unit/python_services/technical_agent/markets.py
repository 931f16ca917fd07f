"""Markets made for tests: random walks as closes only, or as bars with a path inside each."""

from __future__ import annotations

import numpy as np

from python_services.kit import agents as kit
from python_services.kit.agents import Agent, Floats, Forecast, Reason, Window

DAY_NS = 86_400 * 10**9
BARS = 126
SIGMA = 0.02


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


def walk(instruments: int = 2, bars: int = BARS, *, seed: int = 1, drift: float = 0.0, sigma: float = SIGMA) -> Floats:
    """Closes of geometric random walks."""
    steps = np.random.default_rng(seed).normal(drift, sigma, (bars, instruments))
    return 100.0 * np.exp(np.cumsum(steps, axis=0))


def paired(pairs: int, bars: int = BARS, *, seed: int = 1) -> Floats:
    """Closes of pairs, side by side: one random walk each, and a gap that keeps closing."""
    rng = np.random.default_rng(seed)
    path = np.cumsum(rng.normal(0.0, SIGMA, (bars, pairs)), axis=0)
    gap = np.zeros((bars, pairs))
    for bar in range(1, bars):
        gap[bar] = 0.8 * gap[bar - 1] + rng.normal(0.0, 0.3 * SIGMA, pairs)
    return 100.0 * np.exp(np.stack([path + gap, path], axis=2).reshape(bars, 2 * pairs))


def traded(
    instruments: int, bars: int = BARS, *, seed: int = 1, sigma: float = SIGMA, common: float = 0.0, moves: int = 40
) -> Window:
    """Random walks that trade all day, `moves` times; `common` is the correlation. Volume rises with the day's move."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0.0, np.sqrt(1.0 - common), (bars * moves, instruments))
    steps += rng.normal(0.0, np.sqrt(common), (bars * moves, 1))
    steps *= sigma / np.sqrt(moves)
    ends = 100.0 * np.exp(np.cumsum(steps, axis=0))
    path = ends.reshape(bars, moves, instruments)
    opens = np.vstack([np.full((1, instruments), 100.0), path[:-1, -1]])
    close = path[:, -1].copy()
    volume = rng.lognormal(14.0, 0.4, close.shape) * (1.0 + 30.0 * np.abs(np.log(close / opens)))
    return window(
        close,
        high=np.maximum(path.max(axis=1), opens),
        low=np.minimum(path.min(axis=1), opens),
        volume=volume,
    )


def forecast(agent: Agent[Window], made: Window) -> Forecast:
    """Runs one agent."""
    return kit.forecast(agent, made, made)


def evidence(agent: Agent[Window], made: Window) -> dict[str, Floats]:
    """What an agent computed for every instrument, whether it spoke or not."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return agent.compute(made, np.ones(made.close.shape[1], dtype=np.bool_)).evidence


def reasons(found: Forecast) -> dict[int, Reason]:
    """Why it did not speak, by instrument."""
    return {abstention.index: abstention.reason for abstention in found.abstentions}


def signs(found: Forecast, instruments: int) -> list[float]:
    """Sign of the expected return of each instrument; 0 where it did not speak."""
    answer = np.zeros(instruments)
    assert found.expected_return is not None
    answer[found.index] = np.sign(found.expected_return)
    return [float(value) for value in answer]
