"""Queue positions: how far an order moves up when its level changes. The models are described in ``l2``."""

from __future__ import annotations

import math
from typing import Any

from execution_core.jit import kernel
from execution_core.simulation.l2_state import LOG, LOG_OF_TOTAL, POWER_OF_SHARE, POWER_OF_TOTAL, RISK_AVERSE, Venue


@kernel
def _shape(v: Venue, x: float) -> float:
    if v.queue >= LOG:
        return math.log(1.0 + x * v.lot_size)
    return float(x**v.power)


@kernel
def behind_probability(v: Venue, front: float, back: float) -> float:
    """The probability that a cancellation happened behind us, with `front` and `back` lots around."""
    if v.queue == POWER_OF_SHARE:
        probability = 1.0 - _shape(v, front / (front + back))
    elif v.queue in (POWER_OF_TOTAL, LOG_OF_TOTAL):
        probability = _shape(v, back) / _shape(v, back + front)
    else:
        probability = _shape(v, back) / (_shape(v, back) + _shape(v, front))
    return probability if math.isfinite(probability) else 1.0


@kernel
def level_changed(v: Venue, order: Any, previous: int, lots: int) -> None:
    """Move an order up its queue when its level went from `previous` to `lots`."""
    front = order["front"]
    if v.queue == RISK_AVERSE:
        order["front"] = min(front, float(lots))
        return
    change = previous - lots - order["traded"]
    order["traded"] = 0.0
    if change < 0:
        order["front"] = min(front, float(lots))
        return
    back = previous - front
    probability = behind_probability(v, front, back)
    estimate = front - (1.0 - probability) * change + min(back - probability * change, 0.0)
    order["front"] = min(estimate, float(lots))
