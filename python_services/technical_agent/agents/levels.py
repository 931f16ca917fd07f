"""Support and resistance: what the close did at the levels of earlier swing points, and does at one now.

    levels   = swing highs and lows (3 bars either side), those within a quarter of the average true range together
    approach = a close within a quarter of a true range of a level, coming from further away; it has held when
               price next closes a true range away on the side it came from, and broken on the other
    t        = side of the level now approached (1 support, -1 resistance) x (held - broken) / sqrt(held + broken)
    clear    = |t| >= 1, 6 approaches or more, the last one 5 bars ago at most and still open
    expected = IC x volatility over the horizon x clip(t, +-2)

The levels are known before the approach, so in a random walk each ends either way like a fair coin: t is close to
standard normal. Where levels have held, the one at hand is expected to; where price went through them, to
break. Sources: Osler 2000 (levels hold more often than chance, in currencies); Garzarelli, Cristelli, Zaccaria
and Pietronero 2014 (this count of bounces, in stocks).
"""

from __future__ import annotations

import numpy as np

from execution_core import indicators
from python_services.kit.agents import SAMPLE, Agent, Mask, Signal, Window, confidence, tail

HISTORY, REACH, NEAR = 252, 3, 0.25
APPROACHES, FRESH = 6, 5
NOISE_BAND, CAP = 1.0, 2.0
# A prior from the literature, not fitted to any data that ships with the project.
INFORMATION_COEFFICIENT = 0.03
HORIZON = 5


def compute(window: Window, eligible: Mask) -> Signal:
    """See the module."""
    high, low, close = (tail(x, HISTORY) for x in (window.high, window.low, window.close))
    width = window.true_range / close[-1]
    found = indicators.levels(
        high, low, close, width, reach=REACH, near=NEAR, log_close=tail(window.log_close, HISTORY)
    )
    approaches = found.held + found.broken
    t = found.side * (found.held - found.broken) / np.sqrt(np.maximum(approaches, 1.0))
    near = (found.side != 0.0) & (found.age <= FRESH)
    volatility = window.daily_volatility * np.sqrt(HORIZON)
    return Signal(
        expected_return=INFORMATION_COEFFICIENT * volatility * np.clip(t, -CAP, CAP),
        volatility=volatility,
        confidence=confidence(t),
        clear=near & (approaches >= APPROACHES) & (np.abs(t) >= NOISE_BAND),
        unclear="at no level, or levels neither hold nor break here",
        evidence={
            "level": np.where(near, found.level, 0.0),
            "side": found.side,
            "touches": found.touches,
            "held": found.held,
            "broken": found.broken,
            "levels_t": t,
        },
    )


AGENT = Agent(
    agent_id="technical.levels",
    version="1.0.0",
    minimum_bars=SAMPLE + 1,
    horizon_bars=HORIZON,
    description="Expects at support and resistance what price has done there before.",
    compute=compute,
)
