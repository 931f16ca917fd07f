"""What all agents share: their input, their output, and when they must abstain.

An agent is a pure function of a window of bars. It answers for every instrument at once, as columns;
which instruments may be answered for at all is decided here, in one place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from execution_core import indicators

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

NANO = 1_000_000_000
# A long weekend, and a day more: an older newest bar says nothing about today.
STALE_AFTER_NS = 5 * 86_400 * NANO
EWMA_DECAY, EWMA_SEED = 0.94, 20
_SQRT2 = math.sqrt(2.0)


class Reason(StrEnum):
    """Why an agent abstains; the names are those of agent.v1.Abstention.Reason."""

    INSUFFICIENT_HISTORY = "INSUFFICIENT_HISTORY"
    STALE_DATA = "STALE_DATA"
    MISSING_DATA = "MISSING_DATA"
    NO_SIGNAL = "NO_SIGNAL"


@dataclass(frozen=True)
class Window:
    """Bars x instruments, C-contiguous, oldest first, adjusted; NaN where there is no bar."""

    as_of_ns: int
    ts_event_ns: NDArray[np.int64]
    open: Floats
    high: Floats
    low: Floats
    close: Floats

    @cached_property
    def complete(self) -> Mask:
        """Where all four prices are present."""
        return ~np.isnan(self.open + self.high + self.low + self.close)

    @cached_property
    def run(self) -> NDArray[np.int64]:
        """Complete bars of each instrument up to and with the newest one, without a gap."""
        backwards = self.complete[::-1]
        return np.where(backwards.all(axis=0), len(backwards), np.argmin(backwards, axis=0))

    @cached_property
    def log_close(self) -> Floats:
        """Natural logarithm of the close."""
        return np.log(self.close)

    @cached_property
    def returns(self) -> Floats:
        """Log returns; the first row is NaN."""
        returns = np.full_like(self.close, np.nan)
        np.subtract(self.log_close[1:], self.log_close[:-1], out=returns[1:])
        return returns

    @cached_property
    def daily_volatility(self) -> Floats:
        """RiskMetrics volatility for the next bar, one per instrument."""
        return np.asarray(indicators.ewma_volatility(self.returns, EWMA_DECAY, EWMA_SEED)[-1])

    @cached_property
    def sample_volatility(self) -> Floats:
        """Standard deviation of the last 60 returns: the yardstick of the test statistics."""
        return np.asarray(indicators.stdev(self.returns[-SAMPLE:], SAMPLE)[-1])


SAMPLE = 60


@dataclass(frozen=True, kw_only=True)
class Signal:
    """One value per instrument. Where `clear` is false the agent abstains, and `unclear` says why.

    expected_return: simple return over the horizon, None when the agent does not forecast it.
    volatility: standard deviation of that return. confidence: in [0, 1].
    """

    expected_return: Floats | None
    volatility: Floats
    confidence: Floats
    clear: Mask
    unclear: str
    evidence: dict[str, Floats]


@dataclass(frozen=True, kw_only=True)
class Agent:
    """One agent. `compute` sees only instruments that pass `eligible`; the others' columns are NaN."""

    agent_id: str
    version: str
    minimum_bars: int
    horizon_bars: int
    description: str
    compute: Callable[[Window, Mask], Signal]


@dataclass(frozen=True, kw_only=True)
class Abstention:
    """No forecast for one instrument."""

    index: int
    reason: Reason
    detail: str


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Columns over `index`, and an abstention for every other instrument: each exactly once."""

    agent: Agent
    index: NDArray[np.int64]
    expected_return: Floats | None
    volatility: Floats
    confidence: Floats
    evidence: dict[str, Floats]
    abstentions: list[Abstention]


def forecast(agent: Agent, window: Window) -> Forecast:
    """Runs one agent on all instruments of a window."""
    able = eligible(window, agent.minimum_bars)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        signal = agent.compute(window, able)
        moving = (signal.volatility > 0.0) & np.isfinite(signal.volatility)
    columns = [signal.confidence, *signal.evidence.values()]
    if signal.expected_return is not None:
        columns.append(signal.expected_return)
    defined: Mask = np.logical_and.reduce(np.isfinite(np.stack(columns)))
    answered: Mask = able & moving & defined & signal.clear
    index = np.flatnonzero(answered)
    abstentions = []
    for i in np.flatnonzero(~answered).tolist():
        if not able[i]:
            abstentions.append(_unable(window, agent.minimum_bars, i))
        else:
            detail = signal.unclear if moving[i] and defined[i] else "the price did not move"
            abstentions.append(Abstention(index=i, reason=Reason.NO_SIGNAL, detail=detail))
    return Forecast(
        agent=agent,
        index=index,
        expected_return=None if signal.expected_return is None else signal.expected_return[index],
        volatility=signal.volatility[index],
        confidence=signal.confidence[index],
        evidence={name: values[index] for name, values in signal.evidence.items()},
        abstentions=abstentions,
    )


def eligible(window: Window, minimum_bars: int) -> Mask:
    """Instruments with a fresh, unbroken run of at least `minimum_bars` bars."""
    fresh = window.as_of_ns - int(window.ts_event_ns[-1]) <= STALE_AFTER_NS
    return (window.run >= minimum_bars) & fresh


def tail(values: Floats, bars: int) -> Floats:
    """The last rows, so that an indicator reads exactly the bars that the agent declares."""
    return values[-bars:]


def confidence(statistic: Floats) -> Floats:
    """1 - p of a two-sided test: erf(|t| / sqrt 2), with t standard normal when there is no signal."""
    return np.array([math.erf(abs(value) / _SQRT2) for value in statistic.tolist()])


def weighted_past(weights: Floats) -> float:
    """Standard deviation of sum(w x return) of independent returns with deviation 1."""
    return float(np.sqrt(np.square(weights).sum()))


def average_weights(bars: int, length: int) -> Floats:
    """Weights of the last `length` returns, newest first, in x - mean of the last `bars` values of x."""
    return np.maximum(bars - 1 - np.arange(length), 0.0) / bars


def _unable(window: Window, minimum_bars: int, i: int) -> Abstention:
    held, run = int(window.complete[:, i].sum()), int(window.run[i])
    if held == 0:
        return Abstention(index=i, reason=Reason.INSUFFICIENT_HISTORY, detail="the snapshot holds no bar of it")
    newest = int(window.ts_event_ns[np.flatnonzero(window.complete[:, i])[-1]])
    if run == 0 or window.as_of_ns - newest > STALE_AFTER_NS:
        detail = f"its newest bar is of {_moment(newest)}, as_of is {_moment(window.as_of_ns)}"
        return Abstention(index=i, reason=Reason.STALE_DATA, detail=detail)
    if held > run:
        detail = f"no bar {run} bars ago; {minimum_bars} in a row are needed"
        return Abstention(index=i, reason=Reason.MISSING_DATA, detail=detail)
    detail = f"{run} bars of history, {minimum_bars} are needed"
    return Abstention(index=i, reason=Reason.INSUFFICIENT_HISTORY, detail=detail)


def _moment(ts_ns: int) -> str:
    return datetime.fromtimestamp(ts_ns // NANO, UTC).isoformat().replace("+00:00", "Z")
