"""Volume: whether more is traded than usual, and whether moves are bought."""

from __future__ import annotations

import numpy as np

from .base import Definition, Floats, Parameters, Window, kernel


@kernel("volume_z", ("volume",), ("bars",), shortest=lambda p: int(p["bars"]) + 1)
def volume_z(window: Window, p: Parameters, inputs: tuple[Floats, ...]) -> Floats:
    """Logarithm of the newest volume against those of the `bars` before it, in their standard deviations."""
    logs = np.log1p(window.volume[-1 - int(p["bars"]) :])
    before = logs[:-1]
    mean = before.mean(axis=0)
    spread = before - mean
    values: Floats = (logs[-1] - mean) / np.sqrt((spread * spread).mean(axis=0))
    return values


@kernel("dollar_volume_trend", ("close", "volume"), ("short", "long"), shortest=lambda p: int(p["long"]))
def dollar_volume_trend(window: Window, p: Parameters, inputs: tuple[Floats, ...]) -> Floats:
    """Logarithm of mean close x volume of the last `short` bars over that of the last `long`."""
    traded = window.close * window.volume
    values: Floats = np.log(traded[-int(p["short"]) :].mean(axis=0) / traded[-int(p["long"]) :].mean(axis=0))
    return values


@kernel("return_volume_correlation", ("close", "volume"), ("bars",), shortest=lambda p: int(p["bars"]) + 1)
def return_volume_correlation(window: Window, p: Parameters, inputs: tuple[Floats, ...]) -> Floats:
    """Correlation of log returns with the logarithm of their bar's volume: above 0 when rises draw volume."""
    bars = int(p["bars"])
    returns, logs = window.returns[-bars:], np.log1p(window.volume[-bars:])
    returns = returns - returns.mean(axis=0)
    logs = logs - logs.mean(axis=0)
    product = (returns * returns).mean(axis=0) * (logs * logs).mean(axis=0)
    values: Floats = (returns * logs).mean(axis=0) / np.sqrt(product)
    return values


VOLUME_Z_20 = Definition(
    feature_id="volume_z_20",
    description="Log volume of the newest bar against the 20 before it, in standard deviations.",
    unit="1",
    kernel=volume_z,
    parameters={"bars": 20},
    minimum_bars=21,
)
DOLLAR_VOLUME_TREND_5_60 = Definition(
    feature_id="dollar_volume_trend_5_60",
    description="Money traded a bar over the last 5 against the last 60, as a logarithm.",
    unit="1",
    kernel=dollar_volume_trend,
    parameters={"short": 5, "long": 60},
    minimum_bars=60,
)
RETURN_VOLUME_CORRELATION_20 = Definition(
    feature_id="return_volume_correlation_20",
    description="Correlation of returns with log volume over 20 bars.",
    unit="1",
    kernel=return_volume_correlation,
    parameters={"bars": 20},
    minimum_bars=21,
)

FEATURES = (VOLUME_Z_20, DOLLAR_VOLUME_TREND_5_60, RETURN_VOLUME_CORRELATION_20)
