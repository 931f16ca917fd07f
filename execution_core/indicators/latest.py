"""The newest row of an indicator, without the panel of those before it.

Whoever decides at the newest bar reads one row. Each function here gives, bit for bit, the last row of the function of
the same name that makes a panel of the bars it looks at, in one pass that writes nothing but that row. Panels of shape
(bars, symbols), see ``panel.py``; where bars are too few, all is NaN. `log_price`: natural logarithms, of which several
figures are made. Errors: InvalidArrayError, InvalidValueError.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from execution_core.errors import InvalidValueError
from execution_core.indicators.panel import Panel, check_layout, check_panel, check_prices, check_window
from execution_core.indicators.volatility import _yang_zhang_parts
from execution_core.jit import kernel

Row = NDArray[np.float64]
Counts = NDArray[np.int64]


class Presence(NamedTuple):
    """One value per symbol: bars in a row up to the newest, bars in all, and the row of the newest (0 for none)."""

    run: Counts
    held: Counts
    newest: Counts


@kernel
def _presence(price: Panel, run: Counts, held: Counts, newest: Counts) -> int:
    bars, symbols = price.shape
    flaws = 0
    for t in range(bars):
        row = price[t]
        for j in range(symbols):
            value = row[j]
            there = value == value
            flaws += 1 if (value <= 0.0) | (value == np.inf) else 0
            run[j] = run[j] + 1 if there else 0
            held[j] += 1 if there else 0
            newest[j] = t if there else newest[j]
    return flaws


@kernel
def _ewma_volatility(log_price: Panel, n: int, gain: float, age: Row, out: Row) -> int:
    bars, symbols = log_price.shape
    seed = 1.0 / n
    full = float(n)
    flaws = 0
    for t in range(1, bars):
        row, old = log_price[t], log_price[t - 1]
        for j in range(symbols):
            change = row[j] - old[j]
            value = change * change
            flaws += 1 if value == np.inf else 0
            count = age[j] + 1.0 if value == value else 0.0
            before = out[j] if count > 1.0 else 0.0
            out[j] = before + (gain * (value - before) if count > full else value * seed)
            age[j] = count
    for j in range(symbols):
        out[j] = np.sqrt(out[j]) if age[j] >= full else np.nan
    return flaws


@kernel
def _moments(x: Panel, lag: int, n: int, level: Row, spread: Row) -> int:
    """Mean of the last `n` values, or of their changes where `lag` is 1, and the squares about it (Welford 1962)."""
    bars, symbols = x.shape
    flaws = 0
    for k in range(1, n + 1):
        row, old = x[bars - n + k - 1], x[bars - n + k - 1 - lag]
        grow = 1.0 / k
        for j in range(symbols):
            value = row[j] - (old[j] if lag > 0 else 0.0)
            flaws += 1 if abs(value) == np.inf else 0
            step = value - level[j]
            here = level[j] + step * grow
            spread[j] += step * (value - here)
            level[j] = here
    return flaws


@kernel
def _true_range(high: Panel, low: Panel, close: Panel, n: int, age: Row, out: Row) -> int:
    bars, symbols = close.shape
    share = 1.0 / n
    full = float(n + 1)
    flaws = 0
    for t in range(bars):
        highs, lows, closes, before = high[t], low[t], close[t], close[max(t - 1, 0)]
        for j in range(symbols):
            h, l, c, last = highs[j], lows[j], closes[j], before[j]
            flaws += 1 if (h <= 0.0) | (l <= 0.0) | (c <= 0.0) | (h + l + c == np.inf) else 0
            present = h + l + c
            count = age[j] + 1.0 if present == present else 0.0
            top = h if h > last else last
            bottom = l if l < last else last
            spread = top - bottom if count > 1.0 else 0.0
            a = out[j] if count > 1.0 else 0.0
            out[j] = a + (spread - a if count > full else spread) * share
            age[j] = count
    for j in range(symbols):
        out[j] = out[j] if age[j] >= full else np.nan
    return flaws


@kernel
def _yang_zhang(jump: Panel, body: Panel, drift: Panel, k: float, out: Row) -> None:
    """From the parts of n + 1 bars: the last but one backwards to the second, joined with the last.

    That is the order in which the panel's kernels come to a window that begins at its second bar.
    """
    bars, symbols = drift.shape
    n = bars - 1
    state = np.zeros((4, symbols))
    total, around, level, spread = state[0], state[1], state[2], state[3]
    for part in range(2):
        x = jump if part == 0 else body
        level[:] = 0.0
        spread[:] = 0.0
        for i in range(1, n):
            row = x[n - i]
            grow = 1.0 / i
            for j in range(symbols):
                step = row[j] - level[j]
                here = level[j] + step * grow
                spread[j] += step * (row[j] - here)
                level[j] = here
        both = (n - 1) / n
        share = 1.0 / (n - 1)
        weight = 1.0 if part == 0 else k
        row = x[n]
        for j in range(symbols):
            gap = level[j] - row[j]
            around[j] += weight * (share * (spread[j] + gap * gap * both))
    for i in range(1, n):
        row = drift[n - i]
        for j in range(symbols):
            total[j] += row[j]
    row = drift[n]
    for j in range(symbols):
        out[j] = np.sqrt(around[j] + (1.0 - k) * ((total[j] + row[j]) * (1.0 / n)))


@kernel
def _sums(x: Panel, total: Row, squares: Row) -> None:
    for t in range(x.shape[0]):
        row = x[t]
        for j in range(x.shape[1]):
            total[j] += row[j]
            squares[j] += row[j] * row[j]


def sums(x: Panel) -> tuple[Row, Row]:
    """Sum of each column, and of its squares, bar by bar."""
    total, squares = np.zeros((2, x.shape[1]))
    _sums(check_layout("x", x), total, squares)
    return total, squares


def presence(price: Panel) -> Presence:
    """Which bars there are."""
    price = check_layout("price", price)
    answer = Presence(*np.zeros((3, price.shape[1]), dtype=np.int64))
    if _presence(price, *answer):
        check_prices("price", price)
    return answer


def ewma_volatility(log_price: Panel, decay: float = 0.94, seed: int = 20) -> Row:
    """`indicators.ewma_volatility` of the changes of `log_price`."""
    check_window("seed", seed)
    if not 0.0 < decay < 1.0:
        raise InvalidValueError("decay", f"{decay!r}", "pass a number between 0 and 1")
    log_price = check_layout("log_price", log_price)
    age, answer = np.zeros((2, log_price.shape[1]))
    if _ewma_volatility(log_price, seed, 1.0 - decay, age, answer):
        check_panel("log_price", log_price)
    return answer


def stdev(log_price: Panel, n: int) -> Row:
    """`indicators.stdev` of the last `n` changes of `log_price`."""
    return np.asarray(np.sqrt(_spread(log_price, 1, n)[1]))


def zscore(x: Panel, n: int) -> Row:
    """`indicators.zscore` of the last `n` bars: NaN where they are constant."""
    mean, variance = _spread(x, 0, n)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(variance > 0.0, (x[-1] - mean) / np.sqrt(variance), np.nan)


def atr(high: Panel, low: Panel, close: Panel, n: int = 14) -> Row:
    """`indicators.atr`."""
    check_window("n", n)
    high = check_layout("high", high)
    low, close = check_layout("low", low, high), check_layout("close", close, high)
    age, answer = np.zeros((2, close.shape[1]))
    if _true_range(high, low, close, n, age, answer):
        check_prices("high", high)
        check_prices("low", low)
        check_prices("close", close)
    return answer


def yang_zhang(open_: Panel, high: Panel, low: Panel, close: Panel, n: int = 20) -> Row:
    """`indicators.yang_zhang` of the last `n` + 1 bars."""
    check_window("n", n, 2)
    open_ = check_prices("open_", open_[-n - 1 :])
    high = check_prices("high", high[-n - 1 :], open_)
    low = check_prices("low", low[-n - 1 :], open_)
    close = check_prices("close", close[-n - 1 :], open_)
    answer = np.full(close.shape[1], np.nan)
    if len(close) > n:
        jump, body, drift = np.empty((3, *close.shape))
        _yang_zhang_parts(open_, high, low, close, jump, body, drift)
        _yang_zhang(jump, body, drift, 0.34 / (1.34 + (n + 1) / (n - 1)), answer)
    return answer


def _spread(x: Panel, lag: int, n: int) -> tuple[Row, Row]:
    """Mean and variance (by n) of the last `n` values, or changes."""
    check_window("n", n, 2)
    x = check_layout("x", x[-n - lag :])
    if len(x) < n + lag:
        return np.full((2, x.shape[1]), np.nan)[0], np.full(x.shape[1], np.nan)
    level, squares = np.zeros((2, x.shape[1]))
    if _moments(x, lag, n, level, squares):
        check_panel("x", x)
    return level, squares * (1.0 / n)


def warm() -> None:
    """Compile the kernels."""
    x = np.exp(0.1 * np.arange(8.0).reshape(4, 2))
    sums(x)
    presence(x)
    ewma_volatility(x, seed=2)
    stdev(x, 2)
    atr(x, x, x, 2)
    yang_zhang(x, x, x, x, 2)
