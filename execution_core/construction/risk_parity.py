"""Risk parity: long-only weights whose shares of the portfolio's risk equal given budgets.

The convex problem (Spinu 2013)

    minimise  f(x) = x' Sigma x / 2 - sum b_i ln x_i,    whose optimum has x_i (Sigma x)_i = b_i,

with weights x / sum x. Cyclical coordinate descent (Griveau-Billion, Richard and Roncalli 2013,
"A fast algorithm for computing high-dimensional risk parity portfolios") solves the usual case
in a few sweeps of N^2; where strong factors of both signs make it crawl, damped Newton steps
(N^3 / 3 each, quadratic convergence) finish the work.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from execution_core.construction.constraints import Matrix, Vector, numbers
from execution_core.errors import CoreError, InvalidValueError
from execution_core.jit import kernel
from execution_core.risk.covariance import check_covariance, scale_to_unit

MAX_SWEEPS = 40
MAX_NEWTON = 100


@kernel(fastmath={"reassoc", "contract"})
def _descend(covariance: Matrix, budgets: Vector, x: Vector, tolerance: float, limit: int) -> bool:
    """Improve `x` in place by at most `limit` sweeps; return whether that was enough."""
    size = x.size
    marginal = np.zeros(size)
    for i in range(size):
        row = covariance[i]
        total = 0.0
        for j in range(size):
            total += row[j] * x[j]
        marginal[i] = total
    for _ in range(limit):
        worst = 0.0
        for i in range(size):
            row = covariance[i]
            variance = row[i]
            # How far this asset's risk was from its budget before the step.
            worst = max(worst, abs(x[i] * marginal[i] / budgets[i] - 1.0))
            others = marginal[i] - variance * x[i]
            # The positive root, in the form that does not cancel for the sign of `others`.
            root = abs(others) + np.sqrt(others * others + 4.0 * variance * budgets[i])
            value = 2.0 * budgets[i] / root if others > 0.0 else root / (2.0 * variance)
            step = value - x[i]
            x[i] = value
            for j in range(size):
                marginal[j] += step * row[j]
        if worst <= tolerance:
            return True
    return False


def _value(covariance: Matrix, budgets: Vector, x: Vector) -> float:
    return 0.5 * float(x @ covariance @ x) - float(budgets @ np.log(x))


def _newton(covariance: Matrix, budgets: Vector, x: Vector, tolerance: float) -> Vector:
    """Return the optimum from `x` by Newton steps, halved until they descend enough (Armijo)."""
    hessian = np.array(covariance, order="F")
    for _ in range(MAX_NEWTON):
        slope = covariance @ x - budgets / x
        if np.abs(slope * x / budgets).max() <= tolerance:
            return x
        hessian[:] = covariance
        hessian.flat[:: x.size + 1] += budgets / (x * x)
        try:
            step = cho_solve(cho_factor(hessian, overwrite_a=True, check_finite=False), slope)
        except np.linalg.LinAlgError:
            break
        decrement = float(slope @ step)
        # Stay inside x > 0, then halve while the step does not pay.
        size = min(1.0, 0.99 / max(float((step / x).max()), 1e-300))
        here = _value(covariance, budgets, x)
        while size > 1e-12 and decrement > 1e-13:
            if _value(covariance, budgets, x - size * step) <= here - 0.25 * size * decrement:
                break
            size *= 0.5
        x = x - size * step
    raise CoreError("covariance", "risk parity does not converge", "shrink it (Ledoit-Wolf)")


def risk_parity(covariance: Matrix, budgets: Vector | None = None, *, tolerance: float = 1e-9) -> Vector:
    """Return weights (N,), above zero and summing to one, with risk shares equal to `budgets`.

    `budgets` (N,), above zero, are scaled to sum to one; equal when None. `tolerance` bounds the
    relative miss of every asset's share.

    Raises InvalidArrayError, InvalidValueError; CoreError when the matrix is so far from positive
    semidefinite that no answer exists.
    """
    covariance = check_covariance("covariance", covariance)
    size = covariance.shape[0]
    shares = np.ones(size) if budgets is None else numbers("budgets", budgets, size)
    if (shares <= 0.0).any():
        raise InvalidValueError("budgets", "at or below zero", "leave those assets out")
    shares = shares / shares.sum()
    unit, _ = scale_to_unit(np.ascontiguousarray(covariance))
    # Inverse volatility, scaled to a risk of one: the answer itself when correlations are equal.
    x: Vector = np.sqrt(shares / np.diagonal(unit))
    x /= np.sqrt(max(float(x @ unit @ x), 1e-12))
    if not _descend(unit, shares, x, tolerance, MAX_SWEEPS):
        x = _newton(unit, shares, x, tolerance)
    return x / float(x.sum())


def risk_shares(weights: Vector, covariance: Matrix) -> Vector:
    """Return each asset's share w_i (Sigma w)_i / w' Sigma w of the variance; they sum to one."""
    covariance = check_covariance("covariance", covariance)
    weights = numbers("weights", weights, covariance.shape[0])
    parts: Vector = weights * (covariance @ weights)
    total = float(parts.sum())
    if total <= 0.0:
        raise InvalidValueError("weights", "a portfolio without risk", "pass other weights")
    return parts / total


def warm() -> None:
    """Compile the kernel."""
    risk_parity(np.eye(2))
