"""The factor form of a shrunk covariance against the matrix it stands for."""

from __future__ import annotations

import numpy as np
import pytest

from execution_core.errors import InvalidValueError
from execution_core.risk import covariance, low_rank


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("count", [5, 30, 59])
def test_ledoit_wolf_is_that_of_the_matrix(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    returns = 0.01 * random.normal(size=(count, 1)) + random.normal(0.0, 0.02, (count, 60))
    matrix, shrinkage = covariance.ledoit_wolf(returns)
    factors, ours = low_rank.ledoit_wolf(returns)
    assert factors is not None
    assert ours == pytest.approx(shrinkage, rel=1e-12)
    np.testing.assert_allclose(factors.matrix(), matrix, rtol=1e-10, atol=1e-18)
    weights = random.normal(size=60)
    np.testing.assert_allclose(factors.times(weights), matrix @ weights, rtol=1e-9, atol=1e-16)
    assert factors.variance(weights) == pytest.approx(weights @ matrix @ weights, rel=1e-12)
    assert factors.mean_variance == pytest.approx(float(np.trace(matrix)) / 60, rel=1e-12)
    some = np.array([3, 17, 50])
    np.testing.assert_allclose(factors.part(some).scaled(5.0).matrix(), 5.0 * matrix[np.ix_(some, some)], rtol=1e-10)


def test_an_asset_that_never_moves_is_named() -> None:
    returns = np.random.default_rng(1).normal(size=(5, 8))
    returns[:, 3] = 0.25
    with pytest.raises(InvalidValueError, match="3"):
        low_rank.ledoit_wolf(returns)
