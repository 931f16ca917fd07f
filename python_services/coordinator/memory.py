"""What the coordinator knows of its agents: a fold over its own events, so that a kill -9 loses nothing. Pure.

A decision is made with what the memory will be once it is durable: `scored` and `heard` are computed for it, and again
(or taken over, when it is this process's own) when its event is folded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from alphamesh.decision.v1 import decision_pb2, events_pb2, policy_pb2
from python_services.kit import packed

from .estimates import Estimate
from .record import Record
from .roster import Roster
from .scoring import Score
from .similarity import Similarity


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """What was said in a decision, and in which regime."""

    instrument_ids: tuple[str, ...]
    regime: str | None
    estimates: Sequence[Estimate]

    @cached_property
    def ending(self) -> dict[int, list[Estimate]]:
        """Forecasts of returns by their horizon in bars."""
        found: dict[int, list[Estimate]] = {}
        for estimate in self.estimates:
            if estimate.speaks:
                found.setdefault(estimate.horizon_bars, []).append(estimate)
        return found


@dataclass(kw_only=True)
class Draft:
    """What a decision in the making leads to."""

    decision_id: str
    record: Record
    similarity: Similarity
    spoken: Spoken


@dataclass(kw_only=True)
class Memory:
    """Of one session."""

    roster: Roster = field(default_factory=Roster)
    record: Record = field(default_factory=Record)
    similarity: Similarity = field(default_factory=Similarity)
    spoken: dict[int, Spoken] = field(default_factory=dict)  # by cycle, as far back as a horizon reaches
    draft: Draft | None = None

    def decided(self, decision: decision_pb2.Decision, weighting: policy_pb2.Weighting) -> None:
        """Folds a decision that is durable."""
        draft, self.draft = self.draft, None
        if draft is None or draft.decision_id != decision.decision_id:
            draft = self.after(decision, weighting, [estimate_of(signal) for signal in decision.signals])
        self.record, self.similarity = draft.record, draft.similarity
        self.spoken[decision.cycle] = draft.spoken
        longest = max((e.horizon_bars for said in self.spoken.values() for e in said.estimates), default=0)
        for cycle in [cycle for cycle in self.spoken if cycle <= decision.cycle - longest]:
            del self.spoken[cycle]
        self.roster = self.roster.decided(decision)

    def after(
        self, decision: decision_pb2.Decision, weighting: policy_pb2.Weighting, estimates: Sequence[Estimate]
    ) -> Draft:
        """What a decision's scores and signals add to what is known."""
        instruments = len(decision.instrument_ids)
        return Draft(
            decision_id=decision.decision_id,
            record=self.record.settled(map(score_of, decision.scores), weighting.half_life),
            similarity=self.similarity.after(estimates, instruments, weighting.half_life),
            spoken=Spoken(
                instrument_ids=tuple(decision.instrument_ids),
                regime=decision.regime.label if decision.HasField("regime") else None,
                estimates=estimates,
            ),
        )

    def registered(self, event: events_pb2.AgentRegistered, ts_ns: int) -> None:
        """Folds an agent that was seen."""
        self.roster = self.roster.registered(event, ts_ns)

    def changed(self, event: events_pb2.AgentStateChanged, ts_ns: int) -> None:
        """Folds a change of state."""
        self.roster = self.roster.changed(event, ts_ns)


def estimate_of(signal: decision_pb2.Signal) -> Estimate:
    """A recorded signal as arrays."""
    version, columns = signal.agent_version, packed.columns(signal)
    return Estimate(
        agent_id=signal.agent_id,
        version=f"{version}+{signal.model_version}" if signal.HasField("model_version") else version,
        horizon_bars=signal.horizon_bars,
        instrument_index=packed.integers(columns.get(signal.INSTRUMENT_INDEX_FIELD_NUMBER, b"")),
        expected_return=packed.doubles(columns.get(signal.EXPECTED_RETURN_FIELD_NUMBER, b"")),
        volatility=packed.doubles(columns.get(signal.VOLATILITY_FIELD_NUMBER, b"")),
        confidence=packed.doubles(columns.get(signal.CONFIDENCE_FIELD_NUMBER, b"")),
    )


def score_of(message: decision_pb2.ForecastScore) -> Score:
    """A recorded score."""
    return Score(
        agent_id=message.agent_id,
        version=message.version,
        horizon_bars=message.horizon_bars,
        regime=message.regime if message.HasField("regime") else None,
        forecasts=message.forecasts,
        sum_xy=message.sum_xy,
        sum_xx=message.sum_xx,
        sum_yy=message.sum_yy,
        cross_sectional=message.cross_sectional if message.HasField("cross_sectional") else None,
        sum_brier=message.sum_brier,
        sum_absolute_error=message.sum_absolute_error,
        stated=tuple(message.stated),
        hits=tuple(message.hits),
        sum_p=tuple(message.sum_p),
    )
