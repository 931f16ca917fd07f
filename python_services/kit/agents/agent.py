"""What all agents share: their output, and when they must abstain.

An agent is a pure function of what its cluster sees of a snapshot: a window of bars, or more. It answers for every
instrument at once, as columns; which instruments may be answered for at all is decided here, in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from .window import NANO, STALE_AFTER_NS, Floats, Mask, Window, eligible

V = TypeVar("V")


class Reason(StrEnum):
    """Why an agent abstains; the names are those of agent.v1.Abstention.Reason."""

    INSUFFICIENT_HISTORY = "INSUFFICIENT_HISTORY"
    STALE_DATA = "STALE_DATA"
    MISSING_DATA = "MISSING_DATA"
    NO_SIGNAL = "NO_SIGNAL"
    DEPENDENCY_UNAVAILABLE = "DEPENDENCY_UNAVAILABLE"


@dataclass(frozen=True, kw_only=True)
class Signal:
    """One value per instrument. Where `clear` is false the agent abstains, and `unclear` says why.

    expected_return: simple return over the horizon, None when the agent does not forecast it.
    volatility: standard deviation of that return. confidence: in [0, 1].
    unable: instruments that it cannot speak about for lack of something else than bars, and why.
    model_version: of the model behind it. degraded: what is missing, when a fallback answers.
    """

    expected_return: Floats | None
    volatility: Floats
    confidence: Floats
    clear: Mask
    unclear: str
    evidence: dict[str, Floats]
    unable: Mapping[int, tuple[Reason, str]] = field(default_factory=dict)
    model_version: str | None = None
    degraded: str | None = None


@dataclass(frozen=True, kw_only=True)
class Agent(Generic[V]):
    """One agent, which looks at a V: a Window, or what else its cluster makes of a snapshot.

    minimum_bars: instruments without so many bars in a row up to now are not spoken about. `compute` gets the view and
    the instruments that pass; what it says of others is not read. horizon_bars: how far ahead it looks.
    version: changes whenever its output could change.
    """

    agent_id: str
    version: str
    minimum_bars: int
    horizon_bars: int
    description: str
    compute: Callable[[V, Mask], Signal]


@dataclass(frozen=True, kw_only=True)
class Abstention:
    """No forecast for one instrument."""

    index: int
    reason: Reason
    detail: str


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Columns over `index`, and an abstention for every other instrument: each exactly once."""

    agent_id: str
    agent_version: str
    horizon_bars: int
    index: NDArray[np.int64]
    expected_return: Floats | None
    volatility: Floats
    confidence: Floats
    evidence: dict[str, Floats]
    abstentions: list[Abstention]
    model_version: str | None = None
    degraded: str | None = None


def forecast(agent: Agent[V], window: Window, view: V) -> Forecast:
    """Runs one agent on all instruments of a snapshot: its bars, and what the agent looks at."""
    able = eligible(window, agent.minimum_bars)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        signal = agent.compute(view, able)
        moving = (signal.volatility > 0.0) & np.isfinite(signal.volatility)
    columns = [signal.confidence, *signal.evidence.values()]
    if signal.expected_return is not None:
        columns.append(signal.expected_return)
    defined: Mask = np.logical_and.reduce(np.isfinite(np.stack(columns)))
    answered: Mask = able & moving & defined & signal.clear
    answered[list(signal.unable)] = False
    index = np.flatnonzero(answered)
    abstentions = []
    ready, sound = able.tolist(), (moving & defined).tolist()
    for i in np.flatnonzero(~answered).tolist():
        if not ready[i]:
            abstentions.append(_unable(window, agent.minimum_bars, i))
        elif i in signal.unable:
            reason, detail = signal.unable[i]
            abstentions.append(Abstention(index=i, reason=reason, detail=detail))
        else:
            detail = signal.unclear if sound[i] else "the price did not move"
            abstentions.append(Abstention(index=i, reason=Reason.NO_SIGNAL, detail=detail))
    return Forecast(
        agent_id=agent.agent_id,
        agent_version=agent.version,
        horizon_bars=agent.horizon_bars,
        index=index,
        expected_return=None if signal.expected_return is None else signal.expected_return[index],
        volatility=signal.volatility[index],
        confidence=signal.confidence[index],
        evidence={name: values[index] for name, values in signal.evidence.items()},
        abstentions=abstentions,
        model_version=signal.model_version,
        degraded=signal.degraded,
    )


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
