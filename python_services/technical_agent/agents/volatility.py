"""Volatility: how much the price will move, not where to.

    now        = (EWMA variance, decay 0.94 + Yang-Zhang variance of 20 bars) / 2
    long run   = variance of the returns held, at most 252
    variance   = long run + (now - long run) x (1 - p^H) / (H (1 - p)) a day on average over H, p = 0.97
    volatility = sqrt(H x variance)
    confidence = the smaller of the two estimates of `now`, as a volatility, over the larger

Two estimators that read the bars differently (closes only; open, high, low, close) and agree are more
worth than either; p is the usual daily persistence of variance in GARCH(1,1). There is no expected
return: risk does not forecast return in the short run (Moreira and Muir 2017), which is why scaling
positions by this forecast pays; that is the portfolio's part. Sources: J.P. Morgan 1996 (RiskMetrics);
Yang and Zhang 2000.
"""

from __future__ import annotations

import numpy as np

from execution_core.indicators import latest
from python_services.kit.agents import SAMPLE, Agent, Floats, Mask, Signal, Window, variance_of
from python_services.kit.agents.window import EWMA_DECAY

RANGE_BARS, LONG_RUN = 20, 252
PERSISTENCE = 0.97
HORIZON = 20
_CARRY = (1.0 - PERSISTENCE**HORIZON) / (HORIZON * (1.0 - PERSISTENCE))


def compute(window: Window, eligible: Mask) -> Signal:
    """See the module."""
    ranges = latest.yang_zhang(window.open, window.high, window.low, window.close, RANGE_BARS)
    closes = window.daily_volatility
    now = (np.square(closes) + np.square(ranges)) / 2.0
    long_run = _long_run_variance(window, eligible)
    variance = long_run + (now - long_run) * _CARRY
    return Signal(
        expected_return=None,
        volatility=np.sqrt(HORIZON * variance),
        confidence=np.minimum(closes, ranges) / np.maximum(closes, ranges),
        clear=np.ones(len(now), dtype=np.bool_),
        unclear="",
        evidence={
            f"ewma_{round(EWMA_DECAY * 100)}": closes,
            f"yang_zhang_{RANGE_BARS}": ranges,
            "long_run": np.sqrt(long_run),
        },
    )


def _long_run_variance(window: Window, eligible: Mask) -> Floats:
    length = np.minimum(window.run - 1, LONG_RUN)
    variance = np.full(len(length), np.nan)
    for bars in np.unique(length[eligible]).tolist():  # most often all instruments have the same
        at = length == bars
        variance[at] = variance_of(bars, *window.return_sums(len(window.close) - bars, len(window.close), at))
    return variance


AGENT = Agent(
    agent_id="technical.volatility",
    version="1.0.2",
    minimum_bars=SAMPLE + 1,
    horizon_bars=HORIZON,
    description="Forecasts volatility from closes and ranges; says nothing about direction.",
    compute=compute,
)
