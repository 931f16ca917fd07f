"""Event types of today and of before: what is read, what is brought up to date, what is refused."""

from __future__ import annotations

import pytest

from alphamesh.audit.v1 import event_pb2
from alphamesh.execution.v1 import events_pb2, order_pb2
from alphamesh.risk.v1 import events_pb2 as risk
from alphamesh.venue.v1 import venue_pb2
from python_services.kit.journal import ZERO_HASH, check_frame
from python_services.kit.ledger_view import LedgerView
from python_services.kit.schemas import CONTRACTS, REGISTRY, Registry, UnknownEventTypeError, events_of
from tests.unit.python_services.kit.old_events import OLD_SCHEMA, RECORDED, OldAccountOpened, upcast


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    made.add("execution", events_pb2.AccountOpened)
    made.add_upcast(OLD_SCHEMA, upcast)
    return made


@pytest.fixture
def recorded() -> event_pb2.EventFrame:
    return event_pb2.EventFrame.FromString(RECORDED.read_bytes())


def test_an_old_recorded_frame_is_read_as_todays_event(registry: Registry, recorded: event_pb2.EventFrame) -> None:
    assert check_frame(recorded, 1, ZERO_HASH) == ""  # as it was recorded, hash and all
    (old,) = recorded.events
    assert old.schema == OLD_SCHEMA
    view = LedgerView({})
    view.apply(registry.current(old))
    account = view.account("demo")
    assert (account.cash_e9, account.currency) == (1_234_560_000_000, "USD")


def test_the_recorded_event_itself_stays_as_it_was(registry: Registry, recorded: event_pb2.EventFrame) -> None:
    before = recorded.SerializeToString(deterministic=True)
    brought = registry.current(recorded.events[0])
    assert recorded.SerializeToString(deterministic=True) == before
    assert (brought.seq, brought.hash, brought.event_id) == (1, recorded.events[0].hash, recorded.events[0].event_id)


def test_an_event_of_today_is_passed_on_as_it_is(registry: Registry) -> None:
    envelope = event_pb2.EventEnvelope(schema=events_pb2.AccountOpened.DESCRIPTOR.full_name)
    assert registry.current(envelope) is envelope


def test_versions_are_brought_up_to_date_step_by_step(registry: Registry) -> None:
    registry.add_upcast("alphamesh.execution.v00.AccountOpened", lambda payload: OldAccountOpened(
        account=payload.decode(), cash_cents=100, currency="USD"))  # fmt: skip
    oldest = event_pb2.EventEnvelope(schema="alphamesh.execution.v00.AccountOpened", payload=b"first")
    opened = events_pb2.AccountOpened.FromString(registry.current(oldest).payload)
    assert (opened.account_id, opened.cash.units, opened.cash.currency_code) == ("first", 1, "USD")


def test_an_unknown_type_is_an_error_that_names_it(registry: Registry) -> None:
    unknown = event_pb2.EventEnvelope(schema="alphamesh.execution.v9.Surprise", event_id="execution-7-Surprise")
    with pytest.raises(UnknownEventTypeError, match=r"execution-7-Surprise.*alphamesh\.execution\.v9\.Surprise"):
        registry.current(unknown)
    with pytest.raises(UnknownEventTypeError, match=r"stream execution: .*v9\.Surprise"):
        registry.check([OLD_SCHEMA, "alphamesh.execution.v9.Surprise"], "stream execution")


def test_a_type_of_today_needs_no_upcast(registry: Registry) -> None:
    with pytest.raises(ValueError, match="a type of today"):
        registry.add_upcast(events_pb2.AccountOpened.DESCRIPTOR.full_name, upcast)


def test_events_are_the_messages_of_events_proto_without_their_parts() -> None:
    names = {kind.DESCRIPTOR.name for kind in events_of(events_pb2)}
    assert {"AccountOpened", "OrderInitialized", "OrderFilled"} <= names
    assert order_pb2.Fill.DESCRIPTOR.name not in names
    assert "RestingOrderState" not in {kind.DESCRIPTOR.name for kind in events_of(CONTRACTS["venue"])}
    assert venue_pb2.Report.DESCRIPTOR.full_name in REGISTRY.written_to("venue")
    assert risk.LimitsSet.DESCRIPTOR.full_name in REGISTRY.written_to("risk")
