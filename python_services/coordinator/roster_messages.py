"""An agent and its track record as messages. Numbers that were not computed are absent."""

from __future__ import annotations

from alphamesh.decision.v1 import roster_pb2

from .record import Record, Tally
from .roster import Member
from .scoring import BINS


def to_message(member: Member, record: Record) -> roster_pb2.RegisteredAgent:
    """All versions and regimes that were scored, those of the version that answers now first."""
    keys = [key for key in record.tallies if key[0] == member.agent_id]
    keys.sort(key=lambda key: (key[1] != member.version, key[1], key[2] or ""))
    return roster_pb2.RegisteredAgent(
        agent_id=member.agent_id,
        service=member.service,
        kind=member.kind,
        version=member.version,
        state=member.state,
        reason=member.reason,
        registered_ns=member.registered_ns,
        state_since_ns=member.since_ns,
        errors=member.errors,
        stale=member.stale,
        decisions_in_state=member.age,
        records=[_track_record(version, regime, record.of(agent, version, regime)) for agent, version, regime in keys],
    )


def _track_record(version: str, regime: str | None, tally: Tally) -> roster_pb2.TrackRecord:
    return roster_pb2.TrackRecord(
        version=version,
        regime=regime,
        forecasts=tally.forecasts,
        observations=tally.observations,
        information_coefficient=tally.information_coefficient,
        cross_sectional_coefficient=tally.cross_sectional_coefficient,
        hit_rate=tally.hit_rate,
        brier=tally.brier_score,
        mean_absolute_error=tally.mean_absolute_error,
        calibration=[
            roster_pb2.CalibrationBin(
                **{"from": 0.5 + 0.5 * number / BINS},
                to=0.5 + 0.5 * (number + 1) / BINS,
                count=count,
                stated=tally.p[number] / count,
                observed=tally.hits[number] / count,
            )
            for number, count in enumerate(tally.stated)
            if count
        ],
    )
