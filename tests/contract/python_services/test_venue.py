"""The venue's contract and the matching engine number the same things the same way."""

from __future__ import annotations

from alphamesh.venue.v1 import venue_pb2
from execution_core import types
from python_services.venue.model import MATCH_REPORT_KINDS


def test_phases_and_self_trade_prevention_are_the_engines() -> None:
    for core, contract, prefix in (
        (types.SessionPhase, venue_pb2.SessionPhase, "SESSION_PHASE_"),
        (types.SelfTradePrevention, venue_pb2.SelfTradePrevention, "SELF_TRADE_PREVENTION_"),
    ):
        numbers = {name.removeprefix(prefix): number for name, number in contract.items() if number}
        assert {member.name: member.value for member in core} == numbers


def test_every_event_of_the_engine_about_an_order_is_a_report() -> None:
    kinds = {types.MatchEventKind(event).name: number for event, number in MATCH_REPORT_KINDS.items()}
    assert kinds == {name.removeprefix("KIND_"): n for name, n in venue_pb2.Report.Kind.items() if n}
