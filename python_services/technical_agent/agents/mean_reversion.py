"""Short-term reversal: a close far from its recent mean comes back part of the way.

    t        = (log close - mean of the last 20) / its deviation in a random walk
    clear    = |t| >= 1 and RSI(14) at or beyond 40 / 60 on the same side
    expected = -IC x volatility over the horizon x clip(t, +-3)

The z-score of a price within its own window is not standard normal, not even in a random walk; t is
(see trend). Both are in the evidence. Sources: Lehmann 1990, Jegadeesh 1990; RSI: Wilder 1978.
"""

from __future__ import annotations

import numpy as np

from execution_core import indicators
from execution_core.indicators import latest
from python_services.kit.agents import (
    SAMPLE,
    Agent,
    Mask,
    Signal,
    Window,
    average_weights,
    confidence,
    mean,
    tail,
    weighted_past,
)

WINDOW, RSI_BARS, RSI_BAND = 20, 14, 10.0
NOISE_BAND, CAP = 1.0, 3.0
# A prior from the literature on single stocks, not fitted to any data that ships with the project.
INFORMATION_COEFFICIENT = 0.03
HORIZON = 5
_DEVIATION = weighted_past(average_weights(WINDOW, WINDOW))


def compute(window: Window, eligible: Mask) -> Signal:
    """See the module."""
    log_close = tail(window.log_close, WINDOW)
    distance = log_close[-1] - mean(log_close)
    t = distance / (window.sample_volatility * _DEVIATION)
    score = latest.zscore(log_close, WINDOW)
    strength = indicators.rsi(tail(window.close, SAMPLE + 1), RSI_BARS)[-1]
    volatility = window.daily_volatility * np.sqrt(HORIZON)
    return Signal(
        expected_return=-INFORMATION_COEFFICIENT * volatility * np.clip(t, -CAP, CAP),
        volatility=volatility,
        confidence=confidence(t),
        clear=(np.abs(t) >= NOISE_BAND) & ((strength - 50.0) * np.sign(t) >= RSI_BAND),
        unclear="within the noise around its mean, or RSI does not confirm it",
        evidence={"distance_20": distance, "distance_t": t, "zscore_20": score, "rsi_14": strength},
    )


AGENT = Agent(
    agent_id="technical.mean_reversion",
    version="1.0.1",
    minimum_bars=SAMPLE + 1,
    horizon_bars=HORIZON,
    description="Expects a close far from its 20-bar mean to come back part of the way.",
    compute=compute,
)
