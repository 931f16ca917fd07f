"""Did the VaR forecasts hold? Kupiec, Christoffersen, and Basel's traffic light.

Input: exceptions, bool (T,), oldest first: True where the loss exceeded that day's VaR forecast.
Errors: InvalidArrayError, InvalidValueError.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, chdtrc, xlog1py, xlogy

from execution_core.errors import InvalidArrayError, InvalidValueError
from execution_core.risk.tail import check_level

Exceptions: TypeAlias = NDArray[np.bool_]


class Zone(IntEnum):
    """Basel's zones: green below 95% of the binomial, yellow below 99.99%, red from there."""

    GREEN = 1
    YELLOW = 2
    RED = 3


@dataclass(frozen=True, kw_only=True)
class Test:
    """A likelihood-ratio `statistic` and its chi-square `p_value`; small p rejects the model."""

    __test__ = False  # not a test of pytest's

    statistic: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class TrafficLight:
    """`probability` of at most that many exceptions under a right model, and the `multiplier`."""

    zone: Zone
    exceptions: int
    probability: float
    multiplier: float


# Basel Committee (1996), table 2; in the yellow zone by number of exceptions in 250 days, 99%.
_YELLOW_PLUS = {5: 0.40, 6: 0.50, 7: 0.65, 8: 0.75, 9: 0.85}


def exceptions(losses: Any, forecasts: Any) -> Exceptions:
    """Return where losses (T,) exceeded the VaR forecasts (T,) made for the same days."""
    left, right = np.asarray(losses, dtype=np.float64), np.asarray(forecasts, dtype=np.float64)
    if left.ndim != 1 or left.shape != right.shape:
        raise InvalidArrayError("forecasts", f"shape {right.shape}", f"pass {left.shape}, as losses")
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        raise InvalidValueError("losses", "NaN or infinity", "leave those days out")
    over: Exceptions = left > right
    return over


def _check(hits: Any, at_least: int) -> Exceptions:
    if not isinstance(hits, np.ndarray) or hits.dtype != np.bool_ or hits.ndim != 1:
        raise InvalidArrayError("hits", "not a boolean vector", "pass exceptions(losses, forecasts)")
    if hits.size < at_least:
        raise InvalidArrayError("hits", f"{hits.size} days", f"pass at least {at_least}")
    return hits


def _likelihood(failures: int, successes: int, chance: float) -> float:
    """Log-likelihood of a Bernoulli sequence; 0 * log 0 counts as 0."""
    return float(xlogy(failures, chance) + xlog1py(successes, -chance))


def kupiec(hits: Exceptions, level: float) -> Test:
    """Unconditional coverage (Kupiec 1995): are exceptions as frequent as 1 - level? 1 degree."""
    hits, level = _check(hits, 1), check_level(level)
    failures, days = int(hits.sum()), hits.size
    ratio = _likelihood(failures, days - failures, failures / days)
    statistic = max(0.0, 2.0 * (ratio - _likelihood(failures, days - failures, 1.0 - level)))
    return Test(statistic=statistic, p_value=float(chdtrc(1, statistic)))


def christoffersen(hits: Exceptions, level: float) -> tuple[Test, Test]:
    """Return (independence, conditional coverage) after Christoffersen (1998).

    Independence, 1 degree: does an exception make another one likelier the next day? Conditional
    coverage, 2 degrees: independence and the right frequency together, both over the days that
    have a day before.
    """
    hits, level = _check(hits, 2), check_level(level)
    before, after = hits[:-1], hits[1:]
    n00, n01 = int((~before & ~after).sum()), int((~before & after).sum())
    n10, n11 = int((before & ~after).sum()), int((before & after).sum())
    alone = _likelihood(n01, n00, n01 / max(n00 + n01, 1))
    again = _likelihood(n11, n10, n11 / max(n10 + n11, 1))
    together = _likelihood(n01 + n11, n00 + n10, (n01 + n11) / (hits.size - 1))
    independence = max(0.0, 2.0 * (alone + again - together))
    coverage = max(0.0, 2.0 * (alone + again - _likelihood(n01 + n11, n00 + n10, 1.0 - level)))
    return (
        Test(statistic=independence, p_value=float(chdtrc(1, independence))),
        Test(statistic=coverage, p_value=float(chdtrc(2, coverage))),
    )


def traffic_light(hits: Exceptions, level: float = 0.99) -> TrafficLight:
    """Basel's traffic light (Basel Committee 1996, "Supervisory framework for backtesting").

    Zones by the binomial probability of at most that many exceptions. The multiplier is the
    table's for the yellow zone of 250 days at 99%; elsewhere 3 and 4 with the table's steps
    spread over the yellow zone.
    """
    hits, level = _check(hits, 1), check_level(level)
    count, days = int(hits.sum()), hits.size
    probability = float(bdtr(count, days, 1.0 - level))
    if probability < 0.95:
        return TrafficLight(zone=Zone.GREEN, exceptions=count, probability=probability, multiplier=3.0)
    if probability >= 0.9999:
        return TrafficLight(zone=Zone.RED, exceptions=count, probability=probability, multiplier=4.0)
    if days == 250 and level == 0.99:
        plus = _YELLOW_PLUS[count]
    else:
        counts = np.arange(days + 1)
        reached = bdtr(counts, days, 1.0 - level)
        first, last = int(np.argmax(reached >= 0.95)), int(np.argmax(reached >= 0.9999)) - 1
        plus = 0.40 + 0.45 * (count - first) / max(last - first, 1)
    return TrafficLight(zone=Zone.YELLOW, exceptions=count, probability=probability, multiplier=3.0 + plus)
