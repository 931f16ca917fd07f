"""Volatility regime: whether the last 20 bars belong to a calmer or a wilder state than the 60 before.

    x          = log(true range / close before), one a bar
    t          = (mean of x over the last 20 - mean over the 60 before) / (pooled deviation x sqrt(1/20 + 1/60))
    regime     = high when t >= 1, low when t <= -1; between, no statement
    before, now = deviation of the returns of those 60 and those 20 bars
    variance   = before^2 + (now^2 - before^2) x (1 - p^H) / (H (1 - p)) a day on average over H, p = 0.98
    volatility = sqrt(H x variance)

The logarithm of a range is close to normal (Alizadeh, Brandt and Diebold 2002), so t is close to standard normal
while volatility is constant, whatever its level. States of volatility last: with p = 0.98 a day the one found is
left after 50 bars on average (weeks to months: Hamilton and Susmel 1994). There is no expected return: across
states the return does not rise and fall with the variance (Moreira and Muir 2017; Glosten, Jagannathan and Runkle
1993 find the opposite sign). What it says is that the volatility found will mostly stay, which makes the portfolio
smaller in a wild state and larger in a calm one.
"""

from __future__ import annotations

import numpy as np

from python_services.kit.agents import Agent, Mask, Signal, Window, confidence, sample_variance, tail

RECENT, BEFORE = 20, 60
NOISE_BAND = 1.0
PERSISTENCE = 0.98
HORIZON = 20
_CARRY = (1.0 - PERSISTENCE**HORIZON) / (HORIZON * (1.0 - PERSISTENCE))
_WIDTH = np.sqrt(1.0 / RECENT + 1.0 / BEFORE)


def compute(window: Window, eligible: Mask) -> Signal:
    """See the module."""
    last = tail(window.close, RECENT + BEFORE + 1)[:-1]
    high, low = tail(window.high, RECENT + BEFORE), tail(window.low, RECENT + BEFORE)
    x = np.maximum(high, last)
    x -= np.minimum(low, last)
    x /= last
    np.log(x, out=x)
    recent, before = x[-RECENT:], x[:-RECENT]
    centre = before.sum(axis=0) / BEFORE
    gap = recent.sum(axis=0) / RECENT - centre
    # Around one centre, so that the small difference of large squares is none.
    x -= centre
    spread = (RECENT - 1) * sample_variance(recent) + (BEFORE - 1) * sample_variance(before)
    t = gap / (np.sqrt(spread / (RECENT + BEFORE - 2)) * _WIDTH)
    returns = tail(window.returns, RECENT + BEFORE)
    now, long = sample_variance(returns[-RECENT:]), sample_variance(returns[:-RECENT])
    return Signal(
        expected_return=None,
        volatility=np.sqrt(HORIZON * (long + (now - long) * _CARRY)),
        confidence=confidence(t),
        clear=np.abs(t) >= NOISE_BAND,
        unclear="volatility is about what it was",
        evidence={"regime": np.sign(t), "range_t": t, "now_20": np.sqrt(now), "before_60": np.sqrt(long)},
    )


AGENT = Agent(
    agent_id="technical.volatility_regime",
    version="1.0.0",
    minimum_bars=RECENT + BEFORE + 1,
    horizon_bars=HORIZON,
    description="Tells a wild from a calm state of volatility and forecasts that it mostly stays.",
    compute=compute,
)
