"""Least expected shortfall: the growing program must reach the full program's optimum."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from execution_core.construction.constraints import Constraints
from execution_core.construction.min_cvar import min_cvar
from execution_core.errors import InfeasibleError, InvalidValueError
from execution_core.risk.tail import tail


def history(count: int, size: int, seed: int = 1) -> np.ndarray:
    random = np.random.Generator(np.random.SFC64(seed))
    return random.standard_t(4, (count, size)) * 0.01 + random.normal(0.0003, 0.008, (count, 1))


def full_program(returns: np.ndarray, level: float, upper: float) -> float:
    """Rockafellar and Uryasev's program with every scenario in it."""
    count, size = returns.shape
    rows = np.hstack([-returns * 100, -np.ones((count, 1)), -np.eye(count)])
    cost = np.concatenate([np.zeros(size), [1.0], np.full(count, 1.0 / ((1.0 - level) * count))])
    ranges = [(0, upper)] * size + [(None, None)] + [(0, None)] * count
    budget = np.concatenate([np.ones(size), np.zeros(1 + count)])[None]
    found = linprog(cost, A_ub=rows, b_ub=np.zeros(count), A_eq=budget, b_eq=[1.0], bounds=ranges, method="highs")
    return float(found.fun) / 100


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize(("count", "size"), [(60, 4), (250, 12), (30, 40)])
def test_optimum_equals_the_full_program(count: int, size: int, level: float) -> None:
    returns = history(count, size)
    answer = min_cvar(returns, level=level, constraints=Constraints(upper=0.6))
    assert answer.es == pytest.approx(full_program(returns, level, 0.6), abs=1e-9)
    assert answer.weights.sum() == pytest.approx(1.0, abs=1e-8)
    assert answer.es == pytest.approx(tail(-(returns @ answer.weights), level).es)


def test_no_other_portfolio_does_better() -> None:
    returns = history(200, 5)
    best = min_cvar(returns, level=0.9).es
    random = np.random.Generator(np.random.SFC64(2))
    for weights in random.dirichlet(np.ones(5), 300):
        assert tail(-(returns @ weights), 0.9).es >= best - 1e-12


def test_costs_hold_the_portfolio_and_turnover_limits_it() -> None:
    returns, held = history(200, 5), np.full(5, 0.2)
    kept = min_cvar(returns, previous=held, cost=1.0)
    np.testing.assert_allclose(kept.weights, held, atol=1e-9)
    limited = min_cvar(returns, previous=held, constraints=Constraints(turnover=0.1))
    assert np.abs(limited.weights - held).sum() <= 0.1 + 1e-8
    assert min_cvar(returns).es < limited.es < tail(-(returns @ held), 0.95).es


def test_long_short_with_gross_and_a_return_target() -> None:
    returns = history(300, 6)
    limits = Constraints(lower=-0.5, upper=0.5, budget=0.5, gross=1.2)
    answer = min_cvar(returns, constraints=limits, target=4e-4)
    assert np.abs(answer.weights).sum() <= 1.2 + 1e-8
    assert returns.mean(axis=0) @ answer.weights >= 4e-4 - 1e-10
    with pytest.raises(InfeasibleError, match="target"):
        min_cvar(returns, target=1.0)
    with pytest.raises(InfeasibleError, match="budget"):
        min_cvar(returns, constraints=Constraints(upper=0.1))


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(InvalidValueError, match=r"^level"):
        min_cvar(history(10, 2), level=1.0)
    with pytest.raises(InvalidValueError, match=r"^returns"):
        min_cvar(history(10, 2) * np.nan)
