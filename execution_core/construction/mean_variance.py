"""Mean-variance optimal weights under trading costs and limits.

    maximise  mu'w - (risk_aversion / 2) w' Sigma w - cost' |w - w0|

subject to ``Constraints``. A convex quadratic program over the segments of ``constraints.py``.
DAQP (dual active set; Arnstrom, Bemporad and Axehill 2022) solves small ones, PIQP (proximal
interior point; Schwan et al. 2023) the others, unless their answer proves to be sparse
(``support.py``); the choice depends on the problem only, so the same input gives the same output.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import piqp
from numpy.typing import NDArray

from execution_core.construction import support
from execution_core.construction.constraints import (
    Constraints,
    Matrix,
    Rows,
    Vector,
    bounds,
    explain,
    numbers,
    rows,
    segments,
)
from execution_core.construction.interior_point import solve as solve_factors
from execution_core.construction.support import Dense, Hessian, LowRank
from execution_core.errors import CoreError, InvalidValueError
from execution_core.jit import kernel
from execution_core.risk.covariance import check_covariance
from execution_core.risk.low_rank import Factors, check_factors

Solver = Literal["auto", "daqp", "piqp"]

# Measured on two cores (daqp 0.11, piqp 0.7): the active-set method wins below about this many
# variables (0.03 against 0.05 ms at 20), the interior point above (0.6 against 0.9 ms at 100).
DAQP_MAX_VARIABLES = 64

# From about here on the structure of `factors` pays (one core, 120 observations, 500 variables: 18
# against 29 ms; 1000: 25 against 210).
FACTORS_MIN_VARIABLES = 400

# Weights are exact to about this much; limits this close are reported as binding.
TOLERANCE = 1e-7


@dataclass(frozen=True, kw_only=True)
class Portfolio:
    """The answer of an optimiser.

    weights    (N,) float64, within the bounds exactly and within the other limits to 1e-8
    objective  value of the maximised function at `weights`
    status     "optimal"
    solver     which one answered
    """

    weights: Vector
    objective: float
    status: Literal["optimal"]
    solver: str
    explain: Callable[[], tuple[str, ...]] = field(repr=False, compare=False)

    @cached_property
    def binding(self) -> tuple[str, ...]:
        """Names of limits met with equality: "lower[AAPL]", "sector[2] upper", "turnover upper".

        Worked out when first asked for: of a small problem it is a tenth of the time.
        """
        return self.explain()


def optimise(
    expected: Vector,
    covariance: Matrix | Factors,
    *,
    risk_aversion: float = 1.0,
    constraints: Constraints | None = None,
    previous: Vector | None = None,
    cost: float | Vector = 0.0,
    solver: Solver = "auto",
) -> Portfolio:
    """Return the weights that maximise the objective above.

    expected    (N,) returns over the horizon
    covariance  (N, N) over the same horizon, or its factors where it has such a form: a sparse answer is then
                found without the matrix, and large problems that are not sparse are solved by ``interior_point``
    previous    (N,) weights held now (w0), zero when None
    cost        per unit of |w - w0|, one number or (N,), in return units, >= 0

    Raises InvalidArrayError, InvalidValueError, and InfeasibleError that names the limits in
    conflict.
    """
    limits = constraints if constraints is not None else Constraints()
    if isinstance(covariance, Factors):
        covariance = check_factors("covariance", covariance)
        size = covariance.diagonal.size
    else:
        covariance = check_covariance("covariance", covariance)
        size = covariance.shape[0]
    expected = numbers("expected", expected, size)
    held = np.zeros(size) if previous is None else numbers("previous", previous, size)
    fees = numbers("cost", cost, size)
    priced = bool(fees.any())
    if priced and (fees < 0.0).any():
        raise InvalidValueError("cost", "below zero", "pass costs >= 0")
    if not (math.isfinite(risk_aversion) and risk_aversion > 0.0):
        raise InvalidValueError("risk_aversion", f"{risk_aversion!r}", "pass a number above zero")
    lower, upper = bounds(limits, size)

    kinks: list[Vector] = []
    if limits.gross is not None:
        kinks.append(np.zeros(size))
    if limits.turnover is not None or priced:
        kinks.append(held)
    parts = segments(lower, upper, kinks)
    found = rows(limits, parts, held)
    hessian: Hessian
    if isinstance(covariance, Factors):
        scale = covariance.mean_variance
        hessian = LowRank(covariance.scaled(1.0 / scale), parts.asset)
        gain = expected / (risk_aversion * scale) - hessian.unit.times(parts.start)
        linear = (fees / (risk_aversion * scale))[parts.asset] * parts.trade_slope - gain[parts.asset]
    else:
        unit, linear = _scaled(
            covariance, expected, fees, parts.start, parts.asset, parts.trade_slope, float(risk_aversion)
        )
        hessian = Dense(unit, parts.asset)
    x, used = None, "daqp on a support"
    if solver == "auto" and linear.size > DAQP_MAX_VARIABLES:
        x = support.solve(hessian, linear, found, parts.length)
    if x is None and solver == "auto" and isinstance(hessian, LowRank) and linear.size >= FACTORS_MIN_VARIABLES:
        x, used = solve_factors(hessian.unit, linear, found, parts), "interior_point"
    if x is None:
        x, used = _solve(hessian.matrix(), linear, found, parts.length, solver)
    weights, gained = _settled(x, parts.asset, parts.length, lower, upper, expected, fees, held)
    if isinstance(covariance, Factors):
        variance = covariance.variance(weights)
    else:
        variance = float(weights @ covariance @ weights)
    return Portfolio(
        weights=weights,
        objective=gained - 0.5 * risk_aversion * variance,
        status="optimal",
        solver=used,
        explain=partial(_binding, limits, lower, upper, weights, found, x),
    )


@kernel
def _scaled(
    covariance: Matrix,
    expected: Vector,
    fees: Vector,
    start: Vector,
    asset: NDArray[np.int64],
    trade_slope: Vector,
    aversion: float,
) -> tuple[Matrix, Vector]:
    """Return the covariance over its mean variance, and the linear term of the segments."""
    size = expected.size
    scale = 0.0
    for i in range(size):
        scale += covariance[i, i] / size
    unit = np.empty((size, size))
    gain = np.empty(size)
    for i in range(size):
        pull = 0.0
        for j in range(size):
            unit[i, j] = covariance[i, j] / scale
            pull += unit[i, j] * start[j]
        gain[i] = expected[i] / (aversion * scale) - pull
    linear = np.empty(asset.size)
    for k in range(asset.size):
        linear[k] = fees[asset[k]] / (aversion * scale) * trade_slope[k] - gain[asset[k]]
    return unit, linear


@kernel
def _settled(
    x: Vector,
    asset: NDArray[np.int64],
    length: Vector,
    lower: Vector,
    upper: Vector,
    expected: Vector,
    fees: Vector,
    held: Vector,
) -> tuple[Vector, float]:
    """Return the weights of the segments, those within 1e-9 of a bound on it, and what they gain after costs."""
    weights = lower.copy()
    for k in range(asset.size):
        weights[asset[k]] += min(max(x[k], 0.0), length[k])
    gain = 0.0
    for i in range(weights.size):
        if upper[i] - weights[i] < 1e-9:
            weights[i] = upper[i]
        if weights[i] - lower[i] < 1e-9:
            weights[i] = lower[i]
        gain += expected[i] * weights[i] - fees[i] * abs(weights[i] - held[i])
    return weights, gain


def _solve(hessian: Matrix, linear: Vector, found: Rows, length: Vector, solver: Solver) -> tuple[Vector, str]:
    """Minimise x'Hx / 2 + linear'x over the rows and 0 <= x <= length."""
    if solver not in ("auto", "daqp", "piqp"):
        raise InvalidValueError("solver", f"{solver!r}", "pass auto, daqp or piqp")
    few = linear.size <= DAQP_MAX_VARIABLES
    if solver == "daqp" or (solver == "auto" and few):
        x, _, flag = support.small(hessian, linear, found, length)
        if flag == 1:
            return x, "daqp"
        if flag == -1:
            raise explain(found, length)
        if solver == "daqp":
            raise CoreError("solver", f"DAQP stopped with {flag}", "let PIQP solve it")
    x, status = _piqp(hessian, linear, found, length)
    if status == piqp.PIQP_PRIMAL_INFEASIBLE:
        raise explain(found, length)
    if status != piqp.PIQP_SOLVED:
        raise CoreError("solver", f"PIQP stopped with {status}", "check the scale of the inputs")
    return x, "piqp"


def _piqp(hessian: Matrix, linear: Vector, found: Rows, length: Vector) -> tuple[Vector, Any]:
    dense = piqp.DenseSolver()
    for name in ("eps_abs", "eps_rel", "eps_duality_gap_abs", "eps_duality_gap_rel"):
        setattr(dense.settings, name, 1e-9)
    equal = found.low == found.high
    other = ~equal
    dense.setup(
        np.asfortranarray(hessian),
        linear,
        np.asfortranarray(found.matrix[equal]) if equal.any() else None,
        found.high[equal] if equal.any() else None,
        np.asfortranarray(found.matrix[other]) if other.any() else None,
        found.low[other] if other.any() else None,
        found.high[other] if other.any() else None,
        np.zeros(linear.size),
        length,
    )
    status = dense.solve()
    return np.array(dense.result.x), status


def _binding(
    limits: Constraints,
    lower: Vector,
    upper: Vector,
    weights: Vector,
    found: Rows,
    x: Vector,
) -> tuple[str, ...]:
    known = limits.names if limits.names is not None else range(weights.size)
    names = [f"lower[{known[a]}]" for a in (weights - lower <= TOLERANCE).nonzero()[0].tolist()]
    names += [f"upper[{known[a]}]" for a in (upper - weights <= TOLERANCE).nonzero()[0].tolist()]
    values = (found.matrix @ x).tolist()
    for name, value, low, high in zip(found.names, values, found.low.tolist(), found.high.tolist(), strict=True):
        if low == high:
            names.append(name)
        elif high - value <= TOLERANCE:
            names.append(f"{name} upper")
        elif value - low <= TOLERANCE:
            names.append(f"{name} lower")
    return tuple(names)


def warm() -> None:
    """Compile every kernel of this module."""
    optimise(np.zeros(2), np.eye(2))
