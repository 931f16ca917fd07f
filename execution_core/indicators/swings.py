"""Support and resistance: swing points, the levels they make, and how price behaved there.

Panels of shape (bars, symbols); see ``panel.py``. Errors: InvalidArrayError, InvalidValueError.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.indicators.panel import Panel, check_prices, check_window
from execution_core.jit import kernel


class Levels(NamedTuple):
    """One value per symbol, at the newest bar.

    held, broken: approaches to any level that ended with price turned away, or through.
    side: of the approach still open: 1 to a level from above (support), -1 from below (resistance), 0 when none is.
    level: its price, NaN when none. touches: swing points that make it. age: bars since the approach.
    """

    held: NDArray[np.float64]
    broken: NDArray[np.float64]
    side: NDArray[np.float64]
    level: NDArray[np.float64]
    touches: NDArray[np.float64]
    age: NDArray[np.float64]


@kernel
def _swings(high: Panel, low: Panel, close: Panel, reach: int, out: NDArray[np.uint8]) -> None:
    """Mark swing highs with 1, swing lows with 2, missing bars with 4."""
    bars, symbols = close.shape
    for t in range(bars):
        highs, lows, closes, write = high[t], low[t], close[t], out[t]
        inside = (t >= reach) & (t < bars - reach)
        for j in range(symbols):
            present = highs[j] + lows[j] + closes[j]
            write[j] = 4 if present != present else (3 if inside else 0)
        if not inside:
            continue
        for k in range(1, reach + 1):
            high_before, high_after, low_before, low_after = high[t - k], high[t + k], low[t - k], low[t + k]
            for j in range(symbols):
                top = (highs[j] > high_before[j]) & (highs[j] >= high_after[j])
                bottom = (lows[j] < low_before[j]) & (lows[j] <= low_after[j])
                write[j] &= np.uint8(4) | np.uint8(top) | (np.uint8(bottom) << np.uint8(1))


@kernel
def _levels(
    high: Panel,
    low: Panel,
    log_close: Panel,
    marks: NDArray[np.uint8],
    width: NDArray[np.float64],
    reach: int,
    near: float,
    out: Panel,
) -> None:
    """Rows of `out` are the fields of Levels; everything in logarithms, so that both ways are equally far."""
    bars, symbols = log_close.shape
    price = np.empty(2 * bars)
    count = np.empty(2 * bars)
    for j in range(symbols):
        away = width[j]
        tolerance = near * away
        known, start, at, entered = 0, 0, 0, 0
        side, entry, held, broken, last = 0.0, 0.0, 0.0, 0.0, 0.0
        for t in range(bars if away > 0.0 else 0):
            if marks[t, j] == 4:
                known, start, side, held, broken = 0, t + 1, 0.0, 0.0, 0.0
                continue
            close = log_close[t, j]
            if side != 0.0:
                move = (close - entry) * side
                if abs(move) >= away:
                    held += 1.0 if move > 0.0 else 0.0
                    broken += 0.0 if move > 0.0 else 1.0
                    side = 0.0
            elif t > start:
                nearest, found = tolerance, -1
                for k in range(known):
                    distance = abs(close - price[k])
                    if distance <= nearest:
                        nearest, found = distance, k
                if found >= 0 and abs(last - price[found]) > tolerance:
                    side = 1.0 if last > price[found] else -1.0
                    entry, at, entered = close, found, t
            last = close
            middle = t - reach
            mark = marks[middle, j] if middle - reach >= start else 0
            for kind in range(1, 3):
                if mark & kind:
                    swing = np.log(high[middle, j] if kind == 1 else low[middle, j])
                    same = 0
                    while same < known and abs(price[same] - swing) > tolerance:
                        same += 1
                    if same == known:
                        known += 1
                        price[same], count[same] = swing, 0.0
                    count[same] += 1.0
                    price[same] += (swing - price[same]) / count[same]
        out[0, j] = held
        out[1, j] = broken
        out[2, j] = side
        out[3, j] = np.exp(price[at]) if side != 0.0 else np.nan
        out[4, j] = count[at] if side != 0.0 else 0.0
        out[5, j] = float(bars - 1 - entered) if side != 0.0 else 0.0


def levels(
    high: Panel, low: Panel, close: Panel, width: NDArray[np.float64], *, reach: int = 3, near: float = 0.25
) -> Levels:
    """How the close behaved at the levels that swing highs and lows made.

    width: per symbol, as a fraction of the price (an average true range over the close, say). A swing high is a high
    above those of the `reach` bars before it and not beneath those after; it is known `reach` bars later. Swing points
    within `near` widths make one level, at their mean. An approach begins with a close within `near` widths of a level,
    coming from further away, and ends with the first close a width or more away from that close, either way: in a
    random walk with symmetric steps each is a fair coin, because the level was known before. One approach at a time.
    A missing bar ends everything known; a symbol whose width is not above zero gets zeros.
    """
    check_window("reach", reach)
    if not 0.0 < near < 1.0:
        raise InvalidValueError("near", f"{near!r}", "pass a number between 0 and 1, in widths")
    high = check_prices("high", high)
    low = check_prices("low", low, high)
    close = check_prices("close", close, high)
    if not isinstance(width, np.ndarray) or width.dtype != np.float64 or width.shape != close.shape[1:]:
        raise InvalidArrayError("width", "not a float64 array of one value per symbol", f"pass {close.shape[1:]}")
    marks = np.empty(close.shape, dtype=np.uint8)
    _swings(high, low, close, reach, marks)
    answer = np.empty((6, close.shape[1]))
    _levels(high, low, np.log(close), marks, np.ascontiguousarray(width), reach, float(near), answer)
    return Levels(*answer)


def warm() -> None:
    """Compile the kernels."""
    x = np.ones((8, 2))
    levels(x, x, x, np.ones(2), reach=1)
