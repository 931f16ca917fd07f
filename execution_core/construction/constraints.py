"""What a portfolio may be: bounds, budget, net, gross, sectors, turnover.

Every limit but the budget is in fractions of equity, weights being signed. `rows` turns limits
into linear rows over the segments of ``segments``, which make |w| and |w - w0| linear.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from execution_core.errors import InfeasibleError, InvalidArrayError, InvalidValueError

Matrix: TypeAlias = NDArray[np.float64]
Vector: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """Limits on the weights w of N assets. Bounds must be finite; None leaves a limit out.

    lower, upper    one number for all, or shape (N,); long-only is lower 0, the default
    budget          sum w, exactly
    net             (lowest, highest) sum w; use it instead of a budget
    gross           highest sum |w|
    turnover        highest sum |w - w0|, both sides counted
    sectors         shape (N,) int64, each asset's sector 0..S-1
    sector_lower    one number for all, or shape (S,): lowest sum w of a sector
    sector_upper    likewise the highest
    names           N names for messages and for `binding`; the column numbers when None
    """

    lower: float | Vector = 0.0
    upper: float | Vector = 1.0
    budget: float | None = 1.0
    net: tuple[float, float] | None = None
    gross: float | None = None
    turnover: float | None = None
    sectors: NDArray[np.int64] | None = None
    sector_lower: float | Vector | None = None
    sector_upper: float | Vector | None = None
    names: tuple[str, ...] | None = None

    def name(self, asset: int) -> str:
        """Return the name of an asset for messages."""
        return self.names[asset] if self.names is not None else str(asset)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Linear rows low <= matrix @ x <= high over the segments x, with a name for each side."""

    matrix: Matrix
    low: Vector
    high: Vector
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Segments:
    """Weights cut at 0 and at w0: w = start + sum of the asset's segments, 0 <= x <= length.

    On one segment |w| and |w - w0| are linear, with slopes -1 or +1 that never fall along an
    asset, so an optimum never gains by filling a later segment first.
    """

    start: Vector
    asset: NDArray[np.int64]
    length: Vector
    gross_slope: Vector
    trade_slope: Vector

    def weights(self, x: Vector) -> Vector:
        """Return the weights that the segment values `x` stand for."""
        if self.asset.size == self.start.size:
            return self.start + x
        return self.start + np.bincount(self.asset, weights=x, minlength=self.start.size)


def numbers(field: str, value: Any, size: int) -> Vector:
    """Return a finite float64 vector of `size` from one number or from a vector."""
    if isinstance(value, (int, float)):
        if not math.isfinite(value):
            raise InvalidValueError(field, "NaN or infinity", "pass finite numbers")
        return np.full(size, float(value))
    array = np.asarray(value, dtype=np.float64)
    if array.ndim == 0:
        array = np.full(size, float(array))
    if array.shape != (size,):
        raise InvalidArrayError(field, f"shape {array.shape}", f"pass one number or ({size},)")
    if not np.isfinite(array).all():
        raise InvalidValueError(field, "NaN or infinity", "pass finite numbers")
    # Strided or read-only arrays are other types for Numba, and would compile kernels anew.
    return array if array.flags.c_contiguous and array.flags.writeable else array.copy()


def _number(field: str, value: float) -> float:
    if not math.isfinite(value):
        raise InvalidValueError(field, "NaN or infinity", "pass a finite number")
    return float(value)


def bounds(limits: Constraints, size: int) -> tuple[Vector, Vector]:
    """Return (lower, upper), raising InfeasibleError with the names of crossed bounds."""
    if limits.names is not None and len(limits.names) != size:
        raise InvalidArrayError("names", f"{len(limits.names)} names", f"pass {size}")
    lower, upper = numbers("lower", limits.lower, size), numbers("upper", limits.upper, size)
    crossed = np.flatnonzero(lower > upper)
    if crossed.size:
        who = ", ".join(limits.name(int(asset)) for asset in crossed[:10])
        raise InfeasibleError("bounds", f"lower above upper for {who}", "widen those bounds")
    return lower, upper


def segments(lower: Vector, upper: Vector, kinks: list[Vector]) -> Segments:
    """Cut each asset's range at `kinks` (0 for gross, w0 for costs) that lie inside it."""
    if not kinks:
        every = np.ones(lower.size)
        index = np.arange(lower.size)
        return Segments(start=lower, asset=index, length=upper - lower, gross_slope=every, trade_slope=every)
    cuts = np.sort(np.stack([lower, *(np.clip(k, lower, upper) for k in kinks), upper]), axis=0)
    length = np.diff(cuts, axis=0).T
    keep = length > 0.0
    keep[:, 0] |= ~keep.any(axis=1)  # a fixed weight keeps one segment of length zero
    middle = (cuts[:-1] + np.diff(cuts, axis=0) / 2.0).T
    asset = np.ascontiguousarray(np.nonzero(keep)[0])
    previous = kinks[-1]
    return Segments(
        start=lower,
        asset=asset,
        length=length[keep],
        gross_slope=np.where(middle[keep] < 0.0, -1.0, 1.0),
        trade_slope=np.where(middle[keep] < previous[asset], -1.0, 1.0),
    )


def _pair(field: str, pair: tuple[float, float]) -> tuple[float, float]:
    low, high = float(pair[0]), float(pair[1])
    if np.isnan(low) or np.isnan(high):
        raise InvalidValueError(field, "NaN", "pass numbers")
    if low > high:
        raise InfeasibleError(field, f"lowest {low} above highest {high}", "swap them")
    return low, high


def rows(limits: Constraints, parts: Segments, previous: Vector) -> Rows:
    """Return the rows of budget, net, gross, turnover and sectors, in that order."""
    matrix: list[Vector] = []
    low: list[float] = []
    high: list[float] = []
    names: list[str] = []

    def add(name: str, row: Vector, lowest: float, highest: float, offset: float) -> None:
        matrix.append(row)
        low.append(lowest - offset)
        high.append(highest - offset)
        names.append(name)

    ones = np.ones(parts.asset.size)
    invested = float(parts.start.sum())
    if limits.budget is not None:
        budget = _number("budget", limits.budget)
        add("budget", ones, budget, budget, invested)
    if limits.net is not None:
        add("net", ones, *_pair("net", limits.net), invested)
    if limits.gross is not None:
        cap = _number("gross", limits.gross)
        add("gross", parts.gross_slope, -math.inf, cap, float(np.abs(parts.start).sum()))
    if limits.turnover is not None:
        cap = _number("turnover", limits.turnover)
        add("turnover", parts.trade_slope, -math.inf, cap, float(np.abs(parts.start - previous).sum()))
    if limits.sectors is not None:
        _add_sectors(limits, parts, add)
    return Rows(
        matrix=np.array(matrix).reshape(len(matrix), parts.asset.size),
        low=np.array(low),
        high=np.array(high),
        names=tuple(names),
    )


def _add_sectors(limits: Constraints, parts: Segments, add: Any) -> None:
    sectors = np.asarray(limits.sectors)
    if sectors.shape != parts.start.shape or not np.issubdtype(sectors.dtype, np.integer):
        raise InvalidArrayError("sectors", f"{sectors.dtype} {sectors.shape}", "pass (N,) int64")
    if sectors.min() < 0:
        raise InvalidValueError("sectors", "negative sector", "number them from 0")
    count = int(sectors.max()) + 1
    for name in ("sector_lower", "sector_upper"):
        given = np.asarray(getattr(limits, name))
        if getattr(limits, name) is not None and given.ndim == 1:
            count = max(count, given.size)
    lowest = np.full(count, -np.inf)
    highest = np.full(count, np.inf)
    if limits.sector_lower is not None:
        lowest = numbers("sector_lower", limits.sector_lower, count)
    if limits.sector_upper is not None:
        highest = numbers("sector_upper", limits.sector_upper, count)
    for sector in range(count):
        member = (sectors == sector).astype(np.float64)
        pair = _pair(f"sector[{sector}]", (lowest[sector], highest[sector]))
        add(f"sector[{sector}]", member[parts.asset], *pair, float(member @ parts.start))


def explain(found: Rows, length: Vector) -> InfeasibleError:
    """Return the error that names a set of rows which contradict each other within the bounds.

    Solves the elastic linear program min sum of violations; rows with a multiplier form the
    conflict (Farkas), and the violation left says by how much it fails.
    """
    from scipy.optimize import linprog

    count, size = found.matrix.shape
    # Each row may be missed by `under` below its lowest or `over` above its highest.
    above = np.hstack([found.matrix, np.zeros((count, count)), -np.eye(count)])
    below = np.hstack([-found.matrix, -np.eye(count), np.zeros((count, count))])
    matrix, limit = np.vstack([above, below]), np.concatenate([found.high, -found.low])
    real = np.isfinite(limit)
    cost = np.concatenate([np.zeros(size), np.ones(2 * count)])
    ranges = [(0.0, float(top)) for top in length] + [(0.0, None)] * (2 * count)
    answer = linprog(cost, A_ub=matrix[real], b_ub=limit[real], bounds=ranges, method="highs")
    sides = [f"{name} upper" for name in found.names] + [f"{name} lower" for name in found.names]
    pressed = np.abs(answer.ineqlin.marginals) > 1e-9
    names = [side for side, kept in zip(np.array(sides)[real], pressed, strict=True) if kept]
    return InfeasibleError(
        "constraints",
        f"{', '.join(names)} cannot hold together within the bounds (missed by {answer.fun:.6g})",
        "relax one of them or the bounds",
    )
