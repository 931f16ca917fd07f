"""From forecasts and a covariance to target weights. Pure: weights are signed shares of equity.

Instruments that cannot be traded now (no forecast, no mark, too little history) keep their weight;
what they use of the limits is taken off what the others may use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from execution_core.construction.constraints import Constraints
from execution_core.construction.mean_variance import optimise
from execution_core.construction.risk_parity import risk_parity
from execution_core.risk.low_rank import Factors

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Method = Literal["mean_variance", "risk_parity"]

NAMED = 8  # names that a solver text lists before it counts the rest
_SLACK = 1e-9
_INTERIOR = 1e-3  # share of the turnover left free, so that a cured problem has more than one point


@dataclass(frozen=True, kw_only=True)
class Mandate:
    """Constraints and preferences. Turnover is one-way: half the sum of absolute changes."""

    method: Method
    risk_aversion: float
    maximum_weight: float
    maximum_gross: float
    short_allowed: bool
    cost_per_notional: float
    maximum_turnover: float
    minimum_trade_e9: int


@dataclass(frozen=True, kw_only=True)
class Room:
    """What the tradable instruments may use: bounds on each, highest gross, net and sum of changes."""

    lower: Vector
    upper: Vector
    gross: float
    net: float
    trades: float
    cured: bool


def room(mandate: Mandate, held: Vector, fixed: Vector, cash_buffer: float) -> Room:
    """The limits that hold for the weights `held`, next to the weights `fixed` that stay.

    Prices move weights past their limits between two decisions. Such a breach is cured as far as the
    turnover limit allows: a limit is loosened to the point on the way back that this step can reach.
    """
    upper = np.full(held.size, mandate.maximum_weight)
    lower = -upper if mandate.short_allowed else np.zeros(held.size)
    gross = max(mandate.maximum_gross - float(np.abs(fixed).sum()), 0.0)
    net = max(1.0 - cash_buffer - float(fixed.sum()), 0.0)
    trades = 2.0 * mandate.maximum_turnover
    inside = np.clip(held, lower, upper)
    excess = max(float(np.abs(inside).sum()) - gross, float(inside.sum()) - net, 0.0)
    need = float(np.abs(held - inside).sum()) + excess
    reach = trades * (1.0 - _INTERIOR)
    if need <= reach:
        return Room(lower=lower, upper=upper, gross=gross, net=net, trades=trades, cured=True)
    share = reach / need
    return Room(
        lower=np.minimum(lower, held + (lower - held) * share),
        upper=np.maximum(upper, held + (upper - held) * share),
        gross=max(gross, _between(float(np.abs(held).sum()), gross, share)) + _SLACK,
        net=max(net, _between(float(held.sum()), net, share)) + _SLACK,
        trades=trades,
        cured=False,
    )


def mean_variance(
    expected: Vector,
    covariance: Matrix | Factors,
    held: Vector,
    limits: Room,
    mandate: Mandate,
    names: tuple[str, ...],
) -> tuple[Vector, str]:
    """(weights, what the solver said): Markowitz (1952) with proportional costs."""
    answer = optimise(
        expected,
        covariance,
        risk_aversion=mandate.risk_aversion,
        constraints=Constraints(
            lower=limits.lower,
            upper=limits.upper,
            budget=None,
            net=(-limits.gross - _SLACK, limits.net),
            gross=limits.gross if mandate.short_allowed or limits.gross < limits.net else None,
            turnover=limits.trades,
            names=names,
        ),
        previous=held,
        cost=mandate.cost_per_notional,
    )
    return answer.weights, f"mean_variance by {answer.solver}: {answer.status}; {_binding(answer.binding)}"


def equal_risk(
    expected: Vector,
    covariance: Matrix | Factors,
    held: Vector,
    limits: Room,
    mandate: Mandate,
    names: tuple[str, ...],
) -> tuple[Vector, str]:
    """(weights, what was done): equal risk contributions among instruments with a positive forecast.

    The others go to zero. What the largest weight cuts off goes to the rest in proportion; where the
    turnover limit is in the way, all weights go the same part of theirs.
    """
    chosen = np.flatnonzero(expected > 0.0)
    weights = np.zeros(held.size)
    total = min(limits.gross, limits.net)
    binding: list[str] = []
    if chosen.size and total > 0.0:
        if isinstance(covariance, Factors):
            matrix = covariance.part(chosen).matrix()
        else:
            matrix = np.ascontiguousarray(covariance[np.ix_(chosen, chosen)])
        shares = risk_parity(matrix)
        weights[chosen] = _capped(shares * total, limits.upper[chosen])
        binding = [f"upper[{names[i]}]" for i in chosen if weights[i] >= limits.upper[i] - _SLACK]
    change = float(np.abs(weights - held).sum())
    if change > limits.trades:
        weights = held + (weights - held) * (limits.trades / change)
        binding.append("turnover upper")
    return weights, f"risk_parity: {chosen.size} of {held.size} have a positive forecast; {_binding(tuple(binding))}"


def _capped(weights: Vector, caps: Vector) -> Vector:
    """Weights with the same sum where `caps` allow it, in the same proportions below the caps."""
    total = float(weights.sum())
    capped = np.zeros(weights.size, dtype=bool)
    while True:
        over = (weights > caps) & ~capped
        if not over.any():
            return weights
        capped |= over
        rest = total - float(caps[capped].sum())
        below = float(weights[~capped].sum())
        scale = max(rest, 0.0) / below if below > 0.0 else 0.0
        weights = np.where(capped, caps, weights * scale)


def _between(start: float, end: float, share: float) -> float:
    return start + (end - start) * share


def _binding(names: tuple[str, ...]) -> str:
    """Readable: long-only zeros are counted, not listed."""
    listed = [name for name in names if not name.startswith("lower[")]
    text = ", ".join(listed[:NAMED]) + (f" and {len(listed) - NAMED} more" if len(listed) > NAMED else "")
    floors = len(names) - len(listed)
    parts = [part for part in (text, f"lower bound of {floors}" if floors else "") if part]
    return f"binding: {', '.join(parts)}" if parts else "nothing binds"
