"""Momentum: an instrument's own past return, and how it compares with the others'.

    formation = the last year's return without its last twelfth (12-1), scaled to the history at hand:
                from L to L / 12 bars ago, L = min(252, bars held - 1)
    t         = log return of the formation / (deviation of its daily returns x sqrt(days))
    relative  = (t - mean of t over the instruments) x sqrt(N / (N - 1))
    z         = (t + relative) / sqrt(2 + 2 sqrt((N - 1) / N)); just t when N = 1
    expected  = IC x volatility over the horizon x clip(z, +-2)

t and relative are each close to standard normal when returns are independent and without drift, with
correlation sqrt((N - 1) / N): the divisor makes their sum standard normal again. Time series: Moskowitz,
Ooi and Pedersen 2012; cross section and the skipped month: Jegadeesh and Titman 1993.
"""

from __future__ import annotations

import numpy as np

from python_services.kit.agents import Agent, Mask, Signal, Window, confidence

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
    age = np.arange(bars - 1, -1, -1)[:, None]
    used = (age >= skipped) & (age < length)
    days = np.maximum(length - skipped, 1)
    returns = np.where(used, window.returns, 0.0)
    formation = returns.sum(axis=0)
    deviations = np.where(used, returns - formation / days, 0.0)
    deviation = np.sqrt(np.square(deviations).sum(axis=0) / np.maximum(days - 1, 1))
    t = np.where(eligible, formation / (deviation * np.sqrt(days)), np.nan)
    peers = np.isfinite(t)
    count = int(peers.sum())
    if count > 1:
        relative = (t - t[peers].mean()) * np.sqrt(count / (count - 1))
        z = (t + relative) / np.sqrt(2.0 + 2.0 * np.sqrt((count - 1) / count))
        evidence = {"relative_t": relative}
    else:
        z, evidence = t, {}
    volatility = window.daily_volatility * np.sqrt(HORIZON)
    return Signal(
        expected_return=INFORMATION_COEFFICIENT * volatility * np.clip(z, -CAP, CAP),
        volatility=volatility,
        confidence=confidence(z),
        clear=np.abs(z) >= NOISE_BAND,
        unclear="past returns, absolute and relative, are inside the noise of a random walk",
        evidence={
            "formation_return": np.expm1(formation),
            "formation_bars": length.astype(np.float64),
            "skipped_bars": skipped.astype(np.float64),
            "formation_t": t,
            **evidence,
        },
    )


AGENT = Agent(
    agent_id="technical.momentum",
    version="1.0.0",
    minimum_bars=MINIMUM,
    horizon_bars=HORIZON,
    description="Expects past winners, by themselves and among their peers, to go on winning.",
    compute=compute,
)
