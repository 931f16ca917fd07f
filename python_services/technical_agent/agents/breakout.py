"""Breakout: a close beyond the channel of the 55 bars before it, with a decisive last move.

    b        = (log close - log of the highest high of the 55 bars before) / deviation of a daily return,
               and likewise below the lowest low; the larger of the two decides the side
    p        = chance of so large a b in a random walk = Phi(z) - 2 T(z, sqrt n), z = -b / sqrt(n + 1), n = 55
    t        = side x normal quantile of 1 - p
    clear    = b > 0 and the last close moved by half an average true range or more to that side
    expected = IC x volatility over the horizon x clip(t, +-2)

In a random walk the distance of the end from the maximum is half normal (Levy's identity), and the last
step is independent of it: b is the difference of a normal and a half normal, which is skew normal (Azzalini
1985; T is Owen's function). So t is standard normal, and a breakout at random, t > 1.7, is as rare on either
side as it should be. Sources: channel: Donchian; Brock, Lakonishok and LeBaron 1992 (trading range break);
George and Hwang 2004 (nearness to the high); the move in true ranges: Wilder 1978.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from python_services.kit.agents import SAMPLE, Agent, Floats, Mask, Signal, Window, confidence, tail

CHANNEL, DECISIVE = 55, 0.5
CAP = 2.0
# A prior from the literature on single stocks, not fitted to any data that ships with the project.
INFORMATION_COEFFICIENT = 0.04
HORIZON = 20
_SMALLEST = 1e-12


def chance(beyond: Floats) -> Floats:
    """Chance that a random walk ends `beyond` deviations or more above the maximum of the CHANNEL bars before."""
    z = -beyond / np.sqrt(CHANNEL + 1.0)
    return np.asarray(np.maximum(special.ndtr(z) - 2.0 * special.owens_t(z, np.sqrt(float(CHANNEL))), _SMALLEST))


def compute(window: Window, eligible: Mask) -> Signal:
    """See the module."""
    close = window.close[-1]
    highest = tail(window.high, CHANNEL + 1)[:-1].max(axis=0)
    lowest = tail(window.low, CHANNEL + 1)[:-1].min(axis=0)
    above, below = np.log(close / highest), np.log(lowest / close)
    side = np.where(above >= below, 1.0, -1.0)
    beyond = np.maximum(above, below) / window.sample_volatility
    t = -side * special.ndtri(chance(beyond))
    move = (close - tail(window.close, 2)[0]) / window.true_range
    volatility = window.daily_volatility * np.sqrt(HORIZON)
    return Signal(
        expected_return=INFORMATION_COEFFICIENT * volatility * np.clip(t, -CAP, CAP),
        volatility=volatility,
        confidence=confidence(t),
        clear=(beyond > 0.0) & (move * side >= DECISIVE),
        unclear="no decisive close beyond the channel",
        evidence={"donchian_high_55": highest, "donchian_low_55": lowest, "breakout_t": t, "move_atr": move},
    )


AGENT = Agent(
    agent_id="technical.breakout",
    version="1.0.0",
    minimum_bars=SAMPLE + 1,
    horizon_bars=HORIZON,
    description="Follows a decisive close beyond the Donchian channel of 55 bars.",
    compute=compute,
)
