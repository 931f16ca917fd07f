"""Event types by full protobuf name: which exist today, and how those of old versions become today's.

A version is part of the name (``alphamesh.risk.v1.LimitsSet``), so a recorded event says which it is. Journals are
never rewritten: an old event is checked against its hash as it was recorded, then brought up to date on its way into
a view, by a pure function registered here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import ModuleType

from google.protobuf.message import Message

from alphamesh.audit.v1 import event_pb2
from alphamesh.audit.v1 import events_pb2 as audit
from alphamesh.decision.v1 import events_pb2 as decision
from alphamesh.execution.v1 import events_pb2 as execution
from alphamesh.feature.v1 import events_pb2 as feature
from alphamesh.marketdata.v1 import events_pb2 as marketdata
from alphamesh.portfolio.v1 import events_pb2 as portfolio
from alphamesh.risk.v1 import events_pb2 as risk
from alphamesh.training.v1 import events_pb2 as training
from alphamesh.venue.v1 import events_pb2 as venue
from alphamesh.venue.v1 import venue_pb2

# A stream is named after the service that writes it. Its events are the messages of its domain's events.proto.
CONTRACTS: Mapping[str, ModuleType] = {
    "audit": audit,
    "coordinator": decision,
    "execution": execution,
    "feature_store": feature,
    "market_data": marketdata,
    "portfolio": portfolio,
    "risk": risk,
    "training": training,
    "venue": venue,
}
# Streams whose events belong to no session: who was refused what, which features were registered, filled in and read,
# and which model was trained, is not repeated by replaying one.
OF_NO_SESSION = frozenset({"audit", "feature_store", "training"})
# What is an event, and a message of a service as well.
SHARED: Mapping[str, tuple[type[Message], ...]] = {"venue": (venue_pb2.Report,)}

Upcast = Callable[[bytes], Message]


class UnknownEventTypeError(RuntimeError):
    """An event that this version cannot read; skipping it would make a view that looks right and is not."""

    def __init__(self, schema: str, where: str) -> None:
        super().__init__(
            f"{where}: event type {schema!r} is not known here; update this service, or register how it becomes one of "
            "today's (python_services/kit/schemas.py)"
        )
        self.schema = schema


class Registry:
    """The event types that can be read."""

    def __init__(self) -> None:
        self._streams: dict[str, set[str]] = {}
        self._current: set[str] = set()
        self._upcasts: dict[str, Upcast] = {}

    def add(self, stream: str, *types: type[Message]) -> None:
        """`stream` carries events of these types today."""
        names = {kind.DESCRIPTOR.full_name for kind in types}
        self._streams.setdefault(stream, set()).update(names)
        self._current.update(names)

    def add_upcast(self, schema: str, upcast: Upcast) -> None:
        """Events recorded as `schema` become what `upcast` makes of their payload: pure, total, deterministic.

        What it returns may be of an old type itself; then the next function takes over.
        """
        if schema in self._current:
            raise ValueError(f"{schema} is a type of today; an upcast is for one that no service writes any more")
        self._upcasts[schema] = upcast

    def written_to(self, stream: str) -> frozenset[str]:
        """Types that `stream` carries today."""
        return frozenset(self._streams.get(stream, ()))

    def knows(self, schema: str) -> bool:
        """Whether events of this type can be read."""
        return schema in self._current or schema in self._upcasts

    def check(self, schemas: Iterable[str], where: str) -> None:
        """Raises UnknownEventTypeError for the first type that cannot be read."""
        for schema in schemas:
            if not self.knows(schema):
                raise UnknownEventTypeError(schema, where)

    def current(self, envelope: event_pb2.EventEnvelope) -> event_pb2.EventEnvelope:
        """The event as one of today's; the same object when it is one. Hashes stay those of what was recorded."""
        schema = envelope.schema
        if schema in self._current:
            return envelope
        payload = envelope.payload
        while schema not in self._current:
            if schema not in self._upcasts:
                raise UnknownEventTypeError(schema, envelope.event_id)
            message = self._upcasts[schema](payload)
            schema, payload = message.DESCRIPTOR.full_name, message.SerializeToString(deterministic=True)
        brought = event_pb2.EventEnvelope()
        brought.CopyFrom(envelope)
        brought.schema, brought.payload = schema, payload
        return brought


def events_of(contract: ModuleType) -> list[type[Message]]:
    """The events of an events.proto: its messages, without those that are only parts of others."""
    messages = contract.DESCRIPTOR.message_types_by_name.values()
    parts = {field.message_type.full_name for message in messages for field in message.fields if field.message_type}
    return [getattr(contract, message.name) for message in messages if message.full_name not in parts]


REGISTRY = Registry()
for _stream, _contract in CONTRACTS.items():
    REGISTRY.add(_stream, *events_of(_contract), *SHARED.get(_stream, ()))
