"""Large quadratic programs whose answer is mostly zeros, through a few small ones.

    minimise  x'Hx / 2 + c'x    over  low <= A x <= high,  0 <= x <= length

A long-only optimum holds a few dozen of hundreds of assets. So the program is solved by DAQP over a
support, the most attractive segments, with the others at zero; a segment outside whose reduced
gradient (Hx + c + A'y)_i is negative would be worth holding and joins. When none is, the optimality
conditions of the whole program hold: it is the exact optimum, not an approximation.
"""

from __future__ import annotations

import daqp
import numpy as np

from execution_core.construction.constraints import Matrix, Rows, Vector

FIRST = 24  # segments in the first support
MOST = 128  # where DAQP is no longer faster than the interior points (2 ms)
ROUNDS = 30
TOLERANCE = 1e-9  # of the largest gradient


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


def solve(hessian: Matrix, linear: Vector, found: Rows, length: Vector) -> Vector | None:
    """Return the optimum, or None when it is not sparse enough (or none exists): solve it whole then."""
    size = linear.size
    order = np.argsort(linear, kind="stable")
    inside = np.zeros(size, dtype=np.bool_)
    inside[order[:FIRST]] = True
    for _ in range(ROUNDS):
        support = inside.nonzero()[0]
        if support.size > MOST:
            return None
        columns = hessian[:, support]
        part = Rows(
            matrix=np.ascontiguousarray(found.matrix[:, support]), low=found.low, high=found.high, names=found.names
        )
        x, multipliers, flag = small(columns[support], linear[support], part, length[support])
        if flag == -1:  # too few segments to meet the limits
            inside[order[: 2 * support.size]] = True
            continue
        if flag != 1:
            return None
        gradient = columns @ x + linear
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
