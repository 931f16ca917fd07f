"""Candlestick patterns of the newest bar, by the definitions of TA-Lib with its default settings.

A body or a shadow is long or short against the mean of the bars before it, so a pattern needs BARS bars and the newest.
Panels of shape (bars, symbols), see ``panel.py``. Errors: InvalidArrayError, InvalidValueError. Names: Nison 1991.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from execution_core.errors import InvalidArrayError
from execution_core.indicators.panel import Panel, check_layout, check_prices
from execution_core.jit import kernel

LONG, NEAR, BARS = 10, 5, 13

Row = NDArray[np.float64]


class Candlesticks(NamedTuple):
    """One value per symbol: 1 where the newest bar completes the bullish pattern, -1 the bearish one, 0 elsewhere.

    engulfing: a body that covers the one before, of the other colour.
    hammer: a short body at the top of a long lower shadow; at the lows a hammer, at the highs a hanging man.
    harami: a short body inside the long one before; it speaks against the long one.
    morning_star: a long body, a short one a gap further, and one that closes well back into the first; or evening star.
    piercing: a long body that opens beyond the long one before and closes back past its middle; or dark cloud cover.
    star: a short body beneath a long upper shadow, gapped; upwards a shooting star, downwards an inverted hammer.
    """

    engulfing: Row
    hammer: Row
    harami: Row
    morning_star: Row
    piercing: Row
    star: Row


CANDLES = Candlesticks(*np.array([2.0, 1.0, 2.0, 3.0, 2.0, 1.0])[:, None])  # how many bars make each


@kernel
def _usual(open_: Panel, high: Panel, low: Panel, close: Panel, body: Panel, wide: Row, near: Row) -> None:
    """Mean body of the LONG bars before each of the last three, the newest first, and mean ranges before the newest."""
    newest, symbols = close.shape[0] - 1, close.shape[1]
    for bar in range(3):
        for t in range(newest - bar - LONG, newest - bar):
            for j in range(symbols):
                body[bar, j] += abs(close[t, j] - open_[t, j])
    for t in range(newest - LONG, newest):
        for j in range(symbols):
            wide[j] += high[t, j] - low[t, j]
    for t in range(newest - 1 - NEAR, newest - 1):
        for j in range(symbols):
            near[j] += high[t, j] - low[t, j]
    for j in range(symbols):
        for bar in range(3):
            body[bar, j] /= LONG
        wide[j] /= LONG
        near[j] /= NEAR


@kernel(forceinline=True)
def _sign(up: bool, down: bool) -> float:
    return (1.0 if up else 0.0) - (1.0 if down else 0.0)


@kernel
def _patterns(
    open_: Panel, high: Panel, low: Panel, close: Panel, body: Panel, wide: Row, near: Row, out: Panel
) -> None:
    """Rows of `out` are the fields of Candlesticks. Names end in 0 for the newest bar, 1 for the one before."""
    newest = close.shape[0] - 1
    for j in range(close.shape[1]):
        o0, h0, l0, c0 = open_[newest, j], high[newest, j], low[newest, j], close[newest, j]
        o1, h1, l1, c1 = open_[newest - 1, j], high[newest - 1, j], low[newest - 1, j], close[newest - 1, j]
        o2, c2 = open_[newest - 2, j], close[newest - 2, j]
        top0, bottom0, body0, rises0 = max(o0, c0), min(o0, c0), abs(c0 - o0), c0 >= o0
        top1, bottom1, body1, rises1 = max(o1, c1), min(o1, c1), abs(c1 - o1), c1 >= o1
        top2, bottom2, body2, rises2 = max(o2, c2), min(o2, c2), abs(c2 - o2), c2 >= o2
        long0, long1, long2 = body0 > body[0, j], body1 > body[1, j], body2 > body[2, j]
        short0, upper, lower = body0 < body[0, j], h0 - top0, bottom0 - l0

        covers = (top0 >= top1) & (bottom0 <= bottom1) & ((top0 > top1) | (bottom0 < bottom1))
        out[0, j] = _sign(covers & rises0 & (not rises1), covers & (not rises0) & rises1)

        hammer, close_by = short0 & (lower > body0) & (upper < 0.1 * wide[j]), 0.2 * near[j]
        out[1, j] = _sign(hammer & (bottom0 <= l1 + close_by), hammer & (bottom0 >= h1 - close_by))

        inside = (top0 <= top1) & (bottom0 >= bottom1) & ((top0 < top1) | (bottom0 > bottom1)) & long1 & (not long0)
        out[2, j] = _sign(inside & (not rises1), inside & rises1)

        star, back = long2 & (not long1) & long0, 0.3 * body2
        out[3, j] = _sign(
            star & (not rises2) & (top1 < bottom2) & rises0 & (c0 > c2 + back),
            star & rises2 & (bottom1 > top2) & (not rises0) & (c0 < c2 - back),
        )

        middle = 0.5 * body1
        out[4, j] = _sign(
            long1 & long0 & rises0 & (not rises1) & (o0 < l1) & (c0 < o1) & (c0 > c1 + middle),
            long1 & (not rises0) & rises1 & (o0 > h1) & (c0 > o1) & (c0 < c1 - middle),
        )

        shooting = short0 & (upper > body0) & (lower < 0.1 * wide[j])
        out[5, j] = _sign(shooting & (top0 < bottom1), shooting & (bottom0 > top1))


def candlesticks(open_: Panel, high: Panel, low: Panel, close: Panel) -> Candlesticks:
    """Patterns that the newest bar completes."""
    open_ = check_prices("open_", check_layout("open_", open_)[-BARS - 1 :])
    high = check_prices("high", high[-BARS - 1 :], open_)
    low = check_prices("low", low[-BARS - 1 :], open_)
    close = check_prices("close", close[-BARS - 1 :], open_)
    bars, symbols = close.shape
    if bars <= BARS:
        raise InvalidArrayError("close", f"{bars} bars", f"pass {BARS + 1} or more")
    body, (wide, near) = np.zeros((3, symbols)), np.zeros((2, symbols))
    _usual(open_, high, low, close, body, wide, near)
    answer = np.empty((6, symbols))
    _patterns(open_, high, low, close, body, wide, near, answer)
    return Candlesticks(*answer)


def warm() -> None:
    """Compile the kernels."""
    x = np.ones((BARS + 1, 2))
    candlesticks(x, x, x, x)
