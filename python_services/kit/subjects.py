"""The subjects of the event log: where a stream is published, and what reading and writing one asks JetStream.

The servers let a user publish to these and nothing else (mesh/nats_access.py), so what jetstream.py and pull.py use is
written down here, once.
"""

from __future__ import annotations

EVENTS = "alphamesh.events"
_API = "$JS.API"


def jetstream_name(stream: str) -> str:
    """The JetStream stream of an event stream."""
    return f"ALPHAMESH_{stream}"


def subject(stream: str) -> str:
    """The subject of an event stream."""
    return f"{EVENTS}.{stream}"


def inbox(user: str) -> str:
    """Prefix of the subjects on which a user gets answers."""
    return f"_INBOX.{user}"


def next_message(stream: str, consumer: str) -> str:
    """Where a pull consumer is asked for messages."""
    return f"{_API}.CONSUMER.MSG.NEXT.{jetstream_name(stream)}.{consumer}"


def to_write(stream: str) -> list[str]:
    """What the outbox of a stream publishes to: its frames, and where the stream ends."""
    name = jetstream_name(stream)
    return [subject(stream), f"{_API}.STREAM.INFO.{name}", f"{_API}.STREAM.MSG.GET.{name}"]


def to_read(stream: str) -> list[str]:
    """What a reader of a stream publishes to: it looks for a place, and has a consumer from there."""
    name = jetstream_name(stream)
    return [
        f"{_API}.STREAM.INFO.{name}",
        f"{_API}.DIRECT.GET.{name}",
        f"{_API}.CONSUMER.CREATE.{name}",
        f"{_API}.CONSUMER.DELETE.{name}.*",
        next_message(stream, "*"),
    ]
