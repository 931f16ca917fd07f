"""One-day value at risk and expected shortfall at 99%, of weights on a panel of returns. Pure.

Two views of the same history; the larger counts: parametric (normal, exponentially weighted
variance; RiskMetrics, J.P. Morgan 1996) and historical simulation (the k worst of T days, k = ceil(T / 100)).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from execution_core.risk.covariance import ewma
from python_services.kit.history import usable_returns

Vector = NDArray[np.float64]

LEVEL = 0.99
Z = 2.3263478740408408  # standard normal quantile of LEVEL
TAIL_MEAN = 2.665214220345808  # normal density at Z over 1 - LEVEL


class TailRisk(NamedTuple):
    """Losses as positive shares of equity."""

    value_at_risk: float
    expected_shortfall: float


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Returns of the columns with enough history: observations x columns."""

    columns: NDArray[np.intp]
    returns: NDArray[np.float64]
    size: int
    decay: float


def panel(close: NDArray[np.float64], minimum: int, decay: float) -> Panel:
    """close: bars x instruments, adjusted, NaN where there is no bar."""
    columns, returns = usable_returns(close, minimum)
    return Panel(columns=columns, returns=returns, size=close.shape[1], decay=decay)


def tail_risk(weights: Vector, history: Panel) -> TailRisk | None:
    """Risk of signed weights; None when something held has too little history to say."""
    unknown = np.ones(history.size, dtype=bool)
    unknown[history.columns] = False
    if (weights[unknown] != 0.0).any():
        return None
    part = weights[history.columns]
    if not (part != 0.0).any():
        return TailRisk(0.0, 0.0)
    # The variance of the portfolio's own returns is w' Sigma w, without the matrix.
    outcome = history.returns @ part
    if outcome.max() == outcome.min():
        deviation = abs(float(outcome[0]))
    else:
        deviation = float(np.sqrt(ewma(np.ascontiguousarray(outcome[:, None]), decay=history.decay)[0, 0]))
    worst = np.sort(outcome)[: -(-outcome.size // 100)]
    return TailRisk(
        value_at_risk=max(Z * deviation, -float(worst[-1]), 0.0),
        expected_shortfall=max(TAIL_MEAN * deviation, -float(worst.mean()), 0.0),
    )
