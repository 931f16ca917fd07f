"""Indicators of 500 symbols over 2,500 days on two threads, against TA-Lib.

23 series from 16 indicators, both sides with data in the layout they want and ours writing into panels
that are kept, as an agent would. The peer's environment is that of construction.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial

import numpy as np

from benchmarks.construction import peer
from benchmarks.runner import Case
from execution_core import indicators
from execution_core.indicators import Panel

BARS, SYMBOLS = 2500, 500


@cache
def bars() -> dict[str, Panel]:
    """Prices that wander, with volume."""
    random = np.random.Generator(np.random.SFC64(1))
    close = 100.0 * np.exp(np.cumsum(random.normal(0, 0.01, (BARS, SYMBOLS)), axis=0))
    high = close * np.exp(np.abs(random.normal(0, 0.005, close.shape)))
    low = close * np.exp(-np.abs(random.normal(0, 0.005, close.shape)))
    volume = np.exp(random.normal(10, 1, close.shape)).round()
    return {"close": close, "high": high, "low": low, "volume": volume}


@cache
def works() -> list[tuple[Callable[[], object], tuple[Panel, ...]]]:
    """What to compute, and the panels that receive it."""
    b = bars()
    c, h, l, v = b["close"], b["high"], b["low"], b["volume"]

    def panels(count: int) -> tuple[Panel, ...]:
        return tuple(np.empty_like(c) for _ in range(count))

    plain: list[Callable[..., object]] = [
        partial(indicators.sma, c, 20),
        partial(indicators.ema, c, 20),
        partial(indicators.wma, c, 20),
        partial(indicators.rsi, c, 14),
        partial(indicators.atr, h, l, c, 14),
        partial(indicators.rate_of_change, c, 10),
        partial(indicators.momentum, c, 10),
        partial(indicators.stdev, c, 20),
        partial(indicators.donchian_high, h, 20),
        partial(indicators.donchian_low, l, 20),
        partial(indicators.obv, c, v),
    ]
    found: list[tuple[Callable[[], object], tuple[Panel, ...]]] = []
    for work in plain:
        out = panels(1)
        found.append((partial(work, out=out[0]), out))
    macd = indicators.Macd(*panels(3))
    bands = indicators.Bollinger(*panels(3))
    strength = indicators.Directional(*panels(3))
    stochastic = indicators.Stochastic(*panels(2))
    slope = indicators.Slope(*panels(2))
    found += [
        (partial(indicators.macd, c, out=macd), macd),
        (partial(indicators.bollinger, c, 20, 2.0, out=bands), bands),
        (partial(indicators.adx, h, l, c, 14, out=strength), strength),
        (partial(indicators.stochastic, h, l, c, out=stochastic), stochastic),
        (partial(indicators.slope, c, 20, out=slope), slope),
    ]
    # The longest first, so that two threads end together.
    return found[::-1]


def ours(threads: int) -> float:
    """Milliseconds for all series."""
    work = works()
    started = time.perf_counter()
    if threads == 1:
        for compute, _ in work:
            compute()
    else:
        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(compute) for compute, _ in work]:
                done.result()
    return (time.perf_counter() - started) * 1e3


def theirs() -> float:
    """Milliseconds of TA-Lib, after its last ten bars of every series were found equal to ours."""
    seconds, result, _ = peer().run("indicators", bars())
    ours(1)
    answers = [panel for _, panels in works()[::-1] for panel in panels]
    order = [0, 1, 2, 3, 11, 12, 13, 14, 15, 16, 4, 17, 18, 19, 5, 6, 7, 8, 9, 20, 21, 10, 22]
    last = np.stack([answers[i][-10:] for i in order])  # (series, bars, symbols)
    np.testing.assert_allclose(last, np.moveaxis(result["last"], 0, -1), rtol=1e-7, atol=1e-7)
    return seconds * 1e3


def one(number: int) -> float:
    """Nanoseconds a bar and symbol of one indicator, on one thread."""
    compute, _ = works()[::-1][number]
    started = time.perf_counter()
    compute()
    return (time.perf_counter() - started) / (BARS * SYMBOLS) * 1e9


def cases() -> list[Case]:
    """All series against TA-Lib, then some of ours alone."""
    names = {0: "sma", 1: "ema", 3: "rsi", 4: "atr", 7: "stdev", 11: "macd", 13: "adx", 15: "slope"}
    together = Case(
        name="23 series, 500 symbols x 2500 days, 2 threads",
        unit="ms",
        ours=partial(ours, 2),
        peer=theirs,
        peer_name="TA-Lib 0.8",
        goal="ratio >= 4",
    )
    indicators.warm()
    alone = [
        Case(name=f"{name}, 1 thread", unit="ns/value", ours=partial(one, number)) for number, name in names.items()
    ]
    return [together, *alone]
