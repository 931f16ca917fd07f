"""The structured interior point against PIQP and DAQP on the same problems."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from execution_core.construction import interior_point
from execution_core.construction.constraints import Constraints, Rows, Segments, bounds, rows, segments
from execution_core.construction.mean_variance import FACTORS_MIN_VARIABLES, Solver, optimise
from execution_core.errors import InfeasibleError, InvalidArrayError, InvalidValueError
from execution_core.risk.low_rank import Factors


def problem(size: int, observations: int, seed: int) -> tuple[np.ndarray, np.ndarray, Factors]:
    """(expected, covariance, its factors)."""
    rng = np.random.default_rng(seed)
    loadings = rng.normal(0.0, 0.02, (observations, size)) / np.sqrt(observations)
    diagonal = rng.uniform(1e-4, 3e-4, size)
    covariance = np.diag(diagonal) + loadings.T @ loadings
    return rng.normal(0.0, 0.01, size), covariance, Factors(diagonal=diagonal, loadings=loadings)


LONG = Constraints(lower=0.0, upper=0.05, budget=None, net=(-1.0, 0.98), turnover=0.4)
CASES = {
    "long": LONG,
    "budget": Constraints(lower=0.0, upper=0.1, budget=1.0),
    "short": Constraints(lower=-0.05, upper=0.05, budget=None, net=(-0.1, 0.5), gross=1.5, turnover=0.6),
    "sectors": Constraints(
        lower=0.0, upper=0.1, budget=1.0, sectors=np.arange(60, dtype=np.int64) % 3, sector_upper=0.4
    ),
    "some fixed": Constraints(
        lower=np.r_[np.full(20, 0.01), np.zeros(40)], upper=np.r_[np.full(20, 0.01), np.full(40, 0.1)], budget=1.0
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_it_finds_what_the_dense_solvers_find(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    size, limits = 60, CASES[name]
    expected, covariance, factors = problem(size, 30, seed)
    previous = np.random.default_rng(seed).uniform(0.0, 0.03, size)
    monkeypatch.setattr("execution_core.construction.mean_variance.FACTORS_MIN_VARIABLES", 1)
    monkeypatch.setattr("execution_core.construction.support.MOST", 0)
    ours = optimise(expected, factors, risk_aversion=5.0, constraints=limits, previous=previous, cost=0.001)
    theirs = optimise(
        expected, covariance, risk_aversion=5.0, constraints=limits, previous=previous, cost=0.001, solver="daqp"
    )
    assert ours.solver == "interior_point"
    np.testing.assert_allclose(ours.weights, theirs.weights, atol=2e-6)
    assert ours.objective == pytest.approx(theirs.objective, abs=1e-8)
    assert set(ours.binding) == set(theirs.binding)


@pytest.mark.parametrize("name", ["long", "short", "some fixed"])
@pytest.mark.parametrize("solver", ["auto", "piqp"])
def test_factors_give_what_their_matrix_gives(name: str, solver: Solver) -> None:
    """On a support, where it is sparse, and by a dense solver: segments of one asset share its variance."""
    expected, covariance, factors = problem(60, 30, 7)
    previous = np.random.default_rng(7).uniform(-0.01, 0.03, 60)
    asked: dict[str, Any] = {"risk_aversion": 5.0, "constraints": CASES[name], "previous": previous, "cost": 0.002}
    ours = optimise(expected, factors, solver=solver, **asked)
    theirs = optimise(expected, covariance, solver=solver, **asked)
    assert ours.solver == theirs.solver == ("daqp on a support" if solver == "auto" and name != "short" else "piqp")
    np.testing.assert_allclose(ours.weights, theirs.weights, atol=1e-9)
    assert ours.objective == pytest.approx(theirs.objective, rel=1e-9)


def test_factors_that_are_no_covariance_are_refused() -> None:
    good = Factors(diagonal=np.ones(3), loadings=np.ones((1, 3)))
    for wrong, error in (
        (Factors(diagonal=np.ones(2), loadings=good.loadings), InvalidArrayError),
        (Factors(diagonal=np.array([1.0, 0.0, 1.0]), loadings=good.loadings), InvalidValueError),
        (Factors(diagonal=good.diagonal, loadings=np.array([[1.0, np.nan, 1.0]])), InvalidValueError),
    ):
        with pytest.raises(error, match="covariance"):
            optimise(np.zeros(3), wrong)


def test_large_problems_choose_it_and_agree_with_piqp() -> None:
    size = FACTORS_MIN_VARIABLES
    expected, covariance, factors = problem(size, 60, 1)
    many = Constraints(lower=0.0, upper=0.004, budget=None, net=(-1.0, 0.98), turnover=0.9)  # no sparse answer
    ours = optimise(expected, factors, risk_aversion=5.0, constraints=many)
    theirs = optimise(expected, covariance, risk_aversion=5.0, constraints=many)
    assert (ours.solver, theirs.solver) == ("interior_point", "piqp")
    np.testing.assert_allclose(ours.weights, theirs.weights, atol=1e-6)


def test_the_same_input_gives_the_same_bits() -> None:
    expected, _, factors = problem(FACTORS_MIN_VARIABLES, 40, 2)
    many = Constraints(lower=0.0, upper=0.004, budget=None, net=(-1.0, 0.98), turnover=0.9)
    first = optimise(expected, factors, constraints=many)
    again = optimise(expected, factors, constraints=many)
    assert first.solver == "interior_point"
    assert first.weights.tobytes() == again.weights.tobytes()


def test_contradicting_limits_are_still_named() -> None:
    expected, _, factors = problem(FACTORS_MIN_VARIABLES, 40, 3)
    limits = Constraints(lower=0.0, upper=0.001, budget=1.0)
    with pytest.raises(InfeasibleError, match="budget"):
        optimise(expected, factors, constraints=limits)


def test_nothing_free_is_nothing_to_do() -> None:
    lower, upper = bounds(Constraints(lower=0.1, upper=0.1, budget=None), 3)
    parts: Segments = segments(lower, upper, [])
    found: Rows = rows(Constraints(budget=None), parts, np.zeros(3))
    factors = Factors(diagonal=np.ones(3), loadings=np.ones((1, 3)))
    assert interior_point.solve(factors, np.zeros(3), found, parts).tolist() == [0.0, 0.0, 0.0]
