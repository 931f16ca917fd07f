"""Support and resistance: swing points, the levels they make, and how price behaved there.

Panels of shape (bars, symbols); see ``panel.py``. Errors: InvalidArrayError, InvalidValueError.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.indicators.panel import Panel, check_layout, check_prices, check_window
from execution_core.indicators.recursive import BLOCK
from execution_core.jit import kernel

Row = NDArray[np.float64]


class Levels(NamedTuple):
    """One value per symbol, at the newest bar.

    held, broken: approaches to any level that ended with price turned away, or through.
    side: of the approach still open: 1 to a level from above (support), -1 from below (resistance), 0 when none is.
    level: its price, NaN when none. touches: swing points that make it. age: bars since the approach.
    """

    held: Row
    broken: Row
    side: Row
    level: Row
    touches: Row
    age: Row


@kernel
def _swings(high: Panel, low: Panel, close: Panel, reach: int, out: NDArray[np.uint8]) -> int:
    """Mark swing highs with 1, swing lows with 2, missing bars with 4; count values that are no prices."""
    bars, symbols = close.shape
    flaws = 0
    for t in range(bars):
        highs, lows, closes, write = high[t], low[t], close[t], out[t]
        inside = (t >= reach) & (t < bars - reach)
        initial = np.uint8(3 if inside else 0)
        for j in range(symbols):
            h, l, c = highs[j], lows[j], closes[j]
            present = h + l + c
            flaws += 1 if (h <= 0.0) | (l <= 0.0) | (c <= 0.0) | (present == np.inf) else 0
            write[j] = 4 if present != present else initial
        if not inside:
            continue
        for k in range(1, reach + 1):
            high_before, high_after, low_before, low_after = high[t - k], high[t + k], low[t - k], low[t + k]
            for j in range(symbols):
                top = (highs[j] > high_before[j]) & (highs[j] >= high_after[j])
                bottom = (lows[j] < low_before[j]) & (lows[j] <= low_after[j])
                write[j] &= np.uint8(4) | np.uint8(top) | (np.uint8(bottom) << np.uint8(1))
    return flaws


# State of one symbol each, BLOCK symbols side by side: places in one buffer, at constant distances (see `recursive`).
_CLOSE, _LAST, _AWAY, _NEAR = 0, BLOCK, 2 * BLOCK, 3 * BLOCK
_DISTANCE, _PRICE, _FOUND = 4 * BLOCK, 5 * BLOCK, 6 * BLOCK  # of the level nearest to the close
_SIDE, _ENTRY, _AT, _ENTERED, _HELD, _BROKEN = (i * BLOCK for i in range(7, 13))
_FIELDS = 13


@kernel
def _nearest(state: Row, price: Panel, known: int) -> None:
    """Find the level nearest to the close of each symbol, the latest of equals; none beyond _NEAR."""
    for j in range(BLOCK):
        state[_DISTANCE + j] = state[_NEAR + j]
        state[_PRICE + j] = np.nan
        state[_FOUND + j] = -1.0
    for k in range(known):
        levels, number = price[k], float(k)
        for j in range(BLOCK):
            level, nearest, here, found = levels[j], state[_DISTANCE + j], state[_PRICE + j], state[_FOUND + j]
            distance = abs(state[_CLOSE + j] - level)
            closer = distance <= nearest
            state[_DISTANCE + j] = distance if closer else nearest
            state[_PRICE + j] = level if closer else here
            state[_FOUND + j] = number if closer else found


@kernel
def _advance(state: Row, bar: float) -> None:
    """End the approaches that this bar decides, and begin those it makes."""
    for j in range(BLOCK):
        close, last, away, side = state[_CLOSE + j], state[_LAST + j], state[_AWAY + j], state[_SIDE + j]
        entry, at, entered, level = state[_ENTRY + j], state[_AT + j], state[_ENTERED + j], state[_PRICE + j]
        held, broken, found = state[_HELD + j], state[_BROKEN + j], state[_FOUND + j]
        waiting = side == 0.0
        move = (close - entry) * side
        holds = (not waiting) & (move >= away)
        breaks = (not waiting) & (move <= -away)
        begins = waiting & (abs(last - level) > state[_NEAR + j])
        state[_HELD + j] = held + 1.0 if holds else held
        state[_BROKEN + j] = broken + 1.0 if breaks else broken
        open_ = 0.0 if holds | breaks else side
        state[_SIDE + j] = (1.0 if last > level else -1.0) if begins else open_
        state[_ENTRY + j] = close if begins else entry
        state[_AT + j] = found if begins else at
        state[_ENTERED + j] = bar if begins else entered
        state[_LAST + j] = close


@kernel
def _add(swing: float, tolerance: float, j: int, price: Panel, count: Panel, known: int) -> int:
    """Join a swing point with the first level within reach of it, or make it a level; how many there are then."""
    same = 0
    while same < known and abs(price[same, j] - swing) > tolerance:
        same += 1
    if same == known:
        price[same, j], count[same, j] = swing, 0.0
    count[same, j] += 1.0
    price[same, j] += (swing - price[same, j]) / count[same, j]
    return max(known, same + 1)


@kernel
def _levels(
    high: Panel,
    low: Panel,
    log_close: Panel,
    marks: NDArray[np.uint8],
    width: Row,
    reach: int,
    near: float,
    out: Panel,
) -> None:
    """Rows of `out` are the fields of Levels; everything in logarithms, so that both ways are equally far.

    Bar by bar over a block of symbols: what most bars need (is a level near, is an approach decided) is SIMD, and only
    swing points, one bar in six, are taken one by one.
    """
    bars, symbols = log_close.shape
    price = np.empty((2 * bars, BLOCK))
    count = np.empty((2 * bars, BLOCK))
    state = np.empty(_FIELDS * BLOCK)
    known, start = np.empty(BLOCK, dtype=np.int64), np.empty(BLOCK, dtype=np.int64)
    for first in range(0, symbols, BLOCK):
        symbols_here = min(BLOCK, symbols - first)
        state[:] = 0.0
        state[_CLOSE : _CLOSE + BLOCK] = np.nan
        state[_LAST : _LAST + BLOCK] = np.nan
        state[_NEAR : _NEAR + BLOCK] = np.nan  # nothing is near
        for j in range(symbols_here):
            if width[first + j] > 0.0:
                state[_AWAY + j], state[_NEAR + j] = width[first + j], near * width[first + j]
        known[:] = 0
        start[:] = 0
        price[:] = np.nan
        most = 0
        for t in range(bars):
            closes, marked, swung = log_close[t], marks[t], marks[max(t - reach, 0)]
            for j in range(symbols_here):
                state[_CLOSE + j] = closes[first + j]
            _nearest(state, price, most)
            _advance(state, float(t))
            for j in range(symbols_here):
                mark, tolerance = swung[first + j], state[_NEAR + j]
                if marked[first + j] == 4:
                    state[_SIDE + j] = state[_HELD + j] = state[_BROKEN + j] = 0.0
                    state[_LAST + j] = np.nan
                    price[: known[j], j] = np.nan
                    known[j], start[j] = 0, t + 1
                elif (mark != 0) & (t - 2 * reach >= start[j]) & (tolerance > 0.0):
                    if mark & 1:
                        known[j] = _add(np.log(high[t - reach, first + j]), tolerance, j, price, count, known[j])
                    if mark & 2:
                        known[j] = _add(np.log(low[t - reach, first + j]), tolerance, j, price, count, known[j])
                    most = max(most, known[j])
        for j in range(symbols_here):
            side, at = state[_SIDE + j], int(state[_AT + j])
            out[0, first + j] = state[_HELD + j]
            out[1, first + j] = state[_BROKEN + j]
            out[2, first + j] = side
            out[3, first + j] = np.exp(price[at, j]) if side != 0.0 else np.nan
            out[4, first + j] = count[at, j] if side != 0.0 else 0.0
            out[5, first + j] = float(bars - 1) - state[_ENTERED + j] if side != 0.0 else 0.0


def levels(
    high: Panel,
    low: Panel,
    close: Panel,
    width: Row,
    *,
    reach: int = 3,
    near: float = 0.25,
    log_close: Panel | None = None,
) -> Levels:
    """How the close behaved at the levels that swing highs and lows made.

    width: per symbol, as a fraction of the price (an average true range over the close, say). A swing high is a high
    above those of the `reach` bars before it and not beneath those after; it is known `reach` bars later. Swing points
    within `near` widths make one level, at their mean. An approach begins with a close within `near` widths of a level,
    coming from further away, and ends with the first close a width or more away from that close, either way: in a
    random walk with symmetric steps each is a fair coin, because the level was known before. One approach at a time.
    A missing bar ends everything known; a symbol whose width is not above zero gets zeros. `log_close`: natural
    logarithms of `close`, where the caller has them already.
    """
    check_window("reach", reach)
    if not 0.0 < near < 1.0:
        raise InvalidValueError("near", f"{near!r}", "pass a number between 0 and 1, in widths")
    high = check_layout("high", high)
    low, close = check_layout("low", low, high), check_layout("close", close, high)
    if not isinstance(width, np.ndarray) or width.dtype != np.float64 or width.shape != close.shape[1:]:
        raise InvalidArrayError("width", "not a float64 array of one value per symbol", f"pass {close.shape[1:]}")
    marks = np.empty(close.shape, dtype=np.uint8)
    if _swings(high, low, close, reach, marks):
        for name, panel in (("high", high), ("low", low), ("close", close)):
            check_prices(name, panel)
    log_close = np.log(close) if log_close is None else check_layout("log_close", log_close, close)
    answer = np.empty((6, close.shape[1]))
    _levels(high, low, log_close, marks, np.ascontiguousarray(width), reach, float(near), answer)
    return Levels(*answer)


def warm() -> None:
    """Compile the kernels."""
    x = np.ones((8, 2))
    levels(x, x, x, np.ones(2), reach=1)
