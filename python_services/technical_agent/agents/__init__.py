"""The agents of this cluster, by agent_id. Each is one module: a description and one pure function."""

from . import mean_reversion, momentum, trend, volatility
from .base import Agent

AGENTS: dict[str, Agent] = {
    agent.agent_id: agent for agent in (mean_reversion.AGENT, momentum.AGENT, trend.AGENT, volatility.AGENT)
}
