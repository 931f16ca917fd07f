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
