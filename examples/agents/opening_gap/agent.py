"""Opening gap: a day that opens far from the last close and does not come back has news in it.

    gap        = log(open / close before)
    t          = gap / deviation of the gaps of the last 60 days
    unfilled   = the day's range does not reach the close before
    expected   = IC x volatility over the horizon x clip(t, +-3)

An example of how little an agent takes. IC is a guess: no claim is made that gaps pay.
"""

from __future__ import annotations

import numpy as np

from python_services.kit.agents import SAMPLE, Agent, Mask, Signal, Window, confidence

HORIZON = 5
NOISE_BAND, CAP = 2.0, 3.0
INFORMATION_COEFFICIENT = 0.01


def compute(window: Window, eligible: Mask) -> Signal:
    """See the module."""
    before = window.close[-SAMPLE - 1 : -1]
    gaps = np.log(window.open[-SAMPLE:] / before)
    t = gaps[-1] / gaps.std(axis=0, ddof=1)
    unfilled = np.where(t > 0.0, window.low[-1] > before[-1], window.high[-1] < before[-1])
    volatility = window.daily_volatility * np.sqrt(HORIZON)
    return Signal(
        expected_return=INFORMATION_COEFFICIENT * volatility * np.clip(t, -CAP, CAP),
        volatility=volatility,
        confidence=confidence(t),
        clear=(np.abs(t) >= NOISE_BAND) & unfilled,
        unclear="no gap, or one that the day has filled",
        evidence={"gap": gaps[-1], "gap_t": t},
    )


AGENT = Agent(
    agent_id="opening_gap.unfilled",
    version="1.0.0",
    minimum_bars=SAMPLE + 1,
    horizon_bars=HORIZON,
    description="Follows an overnight gap that the day did not fill.",
    compute=compute,
)
