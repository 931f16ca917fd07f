"""Two recordings of one session, event by event: equal, or the first difference with both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from alphamesh.audit.v1 import event_pb2
from python_services.kit.journal import event_hash

Envelope = event_pb2.EventEnvelope
_SHOWN_LAST = ("payload", "prev_hash", "hash")


# Written when the work behind them is done, beside the path of decisions: what they say follows from their cause, and
# their place among a stream's other events from how fast the machine was.
BACKGROUND = frozenset({"alphamesh.risk.v1.RiskReported"})

Events = Callable[[], Iterable[Envelope]]


@dataclass(kw_only=True)
class Stream:
    """Events on both sides, how many of them are equal, and the first pair that is not.

    `moved`: the same events, but background ones stand at other places, so the hashes differ from there on.
    """

    recorded: int = 0
    replayed: int = 0
    equal: int = 0
    difference: tuple[Envelope | None, Envelope | None] | None = None
    moved: bool = False


def compare(recorded: Events, replayed: Events, *, unfinished: bool) -> Stream:
    """Compares two streams. `unfinished`: the recording stops before the session's end, so the replay may go on."""
    found = _compare(recorded(), replayed(), lambda ours, theirs: ours == theirs, unfinished)
    if found.difference is None or not any(envelope.schema in BACKGROUND for envelope in replayed()):
        return found
    parts = [
        _compare(_part(recorded, background), _part(replayed, background), _same_content, unfinished)
        for background in (False, True)
    ]
    return Stream(
        recorded=found.recorded,
        replayed=found.replayed,
        equal=sum(part.equal for part in parts),
        difference=next((part.difference for part in parts if part.difference is not None), None),
        moved=True,
    )


def lost(recorded: Events, replayed: Events) -> int | None:
    """How many events the recording lacks when it is otherwise the same; None when it differs in more than that.

    Portfolio and risk answer before their events are durable (`Journal.commit_later`), so a kill can lose the last
    ones; what follows then has other sequence numbers and links, and the same content.
    """
    missing = 0
    for background in (False, True):
        rest = iter(_part(replayed, background))
        for wanted in map(_content, _part(recorded, background)):
            for found in map(_content, rest):
                if found == wanted:
                    break
                missing += 1
            else:
                return None
        missing += sum(1 for _ in rest)
    return missing


def _compare(
    recorded: Iterable[Envelope],
    replayed: Iterable[Envelope],
    same: Callable[[Envelope, Envelope], bool],
    unfinished: bool,
) -> Stream:
    found = Stream()
    for ours, theirs in zip_longest(recorded, replayed):
        found.recorded += ours is not None
        found.replayed += theirs is not None
        if ours is None and unfinished:
            continue
        # The stored hash must be that of the stored event, too: an event may have been altered where it lay.
        if ours is not None and theirs is not None and same(ours, theirs) and event_hash(ours) == ours.hash:
            found.equal += 1
        elif found.difference is None:
            found.difference = ours, theirs
    return found


def _part(events: Events, background: bool) -> Iterable[Envelope]:
    return (envelope for envelope in events() if (envelope.schema in BACKGROUND) == background)


def _same_content(ours: Envelope, theirs: Envelope) -> bool:
    return _content(ours) == _content(theirs)


def _content(envelope: Envelope) -> Envelope:
    bare = Envelope()
    bare.CopyFrom(envelope)
    for place in ("seq", "event_id", "prev_hash", "hash"):
        bare.ClearField(place)
    return bare


def fields(envelope: Envelope | None) -> dict[str, Any]:
    """Every field that is set, by path, the payload decoded; empty for no event."""
    if envelope is None:
        return {}
    found = {path: value for path, value in _flat(envelope) if path not in _SHOWN_LAST}
    try:
        payload = message_factory.GetMessageClass(
            descriptor_pool.Default().FindMessageTypeByName(envelope.schema)
        ).FromString(envelope.payload)
    except (KeyError, DecodeError):
        found["payload"] = f"cannot be read as {envelope.schema}: {envelope.payload.hex()}"
    else:
        found |= {f"payload.{path}": value for path, value in _flat(payload)}
    found |= {"prev_hash": envelope.prev_hash.hex(), "hash": envelope.hash.hex()}
    if event_hash(envelope) != envelope.hash:
        found["hash"] = f"{envelope.hash.hex()}, but the content has {event_hash(envelope).hex()}"
    return found


def differing(recorded: dict[str, Any], replayed: dict[str, Any]) -> list[dict[str, Any]]:
    """One entry for each path whose values differ; a side without the field is None."""
    paths = [*recorded, *(path for path in replayed if path not in recorded)]
    return [
        {"field": path, "recorded": recorded.get(path), "replayed": replayed.get(path)}
        for path in paths
        if recorded.get(path) != replayed.get(path)
    ]


def _flat(message: Message, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field, value in message.ListFields():
        path = f"{prefix}{field.name}"
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            for key in sorted(value):
                yield from _value(kind.fields_by_name["value"], f"{path}[{key}]", value[key])
        elif field.is_repeated:
            for index, item in enumerate(value):
                yield from _value(field, f"{path}[{index}]", item)
        else:
            yield from _value(field, path, value)


def _value(field: FieldDescriptor, path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Message):
        yield from _flat(value, f"{path}.")
    elif isinstance(value, bytes):
        yield path, value.hex()
    elif field.enum_type is not None and value in field.enum_type.values_by_number:
        yield path, field.enum_type.values_by_number[value].name
    else:
        yield path, value
