"""Momentum and range: rate of change, RSI, Donchian channel, stochastic oscillator.

Panels of shape (bars, symbols); see ``panel.py`` for the two rules on NaN, and for `out`.
Errors: InvalidArrayError, InvalidValueError.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from execution_core.indicators import recursive, windows
from execution_core.indicators.panel import (
    Panel,
    check_panel,
    check_prices,
    check_window,
    distinct,
    result,
)
from execution_core.jit import kernel


class Stochastic(NamedTuple):
    """%K and %D, from 0 to 100."""

    k: Panel
    d: Panel


@kernel
def _lag(x: Panel, n: int, ratio: bool, out: Panel) -> None:
    bars, symbols = x.shape
    windows.blank(out, n)
    age = np.zeros(symbols)
    full = float(n + 1)
    for t in range(bars):
        row, old, write = x[t], x[max(t - n, 0)], out[t]
        for j in range(symbols):
            value = row[j]
            count = age[j] + 1.0 if value == value else 0.0
            age[j] = count
            base = old[j] if count >= full else np.nan
            change = value - base
            write[j] = change / base if ratio else change


def rate_of_change(x: Panel, n: int, *, out: Panel | None = None) -> Panel:
    """x / x[n bars ago] - 1, as a fraction; prices must be above zero."""
    check_window("n", n)
    x = check_prices("x", x)
    answer = result(x, out)
    _lag(x, n, True, answer)
    return answer


def momentum(x: Panel, n: int, *, out: Panel | None = None) -> Panel:
    """x - x[n bars ago], in the input's unit."""
    check_window("n", n)
    x = check_panel("x", x)
    answer = result(x, out)
    _lag(x, n, False, answer)
    return answer


def rsi(x: Panel, n: int = 14, *, out: Panel | None = None) -> Panel:
    """Relative strength index (Wilder 1978), 0 to 100, from bar n + 1.

    NaN where the price has not moved since the segment began; TA-Lib says 0 there.
    """
    check_window("n", n, 2)
    x = check_panel("x", x)
    answer = result(x, out)
    recursive.relative_strength(x, n, answer)
    return answer


def donchian_high(high: Panel, n: int, *, out: Panel | None = None) -> Panel:
    """Return the highest value of the last `n` bars, this one included."""
    check_window("n", n)
    high = check_panel("high", high)
    answer = result(high, out)
    windows.rolling_max(high, n, 1.0, answer)
    return answer


def donchian_low(low: Panel, n: int, *, out: Panel | None = None) -> Panel:
    """Return the lowest value of the last `n` bars, this one included."""
    check_window("n", n)
    low = check_panel("low", low)
    answer = result(low, out)
    windows.rolling_max(low, n, -1.0, answer)
    return answer


@kernel
def _place(high: Panel, low: Panel, close: Panel, n: int, out: Panel) -> None:
    """Write 100 * (close - lowest low) / (highest high - lowest low), NaN where the range is zero.

    Van Herk's method as in ``windows.py``, both extremes at once.
    """
    bars, symbols = close.shape
    tail = np.full((n + 1, 2, symbols), -np.inf)
    head = np.empty((2, symbols))
    windows.blank(out, n - 1)
    for start in range(0, bars, n):
        stop = min(start + n, bars)
        head[:] = -np.inf
        top, bottom = head[0], head[1]
        for t in range(start, stop):
            highs, lows, closes, write = high[t], low[t], close[t], out[t]
            ahead, ahead_low = tail[t - start + 1, 0], tail[t - start + 1, 1]
            first = start == 0 and t < n - 1
            for j in range(symbols):
                # A bar without one of its columns is missing: let that spoil both extremes.
                gone = (highs[j] + lows[j] + closes[j]) * 0.0
                a = windows.upper(highs[j] + gone, top[j])
                b = windows.upper(gone - lows[j], bottom[j])
                top[j] = a
                bottom[j] = b
                a = windows.upper(ahead[j], a)
                b = windows.upper(ahead_low[j], b)
                share = (closes[j] + b) / (a + b) * 100.0
                write[j] = share if (a + b > 0.0) & (not first) else np.nan
        if stop < bars:
            for k in range(n - 1, 0, -1):
                highs, lows, closes = high[start + k], low[start + k], close[start + k]
                write, write_low = tail[k, 0], tail[k, 1]
                ahead, ahead_low = tail[k + 1, 0], tail[k + 1, 1]
                for j in range(symbols):
                    gone = (highs[j] + lows[j] + closes[j]) * 0.0
                    write[j] = windows.upper(highs[j] + gone, ahead[j])
                    write_low[j] = windows.upper(gone - lows[j], ahead_low[j])


def stochastic(
    high: Panel,
    low: Panel,
    close: Panel,
    n: int = 14,
    smooth_k: int = 3,
    smooth_d: int = 3,
    *,
    out: Stochastic | None = None,
) -> Stochastic:
    """Slow stochastic (Lane): %K over `n` bars averaged over `smooth_k`, %D its average.

    NaN while the range of the window is zero (TA-Lib says 0), and until the averages are full
    again. With `smooth_k` 1 it is the fast stochastic.
    """
    check_window("n", n)
    check_window("smooth_k", smooth_k)
    check_window("smooth_d", smooth_d)
    high = check_prices("high", high)
    low = check_prices("low", low, high)
    close = check_prices("close", close, high)
    answer = out if out is not None else Stochastic(result(high), result(high))
    distinct(high, *answer)
    raw = answer.k if smooth_k == 1 else answer.d  # %D's room holds the raw %K until it is averaged
    _place(high, low, close, n, raw)
    if smooth_k > 1:
        windows.rolling_sum(raw, smooth_k, 1.0 / smooth_k, answer.k)
    windows.rolling_sum(answer.k, smooth_d, 1.0 / smooth_d, answer.d)
    return answer


def warm() -> None:
    """Compile every kernel that this module calls."""
    windows.warm()
    recursive.warm()
    x = np.ones((4, 2))
    momentum(x, 1)
    rate_of_change(x, 1)
    stochastic(x, x, x, 2, 1, 1)
