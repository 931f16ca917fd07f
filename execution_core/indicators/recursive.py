"""Kernels that carry a state from bar to bar: one state per symbol, SIMD across symbols.

`age` counts the present bars of the running segment and goes back to zero at a missing one; every
branch is written as a select on it, so that the inner loops vectorise.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from execution_core.indicators.panel import Panel
from execution_core.jit import kernel

BLOCK: Final = 128  # symbols whose states lie together in one scratch buffer


@kernel
def smooth(x: Panel, n: int, gain: float, out: Panel) -> None:
    """Exponential smoothing y += gain * (x - y), seeded with the mean of the first `n` bars."""
    bars, symbols = x.shape
    age = np.zeros(symbols)
    level = np.zeros(symbols)
    seed = 1.0 / n
    full = float(n)
    for t in range(bars):
        row, write = x[t], out[t]
        for j in range(symbols):
            value = row[j]
            count = age[j] + 1.0 if value == value else 0.0
            before = level[j] if count > 1.0 else 0.0
            step = gain * (value - before) if count > full else value * seed
            after = before + step
            age[j] = count
            level[j] = after
            write[j] = after if count >= full else np.nan


@kernel
def macd(x: Panel, fast: int, slow: int, signal: int, line: Panel, trigger: Panel, gaps: Panel) -> None:
    """MACD line, its signal line and their difference; both averages are seeded at bar `slow` (TA-Lib)."""
    bars, symbols = x.shape
    age = np.zeros(symbols)
    quick = np.zeros(symbols)
    calm = np.zeros(symbols)
    mark = np.zeros(symbols)
    gain_quick, gain_calm, gain_mark = 2.0 / (fast + 1), 2.0 / (slow + 1), 2.0 / (signal + 1)
    seed_quick, seed_calm, seed_mark = 1.0 / fast, 1.0 / slow, 1.0 / signal
    skip, full, ready = float(slow - fast), float(slow), float(slow + signal - 1)
    for t in range(bars):
        row, write, write_mark, write_gap = x[t], line[t], trigger[t], gaps[t]
        for j in range(symbols):
            value = row[j]
            count = age[j] + 1.0 if value == value else 0.0
            running = count > full
            # Until a seed is complete the state holds the part of the mean summed so far.
            a = quick[j] if count > skip + 1.0 else 0.0
            b = calm[j] if count > 1.0 else 0.0
            c = mark[j] if count > full else 0.0
            a += gain_quick * (value - a) if running else value * seed_quick
            b += gain_calm * (value - b) if running else value * seed_calm
            gap = a - b
            c += gain_mark * (gap - c) if count > ready else gap * seed_mark
            age[j] = count
            quick[j] = a
            calm[j] = b
            mark[j] = c
            write[j] = gap if count >= full else np.nan
            write_mark[j] = c if count >= ready else np.nan
            write_gap[j] = gap - c if count >= ready else np.nan


@kernel
def relative_strength(x: Panel, n: int, out: Panel) -> None:
    """Wilder's RSI; NaN where the price did not move at all (0 / 0)."""
    bars, symbols = x.shape
    age = np.zeros(symbols)
    last = np.zeros(symbols)
    up = np.zeros(symbols)
    down = np.zeros(symbols)
    share = 1.0 / n
    full = float(n + 1)
    for t in range(bars):
        row, write = x[t], out[t]
        for j in range(symbols):
            value = row[j]
            count = age[j] + 1.0 if value == value else 0.0
            change = value - last[j] if count > 1.0 else 0.0
            gain = change if change > 0.0 else 0.0
            loss = gain - change
            seeded = count > full
            a = up[j] if count > 1.0 else 0.0
            b = down[j] if count > 1.0 else 0.0
            a += (gain - a if seeded else gain) * share
            b += (loss - b if seeded else loss) * share
            age[j] = count
            last[j] = value
            up[j] = a
            down[j] = b
            # The ratio first: it cannot exceed one, while 100 a / a can exceed 100 in the last digit.
            rsi = a / (a + b) * 100.0
            write[j] = rsi if count >= full else np.nan


@kernel
def true_range_average(high: Panel, low: Panel, close: Panel, n: int, out: Panel) -> None:
    """Wilder's ATR: the mean of the first `n` true ranges, then Wilder smoothing."""
    bars, symbols = close.shape
    age = np.zeros(symbols)
    last = np.zeros(symbols)
    level = np.zeros(symbols)
    share = 1.0 / n
    full = float(n + 1)
    for t in range(bars):
        highs, lows, closes, write = high[t], low[t], close[t], out[t]
        for j in range(symbols):
            h, l, c = highs[j], lows[j], closes[j]
            present = h + l + c
            count = age[j] + 1.0 if present == present else 0.0
            before = last[j]
            top = h if h > before else before
            bottom = l if l < before else before
            spread = top - bottom if count > 1.0 else 0.0
            a = level[j] if count > 1.0 else 0.0
            a += (spread - a if count > full else spread) * share
            age[j] = count
            last[j] = c
            level[j] = a
            write[j] = a if count >= full else np.nan


@kernel
def directional(high: Panel, low: Panel, close: Panel, n: int, adx: Panel, plus: Panel, minus: Panel) -> None:
    """Wilder's ADX with +DI and -DI (Wilder 1978, seeded as in TA-Lib).

    The eight states of a block of symbols lie in one buffer at constant distances: with an array
    each, the compiler would have too many to prove apart and would not vectorise.
    """
    bars, symbols = close.shape
    state = np.empty(8 * BLOCK)
    share = 1.0 / n
    seed, full, ready = float(n), float(n + 1), float(2 * n)
    for first in range(0, symbols, BLOCK):
        width = min(BLOCK, symbols - first)
        state[:] = 0.0
        for t in range(bars):
            highs, lows, closes = high[t, first:], low[t, first:], close[t, first:]
            write, write_plus, write_minus = adx[t, first:], plus[t, first:], minus[t, first:]
            for j in range(width):
                h, l, c = highs[j], lows[j], closes[j]
                present = h + l + c
                count = state[j] + 1.0 if present == present else 0.0
                before = state[3 * BLOCK + j]
                up = h - state[BLOCK + j]
                down = state[2 * BLOCK + j] - l
                top = h if h > before else before
                bottom = l if l < before else before
                moving = count > 1.0
                spread = top - bottom if moving else 0.0
                plus_move = up if (up > down) & (up > 0.0) & moving else 0.0
                minus_move = down if (down > up) & (down > 0.0) & moving else 0.0
                # Sums of the first n - 1 moves, then Wilder's S = S - S / n + move.
                fade = 1.0 - share if count > seed else 1.0
                tr = (state[4 * BLOCK + j] * fade if moving else 0.0) + spread
                rise = (state[5 * BLOCK + j] * fade if moving else 0.0) + plus_move
                fall = (state[6 * BLOCK + j] * fade if moving else 0.0) + minus_move
                # No directional movement at all is a strength of zero, not 0 / 0. One division
                # serves both ratios: over tr * both, times both or times tr.
                moved = rise + fall
                both = moved if moved > 0.0 else 1.0
                inverse = 100.0 / (tr * both)
                percent = inverse * both
                strong = abs(rise - fall) * (inverse * tr) if moved > 0.0 else 0.0
                strong = 100.0 if strong > 100.0 else strong  # rounding
                a = state[7 * BLOCK + j] if count > full else 0.0
                a += (strong - a if count > ready else strong) * share
                state[j] = count
                state[BLOCK + j] = h
                state[2 * BLOCK + j] = l
                state[3 * BLOCK + j] = c
                state[4 * BLOCK + j] = tr
                state[5 * BLOCK + j] = rise
                state[6 * BLOCK + j] = fall
                state[7 * BLOCK + j] = a
                write[j] = a if count >= ready else np.nan
                write_plus[j] = rise * percent if count >= full else np.nan
                write_minus[j] = fall * percent if count >= full else np.nan


@kernel
def signed_volume(close: Panel, volume: Panel, out: Panel) -> None:
    """On-balance volume; a segment starts at its first bar's volume, as TA-Lib does."""
    bars, symbols = close.shape
    last = np.full(symbols, np.nan)
    level = np.zeros(symbols)
    for t in range(bars):
        closes, volumes, write = close[t], volume[t], out[t]
        for j in range(symbols):
            c, v = closes[j], volumes[j]
            before = last[j]
            signed = v if c > before else (-v if c < before else 0.0)
            present = c + v
            total = level[j] + signed if before == before else v
            last[j] = c if present == present else np.nan
            level[j] = total
            write[j] = total if present == present else np.nan


def warm() -> None:
    """Compile every kernel of this module."""
    x = np.ones((4, 2))
    a, b, c = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    smooth(x, 2, 0.5, a)
    macd(x, 2, 3, 2, a, b, c)
    relative_strength(x, 2, a)
    true_range_average(x, x, x, 2, a)
    directional(x, x, x, 2, a, b, c)
    signed_volume(x, x, a)
