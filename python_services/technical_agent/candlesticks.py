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
    """Bars x instruments; bar 0 is the newest, 1 the one before. Patterns look at three, so more is kept of those."""

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
        """Upper ends of the last three bodies."""
        return np.maximum(self.open[-3:], self.close[-3:])

    @cached_property
    def bottom(self) -> Floats:
        """Lower ends of the last three bodies."""
        return np.minimum(self.open[-3:], self.close[-3:])

    @cached_property
    def usual_bodies(self) -> Floats:
        """Mean body of the LONG bars before each of the last three."""
        return np.array([_mean(self.body[-1 - bar - LONG : -1 - bar]) for bar in (2, 1, 0)])

    @cached_property
    def usual_range(self) -> Floats:
        """Mean range of the LONG bars before the newest."""
        return _mean(self.high[-1 - LONG : -1] - self.low[-1 - LONG : -1])

    @cached_property
    def near(self) -> Floats:
        """A fifth of the mean range of the NEAR bars before the last but one."""
        return 0.2 * _mean(self.high[-2 - NEAR : -2] - self.low[-2 - NEAR : -2])

    @cached_property
    def _rising(self) -> Mask:
        return np.asarray(self.close[-3:] >= self.open[-3:])

    @cached_property
    def _long(self) -> Mask:
        return np.asarray(self.body[-3:] > self.usual_bodies)

    def rises(self, bar: int) -> Mask:
        """Whether a bar closes at its open or above."""
        return np.asarray(self._rising[-1 - bar])

    def long(self, bar: int) -> Mask:
        """A body longer than usual."""
        return np.asarray(self._long[-1 - bar])

    @cached_property
    def short(self) -> Mask:
        """A newest body shorter than usual."""
        return np.asarray(self.body[-1] < self.usual_bodies[-1])

    @cached_property
    def upper(self) -> Floats:
        """Upper shadow of the newest bar."""
        return np.asarray(self.high[-1] - self.top[-1])

    @cached_property
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
    shape = c.short & (c.lower > c.body[-1]) & (c.upper < 0.1 * c.usual_range)
    return _signed(shape & (c.bottom[-1] <= c.low[-2] + c.near), shape & (c.bottom[-1] >= c.high[-2] - c.near))


def star(c: Candles) -> Floats:
    """A short body beneath a long upper shadow, gapped: upwards a shooting star, downwards an inverted hammer."""
    shape = c.short & (c.upper > c.body[-1]) & (c.lower < 0.1 * c.usual_range)
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


def _mean(x: Floats) -> Floats:
    return np.asarray(x.sum(axis=0) / len(x))
