"""Time-series momentum: an instrument's own past return.

    formation = the last year's return without its last twelfth (12-1), scaled to the history at hand:
                from L to L / 12 bars ago, L = min(252, bars held - 1)
    t         = log return of the formation / (deviation of its daily returns x sqrt(days))
    clear     = |t| >= 1
    expected  = IC x volatility over the horizon x clip(t, +-2)

t is close to standard normal when returns are independent and without drift. Sources: Moskowitz, Ooi and
Pedersen 2012; the skipped month: Jegadeesh and Titman 1993. How it compares with others is
`technical.relative_strength`.
"""

from __future__ import annotations

import numpy as np

from python_services.kit.agents import Agent, Mask, Signal, Window, confidence, variance_of

FORMATION, SKIPPED_PART = 252, 12
MINIMUM = 64
NOISE_BAND, CAP = 1.0, 2.0
# A prior from the literature on single stocks, not fitted to any data that ships with the project.
INFORMATION_COEFFICIENT = 0.05
HORIZON = 20


def compute(window: Window, eligible: Mask) -> Signal:
    """See the module."""
    bars = len(window.close)
    length = np.minimum(FORMATION, window.run - 1)
    skipped = length // SKIPPED_PART
    formation, t = np.full(len(length), np.nan), np.full(len(length), np.nan)
    for held in np.unique(length[eligible]).tolist():  # most often all instruments have the same
        first, last = bars - held, bars - held // SKIPPED_PART
        at = length == held
        total, squares = window.return_sums(first, last, at)
        formation[at] = total
        t[at] = total / np.sqrt(variance_of(last - first, total, squares) * (last - first))
    volatility = window.daily_volatility * np.sqrt(HORIZON)
    return Signal(
        expected_return=INFORMATION_COEFFICIENT * volatility * np.clip(t, -CAP, CAP),
        volatility=volatility,
        confidence=confidence(t),
        clear=np.abs(t) >= NOISE_BAND,
        unclear="the past return is noise",
        evidence={
            "formation_return": np.expm1(formation),
            "formation_bars": length.astype(np.float64),
            "skipped_bars": skipped.astype(np.float64),
            "formation_t": t,
        },
    )


AGENT = Agent(
    agent_id="technical.momentum",
    version="2.0.1",
    minimum_bars=MINIMUM,
    horizon_bars=HORIZON,
    description="Expects past winners to go on winning and losers to go on losing.",
    compute=compute,
)
