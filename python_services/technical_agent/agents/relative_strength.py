"""Cross-sectional momentum: how an instrument has done against the others of the snapshot.

    x        = daily return / deviation of the instrument's own, over the formation of `technical.momentum`,
               the same days for all
    e        = x - mean of x over the instruments that day
    t        = sum of e / (deviation of e x sqrt(days))
    clear    = |t| >= 1
    expected = IC x volatility over the horizon x clip(t, +-2)

What all have in common falls out of e, so t is close to standard normal in independent random walks as well
as in ones that share a market. Two instruments would only mirror each other: three are needed. The expected
returns of a snapshot about cancel out. Source: Jegadeesh and Titman 1993; residuals rather than
returns: Blitz, Huij and Martens 2011.
"""

from __future__ import annotations

import numpy as np

from python_services.kit.agents import Agent, Mask, Reason, Signal, Window, confidence

from .momentum import FORMATION, MINIMUM, SKIPPED_PART

PEERS = 3
NOISE_BAND, CAP = 1.0, 2.0
# A prior from the literature on single stocks, not fitted to any data that ships with the project.
INFORMATION_COEFFICIENT = 0.05
HORIZON = 20


def compute(window: Window, eligible: Mask) -> Signal:
    """See the module."""
    bars = len(window.close)
    length = min(FORMATION, bars - 1)
    days = length - length // SKIPPED_PART
    first, last = bars - length, bars - length // SKIPPED_PART
    returns, (total, squares) = window.returns[first:last], window.return_sums(first, last)
    scale = 1.0 / np.sqrt((squares - total * total / max(days, 1)) / max(days - 1, 1))
    peers = eligible & (window.run > length) & np.isfinite(scale)
    count = int(peers.sum())
    scale = np.where(peers, scale, 0.0)
    used = returns if peers.all() else np.where(peers, returns, 0.0)
    # e is never written out: its sum and its squares follow from those of x and of the market, their mean.
    market = used @ scale / max(count, 1)
    total = scale * total - market.sum()
    squares = scale * scale * squares - 2.0 * scale * (market @ used) + market @ market
    t = total / np.sqrt((squares - total * total / max(days, 1)) / max(days - 1, 1) * days)
    volatility = window.daily_volatility * np.sqrt(HORIZON)
    short = (Reason.INSUFFICIENT_HISTORY, f"{length + 1} bars are compared")
    return Signal(
        expected_return=INFORMATION_COEFFICIENT * volatility * np.clip(t, -CAP, CAP),
        volatility=volatility,
        confidence=confidence(t),
        clear=peers & (np.abs(t) >= NOISE_BAND) & (count >= PEERS),
        unclear="about as strong as the others" if count >= PEERS else f"{count} to compare, {PEERS} are needed",
        evidence={"relative_t": t, "peers": np.full(len(t), float(count))},
        unable=dict.fromkeys(np.flatnonzero(eligible & (window.run <= length)).tolist(), short),
    )


AGENT = Agent(
    agent_id="technical.relative_strength",
    version="2.0.0",
    minimum_bars=MINIMUM,
    horizon_bars=HORIZON,
    description="Expects what has beaten the other instruments to go on doing so.",
    compute=compute,
)
