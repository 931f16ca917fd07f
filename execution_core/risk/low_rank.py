"""A covariance of more assets than observations, as diagonal plus low rank: work of N T, where its matrix takes N^2 T.

Sigma = diag(diagonal) + L'L        L of shape (T, N), T < N
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.risk.covariance import Matrix, Vector, check_returns, refuse_flat, share

Index = NDArray[np.intp] | NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Factors:
    """diagonal (N,) above zero, loadings (T, N)."""

    diagonal: Vector
    loadings: Matrix

    @property
    def mean_variance(self) -> float:
        """Mean of the variances."""
        return float((self.diagonal.sum() + np.vdot(self.loadings, self.loadings)) / self.diagonal.size)

    def times(self, weights: Vector) -> Vector:
        """Sigma w."""
        product: Vector = self.diagonal * weights + self.loadings.T @ (self.loadings @ weights)
        return product

    def variance(self, weights: Vector) -> float:
        """w' Sigma w."""
        common = self.loadings @ weights
        return float(self.diagonal @ (weights * weights) + common @ common)

    def matrix(self) -> Matrix:
        """Sigma."""
        answer: Matrix = self.loadings.T @ self.loadings
        answer.flat[:: self.diagonal.size + 1] += self.diagonal
        return answer

    def part(self, chosen: Index) -> Factors:
        """Those of some assets."""
        return Factors(diagonal=self.diagonal[chosen], loadings=np.ascontiguousarray(self.loadings[:, chosen]))

    def scaled(self, factor: float) -> Factors:
        """factor * Sigma."""
        return Factors(diagonal=self.diagonal * factor, loadings=self.loadings * np.sqrt(factor))


def check_factors(field: str, factors: Factors) -> Factors:
    """Return `factors` when they are finite, of one size and positive on the diagonal; else a typed error."""
    diagonal, loadings = factors.diagonal, factors.loadings
    if loadings.ndim != 2 or diagonal.shape != loadings.shape[1:] or not diagonal.size:
        raise InvalidArrayError(
            field, f"shapes {diagonal.shape}, {loadings.shape}", "pass (assets,), (factors, assets)"
        )
    if not (np.isfinite(diagonal.sum()) and np.isfinite(loadings.sum())):
        raise InvalidValueError(field, "NaN or infinity", "estimate it from complete returns")
    if diagonal.min() <= 0.0:
        raise InvalidValueError(field, "a diagonal at or below zero", "pass the covariance as a matrix")
    return factors


def ledoit_wolf(returns: Matrix) -> tuple[Factors | None, float]:
    """(covariance, shrinkage) of `covariance.ledoit_wolf` with target "identity"; None where nothing is shrunk.

    With X the centred returns (T, N), the squares of X'X / T sum to those of XX' / T, which is T x T.
    """
    returns = check_returns("returns", returns)
    mean_return = returns.mean(axis=0)
    centred = returns - mean_return
    count, assets = centred.shape
    variance = np.einsum("ij,ij->j", centred, centred) / count
    refuse_flat(returns, mean_return, variance)
    inner = centred @ centred.T
    squares = np.diagonal(inner)
    mean = float(variance.mean())
    total = float(np.vdot(inner, inner)) / count**2
    noise = float(squares @ squares) / count - total
    shrinkage = share(noise / count, total - assets * mean * mean)
    if shrinkage <= 0.0:
        return None, shrinkage
    loadings = centred * np.sqrt((1.0 - shrinkage) / count)
    return Factors(diagonal=np.full(assets, shrinkage * mean), loadings=loadings), shrinkage
