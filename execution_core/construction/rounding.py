"""From weights to whole lots, never spending more cash than there is.

Money is int64 nano units throughout and sums are Python integers, so nothing overflows or drifts.
The rules, in this order:

1. The ideal position is weight * equity / lot value, in lots.
2. A holding less than one lot away from its ideal is kept: no turnover for a fraction of a lot.
3. Others are cut towards zero to whole lots, so that rounding alone never adds exposure.
4. A trade below `min_trade` is dropped, except one that closes a position of weight zero.
5. If cash would be short, purchases are cut, all to the same amount of money below their ideal;
   if that is not enough, long positions are.
6. Cash left buys one lot back, or sells one short, where that moves the position nearer its
   ideal, largest improvement first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from execution_core.construction.constraints import Vector, numbers
from execution_core.errors import InfeasibleError, InvalidArrayError, InvalidValueError
from execution_core.types import NANO

Lots: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Rounded:
    """`lots` to hold and `trades` to get there, (N,) int64; `cash` in nano after them, >= 0."""

    lots: Lots
    trades: Lots
    cash: int


def _integers(field: str, value: Any, size: int) -> Lots:
    array = np.asarray(value)
    if array.shape != (size,) or not np.issubdtype(array.dtype, np.integer):
        raise InvalidArrayError(field, f"{array.dtype} {array.shape}", f"pass int64 ({size},)")
    return array.astype(np.int64, copy=False)


def round_to_lots(
    weights: Vector,
    equity: int,
    lot_values: Lots,
    held: Lots | None = None,
    *,
    min_trade: int = 0,
    fee_e9: int = 0,
) -> Rounded:
    """Return whole lots near `weights`.

    weights     (N,) signed fractions of equity
    equity      nano units: cash plus the value of `held`
    lot_values  (N,) int64, nano units one lot costs now, above zero
    held        (N,) int64 lots now, zero when None
    min_trade   nano units: smaller trades are not made
    fee_e9      fee per traded notional, in billionths, rounded up for every asset

    Raises InvalidArrayError and InvalidValueError; InfeasibleError when cash is short even after
    every purchase is given up and every long position sold that may be.
    """
    weights = np.asarray(weights, dtype=np.float64)
    if weights.ndim != 1 or weights.size == 0:
        raise InvalidArrayError("weights", f"shape {weights.shape}", "pass (assets,)")
    size = weights.size
    weights = numbers("weights", weights, size)
    all_values = _integers("lot_values", lot_values, size)
    before = np.zeros(size, dtype=np.int64) if held is None else _integers("held", held, size)
    if all_values.min() <= 0:
        raise InvalidValueError("lot_values", "at or below zero", "pass the cost of one lot")
    for field, number in (("equity", equity), ("min_trade", min_trade), ("fee_e9", fee_e9)):
        if number < 0:
            raise InvalidValueError(field, f"{number}", "pass a number >= 0")
    # What is neither held nor wanted stays at zero: of hundreds of assets, a few dozen are left.
    active = np.flatnonzero((weights != 0.0) | (before != 0))
    values: list[int] = all_values[active].tolist()
    now: list[int] = before[active].tolist()
    ideal = [weight * (equity / value) for weight, value in zip(weights[active].tolist(), values, strict=True)]
    if max(map(abs, ideal), default=0.0) >= 2.0**62:
        raise InvalidValueError("weights", "more lots than int64 holds", "check equity and values")

    lots = [
        have if abs(want - have) < 1.0 and want != 0.0 else int(want) for want, have in zip(ideal, now, strict=True)
    ]
    for i in range(len(lots)):
        if abs(lots[i] - now[i]) * values[i] < min_trade and ideal[i] != 0.0:
            lots[i] = now[i]

    def fee(i: int, target: int) -> int:
        return -(-abs(target - now[i]) * values[i] * fee_e9 // NANO)

    def cost(i: int, target: int) -> int:
        """Cash that asset `i` ties up at `target`, its fee included."""
        return target * values[i] + fee(i, target)

    def cash_of(plan: list[int]) -> int:
        return equity - sum(cost(i, target) for i, target in enumerate(plan))

    _give_up(lots, now, ideal, values, min_trade, cash_of)
    _spend(lots, now, ideal, values, cash_of(lots), min_trade, cost)
    cash = cash_of(lots)
    answer = np.zeros(size, dtype=np.int64)
    answer[active] = lots
    return Rounded(lots=answer, trades=answer - before, cash=cash)


def _give_up(
    lots: list[int], now: list[int], ideal: list[float], values: list[int], min_trade: int, cash_of: Any
) -> None:
    """Cut purchases, and if that is not enough long positions, until cash is not short.

    All are cut back to the same amount of money above (or below) their ideal, the highest such
    amount that leaves cash: found by bisection, so the work does not grow with the lots.
    """

    def cut(level: float, purchases: bool) -> list[int]:
        answer = list(lots)
        for i, lot in enumerate(lots):
            target = min(lot, math.floor(ideal[i] + level / values[i]))
            if purchases and lot > now[i]:
                target = max(target, now[i])
                answer[i] = target if (target - now[i]) * values[i] >= min_trade else now[i]
            elif not purchases and lot > 0:
                target = max(target, 0)
                answer[i] = target if (now[i] - target) * values[i] >= min_trade else lot
        return answer

    reach = 2.0 * max(
        (abs(want - lot) * value + lot * value for want, lot, value in zip(ideal, lots, values, strict=True)),
        default=0.0,
    )
    for purchases in (True, False):
        if cash_of(lots) >= 0:
            return
        low, high = -reach, reach
        if cash_of(cut(low, purchases)) < 0:
            lots[:] = cut(low, purchases)
            continue
        for _ in range(100):
            middle = 0.5 * (low + high)
            if cash_of(cut(middle, purchases)) >= 0:
                low = middle
            else:
                high = middle
        lots[:] = cut(low, purchases)
    if cash_of(lots) < 0:
        raise InfeasibleError("equity", f"cash short by {-cash_of(lots)} nano", "lower the weights")


def _spend(
    lots: list[int],
    now: list[int],
    ideal: list[float],
    values: list[int],
    cash: int,
    min_trade: int,
    cost: Any,
) -> None:
    """Move a position one lot nearer its ideal where that helps and cash allows."""
    order: list[tuple[float, int, int]] = []
    for i, lot in enumerate(lots):
        step = 1 if ideal[i] > lot else -1
        gain = (abs(ideal[i] - lot) - abs(ideal[i] - lot - step)) * values[i]
        trade = abs(lot + step - now[i]) * values[i]
        if gain > 0.0 and abs(ideal[i] - now[i]) >= 1.0 and trade >= min_trade:
            order.append((-gain, i, step))
    for _, i, step in sorted(order):
        needed = cost(i, lots[i] + step) - cost(i, lots[i])
        if needed <= cash:
            lots[i] += step
            cash -= needed
