"""The agents of this cluster. Each is one module: a description and one pure function."""

from . import mean_reversion, momentum, trend, volatility

AGENTS = (mean_reversion.AGENT, momentum.AGENT, trend.AGENT, volatility.AGENT)
