"""Trend: where the price stands against its averages, how strong and how straight a move is."""

from __future__ import annotations

import numpy as np

from execution_core import indicators

from .base import Definition, Floats, Parameters, Window, kernel


@kernel(
    "macd_histogram",
    ("close",),
    ("fast", "slow", "signal"),
    shortest=lambda p: int(p["slow"]) + int(p["signal"]) - 1,
)
def macd_histogram(window: Window, p: Parameters, inputs: tuple[Floats, ...]) -> Floats:
    """MACD less its signal line, over the close (Appel)."""
    found = indicators.macd(window.close, int(p["fast"]), int(p["slow"]), int(p["signal"]))
    values: Floats = found.histogram[-1] / window.close[-1]
    return values


@kernel("average_ratio", ("close",), ("short", "long"), shortest=lambda p: int(p["long"]))
def average_ratio(window: Window, p: Parameters, inputs: tuple[Floats, ...]) -> Floats:
    """Simple average of the last `short` closes over that of the last `long`, less 1."""
    short, long = int(p["short"]), int(p["long"])
    closes = window.close
    values: Floats = indicators.sma(closes[-short:], short)[-1] / indicators.sma(closes[-long:], long)[-1] - 1.0
    return values


@kernel("average_directional_index", ("high", "low", "close"), ("bars",), shortest=lambda p: 2 * int(p["bars"]))
def average_directional_index(window: Window, p: Parameters, inputs: tuple[Floats, ...]) -> Floats:
    """ADX (Wilder 1978)."""
    values: Floats = indicators.adx(window.high, window.low, window.close, int(p["bars"])).adx[-1]
    return values


@kernel("trend_statistic", ("close",), ("bars",), shortest=lambda p: int(p["bars"]))
def trend_statistic(window: Window, p: Parameters, inputs: tuple[Floats, ...]) -> Floats:
    """t-statistic of the slope of log closes on time. It is wild on a line that is nearly straight: cut at 50."""
    bars = int(p["bars"])
    slope = indicators.slope(np.log(window.close[-bars:]), bars)
    values: Floats = np.clip(slope.t_stat[-1], -50.0, 50.0)
    return values


def _ratio(short: int, long: int) -> Definition:
    return Definition(
        feature_id=f"average_ratio_{short}_{long}",
        description=f"Average close of {short} bars against that of {long}, less 1.",
        unit="1",
        kernel=average_ratio,
        parameters={"short": short, "long": long},
        minimum_bars=long,
    )


MACD_HISTOGRAM = Definition(
    feature_id="macd_histogram",
    description="MACD 12/26 less its 9-bar signal, as a share of the close; averages begin 100 bars ago.",
    unit="1",
    kernel=macd_histogram,
    parameters={"fast": 12, "slow": 26, "signal": 9},
    minimum_bars=100,
)
AVERAGE_RATIO_5_20, AVERAGE_RATIO_20_60 = _ratio(5, 20), _ratio(20, 60)
ADX_14 = Definition(
    feature_id="adx_14",
    description="Average directional index of 14 bars, 0 to 100: strength of a trend, whichever way.",
    unit="point",
    kernel=average_directional_index,
    parameters={"bars": 14},
    minimum_bars=100,
)
TREND_20 = Definition(
    feature_id="trend_20",
    description="t-statistic of a straight line through the last 20 log closes.",
    unit="1",
    kernel=trend_statistic,
    parameters={"bars": 20},
    minimum_bars=20,
)

FEATURES = (MACD_HISTOGRAM, AVERAGE_RATIO_5_20, AVERAGE_RATIO_20_60, ADX_14, TREND_20)
