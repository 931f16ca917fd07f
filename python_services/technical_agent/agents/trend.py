"""Trend following: moving average crossover, confirmed by the place in the Donchian channel.

    t        = (mean of the last 20 log closes - mean of the last 60) / its deviation in a random walk
    place    = where the close lies between the lowest low (-1) and the highest high (+1) of 55 bars
    clear    = |t| >= 1 and place has the sign of t
    expected = IC x volatility over the horizon x clip(t, +-2) x (1 + |place|) / 2

The difference of the averages is a fixed weighted sum of past returns, so in a random walk its
deviation is the return's deviation times sqrt(sum of squared weights), and t is close to standard
normal. Averages: Brock, Lakonishok and LeBaron 1992; channel: Donchian. IC, the correlation between
forecast and outcome, turns a score into a return: Grinold and Kahn 2000, chapter 10.
"""

from __future__ import annotations

import numpy as np

from execution_core import indicators
from python_services.kit.agents import (
    SAMPLE,
    Agent,
    Mask,
    Signal,
    Window,
    average_weights,
    confidence,
    tail,
    weighted_past,
)

FAST, SLOW, CHANNEL = 20, 60, 55
NOISE_BAND, CAP = 1.0, 2.0
# A prior from the literature on single stocks, not fitted to any data that ships with the project.
INFORMATION_COEFFICIENT = 0.05
HORIZON = 20
_DEVIATION = weighted_past(average_weights(SLOW, SLOW) - average_weights(FAST, SLOW))


def compute(window: Window, eligible: Mask) -> Signal:
    """See the module."""
    log_close = tail(window.log_close, SLOW)
    gap = indicators.sma(tail(log_close, FAST), FAST)[-1] - indicators.sma(log_close, SLOW)[-1]
    t = gap / (window.sample_volatility * _DEVIATION)
    highest = indicators.donchian_high(tail(window.high, CHANNEL), CHANNEL)[-1]
    lowest = indicators.donchian_low(tail(window.low, CHANNEL), CHANNEL)[-1]
    place = (2.0 * window.close[-1] - highest - lowest) / (highest - lowest)
    volatility = window.daily_volatility * np.sqrt(HORIZON)
    score = np.clip(t, -CAP, CAP) * (1.0 + np.abs(place)) / 2.0
    return Signal(
        expected_return=INFORMATION_COEFFICIENT * volatility * score,
        volatility=volatility,
        confidence=confidence(t),
        clear=(np.abs(t) >= NOISE_BAND) & (place * t > 0.0),
        unclear="the averages' difference is inside the noise of a random walk, or the channel contradicts it",
        evidence={"crossover_20_60": gap, "crossover_t": t, "donchian_place_55": place},
    )


AGENT = Agent(
    agent_id="technical.trend",
    version="1.0.0",
    minimum_bars=SAMPLE + 1,
    horizon_bars=HORIZON,
    description="Follows a moving average crossover that the Donchian channel confirms.",
    compute=compute,
)
