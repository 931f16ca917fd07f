"""From an event to an audit record, and records to their chain. Pure: the same event gives the same record.

What an event does not say stays empty: the method and the hash of the request that led to it are in the writer's
journal, not in its events.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message
from google.rpc import code_pb2

from alphamesh.audit.v1 import audit_pb2, event_pb2
from alphamesh.audit.v1 import events_pb2 as audit
from alphamesh.decision.v1 import decision_pb2
from alphamesh.decision.v1 import events_pb2 as decision
from alphamesh.execution.v1 import events_pb2 as execution
from alphamesh.execution.v1 import order_pb2
from alphamesh.risk.v1 import events_pb2 as risk
from alphamesh.risk.v1 import risk_pb2
from alphamesh.venue.v1 import venue_pb2
from python_services.kit import describe
from python_services.kit.client import TRUST_DOMAIN

ALLOWED = audit_pb2.AUDIT_VERDICT_ALLOWED
DENIED = audit_pb2.AUDIT_VERDICT_DENIED
FAILED = audit_pb2.AUDIT_VERDICT_FAILED
Outcome = tuple["audit_pb2.AuditVerdict.ValueType", str]
OPERATOR = "operator"

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ALLOWED: Outcome = (ALLOWED, "")


def _order(event: execution.OrderInitialized) -> Outcome:
    if event.state != order_pb2.ORDER_STATE_DENIED:
        return _ALLOWED
    reasons = event.denial_reasons
    return DENIED, order_pb2.DenialReason.Name(reasons[0]).removeprefix("DENIAL_REASON_") if reasons else "DENIED"


def _order_state(event: execution.OrderStateChanged) -> Outcome:
    return (FAILED, "VENUE_REJECTED") if event.to_state == order_pb2.ORDER_STATE_REJECTED else _ALLOWED


def _assessment(event: risk.PortfolioAssessed) -> Outcome:
    rejected = event.assessment.verdict == risk_pb2.Assessment.VERDICT_REJECTED
    return (DENIED, "PORTFOLIO_REJECTED") if rejected else _ALLOWED


def _report(event: venue_pb2.Report) -> Outcome:
    return (FAILED, "VENUE_REJECTED") if event.kind == venue_pb2.Report.KIND_REJECTED else _ALLOWED


def _session(event: decision.SessionEnded) -> Outcome:
    failed = event.session.state == decision_pb2.Session.STATE_FAILED
    return (FAILED, "SESSION_FAILED") if failed else _ALLOWED


def _access(event: audit.AccessDenied) -> Outcome:
    return DENIED, code_pb2.Code.Name(event.status_code)


_OUTCOMES: dict[str, Callable[[Any], Outcome]] = {
    kind.DESCRIPTOR.full_name: outcome
    for kind, outcome in (
        (audit.AccessDenied, _access),
        (execution.OrderInitialized, _order),
        (execution.OrderStateChanged, _order_state),
        (risk.PortfolioAssessed, _assessment),
        (venue_pb2.Report, _report),
        (decision.SessionEnded, _session),
    )
}
_TYPES: dict[str, type[Message]] = {}


def record(envelope: event_pb2.EventEnvelope) -> audit_pb2.AuditRecord:
    """The record of an event of a type of today, without its place in the log: seq, prev_hash and hash."""
    schema = envelope.schema
    kind = _TYPES.get(schema)
    if kind is None:
        kind = _TYPES[schema] = describe.message_type(schema)
    payload = kind.FromString(envelope.payload)
    outcome = _OUTCOMES.get(schema)
    verdict, reason = outcome(payload) if outcome is not None else _ALLOWED
    causation = envelope.causation_id
    made = audit_pb2.AuditRecord(
        record_id=envelope.event_id,
        service=envelope.stream,
        verdict=verdict,
        reason=reason,
        message=describe.line(payload),
        request_id=causation if _UUID.fullmatch(causation) else "",
        decision_id=envelope.correlation_id,
        causation_id=causation,
        correlation_id=envelope.correlation_id,
        account_id=describe.value_at(payload, "account_id"),
        ts_event_ns=envelope.ts_event_ns,
        ts_init_ns=envelope.ts_init_ns,
        stream=envelope.stream,
        stream_seq=envelope.seq,
        schema=schema,
        event_hash=envelope.hash,
    )
    _set_actor(made.actor, envelope, payload)
    if isinstance(payload, audit.AccessDenied):
        made.service, made.method = payload.service, payload.method
        made.status_code, made.trace_id = payload.status_code, payload.trace_id
    return made


def _set_actor(actor: audit_pb2.Actor, envelope: event_pb2.EventEnvelope, payload: Message) -> None:
    actor.identity, actor.kind = envelope.producer, audit_pb2.Actor.KIND_SERVICE
    if isinstance(payload, audit.AccessDenied):
        actor.identity, actor.on_behalf_of = payload.caller.removeprefix(TRUST_DOMAIN), payload.user
        if actor.identity == OPERATOR:
            actor.kind = audit_pb2.Actor.KIND_OPERATOR
        return
    by_operator = isinstance(payload, execution.TradingStateChanged) or (
        isinstance(payload, risk.TradingStateRequested) and payload.cause == risk.TradingStateRequested.CAUSE_OPERATOR
    )
    if by_operator:
        actor.identity, actor.kind = OPERATOR, audit_pb2.Actor.KIND_OPERATOR


def chain(made: audit_pb2.AuditRecord, seq: int, previous: bytes) -> audit_pb2.AuditRecord:
    """Puts a record into its place in the log."""
    made.seq, made.prev_hash = seq, previous
    made.hash = hashlib.sha256(made.SerializeToString(deterministic=True)).digest()
    return made


def follows(found: audit_pb2.AuditRecord, seq: int, previous: bytes) -> bool:
    """Whether a stored record is the one after `previous`, unaltered."""
    bare = audit_pb2.AuditRecord()
    bare.CopyFrom(found)
    bare.ClearField("hash")
    digest = hashlib.sha256(bare.SerializeToString(deterministic=True)).digest()
    return found.seq == seq and found.prev_hash == previous and found.hash == digest


def content(found: audit_pb2.AuditRecord) -> bytes:
    """A record without its place: what a rebuild must give again, in whatever order it reads the streams."""
    bare = audit_pb2.AuditRecord()
    bare.CopyFrom(found)
    for field in ("seq", "prev_hash", "hash"):
        bare.ClearField(field)
    return bare.SerializeToString(deterministic=True)
