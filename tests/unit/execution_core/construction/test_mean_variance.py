"""Mean-variance weights: closed forms, an independent solver, and the limits by name."""

from __future__ import annotations

import itertools
from typing import Any

import clarabel
import numpy as np
import pytest
from scipy import sparse

from execution_core.construction.constraints import Constraints
from execution_core.construction.mean_variance import DAQP_MAX_VARIABLES, Portfolio, Solver, optimise
from execution_core.errors import InfeasibleError, InvalidArrayError, InvalidValueError

SOLVERS: tuple[Solver, ...] = ("daqp", "piqp")


def problem(size: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Daily returns, covariance and weights held now."""
    random = np.random.Generator(np.random.SFC64(seed))
    factors = random.normal(0, 0.008, (size, 3))
    matrix = factors @ factors.T + np.diag(random.uniform(0.005, 0.02, size) ** 2)
    return random.normal(0.0002, 0.0006, size), matrix, random.dirichlet(np.ones(size))


def value(w: np.ndarray, expected: np.ndarray, matrix: np.ndarray, aversion: float, cost: Any, held: Any) -> float:
    return float(expected @ w - aversion / 2 * w @ matrix @ w - np.sum(cost * np.abs(w - held)))


@pytest.mark.parametrize("solver", SOLVERS)
def test_budget_only_equals_the_closed_form(solver: Solver) -> None:
    """w = Sigma^-1 (mu - lambda 1) / gamma, lambda from the budget (Merton 1972)."""
    expected, matrix, _ = problem(6)
    inverse, ones = np.linalg.inv(matrix), np.ones(6)
    multiplier = (ones @ inverse @ expected - 2.0) / (ones @ inverse @ ones)
    closed = inverse @ (expected - multiplier * ones) / 2.0
    wide = Constraints(lower=-50.0, upper=50.0)
    answer = optimise(expected, matrix, risk_aversion=2.0, constraints=wide, solver=solver)
    np.testing.assert_allclose(answer.weights, closed, rtol=1e-6, atol=1e-7)
    assert answer.binding == ("budget",)
    assert answer.solver == solver


def test_two_assets_of_minimum_variance_by_hand() -> None:
    matrix = np.array([[0.04, 0.006], [0.006, 0.01]])
    answer = optimise(np.zeros(2), matrix)
    share = (0.01 - 0.006) / (0.04 + 0.01 - 2 * 0.006)
    np.testing.assert_allclose(answer.weights, [share, 1 - share], rtol=1e-10)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_cost_above_the_gain_means_no_trade(solver: Solver) -> None:
    expected, matrix, held = problem(8)
    answer = optimise(expected, matrix, previous=held, cost=1.0, solver=solver)
    np.testing.assert_allclose(answer.weights, held, atol=1e-8)


LIMITS = {
    "long only": Constraints(),
    "names capped": Constraints(upper=0.3),
    "long short": Constraints(lower=-0.2, upper=0.4, budget=None, net=(-0.1, 0.2), gross=1.2),
    "market neutral": Constraints(lower=-0.3, upper=0.3, budget=0.0, gross=1.0),
    "turnover": Constraints(turnover=0.25),
    "everything": Constraints(
        lower=-0.1,
        upper=0.5,
        budget=None,
        net=(0.2, 0.8),
        gross=1.1,
        turnover=0.9,
        sectors=np.array([0, 0, 1, 1, 2]),
        sector_lower=np.array([-0.1, 0.0, -0.2]),
        sector_upper=0.35,
    ),
}


def split_solve(limits: Constraints, expected: Any, matrix: Any, aversion: float, cost: float, held: Any) -> float:
    """Return the optimum by Clarabel, a conic solver, on w = held + b - s with |w| <= g.

    Another solver and another formulation: no code shared with ours.
    """
    size, one = expected.size, np.eye(expected.size)
    to_weights = np.hstack([one, -one, 0 * one])
    ones, none = np.ones(size), np.zeros(size)
    rules: list[tuple[np.ndarray, np.ndarray]] = []  # a z <= b

    def between(row: np.ndarray, low: float, high: float) -> None:
        rules.append((row[None], np.array([high])))
        rules.append((-row[None], np.array([-low])))

    net, offset = ones @ to_weights, held.sum()
    rules.append((-np.eye(3 * size), np.zeros(3 * size)))
    rules.append((to_weights, limits.upper * ones - held))
    rules.append((-to_weights, held - limits.lower * ones))
    if limits.budget is not None:
        between(net, limits.budget - offset, limits.budget - offset)
    if limits.net is not None:
        between(net, limits.net[0] - offset, limits.net[1] - offset)
    if limits.turnover is not None:
        between(np.concatenate([ones, ones, none]), 0.0, limits.turnover)
    if limits.gross is not None:
        magnitude = np.hstack([0 * one, 0 * one, one])
        rules.append((to_weights - magnitude, -held))
        rules.append((-to_weights - magnitude, held))
        between(np.concatenate([none, none, ones]), 0.0, limits.gross)
    if limits.sectors is not None:
        for sector in range(3):
            member = (limits.sectors == sector).astype(float)
            lowest = np.broadcast_to(limits.sector_lower, 3)[sector]
            highest = np.broadcast_to(limits.sector_upper, 3)[sector]
            between(member @ to_weights, lowest - member @ held, highest - member @ held)
    scale = 1e4  # daily variances: bring the numbers near 1, where the tolerances are meant
    quadratic = scale * aversion * to_weights.T @ matrix @ to_weights
    linear = scale * (to_weights.T @ (aversion * matrix @ held - expected))
    linear += scale * cost * np.concatenate([ones, ones, none])
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    a, b = np.vstack([r[0] for r in rules]), np.concatenate([r[1] for r in rules])
    cones = [clarabel.NonnegativeConeT(b.size)]
    solver = clarabel.DefaultSolver(
        sparse.csc_matrix(np.triu(quadratic)), linear, sparse.csc_matrix(a), b, cones, settings
    )
    answer = solver.solve()
    assert str(answer.status) in ("Solved", "AlmostSolved")
    start = expected @ held - aversion / 2 * held @ matrix @ held
    return float(start - answer.obj_val / scale)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("cost", [0.0, 1e-4])
def test_optimum_equals_an_independent_solver(name: str, cost: float, solver: Solver) -> None:
    expected, matrix, held = problem(5, seed=4)
    limits = LIMITS[name]
    if limits.budget != 1.0:
        held = held * 0.5 - 0.05
    answer = optimise(expected, matrix, risk_aversion=4.0, constraints=limits, previous=held, cost=cost, solver=solver)
    assert answer.objective == pytest.approx(value(answer.weights, expected, matrix, 4.0, cost, held), rel=1e-12)
    oracle = split_solve(limits, expected, matrix, 4.0, cost, held)
    assert answer.objective == pytest.approx(oracle, abs=2e-8)
    check_limits(answer, limits, held)


def check_limits(answer: Portfolio, limits: Constraints, held: np.ndarray) -> None:
    w, slack = answer.weights, 1e-8
    assert (w >= limits.lower).all()
    assert (w <= limits.upper).all()
    if limits.budget is not None:
        assert w.sum() == pytest.approx(limits.budget, abs=slack)
    if limits.net is not None:
        assert limits.net[0] - slack <= w.sum() <= limits.net[1] + slack
    if limits.gross is not None:
        assert np.abs(w).sum() <= limits.gross + slack
    if limits.turnover is not None:
        assert np.abs(w - held).sum() <= limits.turnover + slack
    if limits.sectors is not None:
        sums = np.bincount(limits.sectors, weights=w)
        assert (sums <= np.asarray(limits.sector_upper) + slack).all()
        assert (sums >= np.asarray(limits.sector_lower) - slack).all()


@pytest.mark.parametrize("size", [30, DAQP_MAX_VARIABLES, 120])
def test_both_solvers_agree_and_repeat_bit_for_bit(size: int) -> None:
    expected, matrix, held = problem(size, seed=size)
    limits = Constraints(upper=0.2, turnover=1.2, sectors=np.arange(size) % 4, sector_upper=0.4)
    answers = [
        optimise(expected, matrix, constraints=limits, previous=held, cost=1e-5, solver=solver) for solver in SOLVERS
    ]
    assert answers[0].objective == pytest.approx(answers[1].objective, abs=1e-9)
    np.testing.assert_allclose(answers[0].weights, answers[1].weights, atol=1e-5)
    for solver in SOLVERS:
        again = [
            optimise(expected, matrix, constraints=limits, previous=held, cost=1e-5, solver=solver).weights
            for _ in range(2)
        ]
        np.testing.assert_array_equal(*again)


SPARSE = {
    "long only": Constraints(),
    "names capped": Constraints(upper=0.05),
    "sectors and turnover": Constraints(upper=0.1, turnover=1.5, sectors=np.arange(150) % 5, sector_upper=0.3),
    "short": Constraints(lower=-0.02, upper=0.05, budget=0.5, gross=1.0),
}


@pytest.mark.parametrize("name", SPARSE)
def test_large_sparse_problems_reach_the_optimum_of_the_whole_one(name: str) -> None:
    """The small program's answer meets the optimality conditions of all 150 assets, to the last digits."""
    expected, matrix, held = problem(150, seed=7)
    held = held * (held > 0.02)
    answers = {
        solver: optimise(expected, matrix, risk_aversion=5.0, constraints=SPARSE[name], previous=held, solver=solver)
        for solver in ("auto", "piqp", "daqp")
    }
    if name != "short":
        assert answers["auto"].solver == "daqp on a support"
    # DAQP on the whole problem is as exact; the interior point stops at its tolerance.
    assert answers["auto"].objective == pytest.approx(answers["daqp"].objective, abs=1e-12)
    assert answers["auto"].objective == pytest.approx(answers["piqp"].objective, abs=1e-9)
    # DAQP regularises split segments by 1e-6, which shows in the weights and not in the objective.
    np.testing.assert_allclose(answers["auto"].weights, answers["daqp"].weights, atol=2e-6)


def test_a_dense_answer_goes_to_the_interior_point() -> None:
    expected, matrix, _ = problem(300, seed=8)
    limits = Constraints(upper=0.005)
    answer = optimise(expected, matrix, constraints=limits)
    assert answer.solver == "piqp"
    assert answer.objective == pytest.approx(optimise(expected, matrix, constraints=limits, solver="daqp").objective)


def test_a_singular_covariance_from_few_observations_is_solved() -> None:
    random = np.random.Generator(np.random.SFC64(5))
    returns = random.normal(0, 0.01, (10, 20))
    matrix = np.cov(returns.T)
    answers = [optimise(returns.mean(axis=0), matrix, solver=solver) for solver in SOLVERS]
    assert answers[0].objective == pytest.approx(answers[1].objective, abs=1e-9)


def test_binding_names_what_holds_the_answer_back() -> None:
    names = ("AAA", "BBB", "CCC")
    limits = Constraints(upper=np.array([0.5, 0.3, 1.0]), names=names, sectors=np.array([0, 1, 1]), sector_upper=0.6)
    answer = optimise(np.array([0.3, 0.2, -0.5]), np.eye(3) * 0.01, constraints=limits)
    np.testing.assert_allclose(answer.weights, [0.5, 0.3, 0.2], atol=1e-8)
    assert answer.binding == ("upper[AAA]", "upper[BBB]", "budget")
    free = optimise(np.array([0.3, 0.2, 0.1]), np.eye(3), constraints=Constraints(budget=None, net=(0, 5), upper=9.0))
    assert free.binding == ()


@pytest.mark.parametrize("solver", SOLVERS)
def test_contradicting_limits_are_named(solver: Solver) -> None:
    def refuse(limits: Constraints, *words: str) -> None:
        with pytest.raises(InfeasibleError) as caught:
            optimise(np.zeros(4), np.eye(4), constraints=limits, solver=solver)
        for word in words:
            assert word in str(caught.value)

    refuse(Constraints(upper=0.2), "budget lower", "missed by 0.2")
    refuse(Constraints(lower=-1.0, gross=0.5), "gross upper", "budget lower")
    refuse(Constraints(sectors=np.array([0, 0, 1, 1]), sector_upper=0.4), "sector[0] upper", "sector[1] upper")
    refuse(Constraints(turnover=0.3, sectors=np.arange(4), sector_lower=0.2), "turnover upper")
    refuse(Constraints(lower=np.array([0, 0.6, 0, 0]), upper=0.5, names=("A", "B", "C", "D")), "for B")
    refuse(Constraints(budget=None, net=(0.5, 0.1)), "net")


def test_bad_arguments_are_refused() -> None:
    expected, matrix, held = problem(4)
    for arguments, words in (
        ({"risk_aversion": 0.0}, "risk_aversion"),
        ({"cost": -1.0}, "cost"),
        ({"previous": held * np.nan}, "previous"),
        ({"constraints": Constraints(upper=np.inf)}, "upper"),
        ({"constraints": Constraints(gross=np.nan)}, "gross"),
        ({"constraints": Constraints(sectors=np.array([0, 1, -1, 0]))}, "sectors"),
        ({"solver": "ecos"}, "solver"),
    ):
        with pytest.raises(InvalidValueError, match=f"^{words}"):
            optimise(expected, matrix, **arguments)  # type: ignore[arg-type]
    for arguments, words in (
        ({"previous": held[:3]}, "previous"),
        ({"constraints": Constraints(names=("A",))}, "names"),
        ({"constraints": Constraints(sectors=np.array([0.5] * 4))}, "sectors"),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidArrayError, match=f"^{words}"):
            optimise(expected, matrix, **arguments)  # type: ignore[arg-type]


def test_more_risk_aversion_never_takes_more_risk() -> None:
    expected, matrix, _ = problem(10)
    risks = [
        (lambda w: w @ matrix @ w)(optimise(expected, matrix, risk_aversion=aversion).weights)
        for aversion in (0.5, 1.0, 2.0, 8.0, 100.0)
    ]
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(risks))
    assert risks[0] > risks[-1]
