"""How good predictions are, out of sample. Own code on NumPy, so that a test of a served model needs no more."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SMALLEST = 1e-12
_SMALLEST_VARIANCE = 1e-8  # a week without a move: its realised variance is no zero to divide by


def ranks(values: Floats) -> Floats:
    """Ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    found: Floats = (last - (counts - 1) / 2.0)[inverse]
    return found


def auc(up: Floats, score: Floats) -> float:
    """Chance that an up row scores above another (Hanley and McNeil 1982); NaN when only one kind is there."""
    positive = int(up.sum())
    negative = len(up) - positive
    if not positive or not negative:
        return float("nan")
    total = ranks(score)[up == 1.0].sum()
    return float((total - positive * (positive + 1) / 2.0) / (positive * negative))


def direction(up: Floats, probability: Floats, ahead: Floats) -> dict[str, float]:
    """Figures of up probabilities. up: 0 or 1; ahead: the returns that came, for the information coefficient."""
    clipped = np.clip(probability, _SMALLEST, 1.0 - _SMALLEST)
    return _finite(
        {
            "accuracy": float(np.mean((probability > 0.5) == (up == 1.0))),
            "auc": auc(up, probability),
            "log_loss": float(-np.mean(up * np.log(clipped) + (1.0 - up) * np.log1p(-clipped))),
            "brier": float(np.mean((probability - up) ** 2)),
            "information_coefficient": correlation(ranks(probability), ranks(ahead)),
            "calibration_error": calibration_error(up, probability),
        }
    )


def calibration_error(up: Floats, probability: Floats, bins: int = 10) -> float:
    """Expected calibration error over bins of equally many rows."""
    parts = np.array_split(np.argsort(probability, kind="stable"), bins)
    gaps = [len(rows) * abs(float(np.mean(probability[rows] - up[rows]))) for rows in parts if len(rows)]
    return sum(gaps) / len(up)


def volatility(variance: Floats, predicted: Floats) -> dict[str, float]:
    """Figures of volatilities. variance: realised, over the horizon; predicted: standard deviations.

    QLIKE is the loss that ranks volatility forecasts right although realised variance is noisy (Patton 2011).
    """
    realised = np.maximum(variance, _SMALLEST_VARIANCE)
    ratio = realised / np.maximum(predicted**2, _SMALLEST_VARIANCE)
    deviation = np.sqrt(realised)
    spread = float(np.sum((deviation - deviation.mean()) ** 2))
    return _finite(
        {
            "volatility_qlike": float(np.mean(ratio - np.log(ratio) - 1.0)),
            "volatility_r2": 1.0 - float(np.sum((deviation - predicted) ** 2)) / spread if spread else float("nan"),
            "volatility_rank_correlation": correlation(ranks(deviation), ranks(predicted)),
        }
    )


def correlation(a: Floats, b: Floats) -> float:
    """Pearson's; NaN when one of them does not vary."""
    x, y = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 0.0 else float("nan")


def _finite(values: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in values.items() if np.isfinite(value)}
