"""A journal and its copy in the event log, link by link: where each breaks, and where they first differ."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import DecodeError

from alphamesh.audit.v1 import event_pb2
from python_services.kit.eventlog import EventLogAwayError
from python_services.kit.journal import ZERO_HASH, JournalError, check_frame, event_hash
from python_services.kit.journal.frames import check_events

from .event_filter import line
from .frames import Copies, Frames, Source

NO_EVENT = "no event"


@dataclass(kw_only=True)
class Comparison:
    """What was found. `difference` holds each field that differs: what the journal has, what the copy has."""

    stream: str
    events: int = 0
    last_hash: bytes = ZERO_HASH
    journal: str = "intact"
    copy: str = "intact"
    good: bool = True
    difference: dict[str, tuple[str, str]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "stream": self.stream,
            "events": self.events,
            "last_hash": self.last_hash.hex(),
            "journal": self.journal,
            "copy": self.copy,
            "good": self.good,
            "difference": {name: {"journal": a, "copy": b} for name, (a, b) in self.difference.items()},
        }


class _Side:
    """One of the two, read event by event up to its first problem."""

    def __init__(self, frames: Frames | None) -> None:
        self._events = self._read(frames) if frames is not None else None
        self.problem = ""
        self.seq = 0

    async def next(self) -> event_pb2.EventEnvelope | None:
        """The next event, as it was found; None at the end."""
        return await anext(self._events, None) if self._events is not None else None

    async def _read(self, frames: Frames) -> AsyncIterator[event_pb2.EventEnvelope]:
        last_frame = last_event = ZERO_HASH
        try:
            async for frame in frames:
                # Later breaks follow from the first one.
                self.problem = (
                    self.problem or check_events(frame, last_event) or check_frame(frame, self.seq + 1, last_frame)
                )
                for envelope in frame.events:
                    self.seq = envelope.seq
                    yield envelope
                    last_event = envelope.hash
                last_frame = frame.sha256
        except (JournalError, EventLogAwayError, DecodeError) as error:
            self.problem = self.problem or str(error)


async def compare(stream: str, source: Source, copies: Copies | None) -> Comparison:
    """Reads both to their ends. A copy that ends early is behind, which its outbox repairs; all else is a break."""
    found = Comparison(stream=stream)
    journal, copy = _Side(source.journal(stream)), _Side(copies.read(stream) if copies is not None else None)
    while (written := await journal.next()) is not None:
        found.events, found.last_hash = written.seq, written.hash
        held = await copy.next()
        if held is not None and held != written:
            found.difference = _differences(written, held)
            break
    else:
        extra = await copy.next()
        if extra is not None and not await _written_since(source, stream, extra):
            found.difference = {"seq": (NO_EVENT, str(extra.seq)), "schema": (NO_EVENT, extra.schema)}
    if journal.problem:
        found.journal = journal.problem
    if copies is None:
        found.copy = "none: a local session has no event log"
    elif copy.problem:
        found.copy = copy.problem
    elif found.difference:
        found.copy = f"differs at seq {copy.seq}"
    elif copy.seq < found.events:
        found.copy = f"behind, at seq {copy.seq}"
    found.good = not (journal.problem or copy.problem or found.difference)
    return found


async def _written_since(source: Source, stream: str, held: event_pb2.EventEnvelope) -> bool:
    """Whether the journal has the event now: its writer may have gone on since the journal was read."""
    try:
        async for frame in source.journal(stream, held.seq):
            for envelope in frame.events:
                if envelope.seq == held.seq:
                    return bool(envelope == held)
    except (JournalError, DecodeError):
        return False
    return False


def _differences(written: event_pb2.EventEnvelope, held: event_pb2.EventEnvelope) -> dict[str, tuple[str, str]]:
    differing = {"seq": (str(written.seq), str(held.seq))}
    for name in written.DESCRIPTOR.fields_by_name:
        ours, theirs = getattr(written, name), getattr(held, name)
        if ours != theirs:
            differing[name] = (_text(ours), _text(theirs))
    if "payload" in differing:
        differing["payload"] = (line(written), line(held))
    differing["hash computed"] = (event_hash(written).hex(), event_hash(held).hex())
    return differing


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
