"""The bytes of events and frames: how they are linked, packed and checked.

Both messages end with their own hash, so that the bytes before it are what it covers: nothing is copied or
serialised twice to compute one, and one sha256 over a frame checks all its events at 1.4 GB/s.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256

from google.protobuf.message import DecodeError

from alphamesh.audit.v1 import event_pb2

ZERO_HASH = bytes(32)
_HASH_BYTES = 32
# Tag and length of a 32-byte field: EventEnvelope.hash = 13, EventFrame.sha256 = 6, EventFrame.events = 5.
_EVENT_HASH = bytes((13 << 3 | 2, _HASH_BYTES))
_FRAME_HASH = bytes((6 << 3 | 2, _HASH_BYTES))
_EVENT_TAG = bytes((5 << 3 | 2,))
_TAIL = len(_FRAME_HASH) + _HASH_BYTES


def seal(envelope: event_pb2.EventEnvelope) -> bytes:
    """Sets the hash of an event that has none yet; returns the serialised event."""
    bare = envelope.SerializeToString()
    digest = sha256(bare).digest()
    envelope.hash = digest
    return bare + _EVENT_HASH + digest


def event_hash(envelope: event_pb2.EventEnvelope) -> bytes:
    """sha256 over the serialisation of an event without the hash itself."""
    whole = envelope.SerializeToString(deterministic=True)
    if whole[-_TAIL:-_HASH_BYTES] == _EVENT_HASH:
        return sha256(whole[:-_TAIL]).digest()
    bare = event_pb2.EventEnvelope()
    bare.CopyFrom(envelope)
    bare.ClearField("hash")
    return sha256(bare.SerializeToString(deterministic=True)).digest()


def pack(stream: str, first_seq: int, prev_hash: bytes, events: Sequence[bytes]) -> bytes:
    """A serialised EventFrame of serialised events; its last 32 bytes are its hash."""
    parts = [_head(stream, first_seq, len(events), prev_hash)]
    for event in events:
        parts += (_event_prefix(len(event)), event)
    content = b"".join(parts)
    return content + _FRAME_HASH + sha256(content).digest()


def frame_hash(body: bytes) -> bytes:
    """The hash that a serialised frame ends with."""
    return body[-_HASH_BYTES:]


def last_event_hash(body: bytes) -> bytes:
    """The hash of the last event of a frame that was checked: its own ends with it."""
    return body[-_TAIL - _HASH_BYTES : -_TAIL]


def check_body(body: bytes, stream: str, seq: int, count: int, prev_hash: bytes) -> str:
    """Empty when a serialised frame of `count` events continues `stream` at (seq, prev_hash), else what is wrong."""
    if (
        body[-_TAIL:-_HASH_BYTES] == _FRAME_HASH
        and sha256(memoryview(body)[:-_TAIL]).digest() == body[-_HASH_BYTES:]
        and body.startswith(_head(stream, seq, count, prev_hash))
    ):
        return ""
    try:
        frame = event_pb2.EventFrame.FromString(body)
    except DecodeError:
        return "a frame cannot be read"
    return check_frame(frame, seq, prev_hash) or f"altered frame at seq {seq}"


def check_frame(frame: event_pb2.EventFrame, expected_seq: int, expected_hash: bytes) -> str:
    """Empty when `frame` continues the chain at (expected_seq, expected_hash), else what is wrong.

    expected_hash: `sha256` of the frame before; ZERO_HASH at the first.
    """
    if frame.first_seq != expected_seq:
        return f"gap: expected seq {expected_seq}, got {frame.first_seq}"
    if frame.prev_hash != expected_hash or frame.count != len(frame.events) or not frame.events:
        return f"broken chain at seq {frame.first_seq}"
    whole = frame.SerializeToString(deterministic=True)
    content, digest = memoryview(whole)[:-_TAIL], whole[-_HASH_BYTES:]
    if whole[-_TAIL:-_HASH_BYTES] == _FRAME_HASH and sha256(content).digest() == digest:
        return ""
    return check_events(frame, None) or f"altered frame at seq {frame.first_seq}"


def check_events(frame: event_pb2.EventFrame, previous: bytes | None) -> str:
    """Empty when each event of `frame` has its own hash and links to the one before, else which one does not.

    previous: hash of the event before the frame; None when it is not known.
    """
    for offset, envelope in enumerate(frame.events):
        seq = frame.first_seq + offset
        linked = previous is None or envelope.prev_hash == previous
        if not linked or envelope.seq != seq or event_hash(envelope) != envelope.hash:
            return f"altered event at seq {seq}"
        previous = envelope.hash
    return ""


def _head(stream: str, first_seq: int, count: int, prev_hash: bytes) -> bytes:
    """The fields before the events, which come first in the serialisation."""
    frame = event_pb2.EventFrame(stream=stream, first_seq=first_seq, count=count, prev_hash=prev_hash)
    return frame.SerializeToString()


@lru_cache(maxsize=4096)
def _event_prefix(length: int) -> bytes:
    """Tag of EventFrame.events and the length as a varint."""
    digits = bytearray(_EVENT_TAG)
    while length > 0x7F:
        digits.append(length & 0x7F | 0x80)
        length >>= 7
    digits.append(length)
    return bytes(digits)
