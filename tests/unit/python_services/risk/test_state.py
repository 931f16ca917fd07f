"""What risk knows of an account by itself, rebuilt from its events."""

from __future__ import annotations

from google.protobuf.message import Message

from alphamesh.audit.v1 import event_pb2
from alphamesh.risk.v1 import events_pb2, risk_pb2
from python_services.risk.config import Limits
from python_services.risk.policy import to_message
from python_services.risk.state import RiskState


def envelope(seq: int, ts_ns: int, payload: Message) -> event_pb2.EventEnvelope:
    return event_pb2.EventEnvelope(
        seq=seq, ts_event_ns=ts_ns, schema=payload.DESCRIPTOR.full_name, payload=payload.SerializeToString()
    )


def test_the_limits_of_a_moment_are_those_set_by_then() -> None:
    """So that a report that is made late, after a crash, is the one that would have been made in time."""
    state, defaults = RiskState(Limits()), Limits()
    first, second = Limits(var_bps=400), Limits(var_bps=300, stressed_loss_bps=2000)
    for seq, (ts_ns, limits) in enumerate([(10, first), (20, second)], start=1):
        state.apply(envelope(seq, ts_ns, events_pb2.LimitsSet(account_id="a", limits=to_message(limits, "USD"))))
    own = state.account("a")
    assert own.limits == second
    assert [own.limits_at(ts_ns, defaults) for ts_ns in (9, 10, 19, 20)] == [defaults, first, first, second]


def test_a_report_is_published_once() -> None:
    state = RiskState(Limits())
    assert state.account("a").reported_seq == 0
    report = risk_pb2.RiskReport(account_id="a", ledger_seq=42)
    state.apply(envelope(1, 10, events_pb2.RiskReported(report=report)))
    assert (state.account("a").reported_seq, state.account("b").reported_seq) == (42, 0)
    assert state.account("a").etag == "0"  # a report changes neither limits nor state
