"""What a portfolio risks: tail risk by three methods with its parts, stress table, liquidity. Pure.

Portfolios are weights (N,), shares of equity; risk and gains are shares of equity too. A number that
cannot be computed is absent, with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from execution_core.errors import CoreError
from execution_core.risk import stress as core_stress
from execution_core.risk import var as core_var
from execution_core.risk.covariance import ewma
from execution_core.risk.montecarlo import simulate
from execution_core.risk.tail import tail

from .config import Report
from .measures import Panel
from .scenarios import Covariance, Historical, Hypothetical, Reverse, Scenario
from .stress import Stress

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

STRESS_LEVEL = 0.99  # of the value at risk that a covariance scenario gives


class Method(IntEnum):
    """TailRisk.Method of the contract."""

    PARAMETRIC = 1
    HISTORICAL = 2
    MONTE_CARLO = 3


class Kind(IntEnum):
    """StressResult.Kind of the contract."""

    HISTORICAL = 1
    HYPOTHETICAL = 2
    COVARIANCE = 3
    REVERSE = 4


_KINDS: dict[type, Kind] = {
    Historical: Kind.HISTORICAL,
    Hypothetical: Kind.HYPOTHETICAL,
    Covariance: Kind.COVARIANCE,
    Reverse: Kind.REVERSE,
}


@dataclass(frozen=True, kw_only=True)
class Tail:
    """One method at one level. The parts sum to `var` and to `es`; `var` is None for a stated `reason`."""

    method: Method
    variant: str
    level: float
    var: float | None = None
    es: float | None = None
    marginal: Vector = field(default_factory=lambda: np.empty(0))
    component: Vector = field(default_factory=lambda: np.empty(0))
    component_es: Vector = field(default_factory=lambda: np.empty(0))
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class StressRow:
    """One scenario: the gain, and the part of each instrument (N,)."""

    scenario: Scenario
    kind: Kind
    gain: float | None = None
    parts: Vector = field(default_factory=lambda: np.empty(0))
    distance: float | None = None
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Liquidity:
    """Parametric VaR while positions are sold evenly over their days, plus the cost of crossing spreads."""

    level: float
    value_at_risk: float
    cost: float
    days: float


@dataclass(frozen=True, kw_only=True)
class Market:
    """What the history says about the N instruments held: returns (T, N), or why there are none."""

    returns: Matrix
    covariance: Matrix
    decay: float
    reason: str = ""


def market(names: Sequence[str], history: Panel, minimum: int) -> Market:
    """The history of what is held; `history` has the columns of `names`."""
    there = set(history.columns.tolist())
    missing = [name for i, name in enumerate(names) if i not in there]
    if missing:
        return _unknown(history, f"{missing[0]} has fewer than {minimum} returns, or none that moved")
    covariance = ewma(history.returns, decay=history.decay) if names else np.empty((0, 0))
    still = np.flatnonzero(np.diagonal(covariance) <= 0.0)
    if still.size:
        return _unknown(history, f"{names[still[0]]} has not moved for longer than its variance remembers")
    return Market(returns=history.returns, covariance=covariance, decay=history.decay)


def _unknown(history: Panel, reason: str) -> Market:
    return Market(returns=np.empty((0, 0)), covariance=np.empty((0, 0)), decay=history.decay, reason=reason)


def tails(weights: Vector, known: Market, how: Report) -> list[Tail]:
    """Every method at every level, in that order."""
    simulated = "normal" if how.degrees is None else "student_t"
    kinds = [
        (Method.PARAMETRIC, "normal", _parametric),
        (Method.HISTORICAL, how.historical, _historical),
        (Method.MONTE_CARLO, simulated, _monte_carlo),
    ]
    found: list[Tail] = []
    for method, variant, estimate in kinds:
        try:
            if known.reason or not weights.size:
                parts: list[core_var.Parts] = []
            else:
                parts = estimate(weights, known, how)
            reason = known.reason
        except CoreError as error:  # an asset that did not move within the filter's first bars, for example
            parts, reason = [], str(error)
        for i, level in enumerate(how.levels):
            if parts:
                found.append(
                    Tail(
                        method=method,
                        variant=variant,
                        level=level,
                        var=parts[i].risk.var,
                        es=parts[i].risk.es,
                        marginal=parts[i].marginal,
                        component=parts[i].component,
                        component_es=parts[i].es,
                    )
                )
            elif reason:
                found.append(Tail(method=method, variant=variant, level=level, reason=reason))
            else:  # nothing is held, so nothing can be lost
                found.append(Tail(method=method, variant=variant, level=level, var=0.0, es=0.0))
    return found


def _parametric(weights: Vector, known: Market, how: Report) -> list[core_var.Parts]:
    return [core_var.parametric(weights, known.covariance, level=level) for level in how.levels]


def _historical(weights: Vector, known: Market, how: Report) -> list[core_var.Parts]:
    returns = known.returns
    if how.historical == "filtered":
        returns = core_var.filtered_returns(returns, decay=known.decay)
    return [core_var.historical_parts(weights, returns, level=level) for level in how.levels]


def _monte_carlo(weights: Vector, known: Market, how: Report) -> list[core_var.Parts]:
    """The same draws for every portfolio, so that two reports differ by what is held, not by luck.

    For elliptical returns the expected loss of a position, given the portfolio's, is its regression
    on it (McNeil, Frey and Embrechts 2015, section 8.5): the parts are shares of the variance.
    """
    random = np.random.default_rng(how.seed)
    losses = simulate(weights, known.covariance, random, scenarios=how.draws, degrees=how.degrees)
    slope = known.covariance @ weights
    variance = float(weights @ slope)
    slope = slope / variance if variance > 0.0 else np.zeros(weights.size)  # hedged to nothing
    risks = [tail(losses, level) for level in how.levels]
    return [
        core_var.Parts(risk=risk, marginal=risk.var * slope, component=weights * slope * risk.var,
                       es=weights * slope * risk.es)
        for risk in risks
    ]  # fmt: skip


def stress_table(
    names: tuple[str, ...], weights: Vector, known: Market, stress: Stress, as_of_ns: int
) -> list[StressRow]:
    """Every scenario on what is held."""
    moves = stress.moves(names, as_of_ns)
    returns = dict(zip(moves.scenarios, moves.returns, strict=True))
    return [
        _stressed(scenario, names, weights, known, returns.get(scenario.name), stress.reason(scenario, as_of_ns))
        for scenario in stress.scenarios
    ]


def _stressed(
    scenario: Scenario, names: tuple[str, ...], weights: Vector, known: Market, returns: Vector | None, reason: str
) -> StressRow:
    kind = _KINDS[type(scenario.kind)]
    if returns is not None:
        unknown = np.flatnonzero(np.isnan(returns))
        if unknown.size:
            reason = f"{names[unknown[0]]} has no whole history of it, or was split in it"
        else:
            parts = weights * returns
            return StressRow(scenario=scenario, kind=kind, gain=float(parts.sum()), parts=parts)
    reason = reason or known.reason
    if not reason and isinstance(scenario.kind, Covariance):
        if not names:
            return StressRow(scenario=scenario, kind=kind, gain=0.0)
        found = core_var.parametric(weights, shocked(known.covariance, scenario.kind), level=STRESS_LEVEL)
        return StressRow(scenario=scenario, kind=kind, gain=-found.risk.var, parts=-found.component)
    if not reason and isinstance(scenario.kind, Reverse) and names:
        try:
            likeliest = core_stress.reverse(weights, known.covariance, scenario.kind.loss)
        except CoreError as error:  # hedged to nothing
            return StressRow(scenario=scenario, kind=kind, reason=str(error))
        parts = weights * likeliest.returns
        return StressRow(
            scenario=scenario, kind=kind, gain=float(parts.sum()), parts=parts, distance=likeliest.distance
        )
    return StressRow(scenario=scenario, kind=kind, reason=reason or "nothing is held, so nothing can be lost")


def shocked(covariance: Matrix, change: Covariance) -> Matrix:
    """Deviations times the factor; correlations moved towards one, which keeps the matrix semidefinite."""
    deviations = np.sqrt(np.diagonal(covariance))
    together = np.outer(deviations, deviations)
    share = change.correlation_to_one
    moved: Matrix = change.volatility_factor**2 * ((1.0 - share) * covariance + share * together)
    return moved


def liquidation_days(quantities: Vector, volumes: Matrix, how: Report) -> Vector:
    """Days (N,) to close |quantities| (N,) at the configured share of mean volume; NaN without volume.

    volumes: bars x N, NaN where there is no bar.
    """
    recent = volumes[-how.volume_bars :]
    known = np.isfinite(recent)
    mean = np.where(known, recent, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    days: Vector = np.full(quantities.size, np.nan)
    np.divide(np.abs(quantities), how.participation * mean, out=days, where=mean > 0.0)
    return days


def liquidity(weights: Vector, days: Vector, known: Market, how: Report) -> Liquidity | None:
    """Risk of a book that takes time and spreads to close; None when volume or history is missing."""
    if known.reason or not np.isfinite(days).all():
        return None
    level = max(how.levels)
    if not weights.size:
        return Liquidity(level=level, value_at_risk=0.0, cost=0.0, days=0.0)
    factors = np.array([core_var.liquidation_factor(max(float(day), 1.0)) for day in days])
    held = core_var.parametric(weights * factors, known.covariance, level=level).risk.var
    mean, deviation = (np.full(weights.size, bps / 10_000.0) for bps in (how.spread_bps, how.spread_deviation_bps))
    cost = core_var.liquidity_cost(weights, mean, deviation)
    return Liquidity(level=level, value_at_risk=held + cost, cost=cost, days=float(days.max()))


def warm() -> None:
    """Analyses a made-up portfolio, so that no request ever compiles or loads a kernel."""
    returns = np.random.default_rng(1).normal(0.0, 0.01, (80, 2))
    how = Report(draws=1_000)
    for degrees in (None, 5.0):
        known = Market(returns=returns, covariance=ewma(returns), decay=0.94)
        tails(np.array([0.5, -0.2]), known, Report(draws=1_000, degrees=degrees, historical=how.historical))
