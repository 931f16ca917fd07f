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

    __hash__ = str.__hash__  # Enum's runs in Python, and instruments are grouped by reason


_STILL = (Reason.NO_SIGNAL, "the price did not move")


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


_NOTHING: Floats = np.empty(0)
_SILENCE = Signal(
    expected_return=None,
    volatility=_NOTHING,
    confidence=_NOTHING,
    clear=np.empty(0, dtype=np.bool_),
    unclear="",
    evidence={},
)


@dataclass(frozen=True, kw_only=True)
class Agent(Generic[V]):
    """One agent, which looks at a V: a Window, or what else its cluster makes of a snapshot.

    minimum_bars: instruments without so many bars in a row up to now are not spoken about. `compute` gets the view and
    the instruments that pass, one at least; what it says of others is not read. horizon_bars: how far ahead it looks.
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
class Withheld:
    """No forecast for these instruments, all for one reason: most agents are silent about most instruments."""

    index: list[int]
    reason: Reason
    detail: str


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Columns over `index`; every other instrument is withheld exactly once."""

    agent_id: str
    agent_version: str
    horizon_bars: int
    index: NDArray[np.int64]
    expected_return: Floats | None
    volatility: Floats
    confidence: Floats
    evidence: dict[str, Floats]
    withheld: list[Withheld]
    model_version: str | None = None
    degraded: str | None = None

    @property
    def abstentions(self) -> list[Abstention]:
        """What is withheld, by instrument."""
        found = [
            Abstention(index=i, reason=group.reason, detail=group.detail)
            for group in self.withheld
            for i in group.index
        ]
        return sorted(found, key=lambda abstention: abstention.index)


def forecast(agent: Agent[V], window: Window, view: V) -> Forecast:
    """Runs one agent on all instruments of a snapshot: its bars, and what the agent looks at."""
    able = eligible(window, agent.minimum_bars)
    signal = _SILENCE
    defined = np.zeros_like(able)
    if able.any():
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            signal = agent.compute(view, able)
            defined = able & (signal.volatility > 0.0)
        for column in (signal.volatility, signal.confidence, signal.expected_return, *signal.evidence.values()):
            if column is not None:
                defined &= np.isfinite(column)
        if signal.unable:
            defined[list(signal.unable)] = False
    answered = defined & signal.clear if defined.any() else defined
    index = answered.nonzero()[0]
    reasons: dict[tuple[Reason, str], list[int]] = {}
    silent = (defined ^ answered).nonzero()[0].tolist()
    if silent:
        reasons[Reason.NO_SIGNAL, signal.unclear] = silent
    ready = able.tolist()
    for i in (~defined).nonzero()[0].tolist():
        why = signal.unable.get(i, _STILL) if ready[i] else _why(window, agent.minimum_bars, i)
        reasons.setdefault(why, []).append(i)
    return Forecast(
        agent_id=agent.agent_id,
        agent_version=agent.version,
        horizon_bars=agent.horizon_bars,
        index=index,
        expected_return=None if signal.expected_return is None else signal.expected_return[index],
        volatility=signal.volatility[index],
        confidence=signal.confidence[index],
        evidence={name: values[index] for name, values in signal.evidence.items()},
        withheld=[Withheld(index=rows, reason=reason, detail=detail) for (reason, detail), rows in reasons.items()],
        model_version=signal.model_version,
        degraded=signal.degraded,
    )


def _why(window: Window, minimum_bars: int, i: int) -> tuple[Reason, str]:
    run, held, row = (int(values[i]) for values in window.present)
    if held == 0:
        return Reason.INSUFFICIENT_HISTORY, "the snapshot holds no bar of it"
    newest = int(window.ts_event_ns[row])
    if run == 0 or window.as_of_ns - newest > STALE_AFTER_NS:
        return Reason.STALE_DATA, f"its newest bar is of {_moment(newest)}, as_of is {_moment(window.as_of_ns)}"
    if held > run:
        return Reason.MISSING_DATA, f"no bar {run} bars ago; {minimum_bars} in a row are needed"
    return Reason.INSUFFICIENT_HISTORY, f"{run} bars of history, {minimum_bars} are needed"


def _moment(ts_ns: int) -> str:
    return datetime.fromtimestamp(ts_ns // NANO, UTC).isoformat().replace("+00:00", "Z")
