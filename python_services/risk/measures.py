"""One-day value at risk and expected shortfall at 99%, of weights on a panel of returns. Pure.

Two views of the same history; the larger counts: parametric (normal, exponentially weighted
variance; RiskMetrics, J.P. Morgan 1996) and historical simulation (execution_core.risk.tail).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from execution_core.risk.covariance import ewma
from execution_core.risk.tail import tail
from execution_core.risk.var import quantile_factors
from python_services.kit.history import usable_returns

Vector = NDArray[np.float64]

LEVEL = 0.99
VAR_FACTOR, ES_FACTOR = quantile_factors(LEVEL)


class TailRisk(NamedTuple):
    """Losses as positive shares of equity."""

    value_at_risk: float
    expected_shortfall: float


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Returns of the columns with enough history: observations x columns.

    Not `whole`: something else that the account has makes and loses money, too, so they do not tell its risk.
    """

    columns: NDArray[np.intp]
    returns: NDArray[np.float64]
    size: int
    decay: float
    whole: bool = True


def panel(close: NDArray[np.float64], minimum: int, decay: float, *, whole: bool = True) -> Panel:
    """close: bars x instruments, adjusted, NaN where there is no bar."""
    columns, returns = usable_returns(close, minimum)
    return Panel(columns=columns, returns=returns, size=close.shape[1], decay=decay, whole=whole)


def tail_risk(weights: Vector, history: Panel) -> TailRisk | None:
    """Risk of signed weights; None when something held has too little history to say, or the panel is not whole."""
    if not history.whole:
        return None
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
    simulated = tail(-outcome, LEVEL)
    return TailRisk(
        value_at_risk=max(VAR_FACTOR * deviation, simulated.var, 0.0),
        expected_shortfall=max(ES_FACTOR * deviation, simulated.es, 0.0),
    )
