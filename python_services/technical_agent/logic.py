"""Which agents run, and running them: no messages here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from .agents import AGENTS
from .agents.base import Agent, Forecast, Window, forecast


def choose(agent_ids: Iterable[str]) -> dict[str, Agent]:
    """The agents named, by id; all of them when none is. Raises KeyError with the unknown id."""
    wanted = sorted(agent_ids) or sorted(AGENTS)
    return {agent_id: AGENTS[agent_id] for agent_id in wanted}


def compute(agents: Sequence[Agent], window: Window) -> list[Forecast]:
    """One forecast per agent, in order."""
    return [forecast(agent, window) for agent in agents]


def warm() -> None:
    """Runs every agent once on made-up bars, so that no request ever compiles or loads a kernel."""
    bars = 70
    path = 100.0 * np.exp(0.01 * np.sin(np.arange(2 * bars, dtype=np.float64).reshape(bars, 2)).cumsum(axis=0))
    times = np.arange(1, bars + 1, dtype=np.int64)
    window = Window(int(times[-1]), times, path, path * 1.01, path * 0.99, path * 1.001)
    compute(list(AGENTS.values()), window)
