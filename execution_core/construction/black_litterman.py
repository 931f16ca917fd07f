"""Black-Litterman: equilibrium returns blended with views.

Notation of He and Litterman (1999), "The intuition behind Black-Litterman model portfolios":
equilibrium pi = delta Sigma w; views P mu = q + noise of variances omega; and

    mu*    = pi + tau Sigma P' (P tau Sigma P' + Omega)^-1 (q - P pi)
    Sigma* = Sigma + tau Sigma - tau Sigma P' (P tau Sigma P' + Omega)^-1 P tau Sigma

Errors: InvalidArrayError, InvalidValueError.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from execution_core.construction.constraints import Matrix, Vector, numbers
from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.risk.covariance import check_covariance


@dataclass(frozen=True, kw_only=True)
class Posterior:
    """Blended `expected` returns (N,) and `covariance` (N, N) of the returns around them."""

    expected: Vector
    covariance: Matrix


def equilibrium(weights: Vector, covariance: Matrix, *, risk_aversion: float = 2.5) -> Vector:
    """Return the excess returns (N,) at which the market weights (N,) are optimal."""
    covariance = check_covariance("covariance", covariance)
    weights = numbers("weights", weights, covariance.shape[0])
    _positive("risk_aversion", risk_aversion)
    answer: Vector = risk_aversion * (covariance @ weights)
    return answer


def _positive(field: str, value: float) -> None:
    if not (np.isfinite(value) and value > 0.0):
        raise InvalidValueError(field, f"{value!r}", "pass a number above zero")


def black_litterman(
    prior: Vector,
    covariance: Matrix,
    views: Matrix,
    values: Vector,
    *,
    tau: float = 0.05,
    variances: Vector | None = None,
    confidence: Vector | None = None,
) -> Posterior:
    """Blend `prior` returns (N,), say from `equilibrium`, with K views.

    views       (K, N), one portfolio a row: +1 and -1 for "A beats B", a single 1 for "A returns"
    values      (K,) what each view says its portfolio returns
    variances   (K,) of the views' noise, above zero; He and Litterman's diag(tau P Sigma P') when
                neither this nor `confidence` is given
    confidence  (K,) between 0 and 1, instead of variances: the share of the way from the prior to
                the view that a view held alone moves its own portfolio (Idzorek 2005 in closed
                form, Walters 2014): omega = (1 / c - 1) diag(tau P Sigma P')
    """
    covariance = check_covariance("covariance", covariance)
    size = covariance.shape[0]
    prior = numbers("prior", prior, size)
    _positive("tau", tau)
    picks = np.asarray(views, dtype=np.float64)
    if picks.ndim != 2 or picks.shape[1] != size or picks.shape[0] == 0:
        raise InvalidArrayError("views", f"shape {picks.shape}", f"pass (views, {size})")
    if not np.isfinite(picks).all() or not np.any(picks, axis=1).all():
        raise InvalidValueError("views", "NaN, infinity or an empty view", "give every view a portfolio")
    count = picks.shape[0]
    said = numbers("values", values, count)
    if variances is not None and confidence is not None:
        raise InvalidValueError("confidence", "variances given too", "pass one of them")
    spread = tau * (picks @ covariance)  # (K, N), transposed: tau Sigma P'
    own = spread @ picks.T
    noise = np.diagonal(own).copy()
    if variances is not None:
        noise = numbers("variances", variances, count)
        if (noise <= 0.0).any():
            raise InvalidValueError("variances", "at or below zero", "use a small positive number")
    elif confidence is not None:
        belief = numbers("confidence", confidence, count)
        if ((belief <= 0.0) | (belief > 1.0)).any():
            raise InvalidValueError("confidence", "not above 0 and up to 1", "leave out what you do not believe")
        noise = (1.0 / belief - 1.0) * noise
    try:
        root = cho_factor(own + np.diag(noise), lower=True)
    except np.linalg.LinAlgError:
        raise InvalidValueError("views", "certain views that repeat each other", "lower a confidence") from None
    expected: Vector = prior + spread.T @ cho_solve(root, said - picks @ prior)
    posterior = (1.0 + tau) * covariance - spread.T @ cho_solve(root, spread)
    return Posterior(expected=expected, covariance=(posterior + posterior.T) / 2.0)
