"""The agents that were seen, and whether each is heard: a fold over the coordinator's own events. Pure.

ACTIVE ──────── paused by a person ───────► PAUSED ── resumed ──► ACTIVE
ACTIVE ── errors, stale data, calibration ► QUARANTINED ── time ► PROBATION ── time ► ACTIVE
                                                 ▲─────── trouble ────┘
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from alphamesh.decision.v1 import decision_pb2, events_pb2, policy_pb2, roster_pb2

from .record import Record

State = roster_pb2.AgentState
ACTIVE, PAUSED = State.AGENT_STATE_ACTIVE, State.AGENT_STATE_PAUSED
QUARANTINED, PROBATION = State.AGENT_STATE_QUARANTINED, State.AGENT_STATE_PROBATION
HEARD = frozenset({ACTIVE, PROBATION})
# A service that is away has no voice, returns by itself, and did nothing wrong.
_Missing = decision_pb2.MissingAgent
_NO_ERROR = frozenset({_Missing.CAUSE_LATE, _Missing.CAUSE_AWAY, _Missing.CAUSE_UNSPECIFIED})
_STALE = "STALE_DATA"


@dataclass(frozen=True, kw_only=True)
class Member:
    """One agent. Counts are of decisions; see RegisteredAgent in the contract."""

    agent_id: str
    service: str
    kind: str
    listed_version: str
    version: str
    registered_ns: int
    since_ns: int
    state: roster_pb2.AgentState.ValueType = ACTIVE
    reason: str = ""
    errors: int = 0
    stale: int = 0
    age: int = 0


@dataclass(frozen=True)
class Roster:
    """All of them, by agent_id. Immutable: the next one is judged before it is durable."""

    members: Mapping[str, Member] = field(default_factory=dict)

    def kinds(self) -> dict[str, str]:
        """Kind by agent_id."""
        return {name: member.kind for name, member in self.members.items()}

    def news(self, listings: Mapping[str, Iterable[tuple[str, str, str]]]) -> list[events_pb2.AgentRegistered]:
        """Agents that were not known as what they are listed now. listings: (agent_id, kind, version) by service."""
        found = []
        for service, agents in listings.items():
            for agent_id, kind, version in agents:
                known = self.members.get(agent_id)
                if known is None or (known.service, known.kind, known.listed_version) != (service, kind, version):
                    found.append(
                        events_pb2.AgentRegistered(agent_id=agent_id, service=service, kind=kind, version=version)
                    )
        return found

    def registered(self, event: events_pb2.AgentRegistered, ts_ns: int) -> Roster:
        """Seen for the first time: active. Seen with another version: as it was."""
        known = self.members.get(event.agent_id)
        if known is None:
            known = Member(
                agent_id=event.agent_id, service="", kind="", listed_version="", version=event.version,
                registered_ns=ts_ns, since_ns=ts_ns,
            )  # fmt: skip
        return self._with(replace(known, service=event.service, kind=event.kind, listed_version=event.version))

    def changed(self, event: events_pb2.AgentStateChanged, ts_ns: int) -> Roster:
        """A new state; its counts begin anew. What was measured does not overrule what a person just said."""
        known = self.members[event.agent_id]
        if event.decision_id and known.state != event.from_state:
            return self
        return self._with(
            replace(known, state=event.to_state, reason=event.reason, since_ns=ts_ns, errors=0, stale=0, age=0)
        )

    def decided(self, decision: decision_pb2.Decision) -> Roster:
        """With what each agent did in a decision."""
        causes = {missing.service: missing.cause for missing in decision.missing}
        signals = {signal.agent_id: signal for signal in decision.signals}
        versions = {voice.agent_id: voice.version for voice in decision.voices}
        members = {}
        for name, member in self.members.items():
            errors, stale = member.errors, member.stale
            cause = causes.get(member.service)
            if name in signals:
                errors, stale = 0, stale + 1 if _is_stale(signals[name]) else 0
            elif cause is not None and cause not in _NO_ERROR:
                errors += 1
            version = versions.get(name, member.version)
            members[name] = replace(member, errors=errors, stale=stale, age=member.age + 1, version=version)
        return Roster(members)

    def judged(
        self, rules: policy_pb2.Lifecycle, record: Record, decision_id: str
    ) -> list[events_pb2.AgentStateChanged]:
        """Changes of state that follow from what the agents did."""
        changes = []
        for name, member in self.members.items():
            found = _judge(member, rules, record)
            if found is not None:
                changes.append(
                    events_pb2.AgentStateChanged(
                        agent_id=name,
                        from_state=member.state,
                        to_state=found[0],
                        reason=found[1],
                        decision_id=decision_id,
                    )
                )
        return changes

    def _with(self, member: Member) -> Roster:
        return Roster({**self.members, member.agent_id: member})


def _judge(
    member: Member, rules: policy_pb2.Lifecycle, record: Record
) -> tuple[roster_pb2.AgentState.ValueType, str] | None:
    if member.state == PAUSED:
        return None
    trouble = _trouble(member, rules, record)
    if member.state == QUARANTINED:
        if member.age >= rules.quarantine_decisions and not trouble:
            return PROBATION, f"{member.age} decisions in quarantine have passed"
        return None
    if trouble:
        return QUARANTINED, trouble
    if member.state == PROBATION and member.age >= rules.probation_decisions:
        return ACTIVE, f"{member.age} decisions on probation without trouble"
    return None


def _trouble(member: Member, rules: policy_pb2.Lifecycle, record: Record) -> str:
    if member.errors >= rules.maximum_errors:
        return f"{member.errors} refused answers or failed calls in a row"
    if member.stale >= rules.maximum_stale:
        return f"its data were stale in {member.stale} decisions in a row"
    tally = record.of(member.agent_id, member.version)
    brier = tally.brier_score
    if brier is not None and tally.observations >= rules.minimum_observations and brier > rules.maximum_brier:
        return f"its confidence means nothing: Brier score {brier:.3f} over {rules.maximum_brier:g}; a coin has 0.25"
    return ""


def _is_stale(signal: decision_pb2.Signal) -> bool:
    return not signal.instrument_index and bool(signal.abstained) and all(a.reason == _STALE for a in signal.abstained)
