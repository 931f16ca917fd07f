"""Candlestick reversals: a pattern that turns against the move before it.

    pattern  = of the newest bar, 1 bullish or -1 bearish, by TA-Lib's definitions (see `candlesticks`)
    t        = return of the 10 bars before the pattern's first / (deviation of a daily return x sqrt(10))
    clear    = |t| >= 1 and a pattern against its sign, and none with it
    expected = -IC x volatility over the horizon x clip(t, +-2)

Patterns of different lengths leave different moves before them; the longest counts. In a random walk t is standard
normal whatever the pattern is: the pattern says when to speak, the move before it how much. Sources: Caginalp and
Laurent 1998 (reversals after a trend); against: Marshall, Young and Rose 2006, hence the small IC.
"""

from __future__ import annotations

import numpy as np

from execution_core.indicators.candlesticks import CANDLES, candlesticks
from python_services.kit.agents import SAMPLE, Agent, Mask, Signal, Window, confidence, tail

BEFORE = 10
NOISE_BAND, CAP = 1.0, 2.0
# A prior from the literature, not fitted to any data that ships with the project.
INFORMATION_COEFFICIENT = 0.02
HORIZON = 5
_CANDLES = np.array(CANDLES, dtype=np.int64)


def compute(window: Window, eligible: Mask) -> Signal:
    """See the module."""
    found = candlesticks(window.open, window.high, window.low, window.close)
    signs = np.array(found)
    length = np.where(signs != 0.0, _CANDLES, 1).max(axis=0)
    up, down = (signs > 0.0).any(axis=0), (signs < 0.0).any(axis=0)
    path, column = tail(window.log_close, BEFORE + 4), np.arange(len(length))
    move = path[-1 - length, column] - path[-1 - BEFORE - length, column]
    t = move / (window.sample_volatility * np.sqrt(BEFORE))
    volatility = window.daily_volatility * np.sqrt(HORIZON)
    return Signal(
        expected_return=-INFORMATION_COEFFICIENT * volatility * np.clip(t, -CAP, CAP),
        volatility=volatility,
        confidence=confidence(t),
        clear=(np.abs(t) >= NOISE_BAND) & np.where(t > 0.0, down & ~up, up & ~down),
        unclear="no pattern against a move",
        evidence={**found._asdict(), "move_before": move, "move_t": t},
    )


AGENT = Agent(
    agent_id="technical.candles",
    version="1.0.0",
    minimum_bars=SAMPLE + 1,
    horizon_bars=HORIZON,
    description="Expects a candlestick reversal pattern to turn the move before it.",
    compute=compute,
)
