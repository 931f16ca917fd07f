"""Figures of an account's equity curve. Pure; a figure that is not defined is left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from execution_core import performance


def figures(equity_e9: Sequence[int], traded_notional_e9: int, periods_per_year: float) -> dict[str, float]:
    """turnover, max_drawdown, sharpe and volatility of a curve of valuations in nano units."""
    found: dict[str, float | None] = {}
    equity = np.array(equity_e9, dtype=np.float64) / 1e9
    if equity.size >= 2 and (equity > 0.0).all():
        returns = performance.returns_from_equity(equity)
        drawdown = performance.max_drawdown(equity)
        found = {
            "turnover": traded_notional_e9 / 2e9 / float(equity.mean()),
            "max_drawdown": drawdown.value if drawdown is not None else 0.0,
            "sharpe": performance.sharpe(returns, periods_per_year=periods_per_year),
            "volatility": performance.volatility(returns, periods_per_year=periods_per_year),
        }
    return {name: value for name, value in found.items() if value is not None}
