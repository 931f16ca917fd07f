"""Monte Carlo against closed forms, within the error that its size allows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.risk import montecarlo, var
from execution_core.risk.tail import tail

RANDOM = np.random.Generator(np.random.SFC64(5))
FACTORS = RANDOM.normal(0, 0.01, (8, 3))
COVARIANCE = FACTORS @ FACTORS.T + np.diag(RANDOM.uniform(0.005, 0.02, 8) ** 2)
BOOK = RANDOM.normal(0, 1000, 8)
DEVIATION = float(np.sqrt(BOOK @ COVARIANCE @ BOOK))
COUNT = 200_000


def seed(number: int = 1) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(number))


@pytest.mark.parametrize("degrees", [None, 3.0, 5.0, 30.5])
def test_losses_have_the_distribution_asked_for(degrees: float | None) -> None:
    losses = montecarlo.simulate(BOOK, COVARIANCE, seed(), scenarios=COUNT, degrees=degrees)
    scaled = losses / DEVIATION
    if degrees is None:
        assert stats.kstest(scaled, "norm").pvalue > 1e-3
    else:
        unit = np.sqrt((degrees - 2) / degrees)
        assert stats.kstest(scaled / unit, stats.t(degrees).cdf).pvalue > 1e-3


@pytest.mark.parametrize("degrees", [None, 5.0])
def test_var_and_es_meet_the_closed_form(degrees: float | None) -> None:
    exact = var.parametric(BOOK, COVARIANCE, degrees=degrees).risk
    found = montecarlo.value_at_risk(BOOK, COVARIANCE, seed(), scenarios=1_000_000, degrees=degrees, workers=2)
    assert found.var == pytest.approx(exact.var, rel=0.01)
    assert found.es == pytest.approx(exact.es, rel=0.01)


@pytest.mark.parametrize("degrees", [None, 4.0])
@pytest.mark.parametrize("scenarios", [1, 1023, 1024, 1025, 70_001])
def test_the_same_seed_gives_the_same_losses_on_any_number_of_threads(scenarios: int, degrees: float | None) -> None:
    runs = [
        montecarlo.simulate(BOOK, COVARIANCE, seed(9), scenarios=scenarios, degrees=degrees, workers=workers)
        for workers in (1, 2, 5)
    ]
    assert runs[0].shape == (scenarios,)
    np.testing.assert_array_equal(runs[0], runs[1])
    np.testing.assert_array_equal(runs[0], runs[2])
    more = montecarlo.simulate(BOOK, COVARIANCE, seed(9), scenarios=scenarios + 5000, degrees=degrees)
    np.testing.assert_array_equal(more[:scenarios], runs[0])
    other = montecarlo.simulate(BOOK, COVARIANCE, seed(10), scenarios=scenarios, degrees=degrees)
    assert not np.array_equal(other, runs[0])


def test_a_singular_covariance_is_factored() -> None:
    singular = FACTORS @ FACTORS.T
    root = montecarlo.factor(singular)
    np.testing.assert_allclose(root @ root.T, singular, atol=1e-12)
    losses = montecarlo.simulate(BOOK, singular, seed(), scenarios=50_000)
    assert losses.std() == pytest.approx(float(np.sqrt(BOOK @ singular @ BOOK)), rel=0.01)


def test_copula_keeps_the_marginals() -> None:
    """One asset alone: its losses are its own history, whatever the copula."""
    history = RANDOM.standard_t(3, (500, 2)) * 0.01
    alone = np.array([1.0, 0.0])
    for degrees in (None, 4.0):
        losses = montecarlo.simulate_copula(
            alone, np.array([[1.0, 0.6], [0.6, 1.0]]), history, seed(), scenarios=COUNT, degrees=degrees
        )
        for q in (0.01, 0.05, 0.5, 0.95, 0.99):
            assert np.quantile(-losses, q) == pytest.approx(np.quantile(history[:, 0], q), abs=1.5e-3)
        assert -losses.min() <= history[:, 0].max() + 1e-12 or losses.min() >= -history[:, 0].max() - 1e-12


def test_copula_carries_the_dependence_and_t_has_the_heavier_joint_tail() -> None:
    history = RANDOM.normal(0, 0.01, (2000, 2))
    pair = np.array([1.0, 1.0])
    level = {}
    for name, degrees, correlation in (("t", 3.0, 0.5), ("normal", None, 0.5), ("alone", None, 0.0)):
        matrix = np.array([[1.0, correlation], [correlation, 1.0]])
        losses = montecarlo.simulate_copula(pair, matrix, history, seed(), scenarios=COUNT, degrees=degrees)
        level[name] = tail(losses, 0.999).var
        if name == "normal":
            assert losses.std() == pytest.approx(0.01 * np.sqrt(3.0), rel=0.03)
    assert level["t"] > 1.05 * level["normal"] > 1.1 * level["alone"]


def test_copula_does_not_depend_on_threads() -> None:
    history = RANDOM.normal(0, 0.01, (300, 2))
    runs = [
        montecarlo.simulate_copula(np.ones(2), np.eye(2), history, seed(3), scenarios=5000, workers=workers)
        for workers in (1, 3)
    ]
    np.testing.assert_array_equal(*runs)


def test_sobol_is_more_accurate_than_as_many_random_points() -> None:
    exact = var.parametric(BOOK, COVARIANCE, level=0.95).risk.es
    errors = [
        [
            abs(tail(montecarlo.simulate_sobol(BOOK, COVARIANCE, seed(k), exponent=13), 0.95).es / exact - 1),
            abs(tail(montecarlo.simulate(BOOK, COVARIANCE, seed(k), scenarios=2**13), 0.95).es / exact - 1),
        ]
        for k in range(12)
    ]
    sobol, random = np.mean(errors, axis=0)
    assert sobol < 0.4 * random
    a, b = (montecarlo.simulate_sobol(BOOK, COVARIANCE, seed(1), exponent=8) for _ in range(2))
    np.testing.assert_array_equal(a, b)


def test_bad_arguments_are_refused() -> None:
    for scenarios in (0, -5, 2.5, True):
        with pytest.raises(InvalidValueError, match=r"^scenarios"):
            montecarlo.simulate(BOOK, COVARIANCE, seed(), scenarios=scenarios)  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match=r"^degrees"):
        montecarlo.simulate(BOOK, COVARIANCE, seed(), degrees=1.5)
    with pytest.raises(InvalidValueError, match=r"^covariance"):
        montecarlo.simulate(np.ones(2), np.array([[1.0, 2.0], [2.0, 1.0]]), seed())
    with pytest.raises(InvalidValueError, match=r"^correlation"):
        montecarlo.simulate_copula(np.ones(2), 2 * np.eye(2), np.eye(2), seed())
    with pytest.raises(InvalidValueError, match=r"^exponent"):
        montecarlo.simulate_sobol(BOOK, COVARIANCE, seed(), exponent=40)
    with pytest.raises(InvalidArrayError, match=r"^exposures"):
        montecarlo.simulate(BOOK[:3], COVARIANCE, seed())
