"""Volatility: rolling deviation, z-score, Bollinger bands, ATR, and the range estimators.

Panels of shape (bars, symbols); see ``panel.py`` for the two rules on NaN, and for `out`.
Volatilities are per bar and not annualised: multiply by sqrt(bars a year).
Errors: InvalidArrayError, InvalidValueError.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from execution_core.errors import InvalidValueError
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
from execution_core.risk.fastmath import log


class Bollinger(NamedTuple):
    """Mean and mean +- width standard deviations, in the input's unit."""

    upper: Panel
    middle: Panel
    lower: Panel


@kernel
def _root(x: Panel, scale: float) -> None:
    """x = sqrt(scale * x), in place: one array, so that nothing must be proved apart."""
    for t in range(x.shape[0]):
        row = x[t]
        for j in range(x.shape[1]):
            row[j] = np.sqrt(scale * row[j])


@kernel
def _square(x: Panel, out: Panel) -> None:
    for t in range(x.shape[0]):
        row, write = x[t], out[t]
        for j in range(x.shape[1]):
            write[j] = row[j] * row[j]


@kernel(fastmath={"contract"})
def _range_squares(high: Panel, low: Panel, out: Panel) -> None:
    """Write ln(high / low)^2."""
    for t in range(out.shape[0]):
        highs, lows, write = high[t], low[t], out[t]
        for j in range(out.shape[1]):
            span = log(highs[j] / lows[j])
            write[j] = span * span


@kernel(fastmath={"contract"})
def _garman_klass(open_: Panel, high: Panel, low: Panel, close: Panel, out: Panel) -> None:
    share = 2.0 * np.log(2.0) - 1.0
    for t in range(out.shape[0]):
        opens, highs, lows, closes, write = open_[t], high[t], low[t], close[t], out[t]
        for j in range(out.shape[1]):
            span = log(highs[j] / lows[j])
            body = log(closes[j] / opens[j])
            write[j] = 0.5 * span * span - share * body * body


@kernel(fastmath={"contract"})
def _yang_zhang_parts(
    open_: Panel, high: Panel, low: Panel, close: Panel, jump: Panel, body: Panel, drift: Panel
) -> None:
    """Write the overnight move, the open-to-close move and the Rogers-Satchell term.

    All three are NaN at a segment's first bar: it has no overnight move, and the other two must
    cover the same bars.
    """
    symbols = close.shape[1]
    last = np.full(symbols, np.nan)  # the close before, NaN when any column of its bar is missing
    for t in range(close.shape[0]):
        opens, highs, lows, closes = open_[t], high[t], low[t], close[t]
        write_jump, write_body, write_drift = jump[t], body[t], drift[t]
        for j in range(symbols):
            o, h, l, c = opens[j], highs[j], lows[j], closes[j]
            present = (o + h + l + c) * 0.0
            move = log(o / last[j]) + present
            first = move * 0.0
            write_jump[j] = move
            write_body[j] = log(c / o) + first
            write_drift[j] = log(h / c) * log(h / o) + log(l / c) * log(l / o) + first
            last[j] = c + present


@kernel
def _yang_zhang_sum(overnight: Panel, daily: Panel, k: float, out: Panel) -> None:
    """out = sqrt(overnight + k * daily + (1 - k) * out)."""
    for t in range(out.shape[0]):
        jumps, bodies, row = overnight[t], daily[t], out[t]
        for j in range(out.shape[1]):
            row[j] = np.sqrt(jumps[j] + k * bodies[j] + (1.0 - k) * row[j])


def _degrees(n: int, ddof: int) -> float:
    check_window("n", n, 2)
    if ddof not in (0, 1):
        raise InvalidValueError("ddof", f"{ddof!r}", "pass 0 (population) or 1 (sample)")
    return float(n - ddof)


def stdev(x: Panel, n: int, *, ddof: int = 0, out: Panel | None = None) -> Panel:
    """Rolling standard deviation; `ddof` 0 as in TA-Lib, 1 for the sample's."""
    degrees = _degrees(n, ddof)
    x = check_panel("x", x)
    answer = result(x, out)
    windows.rolling_moments(x, n, windows.DEVIATION, 1.0 / degrees, 0.0, answer, answer, answer)
    return answer


def zscore(x: Panel, n: int, *, ddof: int = 0, out: Panel | None = None) -> Panel:
    """(x - rolling mean) / rolling deviation; NaN where the window is constant."""
    degrees = _degrees(n, ddof)
    x = check_panel("x", x)
    answer = result(x, out)
    windows.rolling_moments(x, n, windows.SCORE, 1.0 / degrees, 0.0, answer, answer, answer)
    return answer


def bollinger(x: Panel, n: int = 20, width: float = 2.0, *, ddof: int = 0, out: Bollinger | None = None) -> Bollinger:
    """Bollinger bands: rolling mean +- `width` rolling standard deviations."""
    degrees = _degrees(n, ddof)
    if not (np.isfinite(width) and width > 0):
        raise InvalidValueError("width", f"{width!r}", "pass a finite number above zero")
    x = check_panel("x", x)
    answer = out if out is not None else Bollinger(result(x), result(x), result(x))
    distinct(x, *answer)
    windows.rolling_moments(x, n, windows.BANDS, 1.0 / degrees, float(width), *answer)
    return answer


def atr(high: Panel, low: Panel, close: Panel, n: int = 14, *, out: Panel | None = None) -> Panel:
    """Average true range (Wilder 1978), in the price's unit, from bar n + 1."""
    check_window("n", n)
    high = check_prices("high", high)
    low = check_prices("low", low, high)
    close = check_prices("close", close, high)
    answer = result(high, out)
    recursive.true_range_average(high, low, close, n, answer)
    return answer


def ewma_volatility(returns: Panel, decay: float = 0.94, seed: int = 20, *, out: Panel | None = None) -> Panel:
    """RiskMetrics volatility (J.P. Morgan 1996, section 5.2): zero mean, square root of

        v[t] = decay * v[t-1] + (1 - decay) * r[t]^2,

    seeded with the mean square of the first `seed` returns. v[t] uses r[t]: it is the forecast
    for bar t + 1. `decay` 0.94 for days, 0.97 for months.
    """
    check_window("seed", seed)
    if not 0.0 < decay < 1.0:
        raise InvalidValueError("decay", f"{decay!r}", "pass a number between 0 and 1")
    returns = check_panel("returns", returns)
    answer = result(returns, out)
    squares = np.empty_like(returns)
    _square(returns, squares)
    recursive.smooth(squares, seed, 1.0 - decay, answer)
    _root(answer, 1.0)
    return answer


def parkinson(high: Panel, low: Panel, n: int = 20, *, out: Panel | None = None) -> Panel:
    """Parkinson (1980): sqrt(mean(ln(high / low)^2) / (4 ln 2))."""
    check_window("n", n)
    high = check_prices("high", high)
    low = check_prices("low", low, high)
    answer = result(high, out)
    squares = np.empty_like(high)
    _range_squares(high, low, squares)
    windows.rolling_sum(squares, n, 1.0 / n, answer)
    _root(answer, 0.25 / np.log(2.0))
    return answer


def garman_klass(
    open_: Panel, high: Panel, low: Panel, close: Panel, n: int = 20, *, out: Panel | None = None
) -> Panel:
    """Garman and Klass (1980): sqrt(mean(ln(H / L)^2 / 2 - (2 ln 2 - 1) ln(C / O)^2)).

    NaN where bars that contradict themselves (close outside high and low) make the mean negative.
    """
    check_window("n", n)
    open_ = check_prices("open_", open_)
    high = check_prices("high", high, open_)
    low = check_prices("low", low, open_)
    close = check_prices("close", close, open_)
    answer = result(open_, out)
    squares = np.empty_like(open_)
    _garman_klass(open_, high, low, close, squares)
    windows.rolling_sum(squares, n, 1.0 / n, answer)
    _root(answer, 1.0)
    return answer


def yang_zhang(open_: Panel, high: Panel, low: Panel, close: Panel, n: int = 20, *, out: Panel | None = None) -> Panel:
    """Yang and Zhang (2000), independent of drift and of opening jumps; from bar n + 1.

    Variance = overnight + k * open-to-close + (1 - k) * Rogers-Satchell,
    k = 0.34 / (1.34 + (n + 1) / (n - 1)), the first two sample variances over `n` bars.
    """
    check_window("n", n, 2)
    open_ = check_prices("open_", open_)
    high = check_prices("high", high, open_)
    low = check_prices("low", low, open_)
    close = check_prices("close", close, open_)
    answer = result(open_, out)
    jump, body, drift = np.empty_like(open_), np.empty_like(open_), np.empty_like(open_)
    _yang_zhang_parts(open_, high, low, close, jump, body, drift)
    windows.rolling_sum(drift, n, 1.0 / n, answer)
    overnight, daily = drift, np.empty_like(open_)
    windows.rolling_moments(jump, n, windows.VARIANCE, 1.0 / (n - 1), 0.0, overnight, overnight, overnight)
    windows.rolling_moments(body, n, windows.VARIANCE, 1.0 / (n - 1), 0.0, daily, daily, daily)
    _yang_zhang_sum(overnight, daily, 0.34 / (1.34 + (n + 1) / (n - 1)), answer)
    return answer


def warm() -> None:
    """Compile every kernel that this module calls."""
    windows.warm()
    recursive.warm()
    x = np.ones((4, 2))
    ewma_volatility(x, seed=2)
    parkinson(x, x, 2)
    garman_klass(x, x, x, x, 2)
    yang_zhang(x, x, x, x, 2)
