"""The agents, each a module with an AGENT."""

from . import dispersion, news, trend

AGENTS = (news.AGENT, trend.AGENT, dispersion.AGENT)
