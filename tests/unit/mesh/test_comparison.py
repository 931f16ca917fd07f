"""Two recordings side by side: what counts as equal, moved, lost or different."""

from __future__ import annotations

from collections.abc import Sequence

from alphamesh.audit.v1 import event_pb2
from alphamesh.execution.v1 import events_pb2 as execution
from alphamesh.risk.v1 import events_pb2 as risk
from mesh.comparison import Stream, compare, differing, fields, lost
from python_services.kit.journal import event_hash

Envelope = event_pb2.EventEnvelope
BACKGROUND = "alphamesh.risk.v1.RiskReported"


def stream(*contents: tuple[str, str]) -> list[Envelope]:
    """A linked chain of events: (schema, cause)."""
    chain: list[Envelope] = []
    for seq, (schema, cause) in enumerate(contents, start=1):
        previous = chain[-1].hash if chain else bytes(32)
        event = Envelope(stream="risk", seq=seq, event_id=f"risk-{seq}", causation_id=cause, schema=schema)
        event.prev_hash = previous
        event.hash = event_hash(event)
        chain.append(event)
    return chain


def compared(recorded: Sequence[Envelope], replayed: Sequence[Envelope], *, unfinished: bool = False) -> Stream:
    return compare(lambda: iter(recorded), lambda: iter(replayed), unfinished=unfinished)


A, B, C = ("alphamesh.risk.v1.PolicyPushed", "a"), ("alphamesh.risk.v1.PolicyPushed", "b"), (BACKGROUND, "c")


def test_equal_streams_are_compared_hash_for_hash() -> None:
    found = compared(stream(A, B, C), stream(A, B, C))
    assert (found.equal, found.difference, found.moved) == (3, None, False)


def test_a_background_event_may_stand_elsewhere_and_nothing_else_may() -> None:
    found = compared(stream(A, C, B), stream(A, B, C))
    assert (found.equal, found.difference, found.moved) == (3, None, True)
    turned = compared(stream(B, C, A), stream(A, B, C))
    assert turned.difference is not None
    assert [side.causation_id for side in turned.difference if side is not None] == ["b", "a"]
    without = compared(stream(B, A), stream(A, B))
    assert (without.equal, without.moved) == (0, False)


def test_an_altered_background_event_is_found_wherever_it_stands() -> None:
    found = compared(stream(A, (BACKGROUND, "other"), B), stream(A, B, C))
    assert found.difference is not None
    assert found.equal == 2
    forged = stream(A, C, B)
    forged[1].payload = b"\x00"  # with the hash that it had
    assert compared(forged, stream(A, B, C)).difference is not None


def test_an_unfinished_recording_may_be_shorter_and_a_finished_one_not() -> None:
    assert compared(stream(A), stream(A, B), unfinished=True).difference is None
    assert compared(stream(A), stream(A, B)).difference == (None, stream(A, B)[1])
    longer = compared(stream(A, B), stream(A), unfinished=True)
    assert longer.difference == (stream(A, B)[1], None)


def test_lost_events_are_told_from_others() -> None:
    whole, gap = stream(A, B, C, A), stream(A, A)
    assert lost(lambda: gap, lambda: whole) == 2
    assert lost(lambda: whole, lambda: whole) == 0
    assert lost(lambda: stream(B, A, A), lambda: whole) is None


def test_a_difference_names_every_field_with_both_sides() -> None:
    sides = []
    for account, units in (("a", 1), ("b", 1)):
        opened = execution.AccountOpened(account_id=account)
        opened.cash.units = units
        event = Envelope(seq=1, schema=opened.DESCRIPTOR.full_name, payload=opened.SerializeToString())
        event.hash = event_hash(event)
        sides.append(fields(event))
    found = {line["field"]: (line["recorded"], line["replayed"]) for line in differing(*sides)}
    assert found.pop("payload.account_id") == ("a", "b")
    assert set(found) == {"hash"}
    assert differing(fields(None), sides[0])[0] == {"field": "seq", "recorded": None, "replayed": 1}
    broken = Envelope(seq=1, schema=risk.LimitsSet.DESCRIPTOR.full_name, payload=b"\xff")
    assert fields(broken)["payload"] == "cannot be read as alphamesh.risk.v1.LimitsSet: ff"
    assert "but the content has" in fields(broken)["hash"]
