"""The indicators against TA-Lib, the field's reference, on complete data.

Differences on purpose, left out here: our MACD line starts at its own first bar and not at its
signal's; 0 / 0 (RSI without a move, %K without a range) is NaN for us and 0 for TA-Lib.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from execution_core import indicators

talib = pytest.importorskip("talib", reason="the oracle TA-Lib is not installed")

BARS, SYMBOLS = 600, 6
RANDOM = np.random.Generator(np.random.SFC64(11))
CLOSE = 80.0 * np.exp(np.cumsum(RANDOM.normal(0, 0.015, (BARS, SYMBOLS)), axis=0))
HIGH = CLOSE * np.exp(np.abs(RANDOM.normal(0, 0.01, CLOSE.shape)))
LOW = CLOSE * np.exp(-np.abs(RANDOM.normal(0, 0.01, CLOSE.shape)))
VOLUME = np.floor(RANDOM.uniform(1, 1e6, CLOSE.shape))

CASES: dict[str, tuple[Callable[[], Any], str, tuple[Any, ...], dict[str, Any]]] = {
    "SMA": (lambda: indicators.sma(CLOSE, 20), "c", (20,), {}),
    "EMA": (lambda: indicators.ema(CLOSE, 20), "c", (20,), {}),
    "WMA": (lambda: indicators.wma(CLOSE, 20), "c", (20,), {}),
    "RSI": (lambda: indicators.rsi(CLOSE, 14), "c", (14,), {}),
    "MACD": (lambda: indicators.macd(CLOSE), "c", (12, 26, 9), {}),
    "BBANDS": (lambda: indicators.bollinger(CLOSE, 20, 2.0), "c", (20, 2.0, 2.0), {}),
    "ATR": (lambda: indicators.atr(HIGH, LOW, CLOSE, 14), "hlc", (14,), {}),
    "ADX": (lambda: indicators.adx(HIGH, LOW, CLOSE, 14).adx, "hlc", (14,), {}),
    "PLUS_DI": (lambda: indicators.adx(HIGH, LOW, CLOSE, 14).plus, "hlc", (14,), {}),
    "MINUS_DI": (lambda: indicators.adx(HIGH, LOW, CLOSE, 14).minus, "hlc", (14,), {}),
    "ROCP": (lambda: indicators.rate_of_change(CLOSE, 10), "c", (10,), {}),
    "MOM": (lambda: indicators.momentum(CLOSE, 10), "c", (10,), {}),
    "STDDEV": (lambda: indicators.stdev(CLOSE, 20), "c", (20,), {}),
    "MAX": (lambda: indicators.donchian_high(CLOSE, 20), "c", (20,), {}),
    "MIN": (lambda: indicators.donchian_low(CLOSE, 20), "c", (20,), {}),
    "STOCH": (lambda: indicators.stochastic(HIGH, LOW, CLOSE), "hlc", (14, 3, 0, 3, 0), {}),
    "OBV": (lambda: indicators.obv(CLOSE, VOLUME), "cv", (), {}),
    "LINEARREG_SLOPE": (lambda: indicators.slope(CLOSE, 20).slope, "c", (20,), {}),
}
COLUMNS = {"c": CLOSE, "h": HIGH, "l": LOW, "v": VOLUME}


@pytest.mark.parametrize("name", CASES)
def test_equals_ta_lib(name: str) -> None:
    ours, columns, arguments, options = CASES[name]
    answer = ours()
    outputs = answer if isinstance(answer, tuple) else (answer,)
    for symbol in range(SYMBOLS):
        inputs = [np.ascontiguousarray(COLUMNS[letter][:, symbol]) for letter in columns]
        oracle = getattr(talib, name)(*inputs, *arguments, **options)
        for output, reference in zip(outputs, oracle if isinstance(oracle, tuple) else (oracle,), strict=True):
            defined = ~np.isnan(reference)
            assert defined.sum() > BARS - 60
            np.testing.assert_allclose(output[defined, symbol], reference[defined], rtol=1e-9, atol=1e-9)
            if name not in ("MACD", "STOCH"):
                assert np.isnan(output[~defined, symbol]).all()
