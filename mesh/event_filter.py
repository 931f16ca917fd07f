"""Events as a person asks for them: which ones, in which order, and how each looks as JSON."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from google.protobuf import json_format
from google.protobuf.message import DecodeError

from alphamesh.audit.v1 import event_pb2
from python_services.kit import describe
from python_services.kit.schemas import REGISTRY

from .errors import MeshError
from .frames import Source


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Conditions on events; an event meets all that are given."""

    streams: tuple[str, ...] = ()
    from_seq: int = 1
    types: tuple[str, ...] = ()
    decision: str | None = None
    correlation: str | None = None
    pattern: re.Pattern[str] | None = None

    def meets(self, envelope: event_pb2.EventEnvelope) -> bool:
        """Whether this event is wanted."""
        if envelope.seq < self.from_seq:
            return False
        if self.types and not any(
            envelope.schema == name or envelope.schema.endswith(f".{name}") for name in self.types
        ):
            return False
        for wanted in (self.decision, self.correlation):
            if wanted is not None and envelope.correlation_id != wanted:
                return False
        return self.pattern is None or self.pattern.search(orjson.dumps(as_json(envelope)).decode()) is not None

    def of(self, source: Source) -> tuple[str, ...]:
        """The streams wanted of those there are. Raises MeshError for one that does not exist."""
        for name in self.streams:
            if name not in source.streams:
                raise MeshError(f"there is no stream {name!r}; there are {', '.join(source.streams) or 'none yet'}")
        return self.streams or source.streams


def wanted(
    streams: list[str] | None,
    from_seq: int,
    types: list[str] | None,
    decision: str | None,
    correlation: str | None,
    pattern: str | None = None,
) -> Wanted:
    """From the options of a command. Raises MeshError."""
    if from_seq > 1 and len(streams or ()) != 1:
        raise MeshError("--from-seq is a position in one stream; give that one with --stream")
    for name in types or ():
        known = {schema for stream in _streams() for schema in REGISTRY.written_to(stream)}
        if not any(schema == name or schema.endswith(f".{name}") for schema in known):
            short = ", ".join(sorted(schema.rpartition(".")[2] for schema in known))
            raise MeshError(f"there is no event type {name!r}; there are {short}")
    try:
        compiled = re.compile(pattern) if pattern is not None else None
    except re.error as error:
        raise MeshError(f"{pattern!r} is no regular expression: {error}") from None
    return Wanted(
        streams=tuple(streams or ()),
        from_seq=from_seq,
        types=tuple(types or ()),
        decision=decision,
        correlation=correlation,
        pattern=compiled,
    )


def _streams() -> tuple[str, ...]:
    from python_services.kit.schemas import CONTRACTS

    return tuple(CONTRACTS)


async def select(source: Source, conditions: Wanted) -> list[event_pb2.EventEnvelope]:
    """All events wanted, by market time; those of one moment by stream and position."""
    found = [envelope for name in conditions.of(source) async for envelope in _of(source, name, conditions)]
    found.sort(key=lambda envelope: (envelope.ts_event_ns, envelope.stream, envelope.seq))
    return found


async def _of(source: Source, name: str, conditions: Wanted) -> AsyncIterator[event_pb2.EventEnvelope]:
    async for frame in source.journal(name, conditions.from_seq):
        for envelope in frame.events:
            if conditions.meets(envelope):
                yield envelope


def as_json(envelope: event_pb2.EventEnvelope) -> dict[str, Any]:
    """Every field; the payload by its contract's names, 64-bit integers as text (protobuf's JSON)."""
    payload: Any
    try:
        message = describe.message_type(envelope.schema).FromString(envelope.payload)
        payload = json_format.MessageToDict(message, preserving_proto_field_name=True)
    except (KeyError, DecodeError):
        payload = {"unreadable": envelope.payload.hex()}
    return {
        "stream": envelope.stream,
        "seq": envelope.seq,
        "event_id": envelope.event_id,
        "schema": envelope.schema,
        "ts_event": moment(envelope.ts_event_ns),
        "ts_event_ns": envelope.ts_event_ns,
        "ts_init_ns": envelope.ts_init_ns,
        "correlation_id": envelope.correlation_id,
        "causation_id": envelope.causation_id,
        "producer": envelope.producer,
        "producer_version": envelope.producer_version,
        "payload": payload,
        "prev_hash": envelope.prev_hash.hex(),
        "hash": envelope.hash.hex(),
    }


def moment(ts_ns: int) -> str:
    """Market time, ISO 8601, to the second when it is one."""
    seconds, rest = divmod(ts_ns, 1_000_000_000)
    text = datetime.fromtimestamp(seconds, UTC).isoformat().removesuffix("+00:00")
    return f"{text}.{rest:09d}Z" if rest else f"{text}Z"


def line(envelope: event_pb2.EventEnvelope) -> str:
    """What the payload says, on one line."""
    try:
        return describe.line(describe.message_type(envelope.schema).FromString(envelope.payload))
    except (KeyError, DecodeError):
        return f"unreadable, {len(envelope.payload)} bytes"
