"""Trend: moving averages, MACD, ADX, and the slope of a straight line through the window.

Every function takes and returns panels of shape (bars, symbols); see ``panel.py`` for the two
rules on NaN, and for `out`. Errors: InvalidArrayError, InvalidValueError.
"""

from __future__ import annotations

from typing import NamedTuple

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


class Macd(NamedTuple):
    """In the price's unit. `histogram` is line less signal."""

    line: Panel
    signal: Panel
    histogram: Panel


class Directional(NamedTuple):
    """All three from 0 to 100, the two indices to rounding."""

    adx: Panel
    plus: Panel
    minus: Panel


class Slope(NamedTuple):
    """`slope` in the input's unit a bar; `t_stat` is slope over its standard error."""

    slope: Panel
    t_stat: Panel


def sma(x: Panel, n: int, *, out: Panel | None = None) -> Panel:
    """Simple moving average over `n` bars; defined from a segment's bar n on."""
    check_window("n", n)
    x = check_panel("x", x)
    answer = result(x, out)
    windows.rolling_sum(x, n, 1.0 / n, answer)
    return answer


def ema(x: Panel, n: int, *, out: Panel | None = None) -> Panel:
    """Exponential average with weight 2 / (n + 1), seeded with the mean of the first `n` bars."""
    check_window("n", n)
    x = check_panel("x", x)
    answer = result(x, out)
    recursive.smooth(x, n, 2.0 / (n + 1), answer)
    return answer


def wma(x: Panel, n: int, *, out: Panel | None = None) -> Panel:
    """Linearly weighted average: weights 1 for the oldest bar to n for the newest."""
    check_window("n", n)
    x = check_panel("x", x)
    answer = result(x, out)
    windows.rolling_ramp(x, n, 2.0 / (n * (n + 1)), answer)
    return answer


def macd(x: Panel, fast: int = 12, slow: int = 26, signal: int = 9, *, out: Macd | None = None) -> Macd:
    """Moving average convergence/divergence (Appel).

    As in TA-Lib both averages are seeded at bar `slow`, the fast one with the mean of the `fast`
    bars up to there. The line is defined from bar `slow`, the signal from slow + signal - 1.
    """
    check_window("fast", fast)
    check_window("slow", slow)
    check_window("signal", signal)
    if fast >= slow:
        raise InvalidValueError("fast", f"{fast} is not below slow {slow}", "pass fast < slow")
    x = check_panel("x", x)
    answer = out if out is not None else Macd(result(x), result(x), result(x))
    distinct(x, *answer)
    recursive.macd(x, fast, slow, signal, *answer)
    return answer


def adx(high: Panel, low: Panel, close: Panel, n: int = 14, *, out: Directional | None = None) -> Directional:
    """Average directional index (Wilder 1978): ADX from bar 2n, +DI and -DI from bar n + 1.

    A bar without directional movement counts as strength 0; +DI and -DI are NaN where the
    true range itself is zero.
    """
    check_window("n", n, 2)
    high = check_prices("high", high)
    low = check_prices("low", low, high)
    close = check_prices("close", close, high)
    answer = out if out is not None else Directional(result(high), result(high), result(high))
    distinct(high, *answer)
    recursive.directional(high, low, close, n, *answer)
    return answer


def slope(x: Panel, n: int, *, out: Slope | None = None) -> Slope:
    """Least-squares slope of `x` on time over `n` >= 3 bars, and its t-statistic (n - 2 degrees).

    The t-statistic is NaN where the points lie on a straight line to rounding: it has no bound.
    """
    check_window("n", n, 3)
    x = check_panel("x", x)
    answer = out if out is not None else Slope(result(x), result(x))
    distinct(x, *answer)
    windows.rolling_line(x, n, *answer)
    return answer


def warm() -> None:
    """Compile every kernel that this module calls."""
    windows.warm()
    recursive.warm()
