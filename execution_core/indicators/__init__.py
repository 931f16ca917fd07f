"""Technical indicators over panels of shape (bars, symbols); the rules are in ``panel.py``.

>>> import numpy as np
>>> from execution_core import indicators
>>> close = np.cumsum(np.ones((40, 3)), axis=0)
>>> indicators.sma(close, 20)[-1].tolist()
[30.5, 30.5, 30.5]
"""

from execution_core.indicators.oscillators import (
    Stochastic,
    donchian_high,
    donchian_low,
    momentum,
    rate_of_change,
    rsi,
    stochastic,
)
from execution_core.indicators.panel import Panel
from execution_core.indicators.swings import Levels, levels
from execution_core.indicators.trend import (
    Directional,
    Macd,
    Slope,
    adx,
    ema,
    macd,
    slope,
    sma,
    wma,
)
from execution_core.indicators.volatility import (
    Bollinger,
    atr,
    bollinger,
    ewma_volatility,
    garman_klass,
    parkinson,
    stdev,
    yang_zhang,
    zscore,
)
from execution_core.indicators.volume import obv

__all__ = [
    "Bollinger",
    "Directional",
    "Levels",
    "Macd",
    "Panel",
    "Slope",
    "Stochastic",
    "adx",
    "atr",
    "bollinger",
    "donchian_high",
    "donchian_low",
    "ema",
    "ewma_volatility",
    "garman_klass",
    "levels",
    "macd",
    "momentum",
    "obv",
    "parkinson",
    "rate_of_change",
    "rsi",
    "slope",
    "sma",
    "stdev",
    "stochastic",
    "warm",
    "wma",
    "yang_zhang",
    "zscore",
]


def warm() -> None:
    """Compile every kernel of the package with its production types."""
    from execution_core.indicators import candlesticks, latest, oscillators, panel, swings, trend, volatility

    for module in (panel, trend, oscillators, volatility, swings, latest, candlesticks):
        module.warm()
