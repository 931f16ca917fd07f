"""Every candlestick pattern against TA-Lib: each bar of the bundled data, and of markets made up to have many."""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from functools import cache

import numpy as np
import pytest

from execution_core.errors import InvalidArrayError
from execution_core.indicators.candlesticks import BARS, Candlesticks, candlesticks
from python_services.kit.agents import Floats
from python_services.market_data.config import resolve

talib = pytest.importorskip("talib", reason="the oracle TA-Lib is not installed")

# The functions of TA-Lib that make one of our patterns, with the sign that each has here.
ORACLES = {
    "engulfing": ("CDLENGULFING",),
    "hammer": ("CDLHAMMER", "CDLHANGINGMAN"),
    "harami": ("CDLHARAMI",),
    "morning_star": ("CDLMORNINGSTAR", "CDLEVENINGSTAR"),
    "piercing": ("CDLPIERCING", "CDLDARKCLOUDCOVER"),
    "star": ("CDLINVERTEDHAMMER", "CDLSHOOTINGSTAR"),
}
SETTLED = 60


def oracle(name: str, bars: tuple[Floats, ...]) -> Floats:
    settings = {"CDLDARKCLOUDCOVER": {"penetration": 0.5}}
    found = [np.sign(getattr(talib, each)(*bars, **settings.get(each, {}))) for each in ORACLES[name]]
    return np.asarray(np.sum(found, axis=0, dtype=np.float64))


def every_bar(name: str, bars: tuple[Floats, ...]) -> Floats:
    """The pattern at each bar: an instrument for each, whose newest bar it is."""
    views = [np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(x, BARS + 1).T) for x in bars]
    return np.asarray(getattr(candlesticks(*views), name))


@cache
def bundled() -> dict[str, tuple[Floats, ...]]:
    series = defaultdict(list)
    for line in csv.DictReader(
        gzip.decompress(resolve("bundled:us_equities_daily.csv.gz").read_bytes()).decode().splitlines()
    ):
        series[line["Ticker"]].append([float(line[name]) for name in ("Open", "High", "Low", "Close")])
    return {name: tuple(np.ascontiguousarray(column) for column in np.array(rows).T) for name, rows in series.items()}


def made_up(seed: int) -> tuple[Floats, ...]:
    """Many gaps, long bodies after short ones, and short shadows."""
    rng = np.random.default_rng(seed)
    size = 20_000
    gap = rng.normal(0.0, 0.01, size) * rng.choice([0.1, 2.0], size)
    body = rng.normal(0.0, 0.01, size) * rng.choice([0.1, 1.0, 2.0], size)
    steps = np.zeros(size)
    steps[1:] = gap[1:] + body[:-1]
    opens = 100.0 * np.exp(np.cumsum(steps) * 0.2)
    close = opens * np.exp(body)
    shadow = np.abs(rng.normal(0.0, 0.01, (2, size))) * rng.choice([0.0, 0.05, 1.0, 2.0], (2, size))
    return opens, np.maximum(opens, close) * (1.0 + shadow[0]), np.minimum(opens, close) * (1.0 - shadow[1]), close


@pytest.mark.parametrize("name", Candlesticks._fields)
@pytest.mark.parametrize("seed", [1, 2])
def test_equals_ta_lib_on_made_up_bars(name: str, seed: int) -> None:
    bars = made_up(seed)
    ours, reference = every_bar(name, bars)[SETTLED:], oracle(name, bars)[BARS + SETTLED :]
    assert {-1.0, 0.0, 1.0} <= set(ours.tolist())
    np.testing.assert_array_equal(ours, reference)


@pytest.mark.parametrize("name", Candlesticks._fields)
@pytest.mark.parametrize("instrument", ["AAPL", "GOOG", "IBM", "MSFT"])
def test_equals_ta_lib_on_every_bundled_bar(name: str, instrument: str) -> None:
    bars = bundled()[instrument]
    ours, reference = every_bar(name, bars)[SETTLED:], oracle(name, bars)[BARS + SETTLED :]
    assert np.count_nonzero(reference) > 0
    # Where a length equals its average to the cent, TA-Lib's running sum decides by its rounding.
    different = np.flatnonzero(ours != reference)
    assert len(different) <= 2, different


def test_patterns_fit_into_the_bars_that_are_read() -> None:
    """Bars before change nothing; with one less the oldest average would be of fewer bars."""
    bars = [np.ascontiguousarray(np.repeat(x[-40:, None], 2, axis=1)) for x in made_up(3)]
    exact = candlesticks(*(x[-BARS - 1 :] for x in bars))
    np.testing.assert_array_equal(candlesticks(*bars), exact)
    with pytest.raises(InvalidArrayError, match=f"pass {BARS + 1} or more"):
        candlesticks(*(x[-BARS:] for x in bars))
