"""Value at risk and expected shortfall: parametric, historical, and their parts by asset.

A book is a vector of exposures (N,): money, or fractions of equity, per asset. Risk comes in the
same unit, positive for a loss. Definitions of VaR and ES for samples are in ``tail.py``.
Errors: InvalidArrayError, InvalidValueError.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import gammaln, ndtri, stdtrit

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.jit import kernel
from execution_core.risk.covariance import Matrix, Vector, check_covariance, check_returns
from execution_core.risk.tail import TailRisk, beyond, check_level, tail, weighted_tail


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Euler's split of one book's risk.

    marginal   (N,) change of VaR per unit of exposure
    component  (N,) exposure * marginal; sums to VaR
    es         (N,) the same split of expected shortfall; sums to ES
    """

    risk: TailRisk
    marginal: Vector
    component: Vector
    es: Vector


def check_book(field: str, exposures: Any, size: int) -> Vector:
    """Return `exposures` as a finite float64 vector of `size`."""
    array = np.asarray(exposures, dtype=np.float64)
    if array.shape != (size,):
        raise InvalidArrayError(field, f"shape {array.shape}", f"pass ({size},)")
    if not np.isfinite(array).all():
        raise InvalidValueError(field, "NaN or infinity", "pass finite exposures")
    # Strided or read-only arrays are other types for Numba, and would compile kernels anew.
    return array if array.flags.c_contiguous and array.flags.writeable else array.copy()


def quantile_factors(level: float, degrees: float | None = None) -> tuple[float, float]:
    """Return (VaR, ES) of a variable of mean 0 and deviation 1: normal, or Student-t of `degrees`.

    ES of the normal: density(z) / (1 - level). Of t scaled to unit variance: McNeil, Frey and
    Embrechts (2015), example 2.15.
    """
    level = check_level(level)
    if degrees is None:
        z = float(ndtri(level))
        return z, float(np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi) / (1.0 - level))
    if not (np.isfinite(degrees) and degrees > 2.0):
        raise InvalidValueError("degrees", f"{degrees!r}", "pass more than 2: variance is infinite")
    unit = np.sqrt((degrees - 2.0) / degrees)
    t = float(stdtrit(degrees, level))
    logs = gammaln((degrees + 1.0) / 2.0) - gammaln(degrees / 2.0) - 0.5 * np.log(degrees * np.pi)
    density = np.exp(logs - (degrees + 1.0) / 2.0 * np.log1p(t * t / degrees))
    return t * unit, float(density / (1.0 - level) * (degrees + t * t) / (degrees - 1.0) * unit)


def parametric(
    exposures: Vector,
    covariance: Matrix,
    *,
    level: float = 0.99,
    mean: Vector | None = None,
    horizon: float = 1.0,
    degrees: float | None = None,
) -> Parts:
    """Variance-covariance VaR and ES with their parts.

    covariance  (N, N) per bar; `horizon` in bars scales it linearly, and the deviation by its root
    mean        (N,) expected return per bar, zero when None
    degrees     None for normal returns; above 2 for Student-t of that covariance
    """
    covariance = check_covariance("covariance", covariance)
    size = covariance.shape[0]
    exposures = check_book("exposures", exposures, size)
    drift = np.zeros(size) if mean is None else check_book("mean", mean, size)
    if not (np.isfinite(horizon) and horizon > 0.0):
        raise InvalidValueError("horizon", f"{horizon!r}", "pass bars above zero")
    var_factor, es_factor = quantile_factors(level, degrees)
    slope = covariance @ exposures
    deviation = float(np.sqrt(max(float(exposures @ slope), 0.0)))
    # A riskless book (hedged, or empty) has no gradient; its parts are its mean.
    slope = slope / deviation if deviation > 0.0 else np.zeros(size)
    root = np.sqrt(horizon)
    marginal = var_factor * root * slope - horizon * drift
    shortfall = exposures * (es_factor * root * slope - horizon * drift)
    component = exposures * marginal
    risk = TailRisk(var=float(component.sum()), es=float(shortfall.sum()), level=level)
    return Parts(risk=risk, marginal=marginal, component=component, es=shortfall)


def incremental(exposures: Vector, trade: Vector, covariance: Matrix, **options: Any) -> float:
    """Return parametric VaR after `trade` (N,) less VaR before, computed and not approximated."""
    exposures = check_book("exposures", exposures, covariance.shape[0])
    trade = check_book("trade", trade, covariance.shape[0])
    after = parametric(exposures + trade, covariance, **options).risk.var
    return after - parametric(exposures, covariance, **options).risk.var


def historical(
    exposures: Vector,
    returns: Matrix,
    *,
    level: float = 0.99,
    method: Literal["plain", "age_weighted", "filtered"] = "plain",
    decay: float | None = None,
) -> TailRisk:
    """Historical-simulation VaR and ES of one book over returns (T, N), oldest first.

    plain         every day alike
    age_weighted  weights decay^age (Boudoukh, Richardson and Whitelaw 1998), decay 0.98
    filtered      returns rescaled by today's over that day's EWMA volatility, asset by asset
                  (Hull and White 1998; filtered simulation, Barone-Adesi et al. 1999), decay 0.94
    """
    returns = check_returns("returns", returns)
    exposures = check_book("exposures", exposures, returns.shape[1])
    fade = {"plain": 0.5, "age_weighted": 0.98, "filtered": 0.94}.get(method)
    if fade is None:
        raise InvalidValueError("method", f"{method!r}", "pass plain, age_weighted or filtered")
    fade = fade if decay is None else decay
    if not 0.0 < fade < 1.0:
        raise InvalidValueError("decay", f"{decay!r}", "pass a number between 0 and 1")
    if method == "filtered":
        returns = filtered_returns(returns, decay=fade)
    losses = -(returns @ exposures)
    if method == "age_weighted":
        ages = np.arange(losses.size - 1, -1, -1, dtype=np.float64)
        return weighted_tail(losses, fade**ages, level)
    return tail(losses, level)


@kernel
def _filter(returns: Matrix, decay: float, seed: int, out: Matrix) -> None:
    """Write returns over the volatility forecast for their day, and leave tomorrow's in the end."""
    bars, assets = returns.shape
    variance = np.zeros(assets)
    for t in range(seed):
        for j in range(assets):
            variance[j] += returns[t, j] * returns[t, j] / seed
    for t in range(bars):
        row, write = returns[t], out[t]
        for j in range(assets):
            write[j] = row[j] / np.sqrt(variance[j])
            variance[j] = decay * variance[j] + (1.0 - decay) * row[j] * row[j]
    for t in range(bars):
        write = out[t]
        for j in range(assets):
            write[j] *= np.sqrt(variance[j])


def filtered_returns(returns: Matrix, *, decay: float = 0.94, seed: int = 50) -> Matrix:
    """Return the returns (T, N) rescaled to the volatility forecast for the day after the last.

    Each day is divided by the RiskMetrics forecast made the day before, which starts at the mean
    square of the first `seed` days (all, when there are fewer).
    """
    returns = np.require(check_returns("returns", returns), requirements=("C", "W"))
    if not np.any(returns, axis=0).all() or not np.any(returns[:seed], axis=0).all():
        raise InvalidValueError("returns", "an asset without a move", "leave it out")
    out = np.empty_like(returns)
    _filter(returns, decay, min(seed, returns.shape[0]), out)
    return out


def historical_parts(exposures: Vector, returns: Matrix, *, level: float = 0.99, window: int = 0) -> Parts:
    """Split historical VaR and ES by asset.

    ES: each asset's mean loss over the tail, which is exact. VaR: each asset's loss in VaR's own
    scenario; `window` > 0 averages over that many scenarios on either side to calm the estimate,
    rescaled so that the parts still sum to VaR.
    """
    returns = check_returns("returns", returns)
    exposures = check_book("exposures", exposures, returns.shape[1])
    level = check_level(level)
    losses = -(returns @ exposures)
    worse = beyond(losses.size, level)
    order = np.argsort(-losses, kind="stable")
    share = losses.size * (1.0 - level)
    weights = np.zeros(losses.size)
    weights[order[:worse]] = 1.0
    weights[order[worse]] = share - worse
    marginal_es = -(weights @ returns) / share
    near = order[max(worse - window, 0) : worse + window + 1]
    marginal = -returns[near].mean(axis=0)
    var = float(losses[order[worse]])
    average = float(marginal @ exposures)
    # Too small an average to divide by: keep VaR's own scenario.
    marginal = marginal * (var / average) if window and abs(average) > 0.001 * abs(var) else -returns[order[worse]]
    shortfall = exposures * marginal_es
    risk = TailRisk(var=var, es=float(shortfall.sum()), level=level)
    return Parts(risk=risk, marginal=marginal, component=exposures * marginal, es=shortfall)


def liquidity_cost(exposures: Vector, spread_mean: Vector, spread_deviation: Vector, *, multiple: float = 3.0) -> float:
    """Return the cost of closing a book in a bad moment, to be added to its VaR.

    Half of mean + `multiple` deviations of each relative spread (ask - bid) / mid, times the
    exposure (Bangia, Diebold, Schuermann and Stroughair 1999, equation 4); they find 2 to 4.5
    for `multiple`, higher for rougher spreads.
    """
    size = np.asarray(exposures).size
    exposures = check_book("exposures", exposures, size)
    mean = check_book("spread_mean", spread_mean, size)
    deviation = check_book("spread_deviation", spread_deviation, size)
    if (mean < 0.0).any() or (deviation < 0.0).any() or not multiple >= 0.0:
        raise InvalidValueError("spread_mean", "a negative spread", "pass spreads >= 0")
    return float(0.5 * np.abs(exposures) @ (mean + multiple * deviation))


def liquidation_factor(days: float) -> float:
    """Return the factor on one-day VaR when a book is sold evenly over `days` >= 1.

    sqrt((1 + T)(1 + 2T) / (6T)): the position shrinks by 1 / T every day, so the variance is the
    sum of the squares 1 .. T over T^2 (Jorion 2007, section 13.4). One for T = 1.
    """
    if not (np.isfinite(days) and days >= 1.0):
        raise InvalidValueError("days", f"{days!r}", "pass at least one day")
    return float(np.sqrt((1.0 + days) * (1.0 + 2.0 * days) / (6.0 * days)))


def warm() -> None:
    """Compile the kernel."""
    filtered_returns(np.ones((3, 2)))
