"""Histories, books and mandates for tests of the portfolio's logic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from python_services.portfolio import logic
from python_services.portfolio.allocation import Mandate

NANO = 1_000_000_000

MANDATE = Mandate(
    method="mean_variance",
    risk_aversion=5.0,
    maximum_weight=0.4,
    maximum_gross=1.0,
    short_allowed=False,
    cost_per_notional=0.001,
    maximum_turnover=1.0,
    minimum_trade_e9=100 * NANO,
)
ESTIMATES = logic.Estimates(covariance="ledoit_wolf", ewma_decay=0.97, minimum_history=30, cash_buffer=0.01)


def closes(instruments: int, bars: int = 121, seed: int = 7) -> np.ndarray:
    """Prices with one common factor, bars x instruments."""
    rng = np.random.default_rng(seed)
    market = rng.normal(0.0, 0.01, (bars, 1))
    own = rng.normal(0.0, 0.01, (bars, instruments)) * np.linspace(0.8, 1.6, instruments)
    return 100.0 * np.exp(np.cumsum(market + own, axis=0))


def book(held: list[int], prices: list[float], equity: int = 1_000_000, elsewhere: int = 0) -> logic.Book:
    """Shares held at prices, of an account with `equity` dollars in all."""
    return logic.Book(
        names=tuple(f"S{i}" for i in range(len(held))),
        held=np.array(held, dtype=np.int64),
        lot_values=np.array([round(price * 100) * 10_000_000 for price in prices], dtype=np.int64),
        equity=equity * NANO,
        elsewhere=elsewhere * NANO,
    )


def forecast(expected: list[float], confidence: float = 1.0, horizon: int = 5) -> logic.Forecast:
    """A forecast of the first rows."""
    return logic.Forecast(
        rows=np.arange(len(expected)),
        expected=np.array(expected),
        confidence=np.full(len(expected), confidence),
        horizon=horizon,
    )


def mandate(**changes: object) -> Mandate:
    """MANDATE with changes."""
    return replace(MANDATE, **changes)  # type: ignore[arg-type]
