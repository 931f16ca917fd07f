"""Large quadratic programs whose answer is mostly zeros, through a few small ones.

    minimise  x'Hx / 2 + c'x    over  low <= A x <= high,  0 <= x <= length

A long-only optimum holds a few dozen of hundreds of assets. So the program is solved by DAQP over a
support, the most attractive segments, with the others at zero; a segment outside whose reduced
gradient (Hx + c + A'y)_i is negative would be worth holding and joins. When none is, the optimality
conditions of the whole program hold: it is the exact optimum, not an approximation.
"""

from __future__ import annotations

from typing import Protocol

import daqp
import numpy as np
from numpy.typing import NDArray

from execution_core.construction.constraints import Matrix, Rows, Vector
from execution_core.risk.low_rank import Factors

FIRST = 24  # segments in the first support
MOST = 128  # where DAQP is no longer faster than the interior points (2 ms)
ROUNDS = 30
TOLERANCE = 1e-9  # of the largest gradient


class Hessian(Protocol):
    """H = P' Sigma P, where P sums the segments of each asset."""

    def matrix(self) -> Matrix:
        """The whole of it."""

    def block(self, support: NDArray[np.intp]) -> Matrix:
        """Rows and columns of some segments."""

    def times(self, support: NDArray[np.intp], x: Vector) -> Vector:
        """H x for an x that is zero outside the support."""


class Dense:
    """Sigma as a matrix."""

    def __init__(self, unit: Matrix, asset: NDArray[np.int64]) -> None:
        self._unit, self._asset, self._whole = unit, asset, asset.size == unit.shape[0]

    def matrix(self) -> Matrix:
        """See Hessian."""
        return self._unit if self._whole else self._unit[np.ix_(self._asset, self._asset)]

    def block(self, support: NDArray[np.intp]) -> Matrix:
        """See Hessian."""
        inside = self._asset[support]
        return self._unit[np.ix_(inside, inside)]

    def times(self, support: NDArray[np.intp], x: Vector) -> Vector:
        """See Hessian."""
        product: Vector = (self._unit[:, self._asset[support]] @ x)[self._asset]
        return product


class LowRank:
    """Sigma as factors."""

    def __init__(self, unit: Factors, asset: NDArray[np.int64]) -> None:
        self.unit, self._asset = unit, asset

    def matrix(self) -> Matrix:
        """See Hessian."""
        return self.unit.matrix()[np.ix_(self._asset, self._asset)]

    def block(self, support: NDArray[np.intp]) -> Matrix:
        """See Hessian."""
        inside = self._asset[support]
        loadings = self.unit.loadings[:, inside]
        product: Matrix = loadings.T @ loadings
        # Segments of one asset share its diagonal, also off the block's.
        product += np.where(inside[:, None] == inside, self.unit.diagonal[inside], 0.0)
        return product

    def times(self, support: NDArray[np.intp], x: Vector) -> Vector:
        """See Hessian."""
        weights = np.zeros(self.unit.diagonal.size)
        np.add.at(weights, self._asset[support], x)
        return self.unit.times(weights)[self._asset]


def small(hessian: Matrix, linear: Vector, found: Rows, length: Vector) -> tuple[Vector, Vector, int]:
    """Solve the whole program by DAQP: (x, multipliers of the rows, exit flag; 1 is solved, -1 infeasible)."""
    size = linear.size
    sense = np.zeros(size + found.low.size, dtype=np.int32)
    sense[size:][found.low == found.high] = 5  # equality
    x, _, flag, info = daqp.solve(
        np.ascontiguousarray(hessian),
        linear,
        found.matrix,
        np.concatenate([length, found.high]),
        np.concatenate([np.zeros(size), found.low]),
        sense,
        primal_tol=1e-10,
    )
    return np.asarray(x), np.asarray(info["lam"])[size:], int(flag)


def solve(hessian: Hessian, linear: Vector, found: Rows, length: Vector) -> Vector | None:
    """Return the optimum, or None when it is not sparse enough (or none exists): solve it whole then."""
    size = linear.size
    order = np.argsort(linear, kind="stable")
    inside = np.zeros(size, dtype=np.bool_)
    inside[order[:FIRST]] = True
    for _ in range(ROUNDS):
        support = inside.nonzero()[0]
        if support.size > MOST:
            return None
        part = Rows(
            matrix=np.ascontiguousarray(found.matrix[:, support]), low=found.low, high=found.high, names=found.names
        )
        x, multipliers, flag = small(hessian.block(support), linear[support], part, length[support])
        if flag == -1:  # too few segments to meet the limits
            inside[order[: 2 * support.size]] = True
            continue
        if flag != 1:
            return None
        gradient = hessian.times(support, x) + linear
        reduced = gradient + multipliers @ found.matrix
        reduced[support] = 0.0
        missing = (reduced < -TOLERANCE * float(np.abs(gradient).max())).nonzero()[0]
        if missing.size == 0:
            answer = np.zeros(size)
            answer[support] = x
            return answer
        # The most wanted first; at most half as many again, so that the support stays small.
        worst = missing[np.argsort(reduced[missing], kind="stable")]
        inside[worst[: max(FIRST, support.size // 2)]] = True
    return None
