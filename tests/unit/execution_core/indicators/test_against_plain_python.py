"""Every indicator against a slow, obvious twin in plain Python, with gaps in the data.

A twin sees one segment of present bars as lists and returns a list with NaN where the indicator
is not defined; `by_segment` cuts the panel. That is the segment rule of ``panel.py``, word for word.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from statistics import fmean

import numpy as np
import pytest

from execution_core import indicators

Series = list[float]
NAN = math.nan


def bars_with_gaps(bars: int = 140, symbols: int = 7) -> dict[str, indicators.Panel]:
    random = np.random.Generator(np.random.SFC64(7))
    close = 50.0 * np.exp(np.cumsum(random.normal(0, 0.02, (bars, symbols)), axis=0))
    close[60:64, 3] = close[59, 3]  # a close that stands still
    open_ = close * np.exp(random.normal(0, 0.01, close.shape))
    high = np.maximum(open_, close) * np.exp(np.abs(random.normal(0, 0.01, close.shape)))
    low = np.minimum(open_, close) * np.exp(-np.abs(random.normal(0, 0.01, close.shape)))
    volume = np.floor(random.uniform(1, 1000, close.shape))
    gaps = np.zeros(close.shape, dtype=bool)
    gaps[0, 1] = gaps[70, 2] = gaps[100:103, 2] = gaps[-1, 4] = True
    gaps[:, 5] = True
    gaps[::9, 6] = True
    panels = {"open_": open_, "high": high, "low": low, "close": close, "volume": volume}
    # A bar is missing when any one of its columns is; blank a different one in each gap.
    for number, name in enumerate(panels):
        where = gaps & (np.arange(bars)[:, None] % len(panels) == number)
        panels[name][where] = NAN
    return panels


def by_segment(inputs: list[indicators.Panel], twin: Callable[..., tuple[Series, ...]]) -> list[np.ndarray]:
    bars, symbols = inputs[0].shape
    answers: list[np.ndarray] = []
    for symbol in range(symbols):
        present = ~np.isnan(sum(panel[:, symbol] for panel in inputs))
        start = 0
        while start < bars:
            if not present[start]:
                start += 1
                continue
            stop = start
            while stop < bars and present[stop]:
                stop += 1
            outputs = twin(*([float(v) for v in panel[start:stop, symbol]] for panel in inputs))
            if not answers:
                answers = [np.full((bars, symbols), NAN) for _ in outputs]
            for answer, output in zip(answers, outputs, strict=True):
                answer[start:stop, symbol] = output
            start = stop
    return answers


def windows(x: Series, n: int, value: Callable[[Series], float]) -> Series:
    return [value(x[t - n + 1 : t + 1]) if t >= n - 1 else NAN for t in range(len(x))]


def smooth(x: Series, n: int, gain: float) -> Series:
    out = [NAN] * len(x)
    for t in range(n - 1, len(x)):
        out[t] = fmean(x[:n]) if t == n - 1 else out[t - 1] + gain * (x[t] - out[t - 1])
    return out


def sma(x: Series, n: int) -> Series:
    return windows(x, n, fmean)


def wma(x: Series, n: int) -> Series:
    return windows(x, n, lambda w: sum((i + 1) * v for i, v in enumerate(w)) / (n * (n + 1) / 2))


def ema(x: Series, n: int) -> Series:
    return smooth(x, n, 2 / (n + 1))


def macd(x: Series, fast: int, slow: int, signal: int) -> tuple[Series, Series, Series]:
    quick = [NAN] * (slow - fast) + ema(x[slow - fast :], fast)
    line = [a - b for a, b in zip(quick, ema(x, slow), strict=False)][: len(x)]
    trigger = ([NAN] * (slow - 1) + ema(line[slow - 1 :], signal))[: len(x)]
    return line, trigger, [a - b for a, b in zip(line, trigger, strict=True)]


def stdev(x: Series, n: int, ddof: int) -> Series:
    return windows(x, n, lambda w: math.sqrt(sum((v - fmean(w)) ** 2 for v in w) / (n - ddof)))


def zscore(x: Series, n: int) -> Series:
    pairs = zip(x, sma(x, n), stdev(x, n, 0), strict=True)
    return [(v - m) / s if s > 1e-12 else NAN for v, m, s in pairs]


def bollinger(x: Series, n: int, width: float) -> tuple[Series, Series, Series]:
    mean, spread = sma(x, n), stdev(x, n, 0)
    upper = [m + width * s for m, s in zip(mean, spread, strict=True)]
    lower = [m - width * s for m, s in zip(mean, spread, strict=True)]
    return upper, mean, lower


def slope(x: Series, n: int) -> tuple[Series, Series]:
    slopes, t_stats = [], []
    for w in [x[t - n + 1 : t + 1] if t >= n - 1 else [] for t in range(len(x))]:
        if not w:
            slopes.append(NAN)
            t_stats.append(NAN)
            continue
        middle, mean = (n - 1) / 2, fmean(w)
        sxx = sum((i - middle) ** 2 for i in range(n))
        b = sum((i - middle) * (v - mean) for i, v in enumerate(w)) / sxx
        sse = sum((v - mean - b * (i - middle)) ** 2 for i, v in enumerate(w))
        slopes.append(b)
        t_stats.append(b / math.sqrt(sse / (n - 2) / sxx))
    return slopes, t_stats


def rsi(x: Series, n: int) -> Series:
    moves = [b - a for a, b in pairwise(x)]
    up = smooth([max(m, 0.0) for m in moves], n, 1 / n)
    down = smooth([max(-m, 0.0) for m in moves], n, 1 / n)
    return ([NAN] + [100 * u / (u + d) if u + d > 0 else NAN for u, d in zip(up, down, strict=True)])[: len(x)]


def true_ranges(high: Series, low: Series, close: Series) -> Series:
    return [max(high[t], close[t - 1]) - min(low[t], close[t - 1]) for t in range(1, len(close))]


def atr(high: Series, low: Series, close: Series, n: int) -> Series:
    return ([NAN, *smooth(true_ranges(high, low, close), n, 1 / n)])[: len(close)]


def wilder_sum(x: Series, n: int) -> Series:
    """Sum of the first n - 1, then S - S / n + x, as Wilder's worksheet does."""
    out = [NAN] * len(x)
    total = sum(x[: n - 1])
    for t in range(n - 1, len(x)):
        total += x[t] - total / n
        out[t] = total
    return out


def adx(high: Series, low: Series, close: Series, n: int) -> tuple[Series, Series, Series]:
    up = [b - a for a, b in pairwise(high)]
    down = [a - b for a, b in pairwise(low)]
    plus = wilder_sum([u if u > d and u > 0 else 0.0 for u, d in zip(up, down, strict=True)], n)
    minus = wilder_sum([d if d > u and d > 0 else 0.0 for u, d in zip(up, down, strict=True)], n)
    spread = wilder_sum(true_ranges(high, low, close), n)
    strength = [100 * abs(p - m) / (p + m) for p, m in zip(plus, minus, strict=True)]
    line = [NAN] * min(n - 1, len(strength)) + smooth(strength[n - 1 :], n, 1 / n)
    ratio = [[100 * v / s for v, s in zip(side, spread, strict=True)] for side in (plus, minus)]
    head = [NAN]
    return (head + line)[: len(close)], (head + ratio[0])[: len(close)], (head + ratio[1])[: len(close)]


def lag(x: Series, n: int) -> Series:
    return [x[t] - x[t - n] if t >= n else NAN for t in range(len(x))]


def stochastic(high: Series, low: Series, close: Series, n: int, k: int, d: int) -> tuple[Series, Series]:
    top, bottom = windows(high, n, max), windows(low, n, min)
    raw = [100 * (c - b) / (t - b) for c, t, b in zip(close, top, bottom, strict=True)]
    return sma(sma(raw, 1), k), sma(sma(raw, k), d)


def obv(close: Series, volume: Series) -> Series:
    out: Series = []
    for t, v in enumerate(volume):
        move = 1 if t == 0 else (close[t] > close[t - 1]) - (close[t] < close[t - 1])
        out.append((out[-1] if out else 0.0) + move * v)
    return out


def root(x: Series) -> Series:
    return [math.sqrt(v) for v in x]


def parkinson(high: Series, low: Series, n: int) -> Series:
    squares = [math.log(h / l) ** 2 / (4 * math.log(2)) for h, l in zip(high, low, strict=True)]
    return root(sma(squares, n))


def garman_klass(open_: Series, high: Series, low: Series, close: Series, n: int) -> Series:
    share = 2 * math.log(2) - 1
    bars = zip(open_, high, low, close, strict=True)
    return root(sma([math.log(h / l) ** 2 / 2 - share * math.log(c / o) ** 2 for o, h, l, c in bars], n))


def yang_zhang(open_: Series, high: Series, low: Series, close: Series, n: int) -> Series:
    k = 0.34 / (1.34 + (n + 1) / (n - 1))
    out = [NAN] * len(close)
    for t in range(n, len(close)):
        days = range(t - n + 1, t + 1)
        jump = [math.log(open_[i] / close[i - 1]) for i in days]
        body = [math.log(close[i] / open_[i]) for i in days]
        satchell = [
            math.log(high[i] / close[i]) * math.log(high[i] / open_[i])
            + math.log(low[i] / close[i]) * math.log(low[i] / open_[i])
            for i in days
        ]
        overnight = stdev(jump, n, 1)[-1] ** 2
        daily = stdev(body, n, 1)[-1] ** 2
        out[t] = math.sqrt(overnight + k * daily + (1 - k) * fmean(satchell))
    return out


def ewma(x: Series, decay: float, seed: int) -> Series:
    return root(smooth([v * v for v in x], seed, 1 - decay))


CLOSE, RANGE, ALL = ["close"], ["high", "low", "close"], ["open_", "high", "low", "close"]
CASES = {
    "sma": (CLOSE, lambda c: indicators.sma(c, 5), lambda c: (sma(c, 5),)),
    "sma of one bar": (CLOSE, lambda c: indicators.sma(c, 1), lambda c: (sma(c, 1),)),
    "ema": (CLOSE, lambda c: indicators.ema(c, 6), lambda c: (ema(c, 6),)),
    "wma": (CLOSE, lambda c: indicators.wma(c, 7), lambda c: (wma(c, 7),)),
    "macd": (CLOSE, lambda c: indicators.macd(c, 4, 9, 3), lambda c: macd(c, 4, 9, 3)),
    "stdev": (CLOSE, lambda c: indicators.stdev(c, 8), lambda c: (stdev(c, 8, 0),)),
    "sample stdev": (CLOSE, lambda c: indicators.stdev(c, 8, ddof=1), lambda c: (stdev(c, 8, 1),)),
    "zscore": (CLOSE, lambda c: indicators.zscore(c, 3), lambda c: (zscore(c, 3),)),
    "bollinger": (CLOSE, lambda c: indicators.bollinger(c, 10, 1.5), lambda c: bollinger(c, 10, 1.5)),
    "slope": (CLOSE, lambda c: indicators.slope(c, 11), lambda c: slope(c, 11)),
    "rsi": (CLOSE, lambda c: indicators.rsi(c, 3), lambda c: (rsi(c, 3),)),
    "momentum": (CLOSE, lambda c: indicators.momentum(c, 4), lambda c: (lag(c, 4),)),
    "donchian high": (CLOSE, lambda c: indicators.donchian_high(c, 6), lambda c: (windows(c, 6, max),)),
    "donchian low": (CLOSE, lambda c: indicators.donchian_low(c, 6), lambda c: (windows(c, 6, min),)),
    "ewma": (CLOSE, lambda c: indicators.ewma_volatility(c, 0.9, 5), lambda c: (ewma(c, 0.9, 5),)),
    "rate of change": (
        CLOSE,
        lambda c: indicators.rate_of_change(c, 4),
        lambda c: ([NAN] * min(4, len(c)) + [b / a - 1 for a, b in zip(c, c[4:], strict=False)],),
    ),
    "atr": (RANGE, lambda *p: indicators.atr(*p, 5), lambda *p: (atr(*p, 5),)),
    "adx": (RANGE, lambda *p: indicators.adx(*p, 4), lambda *p: adx(*p, 4)),
    "stochastic": (RANGE, lambda *p: indicators.stochastic(*p, 5, 3, 2), lambda *p: stochastic(*p, 5, 3, 2)),
    "obv": (["close", "volume"], indicators.obv, lambda *p: (obv(*p),)),
    "parkinson": (["high", "low"], lambda *p: indicators.parkinson(*p, 6), lambda *p: (parkinson(*p, 6),)),
    "garman klass": (ALL, lambda *p: indicators.garman_klass(*p, 6), lambda *p: (garman_klass(*p, 6),)),
    "yang zhang": (ALL, lambda *p: indicators.yang_zhang(*p, 6), lambda *p: (yang_zhang(*p, 6),)),
}


@pytest.mark.parametrize("name", CASES)
def test_indicator_equals_its_twin(name: str) -> None:
    columns, ours, twin = CASES[name]
    panels = bars_with_gaps()
    inputs = [panels[column] for column in columns]
    answer = ours(*inputs)
    outputs = answer if isinstance(answer, tuple) else (answer,)
    expected = by_segment(inputs, twin)
    assert len(outputs) == len(expected)
    for ours_now, twins in zip(outputs, expected, strict=True):
        assert np.isfinite(twins).any()
        np.testing.assert_allclose(ours_now, twins, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", CASES)
def test_a_symbol_does_not_depend_on_its_neighbours(name: str) -> None:
    """One column alone gives bit for bit what it gives inside the panel."""
    columns, ours, _ = CASES[name]
    panels = bars_with_gaps()
    together = ours(*(panels[column] for column in columns))
    alone = ours(*(np.ascontiguousarray(panels[column][:, 2:3]) for column in columns))
    for a, b in zip(
        together if isinstance(together, tuple) else (together,),
        alone if isinstance(alone, tuple) else (alone,),
        strict=True,
    ):
        np.testing.assert_array_equal(a[:, 2:3], b)


@pytest.mark.parametrize("name", CASES)
def test_short_and_empty_panels_are_all_undefined_or_equal_to_the_twin(name: str) -> None:
    columns, ours, twin = CASES[name]
    panels = bars_with_gaps()
    for bars in (0, 1, 2, 3):
        inputs = [np.ascontiguousarray(panels[column][:bars]) for column in columns]
        answer = ours(*inputs)
        for output in answer if isinstance(answer, tuple) else (answer,):
            assert output.shape == (bars, 7)
        if bars:
            expected = by_segment(inputs, twin)
            first = answer[0] if isinstance(answer, tuple) else answer
            np.testing.assert_allclose(first, expected[0], rtol=1e-9, atol=1e-9)
