"""Covariance estimators against plain Python, scikit-learn and the papers' formulas."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.risk import covariance

RANDOM = np.random.Generator(np.random.SFC64(3))
MARKET = RANDOM.normal(0, 0.01, (300, 1))
RETURNS = MARKET * np.linspace(0.5, 1.5, 12) + RANDOM.standard_t(4, (300, 12)) * 0.008


def plain_sample(x: np.ndarray, ddof: int) -> list[list[float]]:
    rows = x.tolist()
    count, size = len(rows), len(rows[0])
    mean = [sum(row[i] for row in rows) / count for i in range(size)]
    return [
        [sum((row[i] - mean[i]) * (row[j] - mean[j]) for row in rows) / (count - ddof) for j in range(size)]
        for i in range(size)
    ]


def plain_constant_correlation(x: np.ndarray) -> tuple[np.ndarray, float]:
    """Ledoit and Wolf (2004), "Honey, I shrunk the sample covariance matrix", appendix, loop by loop."""
    count, size = x.shape
    y = x - x.mean(axis=0)
    s = y.T @ y / count
    correlation = [s[i, j] / np.sqrt(s[i, i] * s[j, j]) for i in range(size) for j in range(i + 1, size)]
    level = float(np.mean(correlation))
    prior = np.array(
        [[s[i, i] if i == j else level * np.sqrt(s[i, i] * s[j, j]) for j in range(size)] for i in range(size)]
    )
    pi = rho = 0.0
    for i in range(size):
        for j in range(size):
            errors = y[:, i] * y[:, j] - s[i, j]
            pi_ij = float(np.mean(errors**2))
            pi += pi_ij
            if i == j:
                rho += pi_ij
                continue
            theta_ii = float(np.mean((y[:, i] ** 2 - s[i, i]) * errors))
            theta_jj = float(np.mean((y[:, j] ** 2 - s[j, j]) * errors))
            rho += level / 2 * (np.sqrt(s[j, j] / s[i, i]) * theta_ii + np.sqrt(s[i, i] / s[j, j]) * theta_jj)
    gamma = float(((prior - s) ** 2).sum())
    shrinkage = max(0.0, min(1.0, (pi - rho) / gamma / count))
    return shrinkage * prior + (1 - shrinkage) * s, shrinkage


@pytest.mark.parametrize("ddof", [0, 1])
def test_sample_equals_its_twin(ddof: int) -> None:
    np.testing.assert_allclose(covariance.sample(RETURNS, ddof=ddof), plain_sample(RETURNS, ddof), rtol=1e-12)


def test_sample_accepts_both_memory_orders() -> None:
    np.testing.assert_allclose(
        covariance.sample(np.asfortranarray(RETURNS)), covariance.sample(RETURNS), rtol=1e-13, atol=1e-18
    )


@pytest.mark.parametrize("demean", [False, True])
def test_ewma_equals_its_twin(demean: bool) -> None:
    decay, x = 0.9, RETURNS[:60, :3]
    weights = [(1 - decay) * decay**age for age in range(len(x) - 1, -1, -1)]
    weights = [w / sum(weights) for w in weights]
    mean = [sum(w * row[i] for w, row in zip(weights, x, strict=True)) if demean else 0.0 for i in range(3)]
    expected = [
        [sum(w * (row[i] - mean[i]) * (row[j] - mean[j]) for w, row in zip(weights, x, strict=True)) for j in range(3)]
        for i in range(3)
    ]
    np.testing.assert_allclose(covariance.ewma(x, decay=decay, demean=demean), expected, rtol=1e-10)


def test_ewma_ignores_only_observations_below_rounding() -> None:
    long = np.vstack([RETURNS * 50, RETURNS])
    np.testing.assert_allclose(covariance.ewma(long, decay=0.7), covariance.ewma(RETURNS, decay=0.7), rtol=1e-12)


@pytest.mark.parametrize("count", [5, 12, 40, 300])
def test_ledoit_wolf_equals_scikit_learn(count: int) -> None:
    oracle = pytest.importorskip("sklearn.covariance", reason="the oracle scikit-learn is not installed")
    matrix, shrinkage = covariance.ledoit_wolf(RETURNS[:count])
    expected, amount = oracle.ledoit_wolf(RETURNS[:count])
    assert 0 < shrinkage <= 1
    assert shrinkage == pytest.approx(amount, rel=1e-9)
    np.testing.assert_allclose(matrix, expected, rtol=1e-9, atol=1e-16)


@pytest.mark.parametrize("count", [6, 40, 300])
def test_constant_correlation_equals_the_papers_loops(count: int) -> None:
    matrix, shrinkage = covariance.ledoit_wolf(RETURNS[:count], target="constant_correlation")
    expected, amount = plain_constant_correlation(RETURNS[:count])
    assert shrinkage == pytest.approx(amount, rel=1e-9)
    np.testing.assert_allclose(matrix, expected, rtol=1e-10)


def test_too_few_observations_fall_back_and_say_so() -> None:
    short = covariance.estimate(RETURNS[:12], "sample")
    assert (short.method, short.observations) == ("ledoit_wolf", 12)
    assert np.linalg.eigvalsh(short.matrix).min() > 0
    enough = covariance.estimate(RETURNS[:13], "sample")
    assert (enough.method, enough.shrinkage) == ("sample", 0.0)
    np.testing.assert_array_equal(enough.matrix, covariance.sample(RETURNS[:13]))


@pytest.mark.parametrize("method", ["sample", "ewma", "ledoit_wolf", "ledoit_wolf_constant_correlation"])
def test_every_method_is_symmetric_and_positive_and_keeps_one_asset(method: covariance.Method) -> None:
    matrix = covariance.estimate(RETURNS, method).matrix
    np.testing.assert_array_equal(matrix, matrix.T)
    assert np.linalg.eigvalsh(matrix).min() > 0
    one = covariance.estimate(np.ascontiguousarray(RETURNS[:, :1]), method)
    assert one.matrix.shape == (1, 1)
    assert one.matrix[0, 0] > 0


ESTIMATORS: list[Callable[[np.ndarray], object]] = [covariance.sample, covariance.ewma, covariance.ledoit_wolf]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_bad_returns_are_refused(estimator: Callable[[np.ndarray], object]) -> None:
    hole, endless, flat = RETURNS.copy(), RETURNS.copy(), RETURNS.copy()
    hole[5, 2], endless[5, 2], flat[:, 2] = np.nan, np.inf, 0.0
    with pytest.raises(InvalidValueError, match=r"^returns: NaN or infinity in columns \[2\]"):
        estimator(hole)
    with pytest.raises(InvalidValueError, match=r"columns \[2\]"):
        estimator(endless)
    with pytest.raises(InvalidValueError, match=r"^returns: zero variance in columns \[2\]"):
        estimator(flat)
    for bad in (RETURNS[:1], RETURNS[0], RETURNS.astype(np.float32), RETURNS[:, :0]):
        with pytest.raises(InvalidArrayError):
            estimator(bad)


def test_a_constant_that_is_no_binary_fraction_still_has_no_variance() -> None:
    flat = np.hstack([RETURNS, np.full((300, 1), 0.1)])
    with pytest.raises(InvalidValueError, match="zero variance"):
        covariance.ledoit_wolf(flat)


def test_bad_matrices_are_refused() -> None:
    good = covariance.sample(RETURNS)
    crooked, dead = good.copy(), good.copy()
    crooked[0, 1] *= 1.1
    dead[3, 3] = 0.0
    assert covariance.check_covariance("m", good) is good
    for bad, words in ((crooked, "not symmetric"), (dead, r"assets \[3\]"), (good * np.nan, "NaN")):
        with pytest.raises(InvalidValueError, match=words):
            covariance.check_covariance("m", bad)
    with pytest.raises(InvalidArrayError, match="pass 5"):
        covariance.check_covariance("m", good, 5)


def test_scaling_brings_the_mean_variance_to_one() -> None:
    unit, scale = covariance.scale_to_unit(covariance.sample(RETURNS))
    assert np.trace(unit) / 12 == pytest.approx(1.0)
    np.testing.assert_allclose(unit * scale, covariance.sample(RETURNS), rtol=1e-15)
