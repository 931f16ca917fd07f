"""Performance figures of an equity curve: pure functions, None where a figure is not defined.

Equity is float64, shape (periods + 1,), in the account's currency; returns are simple, per
period. Nothing is annualised unless the name or `periods_per_year` says so. Conventions:

- Sharpe: mean excess return / sample deviation (divisor n - 1) * sqrt(periods_per_year)
  (Sharpe 1994; the square-root rule assumes uncorrelated returns, Lo 2002).
- Sortino: mean excess return over the target / root mean square of the shortfalls, over all
  periods and not only the losing ones * sqrt(periods_per_year) (Sortino and Price 1994).

Errors: InvalidArrayError and InvalidValueError for NaN, infinity, or equity at or below zero.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from execution_core.errors import InvalidArrayError, InvalidValueError

Vector: TypeAlias = NDArray[np.float64]

# A deviation below this share of the largest return is rounding, not risk.
_ROUNDING = 1e-12


class Drawdown(NamedTuple):
    """Fall from a peak as a fraction (0.25 is a quarter lost), and where it began and ended."""

    value: float
    peak: int
    trough: int


def _series(field: str, x: Any, dimensions: int = 1) -> Vector:
    if not isinstance(x, np.ndarray) or x.dtype != np.float64 or x.ndim != dimensions:
        raise InvalidArrayError(field, "not float64", f"pass float64 of {dimensions} dimension(s)")
    if not np.isfinite(x).all():
        raise InvalidValueError(field, "NaN or infinity", "leave out periods without a value")
    return x


def returns_from_equity(equity: Vector) -> Vector:
    """Return simple returns, shape (n - 1,), of an equity curve of n >= 1 points above zero."""
    equity = _series("equity", equity)
    if equity.size == 0:
        raise InvalidArrayError("equity", "empty", "pass at least the opening equity")
    if (equity <= 0.0).any():
        raise InvalidValueError("equity", "at or below zero", "returns on it have no meaning")
    return equity[1:] / equity[:-1] - 1.0


def total_return(equity: Vector) -> float | None:
    """Last over first equity less one; None for fewer than two points."""
    if returns_from_equity(equity).size == 0:
        return None
    return float(equity[-1] / equity[0] - 1.0)


def volatility(returns: Vector, *, periods_per_year: float | None = None) -> float | None:
    """Sample deviation, annualised if `periods_per_year` is given; None below two returns."""
    returns = _series("returns", returns)
    if returns.size < 2:
        return None
    return float(returns.std(ddof=1)) * _root(periods_per_year)


def _root(periods_per_year: float | None) -> float:
    if periods_per_year is None:
        return 1.0
    if not (np.isfinite(periods_per_year) and periods_per_year > 0.0):
        raise InvalidValueError("periods_per_year", f"{periods_per_year!r}", "pass e.g. 252")
    return float(np.sqrt(periods_per_year))


def _ratio(mean: float, risk: float, returns: Vector, root: float) -> float | None:
    # Identical returns have a deviation of rounding only; a ratio on it would be invented.
    if risk <= _ROUNDING * float(np.abs(returns).max()):
        return None
    return mean / risk * root


def sharpe(returns: Vector, *, periods_per_year: float = 252.0, risk_free: float = 0.0) -> float | None:
    """Annualised Sharpe ratio; `risk_free` is per period. None below two returns or without risk."""
    returns = _series("returns", returns)
    root = _root(periods_per_year)
    if returns.size < 2:
        return None
    return _ratio(float(returns.mean()) - risk_free, float(returns.std(ddof=1)), returns, root)


def sortino(returns: Vector, *, periods_per_year: float = 252.0, target: float = 0.0) -> float | None:
    """Annualised Sortino ratio; `target` is per period. None below two returns or no shortfall."""
    returns = _series("returns", returns)
    root = _root(periods_per_year)
    if returns.size < 2:
        return None
    shortfall = np.minimum(returns - target, 0.0)
    risk = float(np.sqrt(np.mean(shortfall * shortfall)))
    return _ratio(float(returns.mean()) - target, risk, returns, root)


def max_drawdown(equity: Vector) -> Drawdown | None:
    """Deepest fall from a running peak; the earliest of equals. None if equity never fell."""
    returns_from_equity(equity)
    peaks = np.maximum.accumulate(equity)
    falls = 1.0 - equity / peaks
    trough = int(np.argmax(falls))
    if falls[trough] <= 0.0:
        return None
    return Drawdown(float(falls[trough]), int(np.argmax(equity[: trough + 1])), trough)


def turnover(weights: Vector) -> float | None:
    """Mean one-way turnover a period: sum |w[t] - w[t-1]| / 2, weights of shape (periods, assets).

    Pass the weights before and after each trade as successive rows to leave out price drift.
    None for fewer than two rows.
    """
    weights = _series("weights", weights, 2)
    if weights.shape[0] < 2:
        return None
    return float(np.abs(np.diff(weights, axis=0)).sum(axis=1).mean() / 2.0)


def hit_rate(returns: Vector) -> float | None:
    """Share of non-zero returns above zero; None when there is none."""
    returns = _series("returns", returns)
    moved = np.count_nonzero(returns)
    return float(np.count_nonzero(returns > 0.0) / moved) if moved else None
