"""Volume: moves that volume confirms go on.

    change   = on-balance volume now less that of 20 bars ago: volume of rising days less that of falling ones
    t        = change / sqrt(sum of the squared volumes of those days)
    flow     = Chaikin's money flow of 20 bars: sum(volume x place of the close in its bar, -1 to 1) / sum(volume)
    clear    = |t| >= 1, and both the flow and the return of the 20 bars have its sign
    expected = IC x volatility over the horizon x clip(t, +-2)

In a random walk the signs of the days are fair coins whatever the volumes were, also when volume rises with the
size of a move: t has mean 0 and deviation 1 and is close to standard normal. Only volumes of one instrument are
compared with each other: a series that counts everything twice (GOOG's, see the data's notes) gives the same.
Sources: on-balance volume: Granville 1963; why volume says how good the news in a price is: Blume, Easley and
O'Hara 1994. Rules on it did poorly out of sample (Sullivan, Timmermann and White 1999), hence the small IC.
"""

from __future__ import annotations

import numpy as np

from execution_core import indicators
from python_services.kit.agents import SAMPLE, Agent, Mask, Reason, Signal, Window, confidence, tail

WINDOW = 20
NOISE_BAND, CAP = 1.0, 2.0
# A prior from the literature, not fitted to any data that ships with the project.
INFORMATION_COEFFICIENT = 0.02
HORIZON = 10


def compute(window: Window, eligible: Mask) -> Signal:
    """See the module."""
    close, volume = tail(window.close, WINDOW + 1), tail(window.volume, WINDOW + 1)
    high, low = tail(window.high, WINDOW), tail(window.low, WINDOW)
    balance = indicators.obv(close, volume)
    change = balance[-1] - balance[0]
    counted = np.where(close[1:] != close[:-1], volume[1:], 0.0)
    t = change / np.sqrt(np.einsum("ij,ij->j", counted, counted))
    span = high - low
    place = np.divide(2.0 * close[1:] - high - low, span, out=np.zeros_like(span), where=span > 0.0)
    total = volume[1:].sum(axis=0)
    flow = (place * volume[1:]).sum(axis=0) / total
    move = np.log(close[-1] / close[0])
    volatility = window.daily_volatility * np.sqrt(HORIZON)
    unknown = eligible & ~(np.isfinite(balance[0] + total) & (total > 0.0))
    missing = (Reason.MISSING_DATA, f"no volume in some or all of the last {WINDOW + 1} bars")
    return Signal(
        expected_return=INFORMATION_COEFFICIENT * volatility * np.clip(t, -CAP, CAP),
        volatility=volatility,
        confidence=confidence(t),
        clear=(np.abs(t) >= NOISE_BAND) & (flow * t > 0.0) & (move * t > 0.0),
        unclear="volume does not confirm a move",
        evidence={"obv_t": t, "money_flow_20": flow, "log_return_20": move},
        unable=dict.fromkeys(np.flatnonzero(unknown).tolist(), missing),
    )


AGENT = Agent(
    agent_id="technical.volume",
    version="1.0.0",
    minimum_bars=SAMPLE + 1,
    horizon_bars=HORIZON,
    description="Follows moves that on-balance volume and money flow confirm.",
    compute=compute,
)
