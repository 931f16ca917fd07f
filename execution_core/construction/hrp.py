"""Hierarchical risk parity (Lopez de Prado 2016, "Building diversified portfolios that outperform
out of sample"): cluster by correlation, order, and split the weight top-down by inverse variance.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage

from execution_core.construction.constraints import Matrix, Vector
from execution_core.errors import InvalidValueError
from execution_core.jit import kernel
from execution_core.risk.covariance import check_covariance

Linkage = Literal["single", "average", "complete", "ward"]


@kernel(fastmath={"reassoc", "contract"})
def _cluster_variance(covariance: Matrix, inverse: Vector, first: int, last: int) -> float:
    """Variance of the inverse-variance portfolio of the assets first..last-1."""
    total = 0.0
    for i in range(first, last):
        total += inverse[i]
    variance = 0.0
    for i in range(first, last):
        row = covariance[i]
        part = 0.0
        for j in range(first, last):
            part += row[j] * inverse[j]
        variance += inverse[i] * part
    return variance / (total * total)


@kernel
def _bisect(covariance: Matrix, weights: Vector) -> None:
    """Split the weights of an ordered covariance in place, halving every cluster."""
    size = weights.size
    inverse = np.empty(size)
    for i in range(size):
        inverse[i] = 1.0 / covariance[i, i]
        weights[i] = 1.0
    # Halving needs at most one waiting cluster a level, and there are fewer than 64 levels.
    firsts, lasts = np.empty(128, np.int64), np.empty(128, np.int64)
    firsts[0], lasts[0] = 0, size
    waiting = 1
    while waiting > 0:
        waiting -= 1
        first, last = firsts[waiting], lasts[waiting]
        if last - first < 2:
            continue
        middle = first + (last - first) // 2
        left = _cluster_variance(covariance, inverse, first, middle)
        right = _cluster_variance(covariance, inverse, middle, last)
        share = right / (left + right)
        for i in range(first, middle):
            weights[i] *= share
        for i in range(middle, last):
            weights[i] *= 1.0 - share
        firsts[waiting], lasts[waiting] = first, middle
        firsts[waiting + 1], lasts[waiting + 1] = middle, last
        waiting += 2


def hrp(covariance: Matrix, *, method: Linkage = "single") -> Vector:
    """Return long-only weights (N,) summing to one.

    Distance sqrt((1 - correlation) / 2) between assets; `method` links clusters. The order is the
    dendrogram's leaves; bisection cuts that order in half, as in the paper.

    Raises InvalidArrayError, InvalidValueError.
    """
    covariance = check_covariance("covariance", covariance)
    if method not in ("single", "average", "complete", "ward"):
        raise InvalidValueError("method", f"{method!r}", "pass single, average, complete or ward")
    size = covariance.shape[0]
    if size == 1:
        return np.ones(1)
    deviation = np.sqrt(np.diagonal(covariance))
    correlation = covariance / np.outer(deviation, deviation)
    above = np.triu_indices(size, 1)
    distance = np.sqrt(np.clip(0.5 - 0.5 * correlation[above], 0.0, 1.0))
    order = leaves_list(linkage(distance, method=method))
    ordered = np.ascontiguousarray(covariance[np.ix_(order, order)])
    split = np.empty(size)
    _bisect(ordered, split)
    weights = np.empty(size)
    weights[order] = split
    return weights


def warm() -> None:
    """Compile every kernel of this module."""
    hrp(np.eye(3))
