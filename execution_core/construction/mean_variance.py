"""Mean-variance optimal weights under trading costs and limits.

    maximise  mu'w - (risk_aversion / 2) w' Sigma w - cost' |w - w0|

subject to ``Constraints``. A convex quadratic program over the segments of ``constraints.py``.
DAQP (dual active set; Arnstrom, Bemporad and Axehill 2022) solves small ones, PIQP (proximal
interior point; Schwan et al. 2023) the others; the choice depends on the size only, so the same
input gives the same output.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import daqp
import numpy as np
import piqp

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
from execution_core.construction.interior_point import Factors
from execution_core.construction.interior_point import solve as solve_factors
from execution_core.errors import CoreError, InvalidValueError
from execution_core.risk.covariance import check_covariance, scale_to_unit

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
    binding    names of limits met with equality: "lower[AAPL]", "sector[2] upper", "turnover upper"
    """

    weights: Vector
    objective: float
    status: Literal["optimal"]
    solver: str
    binding: tuple[str, ...]


def optimise(
    expected: Vector,
    covariance: Matrix,
    *,
    risk_aversion: float = 1.0,
    constraints: Constraints | None = None,
    previous: Vector | None = None,
    cost: float | Vector = 0.0,
    solver: Solver = "auto",
    factors: Factors | None = None,
) -> Portfolio:
    """Return the weights that maximise the objective above.

    expected    (N,) returns over the horizon; covariance (N, N) over the same horizon
    previous    (N,) weights held now (w0), zero when None
    cost        per unit of |w - w0|, one number or (N,), in return units, >= 0
    factors     the same covariance as diagonal plus low rank, where it is known: large problems with
                fewer factors than assets are then solved by ``interior_point``

    Raises InvalidArrayError, InvalidValueError, and InfeasibleError that names the limits in
    conflict.
    """
    limits = constraints if constraints is not None else Constraints()
    covariance = check_covariance("covariance", covariance)
    size = covariance.shape[0]
    expected = numbers("expected", expected, size)
    held = np.zeros(size) if previous is None else numbers("previous", previous, size)
    fees = numbers("cost", cost, size)
    if (fees < 0.0).any():
        raise InvalidValueError("cost", "below zero", "pass costs >= 0")
    if not (np.isfinite(risk_aversion) and risk_aversion > 0.0):
        raise InvalidValueError("risk_aversion", f"{risk_aversion!r}", "pass a number above zero")
    lower, upper = bounds(limits, size)

    kinks: list[Vector] = []
    if limits.gross is not None:
        kinks.append(np.zeros(size))
    if limits.turnover is not None or fees.any():
        kinks.append(held)
    parts = segments(lower, upper, kinks)
    found = rows(limits, parts, held)
    unit, scale = scale_to_unit(covariance)
    gain = (expected - risk_aversion * (covariance @ parts.start)) / (risk_aversion * scale)
    linear = (fees / (risk_aversion * scale))[parts.asset] * parts.trade_slope - gain[parts.asset]
    x, used = None, "interior_point"
    if factors is not None and solver == "auto" and linear.size >= FACTORS_MIN_VARIABLES:
        scaled = Factors(diagonal=factors.diagonal / scale, loadings=factors.loadings / np.sqrt(scale))
        x = solve_factors(scaled, linear, found, parts)
    if x is None:
        hessian = unit if parts.asset.size == size else unit[np.ix_(parts.asset, parts.asset)]
        x, used = _solve(hessian, linear, found, parts.length, solver)
    weights = parts.weights(np.minimum(np.maximum(x, 0.0), parts.length))
    # Against the interior point's last digit: a weight at a bound, or beyond it, is that bound.
    weights = np.where(weights - lower < 1e-9, lower, weights)
    weights = np.where(upper - weights < 1e-9, upper, weights)
    objective = float(
        expected @ weights - 0.5 * risk_aversion * (weights @ covariance @ weights) - fees @ np.abs(weights - held)
    )
    return Portfolio(
        weights=weights,
        objective=objective,
        status="optimal",
        solver=used,
        binding=_binding(limits, lower, upper, weights, found, parts, x),
    )


def _solve(hessian: Matrix, linear: Vector, found: Rows, length: Vector, solver: Solver) -> tuple[Vector, str]:
    """Minimise x'Hx / 2 + linear'x over the rows and 0 <= x <= length."""
    if solver not in ("auto", "daqp", "piqp"):
        raise InvalidValueError("solver", f"{solver!r}", "pass auto, daqp or piqp")
    small = linear.size <= DAQP_MAX_VARIABLES
    if solver == "daqp" or (solver == "auto" and small):
        x, flag = _daqp(hessian, linear, found, length)
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


def _daqp(hessian: Matrix, linear: Vector, found: Rows, length: Vector) -> tuple[Vector, int]:
    size = linear.size
    sense = np.zeros(size + found.low.size, dtype=np.int32)
    sense[size:][found.low == found.high] = 5  # equality
    x, _, flag, _ = daqp.solve(
        np.ascontiguousarray(hessian),
        linear,
        found.matrix,
        np.concatenate([length, found.high]),
        np.concatenate([np.zeros(size), found.low]),
        sense,
        primal_tol=1e-10,
    )
    return np.asarray(x), int(flag)


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
    parts: Segments,
    x: Vector,
) -> tuple[str, ...]:
    names = [f"lower[{limits.name(a)}]" for a in (weights - lower <= TOLERANCE).nonzero()[0].tolist()]
    names += [f"upper[{limits.name(a)}]" for a in (upper - weights <= TOLERANCE).nonzero()[0].tolist()]
    values = (found.matrix @ x).tolist()
    for name, value, low, high in zip(found.names, values, found.low.tolist(), found.high.tolist(), strict=True):
        if low == high:
            names.append(name)
        elif high - value <= TOLERANCE:
            names.append(f"{name} upper")
        elif value - low <= TOLERANCE:
            names.append(f"{name} lower")
    return tuple(names)
