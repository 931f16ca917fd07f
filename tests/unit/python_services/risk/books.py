"""Books and histories for tests of risk's logic."""

from __future__ import annotations

import numpy as np

from python_services.risk.logic import Book
from python_services.risk.measures import Panel, panel

NANO = 1_000_000_000


def lots(*numbers: int) -> np.ndarray:
    """Lots of each row."""
    return np.array(numbers, dtype=np.int64)


def book(
    held: np.ndarray,
    prices: list[int],
    equity: int = 100_000,
    buys: np.ndarray | None = None,
    sells: np.ndarray | None = None,
    sectors: tuple[str, ...] | None = None,
) -> Book:
    """Shares held at prices in whole dollars."""
    size = len(prices)
    return Book(
        names=tuple(f"S{i}" for i in range(size)),
        sectors=sectors or tuple("Technology" for _ in prices),
        lots=held,
        open_buys=np.zeros(size, dtype=np.int64) if buys is None else buys,
        open_sells=np.zeros(size, dtype=np.int64) if sells is None else sells,
        lot_values=np.array(prices, dtype=np.int64) * NANO,
        equity=equity * NANO,
    )


def history(size: int, volatility: float = 0.005, seed: int = 3) -> Panel:
    """Independent returns."""
    returns = np.random.default_rng(seed).normal(0.0, volatility, (121, size))
    return panel(100.0 * np.cumprod(1.0 + returns, axis=0), 30, 0.94)
