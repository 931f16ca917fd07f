"""Drills: whatever breaks, the promises hold; and what breaks a promise is found in the events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from alphamesh.audit.v1 import event_pb2
from alphamesh.decision.v1 import events_pb2 as decisions
from alphamesh.execution.v1 import events_pb2
from mesh.drills import invariants
from mesh.recording import journalled

from .conftest import Run, alphamesh, run_session

Envelope = event_pb2.EventEnvelope


# `make chaos` has more of them, and `alphamesh drill --rounds 20` is the long form.
MORE = ("kill", "kill-sidecar", "hang", "hang-agent", "slow", "event-log", "disk", "flood")


@pytest.mark.parametrize(
    "name", ["cut-edge", "certificate", *(pytest.param(name, marks=pytest.mark.chaos) for name in MORE)]
)
def test_a_drill_keeps_every_promise(name: str, tmp_path: Path) -> None:
    done = alphamesh("drill", name, "--seed", "4", "--keep", tmp_path, "--json")
    assert done.stdout, done.stderr
    [one] = json.loads(done.stdout)["rounds"]
    assert (done.returncode, one["broken"]) == (0, [])
    assert one["findings"]["cycles"] == 64
    assert one["findings"]["fills"] >= one["findings"]["orders"] > 0
    assert one["recovery_ms"] > 0
    assert one["same"] or name == "hang-agent"
    killed = name in ("kill", "kill-sidecar", "certificate", "event-log", "disk")
    assert one["restarts"] == (1 if killed else 0)


def test_what_there_is_can_be_listed_and_nothing_else_is_broken() -> None:
    rows = json.loads(alphamesh("drill", "--list", "--json").stdout)
    assert {row["name"] for row in rows} >= {"kill", "hang", "slow", "cut-edge", "event-log", "disk", "flood"}
    unknown = alphamesh("drill", "earthquake")
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "there is no drill 'earthquake'" in unknown.stderr


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_session(tmp_path_factory.mktemp("judged"), "--local", "--start", "2009-07-01", "--end", "2009-08-14")


def events(run: Run, stream: str) -> list[Envelope]:
    return list(journalled(run.data_dir / "data" / stream / "journal.db"))


async def frames(found: Sequence[Envelope]) -> AsyncIterator[event_pb2.EventFrame]:
    for event in found:
        yield event_pb2.EventFrame(events=[event])


def name_of(event: Envelope) -> str:
    return event.schema.rpartition(".")[2]


def first(found: Sequence[Envelope], kind: str) -> int:
    return next(i for i, event in enumerate(found) if name_of(event) == kind)


def forget_a_decision(coordinator: list[Envelope], ledger: list[Envelope]) -> None:
    order = events_pb2.OrderInitialized.FromString(ledger[first(ledger, "OrderInitialized")].payload)
    coordinator[:] = [e for e in coordinator if order.spec.decision_id not in (e.correlation_id,)]


def lose_an_order(coordinator: list[Envelope], ledger: list[Envelope]) -> None:
    del ledger[first(ledger, "OrderInitialized")]


def enter_an_order_twice(coordinator: list[Envelope], ledger: list[Envelope]) -> None:
    at = first(ledger, "OrderInitialized")
    ledger.insert(at, ledger[at])


def book_a_trade_twice(coordinator: list[Envelope], ledger: list[Envelope]) -> None:
    at = first(ledger, "OrderFilled")
    ledger.insert(at, ledger[at])


def skip_risk(coordinator: list[Envelope], ledger: list[Envelope]) -> None:
    for event in coordinator:
        if name_of(event) == "DecisionMade":
            made = decisions.DecisionMade.FromString(event.payload)
            made.decision.ClearField("risk")
            event.payload = made.SerializeToString()


def tighten_the_limits(coordinator: list[Envelope], ledger: list[Envelope]) -> None:
    """The policy that was in force allowed a thousandth of what the gate let pass."""
    for event in ledger:
        if name_of(event) == "RiskPolicyApplied":
            applied = events_pb2.RiskPolicyApplied.FromString(event.payload)
            applied.policy.gross_exposure_limit.units //= 1000
            event.payload = applied.SerializeToString()


def value_it_higher(coordinator: list[Envelope], ledger: list[Envelope]) -> None:
    last = next(event for event in reversed(ledger) if name_of(event) == "AccountValued")
    valued = events_pb2.AccountValued.FromString(last.payload)
    valued.equity.nanos += 1
    last.payload = valued.SerializeToString()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (forget_a_decision, "was decided by nobody"),
        (lose_an_order, "was decided and never entered"),
        (enter_an_order_twice, "was entered 2 times"),
        (book_a_trade_twice, "was booked 2 times"),
        (skip_risk, "has orders without an assessment of risk"),
        (tighten_the_limits, "over its gross limit"),
        (value_it_higher, "does not add up"),
    ],
)
async def test_a_broken_promise_is_found(
    recorded: Run, spoil: Callable[[list[Envelope], list[Envelope]], None], says: str
) -> None:
    coordinator, ledger = events(recorded, "coordinator"), events(recorded, "execution")
    good = await invariants.check(frames(coordinator), frames(ledger), 32)
    assert good.broken == []
    assert good.orders > 0
    spoil(coordinator, ledger)
    found = await invariants.check(frames(coordinator), frames(ledger), 32)
    assert any(says in text for text in found.broken), found.broken
