"""Covariance of returns: sample, exponentially weighted, and Ledoit-Wolf shrinkage.

Input: returns, float64, shape (observations T, assets N), no NaN. Output: float64 (N, N),
symmetric, in squared units of the input per bar (not annualised).

Errors, all naming the argument: InvalidArrayError for dtype, shape, or fewer than two
observations; InvalidValueError for NaN, infinity, or an asset that never moves (its variance of
zero makes correlations, risk parity and optimal weights undefined). One asset is fine: the
answer is its 1 x 1 variance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.jit import kernel

Matrix: TypeAlias = NDArray[np.float64]
Vector: TypeAlias = NDArray[np.float64]
Method = Literal["sample", "ewma", "ledoit_wolf", "ledoit_wolf_constant_correlation"]


@dataclass(frozen=True, kw_only=True)
class Covariance:
    """`method` is what was used, which for T <= N is not "sample"; `shrinkage` is 0 to 1."""

    matrix: Matrix
    method: Method
    shrinkage: float
    observations: int


def check_returns(field: str, returns: Any, at_least: int = 2) -> Matrix:
    """Return `returns` as float64 (T, N) without NaN, or raise a typed error naming `field`."""
    if not isinstance(returns, np.ndarray) or returns.dtype != np.float64 or returns.ndim != 2:
        raise InvalidArrayError(field, "not a float64 matrix", "pass (observations, assets)")
    if returns.shape[0] < at_least or returns.shape[1] < 1:
        raise InvalidArrayError(field, f"shape {returns.shape}", f"pass at least {at_least} observations of one asset")
    if not np.isfinite(returns.sum()) and not np.isfinite(returns).all():
        bad = np.flatnonzero(~np.isfinite(returns).all(axis=0))
        raise InvalidValueError(field, f"NaN or infinity in columns {bad[:5].tolist()}", "drop or fill those rows")
    return returns


@kernel
def _facts(matrix: Matrix) -> tuple[float, float, float]:
    """Return the largest |m_ij - m_ji|, NaN or infinity when any entry is; the least and largest variance.

    Square tiles: both triangles are read along cache lines, at memory speed.
    """
    size = matrix.shape[0]
    worst = 0.0
    bad = 0.0
    for top in range(0, size, 32):
        for left in range(0, top + 32, 32):
            for i in range(top, min(top + 32, size)):
                for j in range(left, min(left + 32, size)):
                    worst = max(worst, abs(matrix[i, j] - matrix[j, i]))
                    # NaN and infinity survive a multiplication by zero, and nothing else does.
                    bad += 0.0 * matrix[i, j] + 0.0 * matrix[j, i]
    least, largest = matrix[0, 0], matrix[0, 0]
    for i in range(size):
        least, largest = min(least, matrix[i, i]), max(largest, matrix[i, i])
    return worst + bad, least, largest


def check_covariance(field: str, matrix: Any, size: int | None = None) -> Matrix:
    """Return `matrix` as a finite symmetric float64 (N, N) with a positive diagonal."""
    if not isinstance(matrix, np.ndarray) or matrix.dtype != np.float64 or matrix.ndim != 2:
        raise InvalidArrayError(field, "not a float64 matrix", "pass (assets, assets)")
    if matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        raise InvalidArrayError(field, f"shape {matrix.shape}", "pass a square matrix")
    if size is not None and matrix.shape[0] != size:
        raise InvalidArrayError(field, f"{matrix.shape[0]} assets", f"pass {size}")
    # One memory order and writeable: anything else is another type for Numba, and compiles anew.
    if not (matrix.flags.c_contiguous and matrix.flags.writeable):
        matrix = np.array(matrix, order="C")
    gap, least, largest = _facts(matrix)
    if not math.isfinite(gap):
        raise InvalidValueError(field, "NaN or infinity", "estimate it from complete returns")
    if least <= 0.0:
        flat = np.flatnonzero(np.diagonal(matrix) <= 0.0)
        raise InvalidValueError(field, f"variance at or below zero for assets {flat[:5].tolist()}", "leave them out")
    if gap > 1e-8 * largest:
        raise InvalidValueError(field, "not symmetric", "pass (m + m.T) / 2")
    checked: Matrix = matrix
    return checked


def scale_to_unit(matrix: Matrix) -> tuple[Matrix, float]:
    """Return (matrix / s, s), s the mean variance: solvers' tolerances assume numbers near 1.

    With daily variances (1e-4) a default tolerance is off by percents (measured: 1.5e-4 in the
    weights for Clarabel).
    """
    scale = float(np.trace(matrix)) / matrix.shape[0]
    return matrix / scale, scale


def refuse_flat(returns: Matrix, mean: Vector, variance: Vector) -> None:
    """Raise when an asset never moves; a constant's computed variance is rounding, not zero."""
    for column in np.flatnonzero(variance <= 1e-20 * mean * mean):
        if returns[:, column].max() == returns[:, column].min():
            raise InvalidValueError("returns", f"zero variance in columns [{column}]", "leave those assets out")


def _gram(x: Matrix, scale: float) -> Matrix:
    """Return scale * x'x. NumPy sees that both factors are one array: half the work, symmetric.

    No BLAS of SciPy's here: its threads are another pool, and the two would fight for the cores.
    """
    answer: Matrix = x.T @ x
    answer *= scale
    return answer


def sample(returns: Matrix, *, ddof: int = 1) -> Matrix:
    """Sample covariance with divisor T - `ddof`. Singular when T <= N: see `estimate`."""
    returns = check_returns("returns", returns)
    if ddof not in (0, 1):
        raise InvalidValueError("ddof", f"{ddof!r}", "pass 0 or 1")
    mean = returns.mean(axis=0)
    answer = _gram(returns - mean, 1.0 / (returns.shape[0] - ddof))
    refuse_flat(returns, mean, np.diagonal(answer))
    return answer


def ewma(returns: Matrix, *, decay: float = 0.94, demean: bool = False) -> Matrix:
    """RiskMetrics covariance (J.P. Morgan 1996, section 5.2), weights decay^age summing to one.

    The mean is taken as zero unless `demean`, in which case the weighted mean is subtracted.
    """
    returns = check_returns("returns", returns)
    if not 0.0 < decay < 1.0:
        raise InvalidValueError("decay", f"{decay!r}", "pass a number between 0 and 1")
    weights = decay ** np.arange(returns.shape[0] - 1, -1, -1, dtype=np.float64)
    # Observations whose weight is below rounding cannot change the sum: leave them out.
    first = int(np.searchsorted(weights, 1e-18))
    weights = weights[first:] / weights[first:].sum()
    used = returns[first:]
    mean = weights @ used if demean else np.zeros(returns.shape[1])
    if demean:
        used = used - mean
    answer = _gram(used * np.sqrt(weights)[:, None], 1.0)
    refuse_flat(returns, mean, np.diagonal(answer))
    return answer


def ledoit_wolf(
    returns: Matrix, *, target: Literal["identity", "constant_correlation"] = "identity"
) -> tuple[Matrix, float]:
    """Shrink the sample covariance (divisor T) towards `target`; return (matrix, shrinkage).

    "identity": mean variance on the diagonal (Ledoit and Wolf 2004, "A well-conditioned
    estimator"; scikit-learn's LedoitWolf). "constant_correlation": the sample's variances with
    their mean correlation (Ledoit and Wolf 2004, "Honey, I shrunk the sample covariance
    matrix"). Works for T <= N.
    """
    returns = check_returns("returns", returns)
    mean_return = returns.mean(axis=0)
    centred = returns - mean_return
    count, assets = centred.shape
    covariance = _gram(centred, 1.0 / count)
    refuse_flat(returns, mean_return, np.diagonal(covariance))
    if assets == 1:
        return covariance, 0.0
    squares = np.einsum("ij,ij->i", centred, centred)
    variance = np.diagonal(covariance).copy()
    # Sum over i, j of mean_t(x_i^2 x_j^2): the double sum is a square, O(TN) and no product.
    fourth = float(squares @ squares) / count
    total = _square_sum(covariance)
    noise = fourth - total
    if target == "identity":
        mean = float(variance.mean())
        distance = total - assets * mean * mean
        shrinkage = share(noise / count, distance)
        covariance *= 1.0 - shrinkage
        covariance.flat[:: assets + 1] += shrinkage * mean
        return covariance, shrinkage
    if target != "constant_correlation":
        raise InvalidValueError("target", f"{target!r}", "pass identity or constant_correlation")
    deviation = np.sqrt(variance)
    level = float((covariance / np.outer(deviation, deviation)).sum() - assets)
    level /= assets * (assets - 1)
    prior = level * np.outer(deviation, deviation)
    prior.flat[:: assets + 1] = variance
    # theta[i, j]: covariance of the estimation errors of s_ii and s_ij.
    powers = centred * centred
    fourth_each = np.einsum("ij,ij->j", powers, powers) / count
    powers *= centred
    theta = powers.T @ centred / count - variance[:, None] * covariance
    theta.flat[:: assets + 1] = 0.0
    on_diagonal = float((fourth_each - variance**2).sum())
    ratio = deviation[None, :] / deviation[:, None]
    shared = on_diagonal + level * float((ratio * theta).sum())
    distance = float(((covariance - prior) ** 2).sum())
    shrinkage = share((noise - shared) / count, distance)
    return shrinkage * prior + (1.0 - shrinkage) * covariance, shrinkage


def _square_sum(matrix: Matrix) -> float:
    return float(np.einsum("ij,ij->", matrix, matrix))


def share(noise: float, distance: float) -> float:
    """Return how far to shrink: the part of the distance to the target that is noise."""
    return min(max(noise / distance, 0.0), 1.0) if distance > 0.0 else 0.0


def estimate(returns: Matrix, method: Method = "ledoit_wolf", *, decay: float = 0.94) -> Covariance:
    """Estimate by `method`; a singular "sample" (T <= N) falls back to Ledoit-Wolf and says so."""
    returns = check_returns("returns", returns)
    count, assets = returns.shape
    if method == "sample" and count > assets:
        return Covariance(matrix=sample(returns), method=method, shrinkage=0.0, observations=count)
    if method == "ewma":
        matrix = ewma(returns, decay=decay)
        return Covariance(matrix=matrix, method=method, shrinkage=0.0, observations=count)
    if method == "ledoit_wolf_constant_correlation":
        matrix, shrinkage = ledoit_wolf(returns, target="constant_correlation")
        return Covariance(matrix=matrix, method=method, shrinkage=shrinkage, observations=count)
    if method not in ("sample", "ledoit_wolf"):
        raise InvalidValueError("method", f"{method!r}", "pass one of risk.covariance.Method")
    matrix, shrinkage = ledoit_wolf(returns)
    return Covariance(matrix=matrix, method="ledoit_wolf", shrinkage=shrinkage, observations=count)


def warm() -> None:
    """Compile the kernel."""
    check_covariance("m", np.eye(2))
