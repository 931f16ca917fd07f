"""Trend following: a fast moving average above or below a slow one.

    t        = (mean of the last 20 log closes - mean of the last 60) / its deviation in a random walk
    clear    = |t| >= 1
    expected = IC x volatility over the horizon x clip(t, +-2)

The difference of the averages is a fixed weighted sum of past returns, so in a random walk its
deviation is the return's deviation times sqrt(sum of squared weights), and t is close to standard
normal. Source: Brock, Lakonishok and LeBaron 1992. IC, the correlation between forecast and outcome,
turns a score into a return: Grinold and Kahn 2000, chapter 10.
"""

from __future__ import annotations

import numpy as np

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

FAST, SLOW = 20, 60
NOISE_BAND, CAP = 1.0, 2.0
# A prior from the literature on single stocks, not fitted to any data that ships with the project.
INFORMATION_COEFFICIENT = 0.05
HORIZON = 20
_DEVIATION = weighted_past(average_weights(SLOW, SLOW) - average_weights(FAST, SLOW))


def compute(window: Window, eligible: Mask) -> Signal:
    """See the module."""
    log_close = tail(window.log_close, SLOW)
    gap = mean(tail(log_close, FAST)) - mean(log_close)
    t = gap / (window.sample_volatility * _DEVIATION)
    volatility = window.daily_volatility * np.sqrt(HORIZON)
    return Signal(
        expected_return=INFORMATION_COEFFICIENT * volatility * np.clip(t, -CAP, CAP),
        volatility=volatility,
        confidence=confidence(t),
        clear=np.abs(t) >= NOISE_BAND,
        unclear="the averages differ by noise",
        evidence={"crossover_20_60": gap, "crossover_t": t},
    )


AGENT = Agent(
    agent_id="technical.trend",
    version="2.0.0",
    minimum_bars=SAMPLE + 1,
    horizon_bars=HORIZON,
    description="Follows a 20/60 moving average crossover.",
    compute=compute,
)
