"""Candlestick patterns of the newest bar, by the definitions of TA-Lib with its default settings.

A body or a shadow is long or short against the mean of the bars before it, so a pattern needs up to BARS bars. Every
function takes bars of shape (bars, instruments), at least BARS of them, and returns 1 where the newest bar completes
the bullish pattern, -1 where it completes the bearish one, and 0 elsewhere. Names: Nison 1991.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from python_services.kit.agents import Floats, Mask

LONG, NEAR, BARS = 10, 5, 13


@dataclass(frozen=True)
class Candles:
    """Bars x instruments; bar 0 is the newest, 1 the one before."""

    open: Floats
    high: Floats
    low: Floats
    close: Floats

    @cached_property
    def body(self) -> Floats:
        """Size of the real bodies."""
        return np.abs(self.close - self.open)

    @cached_property
    def top(self) -> Floats:
        """Upper ends of the bodies."""
        return np.maximum(self.open, self.close)

    @cached_property
    def bottom(self) -> Floats:
        """Lower ends of the bodies."""
        return np.minimum(self.open, self.close)

    def rises(self, bar: int) -> Mask:
        """Whether a bar closes at its open or above."""
        return np.asarray(self.close[-1 - bar] >= self.open[-1 - bar])

    def usual_body(self, bar: int) -> Floats:
        """Mean body of the LONG bars before."""
        return np.asarray(self.body[-1 - bar - LONG : -1 - bar].mean(axis=0))

    def usual_range(self, bar: int, bars: int) -> Floats:
        """Mean range of the `bars` bars before."""
        before = slice(-1 - bar - bars, -1 - bar)
        return np.asarray((self.high[before] - self.low[before]).mean(axis=0))

    def long(self, bar: int) -> Mask:
        """A body longer than usual."""
        return np.asarray(self.body[-1 - bar] > self.usual_body(bar))

    def upper(self) -> Floats:
        """Upper shadow of the newest bar."""
        return np.asarray(self.high[-1] - self.top[-1])

    def lower(self) -> Floats:
        """Lower shadow of the newest bar."""
        return np.asarray(self.bottom[-1] - self.low[-1])


def engulfing(c: Candles) -> Floats:
    """A body that covers the one before, of the other colour."""
    now, then = c.rises(0), c.rises(1)
    covers = (c.top[-1] >= c.top[-2]) & (c.bottom[-1] <= c.bottom[-2])
    beyond = (c.top[-1] > c.top[-2]) | (c.bottom[-1] < c.bottom[-2])
    return _signed(covers & beyond & now & ~then, covers & beyond & ~now & then)


def harami(c: Candles) -> Floats:
    """A short body inside the long one before; it speaks against the long one."""
    inside = (c.top[-1] <= c.top[-2]) & (c.bottom[-1] >= c.bottom[-2])
    inside &= (c.top[-1] < c.top[-2]) | (c.bottom[-1] > c.bottom[-2])
    inside &= c.long(1) & ~c.long(0)
    return _signed(inside & ~c.rises(1), inside & c.rises(1))


def hammer(c: Candles) -> Floats:
    """A short body at the top of a long lower shadow: at the lows a hammer, at the highs a hanging man."""
    shape = (c.body[-1] < c.usual_body(0)) & (c.lower() > c.body[-1]) & (c.upper() < 0.1 * c.usual_range(0, LONG))
    near = 0.2 * c.usual_range(1, NEAR)
    return _signed(shape & (c.bottom[-1] <= c.low[-2] + near), shape & (c.bottom[-1] >= c.high[-2] - near))


def star(c: Candles) -> Floats:
    """A short body beneath a long upper shadow, gapped: upwards a shooting star, downwards an inverted hammer."""
    shape = (c.body[-1] < c.usual_body(0)) & (c.upper() > c.body[-1]) & (c.lower() < 0.1 * c.usual_range(0, LONG))
    return _signed(shape & (c.top[-1] < c.bottom[-2]), shape & (c.bottom[-1] > c.top[-2]))


def piercing(c: Candles) -> Floats:
    """A long body that opens beyond the long one before and closes back past its middle: piercing, or dark cloud."""
    long, now, then, middle = c.long(1), c.rises(0), c.rises(1), 0.5 * c.body[-2]
    up = long & c.long(0) & now & ~then & (c.open[-1] < c.low[-2])
    up &= (c.close[-1] < c.open[-2]) & (c.close[-1] > c.close[-2] + middle)
    down = long & ~now & then & (c.open[-1] > c.high[-2])
    down &= (c.close[-1] > c.open[-2]) & (c.close[-1] < c.close[-2] - middle)
    return _signed(up, down)


def morning_star(c: Candles) -> Floats:
    """A long body, a short one a gap further, and one that closes well back into the first: morning and evening."""
    shape = c.long(2) & ~c.long(1) & c.long(0)
    back, now, first = 0.3 * c.body[-3], c.rises(0), c.rises(2)
    up = shape & ~first & (c.top[-2] < c.bottom[-3]) & now & (c.close[-1] > c.close[-3] + back)
    down = shape & first & (c.bottom[-2] > c.top[-3]) & ~now & (c.close[-1] < c.close[-3] - back)
    return _signed(up, down)


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """candles: how many bars make it."""

    candles: int
    find: Callable[[Candles], Floats]


PATTERNS = {
    "engulfing": Pattern(candles=2, find=engulfing),
    "hammer": Pattern(candles=1, find=hammer),
    "harami": Pattern(candles=2, find=harami),
    "morning_star": Pattern(candles=3, find=morning_star),
    "piercing": Pattern(candles=2, find=piercing),
    "star": Pattern(candles=1, find=star),
}


def _signed(up: Mask, down: Mask) -> Floats:
    return up.astype(np.float64) - down
