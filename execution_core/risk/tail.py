"""Value at risk and expected shortfall of a sample of losses: one definition for every method.

Losses are positive when money is lost. For a level a (0.99, say) and equally likely losses:

    VaR  the smallest loss x with P(loss <= x) >= a: the ceil(n a)-th smallest, never interpolated
    ES   the mean of the worst 1 - a of probability (Acerbi and Tasche 2002, definition 3.1), which
         counts VaR's own scenario in part; coherent, so subadditive, and never below VaR

With weights the same, on the weighted distribution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.jit import kernel

Matrix: TypeAlias = NDArray[np.float64]
Vector: TypeAlias = NDArray[np.float64]

# n * level is a product of floats: 0.95 * 20 must count as 19.
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class TailRisk:
    """`var` and `es` in the unit of the losses, at confidence `level`."""

    var: float
    es: float
    level: float


def check_level(level: float) -> float:
    """Return `level` when it lies strictly between 0 and 1."""
    if not 0.0 < level < 1.0:
        raise InvalidValueError("level", f"{level!r}", "pass a confidence such as 0.99")
    return float(level)


def check_losses(field: str, losses: Any) -> Vector:
    """Return `losses` as a finite float64 vector of at least one scenario."""
    array = np.asarray(losses, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise InvalidArrayError(field, f"shape {array.shape}", "pass (scenarios,)")
    if not np.isfinite(array).all():
        raise InvalidValueError(field, "NaN or infinity", "leave those scenarios out")
    return array


def beyond(count: int, level: float) -> int:
    """Return how many of `count` losses lie beyond VaR in order: count - ceil(count * level)."""
    return count - max(1, int(np.ceil(count * level - _ROUNDING)))


def tail(losses: Vector, level: float) -> TailRisk:
    """Return VaR and ES of equally likely `losses` (n,).

    Raises InvalidArrayError, InvalidValueError.
    """
    losses, level = check_losses("losses", losses), check_level(level)
    worse = beyond(losses.size, level)
    cut = losses.size - 1 - worse
    ordered = np.partition(losses, cut)
    var = float(ordered[cut])
    share = losses.size * (1.0 - level)
    es = (float(ordered[cut + 1 :].sum()) + (share - worse) * var) / share
    return TailRisk(var=var, es=max(var, es), level=level)


def weighted_tail(losses: Vector, weights: Vector, level: float) -> TailRisk:
    """Return VaR and ES of `losses` (n,) with probabilities proportional to `weights` (n,) >= 0.

    Raises InvalidArrayError, InvalidValueError.
    """
    losses, level = check_losses("losses", losses), check_level(level)
    weights = check_losses("weights", weights)
    if weights.size != losses.size:
        raise InvalidArrayError("weights", f"{weights.size} weights", f"pass {losses.size}")
    if (weights < 0.0).any() or weights.sum() <= 0.0:
        raise InvalidValueError("weights", "negative, or all zero", "pass probabilities")
    order = np.argsort(losses, kind="stable")
    sorted_losses = losses[order]
    chances = weights[order] / weights.sum()
    reached = np.cumsum(chances)
    cut = min(int(np.searchsorted(reached, level - _ROUNDING)), losses.size - 1)
    var = float(sorted_losses[cut])
    further = float(chances[cut + 1 :].sum())
    total = float(chances[cut + 1 :] @ sorted_losses[cut + 1 :])
    es = (total + (1.0 - level - further) * var) / (1.0 - level)
    return TailRisk(var=var, es=max(var, es), level=level)


@kernel(forceinline=True)
def _sink(heap: Any, value: Any) -> None:
    """Replace the root of a min-heap by a larger value."""
    size = heap.size
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= value:
            break
        heap[place] = heap[child]
        place = child
    heap[place] = value


@kernel
def row_tails(gains: Any, keep: int, var: Vector, total: Vector) -> None:
    """For every row of `gains` (books, scenarios): VaR and the sum of the losses beyond it.

    `keep` is the number of losses beyond VaR plus one. One pass with a heap of `keep` values:
    nearly every scenario costs one comparison, where a partition moves the whole row.
    """
    books, scenarios = gains.shape
    heap = np.empty(keep, gains.dtype)
    for book in range(books):
        row = gains[book]
        heap[:] = -np.inf
        # The heap holds losses, so its root is the smallest of the largest.
        threshold = heap[0]
        start = 0
        while start < scenarios:
            # Look at 16 together: most blocks hold nothing beyond the threshold.
            stop = min(start + 16, scenarios)
            hits = 0
            for t in range(start, stop):
                hits += 1 if -row[t] > threshold else 0
            if hits:
                for t in range(start, stop):
                    if -row[t] > threshold:
                        _sink(heap, -row[t])
                        threshold = heap[0]
            start = stop
        var[book] = heap[0]
        together = 0.0
        for i in range(1, keep):
            together += heap[i]
        total[book] = together


def book_tails(gains: Any, level: float) -> tuple[Vector, Vector]:
    """Return (VaR, ES), each (books,), of gains (books, scenarios), float32 or float64 C order."""
    count = gains.shape[1]
    worse = beyond(count, level)
    var, total = np.empty(gains.shape[0]), np.empty(gains.shape[0])
    row_tails(gains, worse + 1, var, total)
    share = count * (1.0 - level)
    return var, np.maximum(var, (total + (share - worse) * var) / share)


def warm() -> None:
    """Compile the kernel for both precisions."""
    for dtype in (np.float64, np.float32):
        book_tails(np.ones((2, 4), dtype), 0.5)
