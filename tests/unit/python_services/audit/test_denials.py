"""Refused calls on their way from a sidecar's log into the audit stream."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alphamesh.audit.v1 import events_pb2
from python_services.audit import logic
from python_services.audit.denials import MOST, Denials, summarise
from python_services.kit.journal import Journal

SUBMIT = "/alphamesh.execution.v1.ExecutionService/SubmitOrders"


def line(method: str = SUBMIT, second: int = 1, **values: object) -> bytes:
    """As a sidecar writes it."""
    return json.dumps(
        {
            "timestamp": f"{second}{'0' * 9}", "caller": "spiffe://alphamesh.local/technical_agent",
            "service": "execution", "user": None, "method": method, "status": "PermissionDenied",
            "detail": "rbac_access_denied_matched_policy[none]", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01",
            **values,
        }
    ).encode() + b"\n"  # fmt: skip


@pytest.fixture
def journal(tmp_path: Path):
    opened = Journal(tmp_path / "journal.db", "audit", "1", print)
    yield opened
    opened.close()


def events(journal: Journal) -> list[events_pb2.AccessDenied]:
    found = [event for frame in journal.read(1) for event in frame.events]
    return [events_pb2.AccessDenied.FromString(event.payload) for event in found]


def test_equal_calls_are_one_event_with_first_and_last_time():
    (found,) = summarise("execution", line(second=1) + line(second=2) + line(second=5), 100)
    event, first = found
    assert (event.calls, first, event.last_ns) == (3, 10**9, 5 * 10**9)
    assert (event.status_code, event.trace_id, event.service) == (7, "a" * 32, "execution")
    assert event.log_position == 100 + 3 * len(line())


def test_calls_that_differ_in_who_what_or_where_are_told_apart():
    lines = line() + line("/x/Y") + line(caller="spiffe://alphamesh.local/feed") + line(status="Unauthenticated")
    assert [event.calls for event, _ in summarise("execution", lines, 0)] == [1, 1, 1, 1]


def test_invented_methods_are_one_event_past_a_limit_and_none_is_lost():
    lines = b"".join(line(f"/x/{n}") for n in range(1000))
    found = [event for event, _ in summarise("execution", lines, 0)]
    assert len(found) == MOST + 1
    assert sum(event.calls for event in found) == 1000
    assert (found[-1].method, found[-1].calls) == ("", 1000 - MOST)


def test_what_the_callee_refused_is_counted_there_and_not_by_the_caller():
    assert summarise("technical_agent", line(detail="via_upstream", service="execution.mesh"), 0) == []
    assert len(summarise("execution", line(detail="via_upstream"), 0)) == 1


def test_a_line_that_cannot_be_read_does_not_hide_the_others():
    lines = b"not json\n" + line() + b"[]\n" + line(status="OK") + b'{"timestamp": null}\n'
    assert [event.calls for event, _ in summarise("execution", lines, 0)] == [1]


async def test_every_call_is_counted_once_also_after_a_restart_and_in_a_new_file(tmp_path, journal):
    log = tmp_path / "execution.denied.jsonl"
    log.write_bytes(line() + line()[:20])
    await Denials(tmp_path, journal, 1.0).look()
    assert [event.calls for event in events(journal)] == [1], "half a line waits for its other half"
    with log.open("ab") as file:
        file.write(line()[20:] + line())
    await Denials(tmp_path, journal, 1.0).look()
    again = Denials(tmp_path, journal, 1.0)
    await again.look()
    assert [event.calls for event in events(journal)] == [1, 2]
    log.write_bytes(line())
    await again.look()
    assert [event.calls for event in events(journal)] == [1, 2, 1]


async def test_the_record_says_who_was_refused_what(tmp_path, journal):
    (tmp_path / "execution.denied.jsonl").write_bytes(line())
    await Denials(tmp_path, journal, 1.0).look()
    record = logic.record(next(iter(journal.read(1))).events[0])
    assert record.verdict == logic.DENIED
    assert (record.actor.identity, record.service, record.method) == ("technical_agent", "execution", SUBMIT)
    assert (record.reason, record.status_code, record.trace_id) == ("PERMISSION_DENIED", 7, "a" * 32)
