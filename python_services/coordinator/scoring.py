"""What became of earlier forecasts: realised returns, and the sums that a track record is made of. Pure.

For each instrument with forecast return r, volatility v, confidence c and realised return R,

    x = r / v    y = R / v    p = (1 + c) / 2    hit = (sign r = sign R)

Returns in units of the forecast volatility make calm and wild instruments comparable. A forecast without a
direction, and an outcome of exactly zero, state no hit and no miss.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from .estimates import Estimate, Floats, Integers

BINS = 5  # of p, from 0.5 to 1
LEAST_CROSS_SECTION = 5


@dataclass(frozen=True, kw_only=True)
class Score:
    """Sums over one agent's forecasts that ended with one bar; see ForecastScore in the contract."""

    agent_id: str
    version: str
    horizon_bars: int
    regime: str | None
    forecasts: int
    sum_xy: float
    sum_xx: float
    sum_yy: float
    cross_sectional: float | None
    sum_brier: float
    sum_absolute_error: float
    stated: tuple[int, ...]
    hits: tuple[int, ...]
    sum_p: tuple[float, ...]


def realised(close: Floats, horizons: Iterable[int]) -> dict[int, Floats]:
    """Simple returns of the last `h` bars by h, one per instrument; NaN without both closes.

    close: bars x instruments, adjusted, oldest first. A horizon that the window does not hold is left out.
    """
    return {h: close[-1] / close[-1 - h] - 1.0 for h in sorted(set(horizons)) if h < len(close)}


def score(estimate: Estimate, rows: Integers, returns: Floats, instruments: int, regime: str | None) -> Score | None:
    """Scores `estimate` on realised `returns` of `rows`; None where nothing of it can be scored."""
    outcome = np.full(instruments, np.nan)
    outcome[rows] = returns
    outcome = outcome[estimate.instrument_index] if estimate.speaks else outcome[:0]
    known = ~np.isnan(outcome)
    if not known.any():
        return None
    forecast, outcome = estimate.expected_return[known], outcome[known]
    volatility = estimate.volatility[known]
    x, y = forecast / volatility, outcome / volatility
    directed = (forecast != 0) & (outcome != 0)
    confidence = estimate.confidence[known][directed]
    p = (1.0 + confidence) / 2.0
    hit = (forecast[directed] > 0) == (outcome[directed] > 0)
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    return Score(
        agent_id=estimate.agent_id,
        version=estimate.version,
        horizon_bars=estimate.horizon_bars,
        regime=regime,
        forecasts=int(known.sum()),
        sum_xy=float(np.sum(x * y)),
        sum_xx=float(np.sum(x * x)),
        sum_yy=float(np.sum(y * y)),
        cross_sectional=_cross_sectional(x, y),
        sum_brier=float(np.sum((p - hit) ** 2)),
        sum_absolute_error=float(np.sum(np.abs(forecast - outcome))),
        stated=_counts(place),
        hits=_counts(place[hit]),
        sum_p=tuple(np.bincount(place, weights=p, minlength=BINS).tolist()),
    )


def _cross_sectional(x: Floats, y: Floats) -> float | None:
    if len(x) < LEAST_CROSS_SECTION:
        return None
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt(np.sum(x * x) * np.sum(y * y)))
    return float(np.sum(x * y)) / scale if scale > 0 else None


def _counts(place: Integers) -> tuple[int, ...]:
    return tuple(np.bincount(place, minlength=BINS).tolist())
