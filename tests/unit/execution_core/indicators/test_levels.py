"""Support and resistance against a slow, obvious twin, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from execution_core import indicators
from execution_core.errors import InvalidArrayError, InvalidValueError

from .test_against_plain_python import bars_with_gaps

REACH, NEAR = 2, 0.25


def twin(high: list[float], low: list[float], close: list[float], width: float) -> tuple[float, ...]:
    """One symbol, one segment; every step looks at all there is."""
    log = [math.log(c) for c in close]
    groups: list[list[float]] = []
    held = broken = 0
    approach: tuple[float, float, int, int] | None = None  # side, entry, group, bar
    for t in range(len(close)):
        if approach is not None:
            side, entry, _, _ = approach
            if abs(log[t] - entry) >= width:
                if (log[t] > entry) == (side > 0):
                    held += 1
                else:
                    broken += 1
                approach = None
        elif t > 0:
            means = [sum(group) / len(group) for group in groups]
            near = [(abs(log[t] - mean), -k) for k, mean in enumerate(means) if abs(log[t] - mean) <= NEAR * width]
            if near:
                k = -min(near)[1]
                if abs(log[t - 1] - means[k]) > NEAR * width:
                    approach = (1.0 if log[t - 1] > means[k] else -1.0, log[t], k, t)
        m = t - REACH
        if m >= REACH:
            around = [i for i in range(m - REACH, m + REACH + 1) if i != m]
            for values, sign in ((high, 1), (low, -1)):
                if all(sign * values[i] < sign * values[m] or (i > m and values[i] == values[m]) for i in around):
                    swing = math.log(values[m])
                    for group in groups:
                        if abs(sum(group) / len(group) - swing) <= NEAR * width:
                            group.append(swing)
                            break
                    else:
                        groups.append([swing])
    if approach is None:
        return held, broken, 0.0, math.nan, 0.0, 0.0
    side, _, k, entered = approach
    group = groups[k]
    return held, broken, side, math.exp(sum(group) / len(group)), len(group), len(close) - 1 - entered


@pytest.mark.parametrize("seed", range(6))
def test_levels_equal_their_twin(seed: int) -> None:
    panels = bars_with_gaps(bars=150 + seed)
    high, low, close = panels["high"], panels["low"], panels["close"]
    width = np.full(close.shape[1], 0.03 + 0.005 * seed)
    ours = np.array(indicators.levels(high, low, close, width, reach=REACH, near=NEAR))
    approached = 0
    for symbol in range(close.shape[1]):
        missing = np.flatnonzero(np.isnan(high + low + close)[:, symbol])
        start = 0 if not len(missing) else int(missing[-1]) + 1
        segment = [panel[start:, symbol].tolist() for panel in (high, low, close)]
        np.testing.assert_allclose(ours[:, symbol], twin(*segment, float(width[symbol])), rtol=1e-9)
        approached += int(ours[0, symbol] + ours[1, symbol])
    assert approached > 10


def test_a_level_is_met_held_met_again_and_broken() -> None:
    # A swing low at 100, known two bars later; met from above and left upwards; met again and left downwards.
    close = np.array([104.0, 102.0, 100.0, 102.0, 104.0, 106.0, 103.0, 100.2, 102.0, 104.0, 102.0, 99.9, 97.0, 95.0])
    high, low = close + 0.1, close - 0.1

    def at(bars: int) -> indicators.Levels:
        panels = (np.ascontiguousarray(x[:bars, None]) for x in (high, low, close))
        return indicators.levels(*panels, np.array([0.02]), reach=2, near=0.25)

    assert at(7).side.tolist() == [0.0]
    met = at(8)
    assert (met.side[0], met.age[0], met.touches[0]) == (1.0, 0.0, 1.0)
    assert met.level[0] == pytest.approx(99.9)
    assert at(9).age.tolist() == [1.0]
    left = at(10)
    assert (left.held[0], left.broken[0], left.side[0]) == (1.0, 0.0, 0.0)
    assert np.isnan(left.level[0])
    again = at(12)
    assert (again.held[0], again.side[0], again.touches[0]) == (1.0, 1.0, 2.0)
    through = at(14)
    assert (through.held[0], through.broken[0], through.side[0]) == (1.0, 1.0, 0.0)


def test_what_levels_refuse() -> None:
    x = np.ones((8, 2))
    for bad in (np.ones(3), np.ones((2, 1)), [1.0, 1.0], np.ones(2, dtype=np.float32)):
        with pytest.raises(InvalidArrayError, match=r"^width:"):
            indicators.levels(x, x, x, bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match=r"^reach:"):
        indicators.levels(x, x, x, np.ones(2), reach=0)
    for near in (0.0, 1.0, float("nan")):
        with pytest.raises(InvalidValueError, match=r"^near:"):
            indicators.levels(x, x, x, np.ones(2), near=near)
    silent = indicators.levels(x, x, x, np.array([np.nan, 0.0]))
    assert silent.side.tolist() == silent.held.tolist() == [0.0, 0.0]
