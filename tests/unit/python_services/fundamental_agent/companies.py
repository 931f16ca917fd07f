"""Views of real filings at a moment, with made-up bars and stated prices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import numpy as np

from python_services.fundamental_agent.accounts import company
from python_services.fundamental_agent.agents import agents
from python_services.fundamental_agent.agents.dcf import Assumptions
from python_services.fundamental_agent.view import Accounts, Fundamentals
from python_services.kit.agents import Agent, Forecast, Reason, Window, forecast
from python_services.kit.facts import CompanyFacts, read, visible_from_ns
from python_services.training.facts import BUNDLED

FACTS = read(BUNDLED)
AGENTS: Mapping[str, Agent[Fundamentals]] = {agent.agent_id: agent for agent in agents(Assumptions())}
BARS = 126
DAY_NS = 86_400 * 10**9


def window(count: int, as_of_ns: int, seed: int = 1) -> Window:
    """Bars of `count` instruments, one a day up to a moment."""
    close = 100.0 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0.0, 0.02, (BARS, count)), axis=0))
    times = as_of_ns - np.arange(BARS)[::-1] * DAY_NS
    return Window(as_of_ns, times, close, close * 1.01, close * 0.99, close, np.full_like(close, 1e6))


def look(names: Sequence[str], day: date, prices: Sequence[float], facts: CompanyFacts = FACTS) -> Fundamentals:
    """What the agents see of these companies at the end of a day."""
    as_of_ns = visible_from_ns(day)
    found = tuple(company(facts.as_of(name, as_of_ns)) for name in names)
    return Fundamentals(window(len(names), as_of_ns), Accounts(found), np.array(prices, dtype=np.float64))


def run(agent_id: str, view: Fundamentals) -> Forecast:
    """One agent's forecast."""
    return forecast(AGENTS[agent_id], view.window, view)


def evidence(found: Forecast, index: int) -> dict[str, float]:
    """What an agent read of one instrument that it speaks about."""
    (row,) = np.flatnonzero(found.index == index)
    return {name: float(values[row]) for name, values in found.evidence.items()}


def why(found: Forecast) -> dict[int, tuple[Reason, str]]:
    """Abstentions by instrument."""
    return {each.index: (each.reason, each.detail) for each in found.abstentions}
