"""Volatility a bar, by several estimators, and the shape of the returns. None is annualised."""

from __future__ import annotations

import numpy as np

from execution_core import indicators

from .base import Definition, Floats, Parameters, Window, kernel


@kernel("close_to_close_volatility", ("close",), ("bars",), shortest=lambda p: int(p["bars"]) + 1)
def close_to_close_volatility(window: Window, p: Parameters, inputs: tuple[Floats, ...]) -> Floats:
    """Sample standard deviation of the last `bars` log returns."""
    bars = int(p["bars"])
    values: Floats = indicators.stdev(window.returns[-bars:], bars, ddof=1)[-1]
    return values


@kernel("yang_zhang_volatility", ("open", "high", "low", "close"), ("bars",), shortest=lambda p: int(p["bars"]) + 1)
def yang_zhang_volatility(window: Window, p: Parameters, inputs: tuple[Floats, ...]) -> Floats:
    """Overnight, open-to-close and range parts together. Source: Yang and Zhang, Journal of Business 73, 2000."""
    bars = int(p["bars"])
    last = window.tail(bars + 1)
    values: Floats = indicators.yang_zhang(last.open, last.high, last.low, last.close, bars)[-1]
    return values


@kernel("parkinson_volatility", ("high", "low"), ("bars",), shortest=lambda p: int(p["bars"]))
def parkinson_volatility(window: Window, p: Parameters, inputs: tuple[Floats, ...]) -> Floats:
    """From the ranges of the bars alone. Source: Parkinson, Journal of Business 53, 1980."""
    bars = int(p["bars"])
    values: Floats = indicators.parkinson(window.high[-bars:], window.low[-bars:], bars)[-1]
    return values


@kernel("average_true_range", ("high", "low", "close"), ("bars",), shortest=lambda p: int(p["bars"]) + 1)
def average_true_range(window: Window, p: Parameters, inputs: tuple[Floats, ...]) -> Floats:
    """ATR (Wilder 1978) over the close."""
    values: Floats = indicators.atr(window.high, window.low, window.close, int(p["bars"]))[-1] / window.close[-1]
    return values


@kernel("return_skewness", ("close",), ("bars",), shortest=lambda p: int(p["bars"]) + 1)
def return_skewness(window: Window, p: Parameters, inputs: tuple[Floats, ...]) -> Floats:
    """Third central moment of the last `bars` log returns over their deviation cubed."""
    returns = window.returns[-int(p["bars"]) :]
    centred = returns - returns.mean(axis=0)
    second = (centred * centred).mean(axis=0)
    values: Floats = (centred * centred * centred).mean(axis=0) / (second * np.sqrt(second))
    return values


@kernel("ratio", features=2, shortest=lambda p: 1)
def ratio(window: Window, p: Parameters, inputs: tuple[Floats, ...]) -> Floats:
    """The first input feature over the second."""
    values: Floats = inputs[0] / inputs[1]
    return values


def _close_to_close(bars: int) -> Definition:
    return Definition(
        feature_id=f"volatility_{bars}",
        description=f"Standard deviation of the last {bars} log returns, close to close.",
        unit="1",
        kernel=close_to_close_volatility,
        parameters={"bars": bars},
        minimum_bars=bars + 1,
    )


VOLATILITY_5, VOLATILITY_20_CLOSES, VOLATILITY_60 = map(_close_to_close, (5, 20, 60))
# The second version: same meaning, an estimator that reads the whole bar and needs a fraction of the bars for the same
# precision. Sets that hold the first one keep it.
VOLATILITY_20 = Definition(
    feature_id="volatility_20",
    description="Volatility of a bar over the last 20, by the estimator of Yang and Zhang: gaps and ranges count.",
    unit="1",
    kernel=yang_zhang_volatility,
    parameters={"bars": 20},
    minimum_bars=21,
)
PARKINSON_20 = Definition(
    feature_id="parkinson_20",
    description="Volatility within a session over the last 20 bars, from their ranges.",
    unit="1",
    kernel=parkinson_volatility,
    parameters={"bars": 20},
    minimum_bars=20,
)
ATR_14 = Definition(
    feature_id="atr_14",
    description="Average true range of 14 bars as a share of the close; its average begins 100 bars ago.",
    unit="1",
    kernel=average_true_range,
    parameters={"bars": 14},
    minimum_bars=100,
)
SKEWNESS_60 = Definition(
    feature_id="skewness_60",
    description="Skewness of the last 60 log returns.",
    unit="1",
    kernel=return_skewness,
    parameters={"bars": 60},
    minimum_bars=61,
)
VOLATILITY_RATIO_5_60 = Definition(
    feature_id="volatility_ratio_5_60",
    description="Volatility of the last 5 bars against that of the last 60: whether it rises.",
    unit="1",
    kernel=ratio,
    inputs=(VOLATILITY_5, VOLATILITY_60),
    minimum_bars=61,
)

FEATURES = (
    VOLATILITY_5,
    VOLATILITY_20_CLOSES,
    VOLATILITY_20,
    VOLATILITY_60,
    VOLATILITY_RATIO_5_60,
    PARKINSON_20,
    ATR_14,
    SKEWNESS_60,
)
