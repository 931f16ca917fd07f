"""Hierarchical risk parity against the paper's own recursion in plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from execution_core.construction.hrp import hrp
from execution_core.errors import InvalidValueError


def problem(size: int) -> np.ndarray:
    random = np.random.Generator(np.random.SFC64(size))
    loads = random.normal(0, 0.01, (size, 3))
    return loads @ loads.T + np.diag(random.uniform(0.005, 0.03, size) ** 2)


def plain(covariance: np.ndarray, method: str) -> np.ndarray:
    """Lopez de Prado (2016), snippets 3 and 4: quasi-diagonal order, then recursive bisection."""

    def variance(items: list[int]) -> float:
        part = covariance[np.ix_(items, items)]
        inverse = 1.0 / np.diag(part)
        inverse /= inverse.sum()
        return float(inverse @ part @ inverse)

    deviation = np.sqrt(np.diag(covariance))
    distance = np.sqrt(np.maximum(1.0 - covariance / np.outer(deviation, deviation), 0.0) / 2.0)
    np.fill_diagonal(distance, 0.0)
    order = leaves_list(linkage(squareform(distance, checks=False), method)).tolist()
    weights = np.ones(len(order))
    clusters = [order]
    while clusters:
        halves = [c[a:b] for c in clusters if len(c) > 1 for a, b in ((0, len(c) // 2), (len(c) // 2, len(c)))]
        for left, right in zip(halves[::2], halves[1::2], strict=True):
            share = 1.0 - variance(left) / (variance(left) + variance(right))
            weights[left] *= share
            weights[right] *= 1.0 - share
        clusters = halves
    return weights


@pytest.mark.parametrize("method", ["single", "average", "complete", "ward"])
@pytest.mark.parametrize("size", [2, 3, 10, 37])
def test_weights_equal_the_twin(size: int, method: str) -> None:
    covariance = problem(size)
    weights = hrp(covariance, method=method)  # type: ignore[arg-type]
    np.testing.assert_allclose(weights, plain(covariance, method), rtol=1e-10)
    assert weights.sum() == pytest.approx(1.0)


def test_uncorrelated_assets_get_inverse_variance_weights() -> None:
    variance = np.array([0.01, 0.04, 0.02, 0.08])
    np.testing.assert_allclose(hrp(np.diag(variance)), (1 / variance) / (1 / variance).sum())


def test_one_asset_gets_everything_and_a_bad_method_nothing() -> None:
    np.testing.assert_array_equal(hrp(np.eye(1) * 0.04), [1.0])
    with pytest.raises(InvalidValueError, match=r"^method"):
        hrp(np.eye(3), method="median")  # type: ignore[arg-type]
