"""Optimal liquidation under linear impact: Almgren and Chriss (2000).

R. Almgren, N. Chriss, Optimal Execution of Portfolio Transactions, Journal of Risk 3 (2000/01),
5-39. Section numbers below are of the December 2000 version.

Symbols: X shares, horizon T in N intervals of tau = T / N; sigma the volatility, gamma the
permanent and eta the temporary impact, epsilon the half spread; lambda the risk aversion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from execution_core.errors import InvalidArrayError, InvalidValueError

Holdings = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ImpactModel:
    """Linear impact of one instrument, in money per share and a unit of time (days).

    volatility   sigma, money / share / sqrt(time)
    permanent    gamma, money / share**2
    temporary    eta, (money / share) / (share / time)
    half_spread  epsilon, money / share
    """

    volatility: float
    permanent: float
    temporary: float
    half_spread: float

    def __post_init__(self) -> None:
        for name in ("volatility", "permanent", "temporary", "half_spread"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise InvalidValueError(name, f"{value} is negative or not finite", "give money per share")
        if self.temporary == 0:
            raise InvalidValueError("temporary", "zero", "without temporary impact trade at once")


def _interval(shares: float, horizon: float, intervals: int, model: ImpactModel) -> tuple[float, float]:
    """tau and eta tilde."""
    if not (math.isfinite(shares) and shares > 0):
        raise InvalidValueError("shares", f"{shares} is not positive", "give the size; the side is no matter")
    if not (math.isfinite(horizon) and horizon > 0) or intervals < 1:
        raise InvalidValueError("horizon", "no time or no interval", "give a positive horizon and count")
    tau = horizon / intervals
    eta = model.temporary - model.permanent * tau / 2
    if eta <= 0:
        raise InvalidValueError(
            "intervals", "permanent impact of an interval exceeds the temporary (eta tilde <= 0)", "use more intervals"
        )
    return tau, eta


def decay_rate(horizon: float, intervals: int, risk_aversion: float, model: ImpactModel) -> float:
    """Kappa of the discrete problem, 1 / time: ``2 / tau**2 (cosh(kappa tau) - 1) = lambda sigma**2 / eta~``.

    Its inverse is the half-life of the trade (section 2.3).
    """
    if not (math.isfinite(risk_aversion) and risk_aversion >= 0):
        raise InvalidValueError("risk_aversion", f"{risk_aversion} is negative", "give lambda per unit of money")
    tau, eta = _interval(1.0, horizon, intervals, model)
    # arcosh(1 + z) = 2 arsinh(sqrt(z / 2)) loses no digits for a small z.
    squared = risk_aversion * model.volatility**2 / eta
    return 2 * math.asinh(tau * math.sqrt(squared) / 2) / tau


def optimal_holdings(
    shares: float, horizon: float, intervals: int, risk_aversion: float, model: ImpactModel
) -> Holdings:
    """Shares left at each time ``t_0 .. t_N``: ``X sinh(kappa (T - t)) / sinh(kappa T)``.

    Returns
    -------
    float64 (intervals + 1,), from `shares` down to 0.
    """
    tau, _ = _interval(shares, horizon, intervals, model)
    kappa = decay_rate(horizon, intervals, risk_aversion, model)
    left = horizon - tau * np.arange(intervals + 1)
    left[-1] = 0.0
    if kappa * horizon < 1e-6:
        return np.asarray(shares * left / horizon, np.float64)
    # sinh(a) / sinh(b) = exp(a - b) (1 - exp(-2a)) / (1 - exp(-2b)) does not overflow.
    decay = np.exp(kappa * (left - horizon))
    holdings: Holdings = shares * decay * np.expm1(-2 * kappa * left) / math.expm1(-2 * kappa * horizon)
    return holdings


def _trades(holdings: Holdings) -> Holdings:
    left = np.asarray(holdings, np.float64)
    if left.ndim != 1 or len(left) < 2 or not np.isfinite(left).all():
        raise InvalidArrayError("holdings", "not a finite vector of two or more", "use optimal_holdings")
    return -np.diff(left)


def expected_cost(holdings: Holdings, horizon: float, model: ImpactModel) -> float:
    """E(x), money: ``gamma X**2 / 2 + epsilon sum |n_k| + (eta~ / tau) sum n_k**2`` (section 1.5)."""
    trades = _trades(holdings)
    tau, eta = _interval(abs(float(holdings[0])), horizon, len(trades), model)
    permanent = model.permanent * float(holdings[0]) ** 2 / 2
    return float(permanent + model.half_spread * np.abs(trades).sum() + eta / tau * (trades**2).sum())


def cost_variance(holdings: Holdings, horizon: float, model: ImpactModel) -> float:
    """V(x), money squared: ``sigma**2 tau sum x_k**2`` over k = 1 .. N (section 1.4)."""
    trades = _trades(holdings)
    tau, _ = _interval(abs(float(holdings[0])), horizon, len(trades), model)
    return float(model.volatility**2 * tau * (np.asarray(holdings)[1:] ** 2).sum())
