"""The agents of this cluster. Each is one module: a description and one pure function."""

from . import (
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

AGENTS = (
    breakout.AGENT,
    candles.AGENT,
    levels.AGENT,
    mean_reversion.AGENT,
    momentum.AGENT,
    pairs.AGENT,
    relative_strength.AGENT,
    trend.AGENT,
    volatility.AGENT,
    volatility_regime.AGENT,
    volume.AGENT,
)
