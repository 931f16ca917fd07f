"""Splits and cash dividends, from the steps of adjusted closes (adjustment.py). Pure.

The source of the bundled data (Quandl WIKI) multiplies the adjustment factor by (c + d) / c for a dividend d, c being
the close of the ex-day. So the step gives back what was declared, to the cent; and what was declared was public before
the ex-day opened, though it can be read from this data only by its close.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction

import numpy as np

from .history import Bars

NANO = 1_000_000_000
_LARGEST_TERM = 100
_SMALLEST_DIVIDEND = 2e-4  # of the price: below is the rounding of adjusted closes
_DIVIDEND_GRID_E9 = 100_000  # a ten thousandth: finer than dividends are declared, coarser than the factor's rounding


@dataclass(frozen=True, kw_only=True)
class Action:
    """One action of the instrument in `row`. Of a split the terms, else the dividend per share in nano units."""

    action_id: str
    row: int
    ts_event_ns: int
    split: tuple[int, int] | None = None
    price_after_e9: int = 0
    dividend_e9: int = 0


def actions(bars: Bars, names: list[str], ticks_e9: list[int], after_ns: int) -> Iterator[Action]:
    """Those of days that closed after `after_ns`, by day and instrument. `bars` also hold the bar before each.

    names, ticks_e9: of the rows of `bars`.
    """
    closes = bars.exact["close"]
    for day, row in zip(*np.nonzero(((bars.step != 1.0) & bars.present).T), strict=True):
        earlier = np.flatnonzero(bars.present[row, :day])
        if bars.close_ns[day] <= after_ns or not len(earlier):
            continue
        previous_e9, opening = int(closes[row, earlier[-1]]), int(bars.open_ns[day])
        ratio = Fraction(float(bars.split_step[row, day])).limit_denominator(_LARGEST_TERM)
        label = f"{names[row]}-{datetime.fromtimestamp(opening // NANO, UTC).date().isoformat()}"
        if ratio != 1:
            tick = ticks_e9[row]
            previous_e9 = previous_e9 * ratio.denominator // ratio.numerator
            yield Action(
                action_id=f"{label}-split",
                row=int(row),
                ts_event_ns=opening,
                split=(ratio.numerator, ratio.denominator),
                price_after_e9=max(previous_e9 // tick, 1) * tick,
            )
        factor = float(bars.step[row, day]) / float(bars.split_step[row, day])
        if factor - 1.0 > _SMALLEST_DIVIDEND:
            exact_e9 = int(closes[row, day]) * (factor - 1.0)
            dividend_e9 = max(round(exact_e9 / _DIVIDEND_GRID_E9), 1) * _DIVIDEND_GRID_E9
            yield Action(action_id=f"{label}-dividend", row=int(row), ts_event_ns=opening, dividend_e9=dividend_e9)
