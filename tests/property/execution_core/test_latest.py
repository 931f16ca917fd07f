"""The newest row alone is the last row of the panel, to the bit, wherever bars are missing.

``HYPOTHESIS_LONG=1`` runs twenty times as many examples.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from execution_core import indicators
from execution_core.errors import InvalidValueError
from execution_core.indicators import latest

settings.register_profile("latest", deadline=None, max_examples=600 if os.environ.get("HYPOTHESIS_LONG") else 30)
Bars = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@st.composite
def markets(draw: st.DrawFn) -> Bars:
    """Open, high, low and close of some symbols; some bars are missing, and some prices stand still."""
    bars, symbols = draw(st.integers(2, 80)), draw(st.integers(1, 11))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    steps = random.normal(0.0, 0.02, (bars, symbols)) * (
        random.random((bars, symbols)) > draw(st.sampled_from((0, 0.6)))
    )
    close = 40.0 * np.exp(steps.cumsum(axis=0))
    close[:, random.random(symbols) < 0.1] = 25.0
    open_ = close * np.exp(random.normal(0.0, 0.005, close.shape))
    high = np.maximum(open_, close) * np.exp(np.abs(random.normal(0.0, 0.005, close.shape)))
    low = np.minimum(open_, close) * np.exp(-np.abs(random.normal(0.0, 0.005, close.shape)))
    missing = random.random(close.shape) < draw(st.sampled_from((0.0, 0.01, 0.1)))
    for column in (open_, high, low, close):
        column[missing] = np.nan
    return open_, high, low, close


def same(found: np.ndarray, panel: np.ndarray) -> None:
    np.testing.assert_array_equal(found, panel[-1])


@settings(settings.get_profile("latest"))
@given(markets(), st.integers(2, 30))
def test_a_newest_row_is_the_last_of_the_panel(market: Bars, n: int) -> None:
    open_, high, low, close = market
    log = np.log(close)
    changes = np.full_like(log, np.nan)
    changes[1:] = log[1:] - log[:-1]
    same(latest.ewma_volatility(log, 0.94, n), indicators.ewma_volatility(changes, 0.94, n))
    same(latest.atr(high, low, close, n), indicators.atr(high, low, close, n))
    same(latest.stdev(log, n), indicators.stdev(changes[-n:], n))
    same(latest.zscore(log, n), indicators.zscore(log[-n:], n))
    window = (x[-n - 1 :] for x in (open_, high, low, close))
    same(latest.yang_zhang(open_, high, low, close, n), indicators.yang_zhang(*window, n))


@settings(settings.get_profile("latest"))
@given(markets())
def test_presence_counts_the_bars(market: Bars) -> None:
    close = market[3]
    found = latest.presence(close)
    for j, there in enumerate(~np.isnan(close.T)):
        absent = np.flatnonzero(~there)
        assert found.run[j] == len(there) - 1 - (absent[-1] if len(absent) else -1)
        assert found.held[j] == there.sum()
        assert found.newest[j] == (np.flatnonzero(there)[-1] if there.any() else 0)


@pytest.mark.parametrize("value", [0.0, -1.0, np.inf])
def test_what_is_no_price_is_refused_by_name(value: float) -> None:
    close = np.full((30, 3), 10.0)
    bad = close.copy()
    bad[20, 1] = value
    for name, call in (
        ("price", lambda: latest.presence(bad)),
        ("high", lambda: latest.atr(bad, close, close)),
        ("low", lambda: latest.yang_zhang(close, close, bad, close)),
        ("close", lambda: indicators.levels(close, close, bad, np.ones(3))),
    ):
        with pytest.raises(InvalidValueError, match=name):
            call()


def test_an_infinite_logarithm_is_refused() -> None:
    log = np.ones((30, 3))
    log[20, 1] = -np.inf
    for call in (lambda: latest.ewma_volatility(log), lambda: latest.stdev(log, 20), lambda: latest.zscore(log, 20)):
        with pytest.raises(InvalidValueError, match="infinite"):
            call()
