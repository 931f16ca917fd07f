"""Portfolios of least expected shortfall: a linear program (Rockafellar and Uryasev 2000).

    minimise  v + sum_t u_t / ((1 - level) T),   u_t >= -r_t'w - v,  u_t >= 0

Only scenarios near the tail matter. So the program starts with the worst scenarios of a first
guess and adds those that turn out worse than the answer's VaR, until none is left out: the
optimum of the full program from one a fraction of its size (constraint generation).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linprog

from execution_core.construction.constraints import (
    Constraints,
    Matrix,
    Rows,
    Segments,
    Vector,
    bounds,
    explain,
    numbers,
    rows,
    segments,
)
from execution_core.errors import CoreError
from execution_core.risk.covariance import check_returns
from execution_core.risk.tail import check_level, tail


@dataclass(frozen=True, kw_only=True)
class TailPortfolio:
    """`weights` (N,), the expected shortfall `es` and `var` of the scenarios under them."""

    weights: Vector
    es: float
    var: float
    level: float


def min_cvar(
    returns: Matrix,
    *,
    level: float = 0.95,
    constraints: Constraints | None = None,
    previous: Vector | None = None,
    cost: float | Vector = 0.0,
    expected: Vector | None = None,
    target: float | None = None,
) -> TailPortfolio:
    """Return the weights of least expected shortfall over returns (T, N), equally likely.

    constraints  as in ``mean_variance.py``; long-only and fully invested when None
    cost         per unit of |w - previous|, added to the expected shortfall
    target       lowest expected return expected'w; `expected` is the mean of returns when None

    Raises InvalidArrayError, InvalidValueError; InfeasibleError naming the limits in conflict.
    """
    returns = check_returns("returns", returns)
    level = check_level(level)
    limits = constraints if constraints is not None else Constraints()
    size = returns.shape[1]
    lower, upper = bounds(limits, size)
    held = np.zeros(size) if previous is None else numbers("previous", previous, size)
    fees = numbers("cost", cost, size)
    kinks: list[Vector] = []
    if limits.gross is not None:
        kinks.append(np.zeros(size))
    if limits.turnover is not None or fees.any():
        kinks.append(held)
    parts = segments(lower, upper, kinks)
    found = rows(limits, parts, held)
    if target is not None:
        means = returns.mean(axis=0) if expected is None else numbers("expected", expected, size)
        goal = float(numbers("target", target, 1)[0]) - float(means @ parts.start)
        found = Rows(
            matrix=np.vstack([found.matrix, means[parts.asset]]),
            low=np.append(found.low, goal),
            high=np.append(found.high, np.inf),
            names=(*found.names, "target"),
        )
    # Numbers near 1 for the solver's absolute tolerances.
    scale = float(np.abs(returns).mean()) or 1.0
    charge = (fees / scale)[parts.asset] * parts.trade_slope
    x = _solve(returns / scale, level, parts, found, charge)
    weights = np.clip(parts.weights(np.clip(x, 0.0, parts.length)), lower, upper)
    risk = tail(-(returns @ weights), level)
    return TailPortfolio(weights=weights, es=risk.es, var=risk.var, level=level)


def _solve(returns: Matrix, level: float, parts: Segments, found: Rows, charge: Vector) -> Vector:
    """Minimise over the segments x, growing the set of scenarios until none is missing."""
    count, size = returns.shape[0], parts.asset.size
    share = (1.0 - level) * count
    guess = parts.start + np.bincount(parts.asset, weights=parts.length / 2.0, minlength=parts.start.size)
    losses = -(returns @ guess)
    wanted = min(count, int(2.0 * share) + 20)
    chosen = np.zeros(count, dtype=np.bool_)
    chosen[np.argsort(-losses, kind="stable")[:wanted]] = True
    while True:
        x, value_at_risk = _program(returns[chosen], share, parts, found, charge)
        losses = -(returns @ parts.weights(x))
        missing = ~chosen & (losses > value_at_risk + 1e-9)
        if not missing.any():
            return x[:size]
        # All that are missing, and as many again of the next worst: fewer rounds.
        order = np.argsort(np.where(chosen, -np.inf, losses), kind="stable")[::-1]
        more = min(2 * int(missing.sum()), int((~chosen).sum()))
        chosen[order[:more]] = True


def _program(scenarios: Matrix, share: float, parts: Segments, found: Rows, charge: Vector) -> tuple[Vector, float]:
    """Solve the linear program of these scenarios; return (x, v)."""
    count, size = scenarios.shape[0], parts.asset.size
    # Variables: x, v, u. Scenario rows: -(r_t' x) - v - u_t <= r_t' start.
    tail_rows = np.hstack([-scenarios[:, parts.asset], np.full((count, 1), -1.0), -np.eye(count)])
    tail_high = scenarios @ parts.start
    equal = found.low == found.high
    high = np.isfinite(found.high) & ~equal
    low = np.isfinite(found.low) & ~equal
    limit_rows = np.vstack([found.matrix[high], -found.matrix[low]])
    padding = np.zeros((limit_rows.shape[0], 1 + count))
    objective = np.concatenate([charge, [1.0], np.full(count, 1.0 / share)])
    equal_rows = np.hstack([found.matrix[equal], np.zeros((int(equal.sum()), 1 + count))])
    variable_bounds = np.zeros((size + 1 + count, 2))
    variable_bounds[:size, 1] = parts.length
    variable_bounds[size] = -np.inf, np.inf
    variable_bounds[size + 1 :, 1] = np.inf
    answer = linprog(
        objective,
        A_ub=np.vstack([tail_rows, np.hstack([limit_rows, padding])]),
        b_ub=np.concatenate([tail_high, found.high[high], -found.low[low]]),
        A_eq=equal_rows if equal.any() else None,
        b_eq=found.high[equal] if equal.any() else None,
        bounds=variable_bounds,
        method="highs",
        # Presolve finds nothing in dense scenario rows and costs a third of the time.
        options={"presolve": False},
    )
    if answer.status == 2:
        raise explain(found, parts.length)
    if answer.status != 0:
        raise CoreError("solver", f"HiGHS stopped: {answer.message}", "check the scale of the returns")
    return np.asarray(answer.x[:size]), float(answer.x[size])
